//! Asks a web server one question, as `curl` would, with a short patience: many tests ask in a loop.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A peer without power answers nothing at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, e.g. 200.
    pub status: u16,
    /// The whole body as text.
    pub body: String,
}

/// `GET path` from `address` (`host:port`), whatever the status.
pub fn get(address: &str, path: &str) -> Result<Answer> {
    ask(address, &format!("GET {path}"))
}

/// `POST path` without a body.
pub fn post(address: &str, path: &str) -> Result<Answer> {
    ask(address, &format!("POST {path}"))
}

/// The body of `GET path` when its status is 200.
pub fn fetch(address: &str, path: &str) -> Result<String> {
    let answer = get(address, path)?;
    ensure!(answer.status == 200, "{address}{path} answers {}: {}", answer.status, answer.body);
    Ok(answer.body)
}

/// The body of `GET path` from a socket file, when its status is 200. An engine may take its time.
pub fn fetch_from_socket(socket: &Path, path: &str) -> Result<String> {
    let stream = UnixStream::connect(socket).with_context(|| format!("no answer at {}", socket.display()))?;
    let answer = exchange(stream, "localhost", &format!("GET {path}"))?;
    ensure!(answer.status == 200, "{}{path} answers {}: {}", socket.display(), answer.status, answer.body);
    Ok(answer.body)
}

/// Asks the hub with this socket in its state folder, which asks nobody for a token. `json` is the body, if there is one.
pub fn ask_hub(socket: &Path, request: &str, json: &str) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE * 10))?;
    let head = "host: localhost\r\ncontent-type: application/json";
    let length = json.len();
    stream.write_all(format!("{request} HTTP/1.0\r\n{head}\r\ncontent-length: {length}\r\n\r\n{json}").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let answer = parse(&text).with_context(|| format!("the hub answers no HTTP: {text:?}"))?;
    ensure!(answer.status == 200, "{request} answers {}: {}", answer.status, answer.body);
    Ok(answer)
}

fn ask(address: &str, request: &str) -> Result<Answer> {
    let peer = address.to_socket_addrs()?.next().with_context(|| format!("{address} has no address"))?;
    let stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, address, request)
}

fn exchange(mut stream: impl Read + Write, host: &str, request: &str) -> Result<Answer> {
    // 1.0: the answer ends with the connection and is never chunked.
    stream.write_all(format!("{request} HTTP/1.0\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).with_context(|| format!("{host} answers no HTTP: {text:?}"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = parse("HTTP/1.1 404 Not Found\r\na: b\r\n\r\nno\r\n\r\nsuch page").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, "no\r\n\r\nsuch page"));
        assert_eq!(parse("nonsense"), None);
    }
}
