//! One HTTPS request and its answer. Its JSON is the hub's `JoinRequest` and `JoinResponse`; a test of both together holds
//! them to each other.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use outrigger_trust::ClientConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::HubUrl;

/// Most bytes of an answer: a chain, a few authorities and addresses.
const MAX_ANSWER: usize = 64 * 1024;
/// Most characters of a refusal that are shown.
const MAX_REASON: usize = 600;

/// What is sent. No `Debug`: it carries the token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Request {
    /// The invite.
    pub token: String,
    /// The name that the device wants.
    pub name: String,
    /// Its request for a certificate, as PEM.
    pub csr: String,
    /// The fleet whose replicas the device still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The device's name.
    pub name: String,
    /// Its certificate, with those that have signed it, as PEM.
    pub certificate: String,
    /// Whom it trusts, as PEM.
    pub authorities: String,
    /// Where the broker is, the likeliest first.
    pub mqtt: Vec<String>,
    /// Which fleet this is.
    #[serde(default)]
    pub fleet: Option<String>,
}

/// The part of the hub's problems that is shown.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

/// Sends the request. The inner error is a refusal in the hub's words.
pub(super) async fn post<Q: Serialize, A: DeserializeOwned>(
    url: &HubUrl,
    config: Arc<ClientConfig>,
    path: &'static str,
    request: &Q,
) -> io::Result<Result<A, String>> {
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let socket = TcpStream::connect((url.host.as_str(), url.port)).await?;
    let stream = TlsConnector::from(config).connect(name, socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let body = serde_json::to_vec(request)?;
    let message = hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, url.to_string().trim_start_matches("https://"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(message).await.map_err(io::Error::other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(Ok(serde_json::from_slice(&body)?));
    }
    Ok(Err(reason(status, &body)))
}

/// Whatever a server says stays one paragraph of plain characters.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let said = match serde_json::from_slice(body) {
        Ok(Problem { title, detail, hint }) => {
            [Some(title), detail, hint].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
        Err(_) => format!("it answers {status}"),
    };
    let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_hubs_words_without_what_would_move_the_cursor() {
        let body = br#"{"kind":"x","status":403,"title":"used up\u001b[2J","hint":"make another"}"#;
        assert_eq!(reason(StatusCode::FORBIDDEN, body), "used up [2J; make another");
        assert_eq!(reason(StatusCode::NOT_FOUND, b"<html>"), "it answers 404 Not Found");
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(10_000));
        assert_eq!(reason(StatusCode::FORBIDDEN, long.as_bytes()).len(), MAX_REASON);
    }
}
