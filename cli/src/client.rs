//! HTTP to the hub: addresses, time limits, and what an answer means that is none. `routes` says what can be asked.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use outrigger_api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

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
}

/// Methods that carry a body, if only an empty one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Send {
    Put,
    Post,
    Patch,
}

impl Client {
    /// The hub at this address: `http://HOST:PORT`, `HOST:PORT` or `HOST`.
    ///
    /// # Errors
    /// [`Failure::Address`] if it cannot be one.
    pub fn new(hub: &str) -> Result<Self, Failure> {
        let base = base_address(hub).map_err(|reason| Failure::Address { hub: hub.into(), reason })?;
        // No proxy: the hub is a machine of one's own network, and what is for it must not pass by others.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(ANSWER_LIMIT))
            .timeout_per_read(Some(SILENCE_LIMIT))
            .user_agent(concat!("outrigger/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { base, agent })
    }

    /// The hub's address.
    #[must_use]
    pub fn hub(&self) -> &str {
        &self.base
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> Result<T, Failure> {
        let url = self.url(path, query);
        let response = self.agent.get(&url).call().map_err(|error| self.unreachable(&error))?;
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
        let response = request.send_json(body).map_err(|error| self.unreachable(&error))?;
        read_answer(&url, response)
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let url = self.url(path, &());
        let response = self.agent.delete(&url).call().map_err(|error| self.unreachable(&error))?;
        read_answer(&url, response)
    }

    /// An answer that is also read when its status says that something is wrong (`/readyz`).
    pub(crate) fn get_whatever_status<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let url = self.url(path, &());
        let response = self.agent.get(&url).call().map_err(|error| self.unreachable(&error))?;
        let text = body_text(&url, response.into_body())?;
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(Failure::Refused(Box::new(problem))),
            Err(_) => decode(&url, &text),
        }
    }

    /// An answer that is read line by line while it comes.
    pub(crate) fn stream(&self, path: &[&str], query: &impl Serialize) -> Result<Lines, Failure> {
        let url = self.url(path, query);
        let response = self.agent.get(&url).call().map_err(|error| self.unreachable(&error))?;
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
        Failure::Unreachable { hub: self.base.clone(), reason: in_few_words(error) }
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

fn base_address(hub: &str) -> Result<String, &'static str> {
    let rest = match hub.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err("this hub speaks plain http as yet"),
        Some(_) => return Err("it must begin with http://"),
        None => hub,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err("the host is missing");
    }
    if authority.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#')) {
        return Err("it may hold only a host and a port");
    }
    let has_port = match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => {
            port.parse::<u16>().map_err(|_| "the port must be a number up to 65535")?;
            true
        }
        Some(_) | None => false,
    };
    let port = if has_port { String::new() } else { format!(":{DEFAULT_PORT}") };
    Ok(format!("http://{authority}{port}{}", path.trim_end_matches('/')))
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
            ("http://hub.lan/", "http://hub.lan:7640"),
            ("hub:80", "http://hub:80"),
            ("[::1]", "http://[::1]:7640"),
            ("http://[::1]:9/fleet/", "http://[::1]:9/fleet"),
        ] {
            assert_eq!(base_address(given).unwrap(), base);
        }
        for bad in ["", "http://", "https://hub", "ftp://hub", "hub:port", "hub:99999", "u@hub", "a b"] {
            assert!(base_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_user_writes_stays_one_segment_and_one_value() {
        let client = Client::new("hub:1").unwrap();
        let query = outrigger_api::ReplicaQuery { service: Some("shop/web&x=ä".into()), ..Default::default() };
        assert_eq!(
            client.url(&["v1", "a/../b?", "ü"], &query),
            "http://hub:1/v1/a%2F..%2Fb%3F/%C3%BC?service=shop%2Fweb%26x%3D%C3%A4"
        );
    }
}
