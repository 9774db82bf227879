//! How a device comes into the fleet, and how it stays in it: a certificate for an invite, and a new one for the old.

use std::collections::BTreeMap;
use std::net::IpAddr;

use outrigger_protocol::DeviceName;
use outrigger_trust::{CertificateDer, Kind, Token, TokenError};
use thiserror::Error;

use super::allow::Known;
use super::authority::{Authority, Csr, Issued, RequestError};
use super::invites::{Refusal, key_text, side_record};
use super::{Pin, Pki};
use crate::clock;
use crate::store::SideError;

/// What a newcomer says. No `Debug`: it carries the invite.
pub struct Newcomer<'a> {
    /// Its invite.
    pub token: &'a str,
    /// The name that it wants.
    pub name: DeviceName,
    /// Its certificate request, as PEM.
    pub csr: &'a str,
    /// Where it is.
    pub from: IpAddr,
}

/// A device that has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its name.
    pub device: DeviceName,
    /// What it shows from now on, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it trusts.
    pub authorities: Vec<CertificateDer<'static>>,
    /// By which invite.
    pub invite: String,
    /// What it is labelled with when it is first heard.
    pub labels: BTreeMap<String, String>,
}

/// Why somebody may not join.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// Too many tries from there.
    #[error("too many failed tries; wait a minute")]
    Limited,
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token for something else.
    #[error("this is a token of the kind `{0}`, not an invite of a device; `outrigger device invite` makes one")]
    Kind(Kind),
    /// Not with this invite.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The name belongs to another.
    #[error(
        "the name `{0}` belongs to a device that has joined already; remove that one (`outrigger device rm {0}`), or invite \
         under its name (`outrigger device invite --name {0}`)"
    )]
    Taken(DeviceName),
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store.
    #[error(transparent)]
    Save(#[from] SideError),
}

/// Why a device gets no new certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RenewError {
    /// It is not let in.
    #[error("the device may not connect")]
    KeptOut,
    /// A renewal is not a new identity.
    #[error("the request is for another key than the device's")]
    OtherKey,
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store.
    #[error(transparent)]
    Save(#[from] SideError),
}

impl Pki {
    /// Lets a newcomer in. When this returns, its name and key are on the list, durably, and the invite is used.
    ///
    /// # Errors
    /// If it may not join. Nothing has changed then.
    pub async fn join(&self, newcomer: Newcomer<'_>) -> Result<Joined, JoinError> {
        let (from, now) = (newcomer.from, clock::now());
        if !self.tries().may(from, now) {
            return Err(JoinError::Limited);
        }
        let joined = self.try_join(newcomer, clock::unix_ms()).await;
        match &joined {
            Ok(_) | Err(JoinError::Save(_) | JoinError::Limited) => (),
            Err(_) => self.tries().failed(from),
        }
        joined
    }

    async fn try_join(&self, newcomer: Newcomer<'_>, now_ms: u64) -> Result<Joined, JoinError> {
        let Newcomer { token, name: device, csr, from: _ } = newcomer;
        let token: Token = token.parse()?;
        if token.kind != Kind::Join {
            return Err(JoinError::Kind(token.kind));
        }
        // Held to the end: of a hundred who come with one invite at once, one finds it unused.
        let mut held = self.inner.invites.hold().await;
        held.known(&token, now_ms)?;
        let issued = self.sign(&device, &Csr::Pem(csr), now_ms / 1000)?;
        let key = key_text(&issued.key);
        let record = held.open(&token, &device, &key, now_ms)?;
        let before = self.inner.allow.read(&device);
        if before.as_ref().is_some_and(|known| known.key != key) && !record.is_for(&device) {
            // Otherwise an invite for one more device could take a living one's place, and its work and secrets.
            return Err(JoinError::Taken(device));
        }
        let stays = before.as_ref().filter(|known| known.key == key && !record.is_for(&device));
        let known = Known {
            key: key.clone(),
            authority: self.pin().to_string(),
            not_after: issued.not_after,
            joined_unix_ms: now_ms,
            invite: token.id.to_string(),
            // Only who was invited by name leaves quarantine: whoever has an open invite could otherwise lift it.
            quarantined: stays.and_then(|known| known.quarantined.clone()),
            labels: record.labels.clone(),
        };
        let used = held.using(&record, &device, &key, now_ms);
        let beside = side_record(&token.id.to_string(), Some(&used));
        self.inner.allow.set(&device, Some(known), Some(beside)).await?;
        held.used(&token, used);
        Ok(Joined {
            chain: issued.chain,
            authorities: vec![self.authority()],
            invite: token.id.to_string(),
            labels: record.labels,
            device,
        })
    }

    /// A new certificate for a device that is in the fleet, for the key that it has.
    ///
    /// # Errors
    /// If the device is not let in, or the request is not for its key.
    pub async fn renew(
        &self,
        device: &DeviceName,
        request: &[u8],
    ) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), RenewError> {
        let known = self.inner.allow.read(device).filter(|known| known.quarantined.is_none());
        let known = known.ok_or(RenewError::KeptOut)?;
        let issued = self.sign(device, &Csr::Der(request), clock::unix_ms() / 1000)?;
        if key_text(&issued.key) != known.key {
            return Err(RenewError::OtherKey);
        }
        let known = Known { authority: self.pin().to_string(), not_after: issued.not_after, ..known };
        self.inner.allow.set(device, Some(known), None).await?;
        Ok((issued.chain, vec![self.authority()]))
    }

    pub(super) fn sign(&self, device: &DeviceName, csr: &Csr<'_>, now: u64) -> Result<Issued, RequestError> {
        self.with_authority(|authority: &Authority| authority.sign(device, csr, now, self.inner.device_life))
    }

    /// Whether a device's certificate is of an authority that has been replaced.
    #[must_use]
    pub fn must_renew(&self, device: &DeviceName) -> bool {
        let current: Pin = self.pin();
        self.inner.allow.read(device).is_some_and(|known| known.authority != current.to_string())
    }

    /// Labels that a device still has to be given; taken once.
    ///
    /// # Errors
    /// If it cannot be saved that they were taken.
    pub async fn take_labels(&self, device: &DeviceName) -> Result<BTreeMap<String, String>, SideError> {
        let Some(mut known) = self.inner.allow.read(device).filter(|known| !known.labels.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let labels = std::mem::take(&mut known.labels);
        self.inner.allow.set(device, Some(known), None).await?;
        Ok(labels)
    }
}
