//! The service network: whether the device has what it needs, and whether its addresses clash with others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::Finding;
use super::judge::{fine, note, wrong};
use crate::pool::{self, Pool};
use crate::probe::Root;

/// Bridges of our own networks; what leads to them is no clash.
const OWN_BRIDGES: &str = "br-or";
/// What the proxy runs to set up the kernel.
const PROGRAMS: [(&str, &str); 2] = [("nft", "nftables"), ("ip", "iproute2")];
/// Where programs are, whatever the shell's own path says.
const FOLDERS: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Networking {
    /// Where networks get their addresses from.
    pub pool: Pool,
    /// Where other devices are listened to.
    pub port: u16,
    /// The proxy's control socket.
    pub socket: PathBuf,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSeen {
    /// Where networks get their addresses from.
    pub pool: Pool,
    /// What of the pool this device has another way to.
    pub clashes: Vec<(IpAddr, u8)>,
    /// How many networks there is room for.
    pub room: u32,
    /// Where other devices are listened to.
    pub port: u16,
    /// Whether that can be had.
    pub is_port_taken: bool,
    /// Programs that are missing, with the packages that bring them.
    pub missing: Vec<(&'static str, &'static str)>,
}

pub(super) fn look(root: &Root, of: &Networking) -> NetworkSeen {
    let table = root.read("/proc/net/route").unwrap_or_default();
    let of_others: Vec<&str> = table.lines().filter(|line| !line.starts_with(OWN_BRIDGES)).collect();
    let clashes = of.pool.clashes(&pool::routes(&of_others.join("\n")));
    let is_there = |name: &str| FOLDERS.iter().any(|folder| root.path(&format!("{folder}/{name}")).exists());
    NetworkSeen {
        pool: of.pool,
        room: of.pool.room(&clashes),
        clashes,
        port: of.port,
        is_port_taken: of.port != 0 && is_taken(of.port) && !is_ours(&of.socket),
        missing: PROGRAMS.into_iter().filter(|(name, _)| !is_there(name)).collect(),
    }
}

fn is_taken(port: u16) -> bool {
    let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Whether it is our proxy that listens.
fn is_ours(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

pub(super) fn findings(seen: &NetworkSeen) -> Vec<Finding> {
    const ABOUT: &str = "network";
    let mut findings = Vec::new();
    if !seen.missing.is_empty() {
        let programs: Vec<&str> = seen.missing.iter().map(|(program, _)| *program).collect();
        let packages: Vec<&str> = seen.missing.iter().map(|(_, package)| *package).collect();
        let text = format!(
            "without {} containers do not reach services by name; published ports work",
            programs.join(" and ")
        );
        findings.push(note(ABOUT, text, format!("sudo apt-get install {}", packages.join(" "))));
    }
    if seen.is_port_taken {
        let text = format!("port {} is taken: other devices do not reach what runs here", seen.port);
        findings.push(wrong(
            ABOUT,
            text,
            format!("sudo ss -ltnp 'sport = :{}' says by what; or set network_port in agent.toml", seen.port),
        ));
    }
    let clashes: Vec<String> = seen.clashes.iter().map(|(base, prefix)| format!("{base}/{prefix}")).collect();
    let fix =
        "set network_pool in agent.toml to a private range that this device has no route to, such as 10.99.0.0/16";
    if seen.room == 0 {
        let text = format!("no network can be made: {} is all in {}", seen.pool, clashes.join(", "));
        findings.push(wrong(ABOUT, text, fix));
    } else if !clashes.is_empty() {
        let text =
            format!("{} overlaps with {}; there is room for {} networks", seen.pool, clashes.join(", "), seen.room);
        findings.push(note(ABOUT, text, fix));
    }
    if findings.is_empty() {
        findings.push(fine(
            ABOUT,
            format!("{} is free for {} networks, port {} for other devices", seen.pool, seen.room, seen.port),
        ));
    }
    findings
}
