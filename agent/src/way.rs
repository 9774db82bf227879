//! The way to the hub's broker: which address, and with what TLS settings. Looked up anew for each connection, so that a
//! renewed certificate, a changed authority or a device that joins anew counts from the next connection on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::{ClientConfig, KeyError, TlsError, UnixTime, client_config_for};
use thiserror::Error;
use tracing::warn;

use crate::clock::Clock;
use crate::config::{Config, HubAddress};
use crate::core::OwnCertificate;
use crate::identity::{IdentityDir, IdentityError};

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The device.
    pub device: DeviceName,
    /// Where the broker is.
    pub route: Route,
    /// Time between its reports.
    pub heartbeat: Duration,
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// On this device, without TLS.
    Local(HubAddress),
    /// Where the device has joined, or at this address of the same hub.
    Joined(IdentityDir, Option<HubAddress>),
}

/// Whose turn it is among the hub's addresses. The one that worked last has every second turn, beginning with the first:
/// a hub that restarts is reached again at once, and one that has moved is found all the same.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    good: usize,
    failures: usize,
}

impl Turns {
    /// The number of the way to try next.
    pub(crate) fn choice(&self) -> usize {
        if self.failures.is_multiple_of(2) { self.good } else { self.good + 1 + self.failures / 2 }
    }

    /// This one led nowhere.
    pub(crate) fn failed(&mut self) {
        self.failures += 1;
    }

    /// This one was good.
    pub(crate) fn held(&mut self) {
        self.good = self.choice();
        self.failures = 0;
    }
}

/// One way there.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) certificate: Option<OwnCertificate>,
}

/// There is no way.
#[derive(Debug, Error)]
pub(crate) enum WayError {
    #[error("the name {0} cannot be resolved: {1}")]
    Resolve(String, io::Error),
    #[error("{}", with_causes(.0))]
    Identity(#[from] IdentityError),
    #[error("{}", with_causes(.0))]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("this device has not joined a hub; on the hub `outrigger device invite`, here the line that it prints")]
    NotJoined,
    #[error(
        "this device has joined anew, as `{0}`; start the agent anew so that it takes that name: sudo systemctl restart outrigger-agent"
    )]
    OtherName(DeviceName),
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Route {
    /// As the settings say.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        match &config.hub {
            Some(hub) if config.insecure_local => Self::Local(hub.clone()),
            hub => Self::Joined(IdentityDir::of(&config.state_dir), hub.clone()),
        }
    }

    /// The identity that it needs.
    #[must_use]
    pub fn identity(&self) -> Option<&IdentityDir> {
        match self {
            Self::Local(_) => None,
            Self::Joined(identity, _) => Some(identity),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(hub) | Self::Joined(_, Some(hub)) => hub.fmt(f),
            Self::Joined(identity, None) => match identity.read() {
                Ok(Some(joined)) => f.write_str(&joined.hub.url),
                Ok(None) | Err(_) => f.write_str("unknown"),
            },
        }
    }
}

impl Target {
    /// The way for this attempt.
    pub(crate) async fn way(&self, attempt: usize, clock: Clock) -> Result<Way, WayError> {
        let (identity, over) = match &self.route {
            Route::Local(hub) => {
                return Ok(Way { address: resolve(hub, attempt).await?, tls: None, certificate: None });
            }
            Route::Joined(identity, over) => (identity, over),
        };
        let joined = identity.read()?.ok_or(WayError::NotJoined)?;
        if joined.device != self.device {
            return Err(WayError::OtherName(joined.device));
        }
        let begins = joined.certificate.not_before;
        mind_the_clock(clock.unix_ms() / 1000, begins);
        let hosts = over.as_slice();
        let hosts = if hosts.is_empty() { &joined.hub.mqtt } else { hosts };
        let hub = hosts.get(attempt % hosts.len().max(1)).ok_or(WayError::NotJoined)?;
        let tls = client_config_for(&hub.host, &joined.authorities, Some(joined.identity()), Some(begins))?;
        // Each host's addresses take their turn when all hosts have had one.
        let address = resolve(hub, attempt / hosts.len().max(1)).await?;
        Ok(Way { address, tls: Some(tls), certificate: Some(joined.own()?) })
    }
}

/// Says once that the clock is wrong. Certificates are then judged by a time that is known to have passed.
fn mind_the_clock(unix_s: u64, begins: UnixTime) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if unix_s < begins.as_secs() && !TOLD.swap(true, Ordering::Relaxed) {
        warn!(
            unix_s,
            "this device's clock stands before the beginning of its own certificate, so it is wrong; it connects all the \
             same. Put it right with a time server: sudo timedatectl set-ntp true"
        );
    }
}

/// One of the host's addresses, another one at each attempt: the MQTT crate would spend all its time on the first, and an
/// IPv6 address that leads nowhere would hide the IPv4 address that works.
async fn resolve(hub: &HubAddress, attempt: usize) -> Result<SocketAddr, WayError> {
    let failed = |error| WayError::Resolve(hub.host.clone(), error);
    let found = tokio::net::lookup_host((hub.host.as_str(), hub.port)).await.map_err(failed)?;
    let addresses: Vec<SocketAddr> = found.collect();
    let nothing = || failed(io::Error::other("it has no address"));
    addresses.get(attempt % addresses.len().max(1)).copied().ok_or_else(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_that_was_good_is_tried_first_and_every_second_time_and_all_others_between() {
        let mut turns = Turns::default();
        let mut tried = Vec::new();
        for _ in 0..7 {
            tried.push(turns.choice());
            turns.failed();
        }
        assert_eq!(tried, [0, 1, 0, 2, 0, 3, 0]);
        assert_eq!(turns.choice(), 4);
        turns.held();
        assert_eq!(turns.choice(), 4, "a hub that restarts");
        turns.failed();
        assert_eq!(turns.choice(), 5);
    }
}
