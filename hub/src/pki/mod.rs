//! Who belongs to the fleet, and how that is proven: the hub's authority, its server certificate, the list of devices that
//! may connect, and invites for new ones. The design is decision 0012.

mod allow;
mod authority;
mod invites;
mod join;
mod keep;
mod names;
mod server_tls;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::{CertificateDer, Identity, Pin};
use thiserror::Error;

pub use allow::{AllowList, KeptOut, Known, Unreadable, allowed_in, hex};
pub use authority::{Authority, AuthorityError, DEVICE_LIFE, FILE, HUB_NAME, Old, RequestError};
pub use invites::{Invites, MAX_TTL, MAX_USES, Refusal, USUAL_TTL, Wanted};
pub use join::{JoinError, Joined, Newcomer, RenewError};
pub use keep::Request;
pub use names::{Names, is_host};
pub use server_tls::{ServerTls, ServerTlsError};
pub use waiting::{
    AGAIN, ApproveError, CODE_LIFE, GIVEN_UP, Knock, KnockError, Knocked, LetIn, MAX_OF_ADDRESS, MAX_WAITING,
};

use crate::clock;
use crate::store::{Side, SideError, SideTables};

/// Side records about the authority.
const TABLE: &str = "pki";
const MADE: &str = "authority";

/// Everything that proves who is who. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pki {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    named: Vec<String>,
    device_life: Duration,
    authority: RwLock<Authority>,
    tls: ServerTls,
    server_made_at: AtomicU64,
    seen: Mutex<Option<keep::Seen>>,
    allow: AllowList,
    invites: Invites,
    tries: Mutex<invites::Tries>,
    waiting: waiting::Waiting,
}

/// Why nobody's identity could be proven. The hub does not start then.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The server's certificate.
    #[error(transparent)]
    Server(#[from] ServerTlsError),
    /// The list of devices.
    #[error(transparent)]
    List(#[from] Unreadable),
    /// The store.
    #[error("cannot save that there is an authority")]
    Save(#[from] SideError),
}

impl Pki {
    /// Opens what is in the state folder, and makes what is not there yet. `named`: what the operator calls this hub.
    ///
    /// # Errors
    /// If something that was there is not whole any more. Nothing is made anew in its place: the fleet trusts what was.
    pub async fn open(folder: &Path, named: &[String], saved: &SideTables, side: Side) -> Result<Self, PkiError> {
        Self::open_with(folder, named, saved, side, DEVICE_LIFE).await
    }

    /// The same with another life for the certificates of devices.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub async fn open_with(
        folder: &Path,
        named: &[String],
        saved: &SideTables,
        side: Side,
        device_life: Duration,
    ) -> Result<Self, PkiError> {
        let now = clock::unix_ms() / 1000;
        let allow = AllowList::restore(saved, side.clone())?;
        let was_made = saved.get(TABLE).is_some_and(|table| table.contains_key(MADE));
        let authority = Authority::open(folder, was_made, now)?;
        if !was_made {
            // From now on a missing file is a fault and no beginning.
            side.save(TABLE, MADE, Some(authority.pin().to_string().into_bytes())).await?;
        }
        let tls = ServerTls::new(&authority, Names::of_this_machine(named), now)?;
        let inner = Inner {
            folder: folder.to_owned(),
            named: named.to_vec(),
            device_life,
            authority: RwLock::new(authority),
            tls,
            server_made_at: AtomicU64::new(now),
            seen: Mutex::new(keep::Seen::at(folder)),
            allow,
            invites: Invites::restore(saved, side),
            tries: Mutex::default(),
            waiting: waiting::Waiting::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// TLS of the hub's ports.
    #[must_use]
    pub fn server_tls(&self) -> &ServerTls {
        &self.inner.tls
    }

    /// Which devices may come in.
    #[must_use]
    pub fn allow(&self) -> &AllowList {
        &self.inner.allow
    }

    /// Digest of the authority: what stands in tokens.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.with_authority(Authority::pin)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> CertificateDer<'static> {
        self.with_authority(|authority| authority.certificate().clone())
    }

    /// All authorities whose devices may come in: this one, and those that it has replaced.
    #[must_use]
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        self.with_authority(Authority::trusted)
    }

    /// What the operator calls this hub.
    #[must_use]
    pub fn named(&self) -> &[String] {
        &self.inner.named
    }

    /// Invites for new devices.
    #[must_use]
    pub fn invites(&self) -> &Invites {
        &self.inner.invites
    }

    /// As whom the hub is known at an external broker.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn client_identity(&self) -> Result<Identity, PkiError> {
        let made = self.with_authority(|authority| authority.client(clock::unix_ms() / 1000));
        Ok(made.map_err(AuthorityError::from)?)
    }

    /// Takes a device's identity away: its connection is cut, and it must join again. `false`: it has none.
    ///
    /// # Errors
    /// If that cannot be saved.
    pub async fn remove(&self, device: &DeviceName) -> Result<bool, SideError> {
        if self.inner.allow.read(device).is_none() {
            return Ok(false);
        }
        self.inner.allow.set(device, None, None).await?;
        Ok(true)
    }

    /// Keeps a device out until it is approved or joins anew. `false`: it has no identity, or is kept out already.
    ///
    /// # Errors
    /// If that cannot be saved.
    pub async fn quarantine(&self, device: &DeviceName, why: &str) -> Result<bool, SideError> {
        let Some(mut known) = self.inner.allow.read(device).filter(|known| known.quarantined.is_none()) else {
            return Ok(false);
        };
        known.quarantined = Some(why.to_owned());
        self.inner.allow.set(device, Some(known), None).await?;
        Ok(true)
    }

    /// Lets a device in again. `false`: it has no identity.
    ///
    /// # Errors
    /// If that cannot be saved.
    pub async fn approve(&self, device: &DeviceName) -> Result<bool, SideError> {
        let Some(mut known) = self.inner.allow.read(device) else { return Ok(false) };
        if known.quarantined.take().is_some() {
            self.inner.allow.set(device, Some(known), None).await?;
        }
        Ok(true)
    }

    fn with_authority<T>(&self, look: impl FnOnce(&Authority) -> T) -> T {
        look(&self.inner.authority.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tries(&self) -> MutexGuard<'_, invites::Tries> {
        self.inner.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server_made_at(&self) -> &AtomicU64 {
        &self.inner.server_made_at
    }

    fn renew_server(&self, names: Names) -> Result<(), ServerTlsError> {
        let now = clock::unix_ms() / 1000;
        self.with_authority(|authority| self.inner.tls.renew(authority, names, now))?;
        self.server_made_at().store(now, Ordering::Relaxed);
        Ok(())
    }
}
