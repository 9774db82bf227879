//! Which devices belong to the fleet, each with the key that is its own. Who is not on this list is not let in, whatever
//! certificate it shows: that is how a removed, quarantined or re-joined device's old certificate ends.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use outrigger_protocol::DeviceName;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use crate::store::{Side, SideError, SideRecord, SideTables};

/// Name of the table.
pub const TABLE: &str = "identities";

/// A device that may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// SHA-256 of its public key, in hex.
    pub key: String,
    /// Pin of the authority that has signed its certificate.
    pub authority: String,
    /// Seconds since 1970 until which its certificate counts.
    pub not_after: u64,
    /// When it joined.
    pub joined_unix_ms: u64,
    /// By which invite.
    pub invite: String,
    /// Why it is kept out for now; none: it may come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// Labels of its invite that it is given when it is first heard.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Why a device is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum KeptOut {
    /// No such device.
    #[error("the device was removed, or has never joined")]
    Unknown,
    /// The name has another key.
    #[error("the name has joined anew with another key")]
    OtherKey,
    /// For now.
    #[error("the device is in quarantine")]
    Quarantined,
}

/// The list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AllowList {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: RwLock<BTreeMap<DeviceName, Known>>,
    changed: watch::Sender<()>,
    side: Side,
}

/// An entry that cannot be read. Nobody is let in then: the hub does not start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the record of device `{0}` in the list of those that may connect cannot be read")]
pub struct Unreadable(pub String);

fn read_all(saved: &SideTables) -> Result<BTreeMap<DeviceName, Known>, Unreadable> {
    let mut known = BTreeMap::new();
    for (name, value) in saved.get(TABLE).into_iter().flatten() {
        let unreadable = || Unreadable(name.clone());
        let device = name.parse().map_err(|_| unreadable())?;
        known.insert(device, serde_json::from_slice(value).map_err(|_| unreadable())?);
    }
    Ok(known)
}

/// Who may connect, as it was saved.
///
/// # Errors
/// If an entry makes no sense.
pub fn allowed_in(saved: &SideTables) -> Result<Vec<DeviceName>, Unreadable> {
    let may = |(device, known): (DeviceName, Known)| known.quarantined.is_none().then_some(device);
    Ok(read_all(saved)?.into_iter().filter_map(may).collect())
}

impl AllowList {
    /// The list as it was saved.
    ///
    /// # Errors
    /// If an entry makes no sense.
    pub fn restore(saved: &SideTables, side: Side) -> Result<Self, Unreadable> {
        let known = read_all(saved)?;
        let inner = Inner { known: RwLock::new(known), changed: watch::channel(()).0, side };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the device with this name and key may come in.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, device: &DeviceName, key: &[u8; 32]) -> Result<(), KeptOut> {
        let known = self.read(device).ok_or(KeptOut::Unknown)?;
        if known.key != hex(key) {
            return Err(KeptOut::OtherKey);
        }
        if known.quarantined.is_some() { Err(KeptOut::Quarantined) } else { Ok(()) }
    }

    /// Whether messages of this device count. For a broker that is not ours and cannot ask.
    #[must_use]
    pub fn hears(&self, device: &DeviceName) -> bool {
        self.read(device).is_some_and(|known| known.quarantined.is_none())
    }

    /// What is known of a device.
    #[must_use]
    pub fn read(&self, device: &DeviceName) -> Option<Known> {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).get(device).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<DeviceName, Known> {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes whenever the list has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// Sets or removes an entry, together with other records. It counts when it is durable.
    ///
    /// # Errors
    /// If it cannot be saved. Nothing has changed then.
    pub async fn set(
        &self,
        device: &DeviceName,
        known: Option<Known>,
        beside: Option<SideRecord>,
    ) -> Result<(), SideError> {
        // An entry is texts and numbers: it always serialises.
        let value = known.as_ref().map(|known| serde_json::to_vec(known).unwrap_or_default());
        let record = SideRecord { table: TABLE.to_owned(), key: device.to_string(), value };
        self.inner.side.save_all([record].into_iter().chain(beside).collect()).await?;
        {
            let mut table = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
            match known {
                Some(known) => table.insert(device.clone(), known),
                None => table.remove(device),
            };
        }
        self.inner.changed.send_replace(());
        Ok(())
    }
}

/// Bytes as text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
