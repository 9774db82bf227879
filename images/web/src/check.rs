//! `web check URL`: the container's health check, since there is no shell or curl in the image.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// Ok when the URL answers with a status of 200 to 299.
pub fn check(url: &str) -> Result<(), String> {
    let failed = |error| format!("{url} does not answer: {error}");
    let mut start = [0; 12]; // "HTTP/1.1 200"
    ask(url)?.read_exact(&mut start).map_err(failed)?;
    match &start[9..] {
        [b'2', _, _] => Ok(()),
        status => Err(format!("{url} answers {}", String::from_utf8_lossy(status))),
    }
}

/// Sends the request; the answer is to be read.
pub fn ask(url: &str) -> Result<TcpStream, String> {
    let (address, path) = split(url).ok_or_else(|| format!("not an http://HOST[:PORT][/PATH] address: {url}"))?;
    let failed = |error| format!("{url} does not answer: {error}");
    let peer = address.to_socket_addrs().map_err(failed)?.next().ok_or_else(|| format!("{address} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())
        .map_err(failed)?;
    Ok(stream)
}

fn split(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    (!host.is_empty()).then_some((address, path))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn port_and_path_are_optional() {
        assert_eq!(split("http://localhost"), Some(("localhost:80".into(), "/")));
        assert_eq!(split("http://127.0.0.1:8080/healthz"), Some(("127.0.0.1:8080".into(), "/healthz")));
        assert_eq!(split("https://localhost"), None);
    }
}
