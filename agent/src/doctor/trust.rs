//! The device's identity: whether there is one, whether it still counts, and whether hub and device trust each other.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::{ClientConfig, TlsError, client_config_for, shake_hands};

use super::Finding;
use super::inspect::{Inspection, Reach};
use super::judge::{fine, note, wrong};
use crate::config::HubAddress;
use crate::identity::{IdentityDir, Joined};
use crate::mqtt::Route;

/// Longest handshake.
const PATIENCE: Duration = Duration::from_secs(5);
const DAY: u64 = 86_400;
/// A certificate is renewed when at least a fifth of its life is left. With less than so many days something is wrong.
const SOON: u64 = 10;
const ABOUT: &str = "identity";

/// What there is to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nothing, and nothing is needed: a hub on this device, without TLS.
    Local,
    /// The device has not joined.
    NotJoined,
    /// It has, and cannot use what it has.
    Damaged(String),
    /// It has.
    Joined(Seen),
}

/// A device that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As whom.
    pub device: DeviceName,
    /// Its certificate counts from then, in seconds since 1970.
    pub begins_s: u64,
    /// And until then.
    pub ends_s: u64,
    /// Whether only its owner can read the key.
    pub key_is_private: bool,
    /// Whether hub and device trust each other; none where the hub is not reached.
    pub handshake: Option<Result<(), String>>,
}

pub(super) fn hub_of(route: &Route) -> Option<HubAddress> {
    match route {
        Route::Local(hub) | Route::Joined(_, Some(hub)) => Some(hub.clone()),
        Route::Joined(identity, None) => identity.read().ok()??.hub.mqtt.into_iter().next(),
    }
}

pub(super) async fn look(route: &Route, hub: Option<HubAddress>) -> Trust {
    let identity = match route {
        Route::Local(_) => return Trust::Local,
        Route::Joined(identity, _) => identity,
    };
    let joined = match identity.read() {
        Ok(Some(joined)) => joined,
        Ok(None) => return Trust::NotJoined,
        Err(error) => return Trust::Damaged(chain(&error)),
    };
    let handshake = match hub {
        Some(hub) => shaken(&joined, hub).await,
        None => None,
    };
    Trust::Joined(Seen {
        device: joined.device,
        begins_s: joined.certificate.not_before.as_secs(),
        ends_s: joined.certificate.not_after.as_secs(),
        key_is_private: is_private(identity),
        handshake,
    })
}

fn is_private(identity: &IdentityDir) -> bool {
    let key = std::fs::metadata(identity.path().join("key.pem"));
    key.is_ok_and(|key| key.permissions().mode() & 0o077 == 0)
}

async fn shaken(joined: &Joined, hub: HubAddress) -> Option<Result<(), String>> {
    let floor = Some(joined.certificate.not_before);
    let config: Result<Arc<ClientConfig>, TlsError> =
        client_config_for(&hub.host, &joined.authorities, Some(joined.identity()), floor);
    let config = match config {
        Ok(config) => config,
        Err(error) => return Some(Err(chain(&error))),
    };
    let shaken = tokio::task::spawn_blocking(move || shake_hands(&hub.host, hub.port, config, PATIENCE));
    Some(shaken.await.ok()?.map_err(|error| chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether there is an identity that counts.
pub(super) fn identity(seen: &Inspection) -> Vec<Finding> {
    let joined = match &seen.trust {
        Trust::Local => return vec![note(ABOUT, "none: --insecure-local, without TLS", "join a hub for real use")],
        Trust::NotJoined => {
            let fix = "on the hub: outrigger device invite; here: the line that it prints";
            return vec![wrong(ABOUT, "this device has not joined a hub", fix)];
        }
        Trust::Damaged(reason) => {
            return vec![wrong(ABOUT, format!("damaged: {reason}"), again("NAME"))];
        }
        Trust::Joined(joined) => joined,
    };
    let mut findings = vec![lifetime(seen.unix, joined)];
    if !joined.key_is_private {
        let fix = format!("sudo chmod 600 {}", seen.state_dir.join("identity/key.pem").display());
        findings.push(wrong(ABOUT, "others can read the device's key", fix));
    }
    findings
}

fn lifetime(unix: u64, joined: &Seen) -> Finding {
    let device = &joined.device;
    if unix < joined.begins_s {
        return note(
            ABOUT,
            format!(
                "{device}; the clock stands before the certificate's beginning, so it is wrong; the agent connects all the same"
            ),
            "sudo timedatectl set-ntp true",
        );
    }
    match joined.ends_s.saturating_sub(unix) / DAY {
        _ if unix >= joined.ends_s => {
            wrong(ABOUT, format!("the certificate of {device} has ended; containers run on"), again(device.as_str()))
        }
        days if days < SOON => note(
            ABOUT,
            format!("the certificate of {device} ends in {days} days, and should have been renewed by now"),
            "see why the agent does not reach the hub: sudo journalctl -u outrigger-agent -n 50",
        ),
        days => fine(ABOUT, format!("{device}, for {days} days; renewed by itself")),
    }
}

fn again(device: &str) -> String {
    format!("join anew: on the hub outrigger device invite --name {device}; here the line that it prints, with --again")
}

/// Whether hub and device trust each other. Not said of a hub that is not reached.
pub(super) fn handshake(seen: &Inspection) -> Option<Finding> {
    let Trust::Joined(joined) = &seen.trust else { return None };
    if seen.reach != Reach::Accepts {
        return None;
    }
    Some(match joined.handshake.as_ref()? {
        Ok(()) => fine("TLS", "hub and device trust each other"),
        Err(reason) => {
            wrong("TLS", format!("hub and device do not trust each other: {reason}"), again(joined.device.as_str()))
        }
    })
}
