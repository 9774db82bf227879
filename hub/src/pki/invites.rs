//! Invites: who may let new devices in, for how long, how many, under which name. The hub keeps digests of the secrets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use outrigger_api::{Invite, InviteUse};
use outrigger_protocol::{DeviceName, Moment};
use outrigger_trust::{Kind, Pin, Token};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

use super::allow::hex;
use crate::access::network;
use crate::store::{Side, SideError, SideRecord, SideTables};

/// Name of the table.
pub const TABLE: &str = "invites";
/// How long an invite counts if nothing else is said.
pub const USUAL_TTL: Duration = Duration::from_secs(3600);
/// Longest time.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Most devices on one invite.
pub const MAX_USES: u32 = 1000;
/// Invites at one time.
const MAX_INVITES: usize = 1000;
/// An invite that has ended is shown so long.
const SHOWN_AFTER_END_MS: u64 = 7 * 86_400_000;

/// An invite as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// SHA-256 of the secret, in bytes.
    digest: [u8; 32],
    created_unix_ms: u64,
    created_by: String,
    expires_unix_ms: u64,
    uses: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<DeviceName>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    used: Vec<Use>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    device: DeviceName,
    key: String,
    at_unix_ms: u64,
}

/// What an invite is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How many devices.
    pub uses: u32,
    /// For how long.
    pub ttl: Duration,
    /// Only under this name.
    pub name: Option<DeviceName>,
    /// Labels that the devices get.
    pub labels: BTreeMap<String, String>,
}

/// Why somebody is not let in by an invite.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such id, or another secret: the same answer for both.
    #[error("the hub knows no such invite; it may have been revoked")]
    Unknown,
    /// Too late.
    #[error("the invite has expired")]
    Expired,
    /// Too many.
    #[error("the invite has been used up")]
    UsedUp,
    /// Under another name.
    #[error("the invite is for a device named `{0}`")]
    OtherName(DeviceName),
}

/// All invites.
#[derive(Debug)]
pub struct Invites {
    records: Mutex<BTreeMap<String, Record>>,
    side: Side,
}

/// All invites, and nobody else uses one meanwhile: that is why a single use is single.
pub(super) struct Held<'a> {
    records: MutexGuard<'a, BTreeMap<String, Record>>,
}

impl Invites {
    /// As they were saved. One that cannot be read lets nobody in.
    pub fn restore(saved: &SideTables, side: Side) -> Self {
        let mut records = BTreeMap::new();
        for (id, value) in saved.get(TABLE).into_iter().flatten() {
            match serde_json::from_slice(value) {
                Ok(record) => drop(records.insert(id.clone(), record)),
                Err(error) => tracing::warn!(invite = id, %error, "an invite cannot be read; it counts no more"),
            }
        }
        Self { records: Mutex::new(records), side }
    }

    /// Makes one. The token is shown once.
    ///
    /// # Errors
    /// If it cannot be saved, or there are too many.
    pub async fn make(&self, wanted: Wanted, pin: Pin, by: &str, now_ms: u64) -> Result<(Token, Invite), SideError> {
        let token = Token::fresh(Kind::Join, pin);
        let id = token.id.to_string();
        let ttl = u64::try_from(wanted.ttl.as_millis()).unwrap_or(0);
        let record = Record {
            digest: token.secret.digest(),
            created_unix_ms: now_ms,
            created_by: by.to_owned(),
            expires_unix_ms: now_ms + ttl,
            uses: wanted.uses,
            name: wanted.name,
            labels: wanted.labels,
            used: vec![],
        };
        let mut records = self.records.lock().await;
        let ended: Vec<_> = records
            .iter()
            .filter(|(_, record)| now_ms > record.expires_unix_ms + SHOWN_AFTER_END_MS)
            .map(|(id, _)| id.clone())
            .collect();
        if records.len() - ended.len() >= MAX_INVITES {
            return Err(SideError::ReadOnly(format!("there are {MAX_INVITES} invites; revoke some")));
        }
        let gone = ended.iter().map(|id| (id, None));
        let changes = gone.chain([(&id, Some(&record))]).map(|(id, record)| side_record(id, record)).collect();
        self.side.save_all(changes).await?;
        for id in ended {
            records.remove(&id);
        }
        let shown = shown(&id, &record, now_ms);
        records.insert(id, record);
        Ok((token, shown))
    }

    /// All that count, and those that have ended not long ago. Never a secret.
    pub async fn list(&self, now_ms: u64) -> Vec<Invite> {
        self.records.lock().await.iter().map(|(id, record)| shown(id, record, now_ms)).collect()
    }

    /// Takes one back. `false`: there is none.
    ///
    /// # Errors
    /// If that cannot be saved.
    pub async fn revoke(&self, id: &str) -> Result<bool, SideError> {
        let mut records = self.records.lock().await;
        if !records.contains_key(id) {
            return Ok(false);
        }
        self.side.save_all(vec![side_record(id, None)]).await?;
        records.remove(id);
        Ok(true)
    }

    pub(super) async fn hold(&self) -> Held<'_> {
        Held { records: self.records.lock().await }
    }
}

impl Held<'_> {
    /// The invite of this token, if it lets a device of this name with this key in. A device that comes again with its
    /// own key, because the answer to its first try was lost, is let in again.
    pub(super) fn open(&self, token: &Token, device: &DeviceName, key: &str, now_ms: u64) -> Result<Record, Refusal> {
        let record = self.known(token, now_ms)?;
        if let Some(name) = record.name.as_ref().filter(|name| *name != device) {
            return Err(Refusal::OtherName(name.clone()));
        }
        let again = record.used.iter().any(|used| used.device == *device && used.key == key);
        if !again && record.used.len() >= usize::try_from(record.uses).unwrap_or(usize::MAX) {
            return Err(Refusal::UsedUp);
        }
        Ok(record.clone())
    }

    /// The invite of this token, if it counts at all. Asked before anything else that the newcomer has sent is read.
    pub(super) fn known(&self, token: &Token, now_ms: u64) -> Result<&Record, Refusal> {
        let found = self.records.get(&token.id.to_string());
        let record = found.filter(|record| token.secret.matches(&record.digest)).ok_or(Refusal::Unknown)?;
        if now_ms >= record.expires_unix_ms { Err(Refusal::Expired) } else { Ok(record) }
    }

    /// The record to save with the device that was let in, and what to do when that is durable.
    pub(super) fn using(&self, record: &Record, device: &DeviceName, key: &str, now_ms: u64) -> Record {
        let mut record = record.clone();
        if !record.used.iter().any(|used| used.device == *device && used.key == key) {
            record.used.push(Use { device: device.clone(), key: key.to_owned(), at_unix_ms: now_ms });
        }
        record
    }

    pub(super) fn used(&mut self, token: &Token, record: Record) {
        self.records.insert(token.id.to_string(), record);
    }
}

impl Record {
    /// Whether it was made for this name.
    pub(super) fn is_for(&self, device: &DeviceName) -> bool {
        self.name.as_ref() == Some(device)
    }
}

pub(super) fn side_record(id: &str, record: Option<&Record>) -> SideRecord {
    // A record is texts and numbers: it always serialises.
    let value = record.map(|record| serde_json::to_vec(record).unwrap_or_default());
    SideRecord { table: TABLE.to_owned(), key: id.to_owned(), value }
}

fn shown(id: &str, record: &Record, now_ms: u64) -> Invite {
    Invite {
        id: id.to_owned(),
        created_unix_ms: record.created_unix_ms,
        created_by: record.created_by.clone(),
        expires_unix_ms: record.expires_unix_ms,
        expired: now_ms >= record.expires_unix_ms,
        uses: record.uses,
        name: record.name.as_ref().map(ToString::to_string),
        labels: record.labels.clone(),
        used: record
            .used
            .iter()
            .map(|used| InviteUse { device: used.device.to_string(), at_unix_ms: used.at_unix_ms })
            .collect(),
    }
}

/// Failed tries of one address in [`WINDOW`].
const MAX_FAILED: u32 = 10;
/// Failed tries of all in [`WINDOW`].
const MAX_FAILED_OF_ALL: u32 = 300;
const WINDOW: Duration = Duration::from_secs(60);

/// Slows down who tries. 256 bits are not guessed; this is for the hub's load and log.
#[derive(Debug, Default)]
pub(super) struct Tries {
    since: Option<Moment>,
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

impl Tries {
    /// Whether this address may try now.
    pub(super) fn may(&mut self, address: IpAddr, now: Moment) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= WINDOW) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        let failed = self.by_address.get(&network(address)).copied().unwrap_or(0);
        failed < MAX_FAILED && self.all < MAX_FAILED_OF_ALL
    }

    /// This address has tried in vain.
    pub(super) fn failed(&mut self, address: IpAddr) {
        self.all += 1;
        *self.by_address.entry(network(address)).or_default() += 1;
    }
}

/// The key of a certificate as records write it.
pub(super) fn key_text(key: &[u8; 32]) -> String {
    hex(key)
}
