//! What can be reached from the network (S20): sockets that listen, as the kernel lists them.

use std::collections::BTreeSet;
use std::net::{TcpStream, UdpSocket};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::fleet::PATIENCE;
use outrigger_tests::real::http;

use super::shop::fleet_with_web;

/// Port on which a device's proxy listens for other devices, while it uses the service network; and for its containers'
/// names, on bridges only.
const MESH: [(&str, u16); 3] = [("tcp", 7643), ("tcp", 53), ("udp", 53)];
/// Where the agent's own program may listen: nowhere.
const LISTEN: &str = "0A";

/// A socket that anybody could speak to: protocol and port.
type Open = (&'static str, u16);

/// All that listen in the network of this process and belong to it.
fn listens(pid: u32) -> Result<BTreeSet<Open>> {
    let mut sockets = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    let of_this = |inode: &str| sockets.contains(inode);
    open(pid, of_this)
}

/// All in the network of this process of which `counts` holds, without loopback.
fn open(pid: u32, counts: impl Fn(&str) -> bool) -> Result<BTreeSet<Open>> {
    let mut found = BTreeSet::new();
    for (table, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (local, state, inode) = (fields[1], fields[3], fields[9]);
            let (address, port) = local.rsplit_once(':').context("an address and a port")?;
            // UDP knows no listening. 127.0.0.1 as the kernel writes it, and ::1.
            let listens = protocol == "udp" || state == LISTEN;
            let is_loopback = address.ends_with("7F") || address == "00000000000000000000000001000000";
            if listens && !is_loopback && counts(inode) {
                found.insert((protocol, u16::from_str_radix(port, 16)?));
            }
        }
    }
    Ok(found)
}

/// Whether the kernel says that nobody is there.
fn is_refused(protocol: &str, address: &str) -> Result<bool> {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if protocol == "tcp" {
        return Ok(TcpStream::connect(address).is_err_and(refused));
    }
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"?")?;
    Ok(socket.recv(&mut [0; 16]).is_err_and(refused))
}

#[test]
fn an_agent_listens_on_no_port_beyond_the_documented_ones() -> Result<()> {
    let fleet = fleet_with_web(2, 2)?;
    let mesh = BTreeSet::from(MESH);
    for device in fleet.lab.devices() {
        let address = format!("{}:8080", device.address()?);
        eventually("its copy answers", PATIENCE, || http::fetch(&address, "/"))?;
        let agent = fleet.agent_pid(device)?;
        let of_agent = listens(agent)?;
        let others: BTreeSet<_> = of_agent.difference(&mesh).collect();
        ensure!(others.is_empty(), "{} listens on {others:?}", device.name());
        // The scan sees what is there: the engine has published the copy's port in the same network.
        let all = open(agent, |_| true)?;
        ensure!(all.contains(&("tcp", 8080)), "{all:?}");
        let documented: BTreeSet<_> = [("tcp", 8080)].into_iter().chain(MESH).collect();
        // Where the proxy is handed what goes to virtual addresses: the kernel chooses these ports, and whoever comes to them
        // directly is refused by the kernel, as if nobody listened.
        for (protocol, port) in all.difference(&documented) {
            let address = format!("{}:{port}", device.address()?);
            ensure!(is_refused(protocol, &address)?, "{} listens on {port}/{protocol}", device.name());
        }
    }
    Ok(())
}

#[test]
fn a_hub_listens_on_the_documented_ports_only() -> Result<()> {
    let fleet = fleet_with_web(1, 1)?;
    let port = |address: String| -> Result<u16> { Ok(address.rsplit(':').next().context("a port")?.parse()?) };
    let (http, mqtt) = (port(fleet.http())?, port(fleet.mqtt())?);
    // 7642 is where devices meet that cannot reach each other.
    let documented = BTreeSet::from([("tcp", http), ("tcp", mqtt), ("tcp", 7642), ("udp", 5353)]);
    let found = listens(fleet.hub_pid()?)?;
    let others: BTreeSet<_> = found.difference(&documented).collect();
    ensure!(others.is_empty(), "it listens on {others:?}");
    ensure!(found.contains(&("tcp", mqtt)), "{found:?}");
    Ok(())
}
