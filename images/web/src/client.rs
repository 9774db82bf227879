//! The client in the container: `web resolve NAME`, `web get URL`, `web udp HOST:PORT TEXT`. There is no shell in the image,
//! and what a container sees of the network can only be told from within it.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the addresses of a name, one a line, in order.
pub fn resolve(name: &str) -> Result<(), String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| format!("{name} has no address: {error}"))?;
    let mut addresses: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(())
}

/// Prints what a URL answers, body alone, whatever the status.
pub fn get(url: &str) -> Result<(), String> {
    let mut answer = String::new();
    let mut stream: TcpStream = crate::check::ask(url)?;
    stream.read_to_string(&mut answer).map_err(|error| format!("{url} breaks off: {error}"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{url} answers no HTTP"))?;
    print!("{body}");
    Ok(())
}

/// Sends a text by UDP and prints what comes back.
pub fn udp(to: &str, text: &str) -> Result<(), String> {
    let failed = |error| format!("{to} does not answer: {error}");
    let peer = to.to_socket_addrs().map_err(failed)?.next().ok_or_else(|| format!("{to} has no address"))?;
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.connect(peer).map_err(failed)?;
    socket.send(text.as_bytes()).map_err(failed)?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).map_err(failed)?;
    println!("{}", String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()));
    Ok(())
}
