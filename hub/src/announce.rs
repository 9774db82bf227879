//! Tells the local network where the hub is (multicast DNS, `_outrigger._tcp`), so that `outrigger-agent join` finds it
//! without an address. Nothing rests on it: whoever is in the network can say the same, and the join code sorts that out.

use std::net::SocketAddr;
use std::time::Duration;

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use thiserror::Error;
use tracing::{info, warn};

use crate::pki::Pki;

/// What hubs are looked for as.
pub const SERVICE: &str = "_outrigger._tcp.local.";
/// Time between looks whether there is a new authority.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Most characters of a host's name in ours: a label has at most 63.
const MAX_HOST: usize = 40;

/// Announces until it is dropped.
pub struct Announcer {
    daemon: ServiceDaemon,
    listens: SocketAddr,
    host: String,
}

/// Why nothing is announced.
#[derive(Debug, Error)]
#[error("the hub cannot be announced in the local network")]
pub struct AnnounceError(#[from] mdns_sd::Error);

impl Announcer {
    /// Begins to announce a hub that listens there.
    ///
    /// # Errors
    /// If this machine's multicast DNS port cannot be had.
    pub fn start(listens: SocketAddr, pki: &Pki) -> Result<Self, AnnounceError> {
        let system = rustix::system::uname();
        let host = system.nodename().to_str().unwrap_or("hub").split('.').next().unwrap_or("hub").to_ascii_lowercase();
        let host = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MAX_HOST).collect();
        let daemon = ServiceDaemon::new()?;
        if !listens.ip().is_unspecified() {
            // Nothing is said in networks in which the hub is not reached.
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::Addr(listens.ip()))?;
        }
        let announcer = Self { daemon, listens, host };
        announcer.tell(pki)?;
        info!(port = listens.port(), "the hub is announced in the local network; `mdns = \"false\"` ends that");
        Ok(announcer)
    }

    fn tell(&self, pki: &Pki) -> Result<(), AnnounceError> {
        let Self { daemon, listens, host } = self;
        let pin = pki.pin().to_string();
        let texts = [("v", "1"), ("pin", pin.as_str())];
        // A name of its own: the machine's plain one may be announced by the machine itself.
        let name = format!("outrigger-{host}.local.");
        let addresses = if listens.ip().is_unspecified() { String::new() } else { listens.ip().to_string() };
        let service = ServiceInfo::new(SERVICE, host, &name, addresses.as_str(), listens.port(), &texts[..])?;
        let service = if listens.ip().is_unspecified() { service.enable_addr_auto() } else { service };
        Ok(daemon.register(service)?)
    }

    /// Goes on with the present authority's pin, for ever.
    pub async fn keep(self, pki: Pki) {
        let mut told = pki.pin();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if pki.pin() != told {
                told = pki.pin();
                if let Err(error) = self.tell(&pki) {
                    warn!(%error, "the new authority is not announced");
                }
            }
        }
    }
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("listens", &self.listens).finish_non_exhaustive()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        // Says goodbye, so that nobody finds a hub that is gone. Nobody waits for it.
        let _ = self.daemon.shutdown();
    }
}
