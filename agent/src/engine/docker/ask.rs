//! Questions to the engine whose answers are read leniently.
//!
//! bollard's types hold every field of Docker's newest API and refuse an answer with one unknown word in it: Podman 4 says
//! `stopped` where Docker says `exited`, and not one container could be listed. Here only what we use is read; that costs
//! less, too, because most of an answer is skipped. One request in HTTP/1.0 is all the protocol that it takes: the engine
//! answers whole and closes the connection.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::EngineError;
use super::failure;

/// Bytes of an answer that are read: a list of some thousand containers is a few megabytes.
const MOST: u64 = 64 << 20;

/// What an engine says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Asks for `path` and reads the answer as a `T`.
pub(super) async fn ask<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    call: &'static str,
    limit: Duration,
) -> Result<T, EngineError> {
    let answer = match tokio::time::timeout(limit, exchange(socket, path)).await {
        Ok(answer) => answer.map_err(|error| unreachable(socket, &error))?,
        Err(_) => return Err(EngineError::TimedOut { call, after: limit }),
    };
    read(&answer)
}

/// A text as it may stand in a path or a query: names of images come from users.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

async fn exchange(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::with_capacity(8 * 1024);
    stream.take(MOST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn unreachable(socket: &Path, error: &io::Error) -> EngineError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {}", socket.display()),
        _ => format!("{}: {error}", socket.display()),
    };
    EngineError::Unreachable { reason }
}

/// Status line, headers, empty line, body.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, EngineError> {
    let broken = |what: &str| EngineError::Unreachable { reason: format!("its answer {what}") };
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| broken("breaks off"))?;
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let status = std::str::from_utf8(head).ok().and_then(|head| head.split(' ').nth(1)?.parse::<u16>().ok());
    let status = status.ok_or_else(|| broken("is no HTTP"))?;
    if status >= 300 {
        let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
        let words = refusal.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |refusal| refusal.message);
        return Err(failure::said(status, &words));
    }
    serde_json::from_slice(body).map_err(|error| {
        if error.is_eof() {
            // It died while it spoke.
            return broken("breaks off");
        }
        EngineError::Refused { reason: format!("its answer is not understood: {error}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}").into_bytes()
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_is_understood() {
        assert_eq!(read::<Vec<u32>>(&answer("200 OK", "[1, 2]")), Ok(vec![1, 2]));
        let missing = read::<u32>(&answer("404 Not Found", r#"{"message":"No such container: x"}"#));
        assert!(matches!(missing, Err(EngineError::NoSuchContainer { .. })));
    }

    #[test]
    fn an_answer_that_breaks_off_means_that_the_engine_died() {
        for broken in ["", "HTTP/1.0 200 OK\r\n", "HTTP/1.0 200 OK\r\n\r\n[1, ", "nonsense\r\n\r\n"] {
            assert!(read::<Vec<u32>>(broken.as_bytes()).unwrap_err().is_engine_down(), "{broken:?}");
        }
        assert!(!read::<u32>(&answer("200 OK", "\"text\"")).unwrap_err().is_engine_down());
    }

    #[test]
    fn a_users_text_cannot_break_out_of_its_place() {
        assert_eq!(encode("registry:5000/a/web:1@sha256:00"), "registry:5000/a/web:1@sha256:00");
        assert_eq!(encode("web HTTP/1.0\r\n?#%"), "web%20HTTP/1.0%0D%0A%3F%23%25");
    }
}
