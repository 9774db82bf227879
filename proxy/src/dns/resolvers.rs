//! The device's own resolvers, from `/etc/resolv.conf`, which changes with the network that a device is in.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where they are listed.
const PATH: &str = "/etc/resolv.conf";
/// How many count: as many as the C library takes.
const MOST: usize = 3;
/// How often the file is looked at: a look costs a system call.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PORT: u16 = 53;

/// The list, read again when the file has changed.
#[derive(Debug)]
pub(super) struct Resolvers {
    path: PathBuf,
    port: u16,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    looked_at: Option<Instant>,
    changed: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl Resolvers {
    pub(super) fn of_device() -> Self {
        Self::at(PATH.into(), PORT)
    }

    pub(super) fn at(path: PathBuf, port: u16) -> Self {
        Self { path, port, known: Mutex::default() }
    }

    /// The list as of now.
    pub(super) fn servers(&self, now: Instant) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked_at.is_none_or(|at| now >= at + LOOK_EVERY) {
            known.looked_at = Some(now);
            let changed = fs::metadata(&self.path).and_then(|file| file.modified()).ok();
            if changed != known.changed || changed.is_none() {
                known.changed = changed;
                known.servers = read(&fs::read_to_string(&self.path).unwrap_or_default(), self.port);
            }
        }
        known.servers.clone()
    }
}

/// The addresses in `nameserver` lines. Where there is none the C library asks the device itself, and so is it here.
fn read(text: &str, port: u16) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // A link-local address may carry its interface, which a socket address has no text for here.
        let address = words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()?;
        Some(SocketAddr::from((address, port)))
    };
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(address).take(MOST).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.53\n nameserver fe80::1%eth0\nnameserver 192.168.1.1 # home\n\
                    nameserver 1.1.1.1\nnameserver 8.8.8.8\n";
        let servers: Vec<String> = read(text, 53).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "192.168.1.1:53", "1.1.1.1:53"]);
        assert_eq!(read("", 53).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let resolvers = Resolvers::at(path.clone(), 53);
        let first = |resolvers: &Resolvers| resolvers.servers(crate::clock::instant())[0].ip().to_string();
        assert_eq!(first(&resolvers), "127.0.0.1");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(first(&resolvers), "127.0.0.1", "not looked at again at once");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(first(&resolvers), "10.0.0.1");
    }
}
