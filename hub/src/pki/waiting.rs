//! Devices that wait for somebody to tell the hub the code that they show. Kept in memory: a device asks again by itself.
//!
//! Whoever is in the network can knock, so everything here is bounded, and nothing of it is believed: what a device says
//! of itself is shown as what it says. The list never has the codes. An operator who lets a device in has read its code
//! from the device, not from a list in which anybody can stand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_api::WaitingDevice;
use outrigger_protocol::{DeviceName, Moment};
use outrigger_trust::{Between, JoinCode, JoinCodeError, Pin, Proof, Prover};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::Pki;
use super::allow::Known;
use super::authority::{Csr, RequestError, key_of};
use super::invites::{Tries, key_text};
use super::join::Joined;
use crate::clock;
use crate::store::SideError;

/// Devices that wait at one time.
pub const MAX_WAITING: usize = 16;
/// Of them from one address. Several devices may be behind one router.
pub const MAX_OF_ADDRESS: usize = 4;
/// For so long a code counts.
pub const CODE_LIFE: Duration = Duration::from_secs(900);
/// A device that has not asked for so long has given up; its place is free.
pub const GIVEN_UP: Duration = Duration::from_secs(30);
/// How often a device asks.
pub const AGAIN: Duration = Duration::from_secs(2);
/// Characters of what a device says of itself.
const MAX_ABOUT: usize = 200;

/// A device knocks.
#[derive(Debug, Clone)]
pub struct Knock {
    /// The name that it wants.
    pub name: DeviceName,
    /// Its certificate request, as PEM.
    pub csr: String,
    /// Tells its attempts apart.
    pub nonce: [u8; 32],
    /// That it knows its code.
    pub proof: Proof,
    /// What it says that it is.
    pub about: String,
    /// Where it is.
    pub from: IpAddr,
}

/// What it is told.
#[derive(Debug, Clone)]
pub enum Knocked {
    /// It waits.
    Waits {
        /// Whether this was its first knock.
        is_new: bool,
    },
    /// It is in: what it gets, and the hub's own proof.
    Joined(Box<Joined>, Proof),
}

/// Why a device may not even wait.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KnockError {
    /// Too many new ones from there, or in all.
    #[error("too many attempts to join; wait a minute and try again")]
    Limited,
    /// All places are taken.
    #[error("too many devices wait to be let in; try again in a quarter of an hour, or join with an invite")]
    Full,
    /// It was too slow, or the hub has started anew, or it says something else than before.
    #[error("the code counts no longer; run the same line again for a new one")]
    Over,
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why nobody was let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApproveError {
    /// It is none.
    #[error(transparent)]
    Code(#[from] JoinCodeError),
    /// Nobody shows it.
    #[error("no device that waits here shows this code")]
    Unknown,
    /// The name belongs to another.
    #[error("the name `{0}` belongs to a device that has joined already")]
    Taken(DeviceName),
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store.
    #[error(transparent)]
    Save(#[from] SideError),
}

/// A device that was let in by its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetIn {
    /// Its name.
    pub device: DeviceName,
    /// From where it had asked.
    pub from: IpAddr,
}

/// All who wait.
#[derive(Debug)]
pub(super) struct Waiting {
    all: Mutex<Everybody>,
    /// Trying a code costs a core: one at a time.
    trying: Semaphore,
}

#[derive(Debug, Default)]
struct Everybody {
    by_nonce: BTreeMap<[u8; 32], One>,
    tries: Tries,
}

#[derive(Debug, Clone)]
struct One {
    knock: Knock,
    key: [u8; 32],
    since: Moment,
    since_unix_ms: u64,
    heard: Moment,
    let_in: Option<(Joined, Proof)>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { all: Mutex::default(), trying: Semaphore::new(1) }
    }
}

impl Everybody {
    fn forget_old(&mut self, now: Moment) {
        self.by_nonce.retain(|_, one| {
            let is_there = one.let_in.is_some() || now.since(one.heard) < GIVEN_UP;
            is_there && now.since(one.since) < CODE_LIFE
        });
    }

    fn may_come(&mut self, knock: &Knock, now: Moment) -> bool {
        self.by_nonce.contains_key(&knock.nonce) || self.tries.may(knock.from, now)
    }

    fn knock(&mut self, knock: Knock, key: [u8; 32], now: Moment, now_unix_ms: u64) -> Result<Knocked, KnockError> {
        self.forget_old(now);
        if let Some(one) = self.by_nonce.get_mut(&knock.nonce) {
            if (one.key, one.knock.proof) != (key, knock.proof) {
                return Err(KnockError::Over);
            }
            one.heard = now;
            return Ok(match &one.let_in {
                Some((joined, proof)) => Knocked::Joined(Box::new(joined.clone()), *proof),
                None => Knocked::Waits { is_new: false },
            });
        }
        if !self.tries.may(knock.from, now) {
            return Err(KnockError::Limited);
        }
        self.tries.failed(knock.from);
        let of_address = self.by_nonce.values().filter(|one| one.knock.from == knock.from).count();
        if self.by_nonce.len() >= MAX_WAITING || of_address >= MAX_OF_ADDRESS {
            return Err(KnockError::Full);
        }
        let about = knock.about.chars().filter(|c| !c.is_control()).take(MAX_ABOUT).collect();
        let knock = Knock { about, ..knock };
        let one = One { key, since: now, since_unix_ms: now_unix_ms, heard: now, let_in: None, knock };
        self.by_nonce.insert(one.knock.nonce, one);
        Ok(Knocked::Waits { is_new: true })
    }
}

impl Waiting {
    /// Whether this one is still to be let in.
    fn waits(&self, nonce: &[u8; 32]) -> bool {
        self.all().by_nonce.get(nonce).is_some_and(|one| one.let_in.is_none())
    }

    fn all(&self) -> MutexGuard<'_, Everybody> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pki {
    /// A device without an invite asks to be let in.
    ///
    /// # Errors
    /// If it may not even wait.
    pub fn knock(&self, knock: Knock) -> Result<Knocked, KnockError> {
        let (now, from) = (clock::now(), knock.from);
        // Before its request is looked at, which costs a signature's check. Who waits already waits on, whoever else is there.
        if !self.inner.waiting.all().may_come(&knock, now) {
            return Err(KnockError::Limited);
        }
        let key = key_of(&Csr::Pem(&knock.csr)).inspect_err(|_| self.inner.waiting.all().tries.failed(from))?;
        self.inner.waiting.all().knock(knock, key, now, clock::unix_ms())
    }

    /// Who waits, the one that has waited longest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingDevice> {
        let mut all = self.inner.waiting.all();
        all.forget_old(clock::now());
        let life = u64::try_from(CODE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let waits = all.by_nonce.values().filter(|one| one.let_in.is_none());
        let mut listed: Vec<_> = waits
            .map(|one| WaitingDevice {
                name: one.knock.name.to_string(),
                address: one.knock.from.to_string(),
                about: one.knock.about.clone(),
                since_unix_ms: one.since_unix_ms,
                expires_unix_ms: one.since_unix_ms.saturating_add(life),
                name_is_taken: self.inner.allow.read(&one.knock.name).is_some(),
            })
            .collect();
        drop(all);
        listed.sort_by(|a, b| (a.since_unix_ms, &a.name).cmp(&(b.since_unix_ms, &b.name)));
        listed
    }

    /// Lets the device in that shows this code: its name and key are on the list, durably, when this returns. Under
    /// `name`, if that is given, also where another device has it.
    ///
    /// # Errors
    /// If nobody shows the code, or the name is another's. Nothing has changed then.
    pub async fn approve_code(
        &self,
        code: &str,
        name: Option<DeviceName>,
        labels: BTreeMap<String, String>,
    ) -> Result<LetIn, ApproveError> {
        let code: JoinCode = code.parse()?;
        let (one, proof) = self.who_shows(code).await.ok_or(ApproveError::Unknown)?;
        let is_named = name.is_some();
        let device = name.unwrap_or_else(|| one.knock.name.clone());
        // Held to the end, as by an invite: of two who come for one name at once, one finds it free.
        let held = self.inner.invites.hold().await;
        if !self.inner.waiting.waits(&one.knock.nonce) {
            return Err(ApproveError::Unknown);
        }
        let key = key_text(&one.key);
        let before = self.inner.allow.read(&device);
        if before.is_some_and(|known| known.key != key) && !is_named {
            return Err(ApproveError::Taken(device));
        }
        let now_ms = clock::unix_ms();
        let issued = self.sign(&device, &Csr::Pem(&one.knock.csr), now_ms / 1000)?;
        let known = Known {
            key,
            authority: self.pin().to_string(),
            not_after: issued.not_after,
            joined_unix_ms: now_ms,
            invite: format!("a code, from {}", one.knock.from),
            quarantined: None,
            labels: labels.clone(),
        };
        self.inner.allow.set(&device, Some(known), None).await?;
        let joined = Joined {
            device: device.clone(),
            chain: issued.chain,
            authorities: vec![self.authority()],
            invite: "a code".to_owned(),
            labels,
        };
        if let Some(waiting) = self.inner.waiting.all().by_nonce.get_mut(&one.knock.nonce) {
            waiting.let_in = Some((joined, proof));
        }
        // Not before it is known that this one is in: the code of one device is good for one name.
        drop(held);
        Ok(LetIn { device, from: one.knock.from })
    }

    /// Who waits with this code, and our proof for him.
    async fn who_shows(&self, code: JoinCode) -> Option<(One, Proof)> {
        let _alone = self.inner.waiting.trying.acquire().await.ok()?;
        let hub = self.pin();
        let waits: Vec<One> = {
            let mut all = self.inner.waiting.all();
            all.forget_old(clock::now());
            all.by_nonce.values().filter(|one| one.let_in.is_none()).cloned().collect()
        };
        // A thread of its own: it is a second's work where many wait.
        let found = tokio::task::spawn_blocking(move || waits.into_iter().find_map(|one| proven(&code, hub, one)));
        found.await.ok().flatten()
    }
}

fn proven(code: &JoinCode, hub: Pin, one: One) -> Option<(One, Proof)> {
    let between = Between { hub, device: one.key, nonce: one.knock.nonce };
    let key = code.key(&one.knock.nonce);
    if !key.is_proven(Prover::Device, &between, &one.knock.proof) {
        return None;
    }
    let proof = key.prove(Prover::Hub, &between);
    Some((one, proof))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(nonce: u8, from: u8) -> Knock {
        Knock {
            name: "pi".parse().unwrap(),
            csr: String::new(),
            nonce: [nonce; 32],
            proof: Proof([nonce; 32]),
            about: "a\u{1b}[2Jb".repeat(100),
            from: IpAddr::from([192, 0, 2, from]),
        }
    }

    fn come(all: &mut Everybody, nonce: u8, from: u8, now: u64) -> Result<Knocked, KnockError> {
        all.knock(knock(nonce, from), [nonce; 32], Moment(now), 0)
    }

    #[test]
    fn only_so_many_wait_and_only_so_many_of_one_address() {
        let mut all = Everybody::default();
        for nonce in 0..4 {
            assert!(matches!(come(&mut all, nonce, 1, 0), Ok(Knocked::Waits { is_new: true })));
        }
        assert_eq!(come(&mut all, 4, 1, 0).unwrap_err(), KnockError::Full);
        for nonce in 5..17 {
            come(&mut all, nonce, nonce, 0).unwrap();
        }
        assert_eq!(come(&mut all, 17, 17, 0).unwrap_err(), KnockError::Full);
        assert!(
            matches!(come(&mut all, 0, 1, 1000), Ok(Knocked::Waits { is_new: false })),
            "who waits already, waits on"
        );
        assert!(
            all.by_nonce.values().all(|one| one.knock.about.len() <= MAX_ABOUT && !one.knock.about.contains('\u{1b}'))
        );
    }

    #[test]
    fn who_begins_anew_again_and_again_has_to_wait() {
        let mut all = Everybody::default();
        let refused = (0..40).filter_map(|nonce| come(&mut all, nonce, 1, 0).err()).collect::<Vec<_>>();
        assert!(refused.contains(&KnockError::Limited));
        assert!(come(&mut all, 99, 2, 0).is_ok(), "others do not");
    }

    #[test]
    fn who_gives_up_or_waits_too_long_is_forgotten() {
        let mut all = Everybody::default();
        come(&mut all, 1, 1, 0).unwrap();
        come(&mut all, 2, 2, 0).unwrap();
        for second in 1..900 {
            come(&mut all, 1, 1, second * 1000).unwrap();
        }
        assert!(!all.by_nonce.contains_key(&[2; 32]));
        all.forget_old(Moment(900_000));
        assert!(all.by_nonce.is_empty());
    }

    #[test]
    fn nobody_takes_the_place_of_one_who_waits() {
        let mut all = Everybody::default();
        come(&mut all, 1, 1, 0).unwrap();
        assert_eq!(all.knock(knock(1, 1), [9; 32], Moment(1), 0).unwrap_err(), KnockError::Over, "another key");
        let other = Knock { proof: Proof([9; 32]), ..knock(1, 1) };
        assert_eq!(all.knock(other, [1; 32], Moment(1), 0).unwrap_err(), KnockError::Over, "another proof");
    }
}
