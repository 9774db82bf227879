//! What connections cost that nobody uses just now.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::clock::rest;
use crate::latency::ask;
use crate::place::Place;
use crate::program::Program;

/// Clients come from this many addresses: one alone may have a quarter of all connections.
const SOURCES: usize = 8;
/// Each has had an answer this long before it rests.
const QUESTION: &[u8] = b"GET /64k HTTP/1.1\r\nhost: x\r\n\r\n";

/// What was found.
pub struct Held {
    pub connections: usize,
    /// Before and with them, KiB, for each program.
    pub rss_kib: Vec<(u64, u64)>,
}

impl Held {
    /// Bytes of memory for each connection, of the program that takes most.
    pub fn bytes_each(&self) -> u64 {
        let of = |(before, with): &(u64, u64)| with.saturating_sub(*before) * 1024 / self.connections.max(1) as u64;
        self.rss_kib.iter().map(of).max().unwrap_or_default()
    }
}

/// Opens so many, asks once on each, looks what they cost, and asks on some of them again.
pub fn hold(place: &Place, cpu: usize, address: SocketAddr, connections: usize, programs: &[&Program]) -> Result<Held> {
    place.inside(cpu, || {
        // What the first requests bring along costs once.
        for index in 0..64 {
            ask(&mut connect(index, address)?, QUESTION)?;
        }
        let rss = || programs.iter().map(|program| program.rss_kib()).collect::<Result<Vec<_>>>();
        let before = rss()?;
        let mut held = vec![];
        for index in 0..connections {
            let mut stream = connect(index, address)?;
            ask(&mut stream, QUESTION).with_context(|| format!("connection {index} of {connections}"))?;
            held.push(stream);
        }
        rest(std::time::Duration::from_millis(500));
        let with = rss()?;
        for stream in held.iter_mut().step_by(97) {
            ask(stream, QUESTION).context("a connection that was held")?;
        }
        Ok(Held { connections: held.len(), rss_kib: before.into_iter().zip(with).collect() })
    })
}

fn connect(index: usize, address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let last = u8::try_from(index % SOURCES)?;
    socket.bind(&SocketAddr::from((IpAddr::from(Ipv4Addr::new(127, 0, 1, last + 1)), 0)).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}
