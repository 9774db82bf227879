//! HTTP to the hub: addresses, time limits, and what an answer means that is none. `routes` says what can be asked.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use outrigger_api::{Problem, SecretText};
use outrigger_trust::{CertificateDer, Trouble, trouble_of};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, RequestBuilder};

use crate::Failure;

/// The port of a hub whose address names none.
const DEFAULT_PORT: u16 = 7640;
/// A hub in reach answers a knock within this.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The slowest answer: applying a stack asks image registries for platforms.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Streams are never silent for longer: the hub sends beats.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Largest answer: replicas of a large fleet. More is a fault, and must not fill our memory.
const MAX_ANSWER_BYTES: u64 = 512 * 1024 * 1024;
/// Largest line of a stream.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;

/// A hub that can be asked.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    agent: Agent,
    /// Only ever sent by HTTPS to the hub whose authority stands behind it.
    token: Option<SecretText>,
}

/// Where a hub is and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether by HTTPS.
    pub is_tls: bool,
    base: String,
}

impl Address {
    /// Reads `https://HOST:PORT`, `http://HOST:PORT`, `HOST:PORT` or `HOST`. Without a scheme it is HTTPS.
    ///
    /// # Errors
    /// [`Failure::Address`] if it cannot be one.
    pub fn parse(hub: &str) -> Result<Self, Failure> {
        read_address(hub).map_err(|reason| Failure::Address { hub: hub.into(), reason })
    }

    /// As the user would write it.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// Methods that carry a body, if only an empty one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Send {
    Put,
    Post,
    Patch,
}

impl Client {
    /// A hub that asks nobody who he is: plain HTTP, and no token is ever sent.
    #[must_use]
    pub fn plain(address: &Address) -> Self {
        Self { base: address.base.clone(), agent: agent(TlsConfig::default()), token: None }
    }

    /// A hub behind which one of these authorities stands; no other is trusted.
    #[must_use]
    pub fn trusting(address: &Address, authorities: &[CertificateDer<'_>], token: Option<SecretText>) -> Self {
        let roots: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(outrigger_trust::provider())
            .build();
        Self { base: address.base.clone(), agent: agent(tls), token: token.filter(|_| address.is_tls) }
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.0)),
            None => request,
        }
    }

    /// The hub's address.
    #[must_use]
    pub fn hub(&self) -> &str {
        &self.base
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> Result<T, Failure> {
        let url = self.url(path, query);
        let response = self.with_token(self.agent.get(&url)).call().map_err(|error| self.unreachable(&error))?;
        read_answer(&url, response)
    }

    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Send,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let url = self.url(path, query);
        let request = match method {
            Send::Put => self.agent.put(&url),
            Send::Post => self.agent.post(&url),
            Send::Patch => self.agent.patch(&url),
        };
        let response = self.with_token(request).send_json(body).map_err(|error| self.unreachable(&error))?;
        read_answer(&url, response)
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let url = self.url(path, &());
        let response = self.with_token(self.agent.delete(&url)).call().map_err(|error| self.unreachable(&error))?;
        read_answer(&url, response)
    }

    /// An answer that is also read when its status says that something is wrong (`/readyz`).
    pub(crate) fn get_whatever_status<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let url = self.url(path, &());
        let response = self.with_token(self.agent.get(&url)).call().map_err(|error| self.unreachable(&error))?;
        let text = body_text(&url, response.into_body())?;
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(Failure::Refused(Box::new(problem))),
            Err(_) => decode(&url, &text),
        }
    }

    /// An answer that is read line by line while it comes.
    pub(crate) fn stream(&self, path: &[&str], query: &impl Serialize) -> Result<Lines, Failure> {
        let url = self.url(path, query);
        let response = self.with_token(self.agent.get(&url)).call().map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&url, response));
        }
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Lines { hub: self.base.clone(), reader: BufReader::new(Box::new(reader)) })
    }

    fn url(&self, path: &[&str], query: &impl Serialize) -> String {
        let mut url = self.base.clone();
        for segment in path {
            url.push('/');
            encode_into(&mut url, segment);
        }
        let mut separator = '?';
        for (key, value) in query_pairs(query) {
            url.push(separator);
            encode_into(&mut url, &key);
            url.push('=');
            encode_into(&mut url, &value);
            separator = '&';
        }
        url
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        if let Some(trouble) = trouble_in(error) {
            return Failure::Untrusted { hub: self.base.clone(), trouble };
        }
        Failure::Unreachable { hub: self.base.clone(), reason: in_few_words(error) }
    }
}

fn agent(tls: TlsConfig) -> Agent {
    // No proxy: the hub is a machine of one's own network, and what is for it must not pass by others.
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .tls_config(tls)
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .timeout_per_read(Some(SILENCE_LIMIT))
        .user_agent(concat!("outrigger/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Which of the two that are set and removed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Secret,
    Config,
}

impl FileKind {
    /// Its part of the path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }
}

/// Lines of an answer while it comes.
pub(crate) struct Lines {
    hub: String,
    reader: BufReader<Box<dyn Read + std::marker::Send>>,
}

impl Iterator for Lines {
    type Item = Result<String, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                    line.pop();
                }
                Some(Ok(String::from_utf8_lossy(&line).into_owned()))
            }
            Err(error) => Some(Err(Failure::Interrupted { hub: self.hub.clone(), reason: words_of_io(&error) })),
        }
    }
}

fn read_address(hub: &str) -> Result<Address, &'static str> {
    let (is_tls, rest) = match hub.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err("it must begin with https:// or http://"),
        None => (true, hub),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err("the host is missing");
    }
    if authority.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#')) {
        return Err("it may hold only a host and a port");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => {
            (host, port.parse::<u16>().map_err(|_| "the port must be a number up to 65535")?)
        }
        Some(_) | None => (authority, DEFAULT_PORT),
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let scheme = if is_tls { "https" } else { "http" };
    Ok(Address {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port,
        is_tls,
        base: format!("{scheme}://{}:{port}{}", host.to_ascii_lowercase(), path.trim_end_matches('/')),
    })
}

fn encode_into(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
}

/// The fields of a query struct as text. The API's queries are flat, and what is not asked for is left out.
fn query_pairs(query: &impl Serialize) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return Vec::new() };
    let as_text = |value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    fields.into_iter().filter_map(|(key, value)| Some((key, as_text(value)?))).collect()
}

fn read_answer<T: DeserializeOwned>(url: &str, response: Response<Body>) -> Result<T, Failure> {
    if !response.status().is_success() {
        return Err(refusal(url, response));
    }
    decode(url, &body_text(url, response.into_body())?)
}

fn refusal(url: &str, response: Response<Body>) -> Failure {
    let status = response.status();
    let text = body_text(url, response.into_body()).unwrap_or_default();
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Failure::Refused(Box::new(problem)),
        Err(_) => Failure::Answer { url: url.into(), reason: format!("HTTP status {status}") },
    }
}

fn body_text(url: &str, body: Body) -> Result<String, Failure> {
    body.into_with_config()
        .limit(MAX_ANSWER_BYTES)
        .read_to_string()
        .map_err(|error| Failure::Answer { url: url.into(), reason: in_few_words(&error) })
}

fn decode<T: DeserializeOwned>(url: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Answer { url: url.into(), reason: error.to_string() })
}

/// Why the other side's certificate does not count, if that is what is wrong.
fn trouble_in(error: &ureq::Error) -> Option<Trouble> {
    let trouble = match error {
        ureq::Error::Rustls(error) => trouble_of(error),
        ureq::Error::Io(error) => {
            let inner = error.get_ref()?;
            match inner.downcast_ref::<ureq::Error>() {
                Some(error) => return trouble_in(error),
                None => trouble_of(inner.downcast_ref()?),
            }
        }
        _ => return None,
    };
    (trouble != Trouble::Other).then_some(trouble)
}

fn in_few_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => words_of_io(error),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        other => other.to_string(),
    }
}

/// The kind says it without the operating system's numbers.
fn words_of_io(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        return in_few_words(error);
    }
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => error.to_string(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_scheme_and_port() {
        for (given, base) in [
            ("http://127.0.0.1:7640", "http://127.0.0.1:7640"),
            ("https://Hub.lan/", "https://hub.lan:7640"),
            ("hub:80", "https://hub:80"),
            ("[::1]", "https://[::1]:7640"),
            ("http://[::1]:9/fleet/", "http://[::1]:9/fleet"),
        ] {
            assert_eq!(read_address(given).unwrap().base, base);
        }
        let address = read_address("https://[fd00::1]:9").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.is_tls), ("fd00::1", 9, true));
        for bad in ["", "http://", "https://:1", "ftp://hub", "hub:port", "hub:99999", "u@hub", "a b"] {
            assert!(read_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_user_writes_stays_one_segment_and_one_value() {
        let client = Client::plain(&read_address("http://hub:1").unwrap());
        let query = outrigger_api::ReplicaQuery { service: Some("shop/web&x=ä".into()), ..Default::default() };
        assert_eq!(
            client.url(&["v1", "a/../b?", "ü"], &query),
            "http://hub:1/v1/a%2F..%2Fb%3F/%C3%BC?service=shop%2Fweb%26x%3D%C3%A4"
        );
    }

    #[test]
    fn a_token_is_never_shown_and_never_sent_in_the_clear() {
        let token = || Some(SecretText("or1.api.x.y.canary".into()));
        let client = Client::trusting(&read_address("https://hub").unwrap(), &[], token());
        assert!(client.token.is_some() && !format!("{client:?}").contains("canary"));
        assert!(Client::trusting(&read_address("http://hub").unwrap(), &[], token()).token.is_none());
    }
}
