//! Keeps web pages of others away from the API, and every handler within its time.
//!
//! Without users and tokens, whoever reaches the port is the operator. A browser on the operator's machine reaches it too:
//! so a name that some page's DNS points at this machine is refused (DNS rebinding), and so is a request that changes
//! something and comes from a page of another origin. No CORS header is ever sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use outrigger_api::{Problem, ProblemKind};

use super::problem::{Refused, malformed};

/// Time for a handler to begin its answer. Applying a stack to a large fleet takes a second or two.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// By which names the hub may be addressed.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Whether only this machine can reach it.
    is_loopback: bool,
    /// Names that the operator has given it.
    names: Vec<String>,
}

impl Guard {
    /// For a hub that listens there and has these names.
    #[must_use]
    pub fn new(listens: SocketAddr, names: &[String]) -> Self {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { is_loopback: listens.ip().is_loopback(), names }
    }

    /// Whether a request may name this host. Where others can reach the hub, they do so by names that only their
    /// network knows; it is then the operator's part to name them if the check is wanted.
    fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) => !self.is_loopback || address.is_loopback(),
            Err(_) if host == "localhost" || self.names.contains(&host) => true,
            Err(_) => !self.is_loopback && self.names.is_empty(),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let host = authority(request)?;
        if !self.is_ours(host.host()) {
            let title = format!("this hub is not `{}`", host.host());
            return Err(Problem::new(ProblemKind::WrongHost, title)
                .with_hint("address it as localhost, or give it that name under `http_names` in its configuration")
                .into());
        }
        if *request.method() != Method::GET && *request.method() != Method::HEAD && is_foreign(request.headers(), &host)
        {
            let title = "a page of another site must not change anything here";
            return Err(Problem::new(ProblemKind::WrongOrigin, title).into());
        }
        Ok(())
    }
}

fn authority(request: &Request) -> Result<Authority, Refused> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            Authority::try_from(host.as_bytes()).map_err(|_| malformed("the header `Host` names no host").into())
        }
        (None, _) => Err(malformed("the header `Host` is missing").into()),
        (Some(_), Some(_)) => Err(malformed("the header `Host` is there twice").into()),
    }
}

/// Whether a browser says that the request comes from a page of another origin. Other programs say nothing.
fn is_foreign(headers: &HeaderMap, host: &Authority) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let of_origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !of_origin.is_some_and(|of_origin| of_origin.eq_ignore_ascii_case(host.as_str()))
}

/// Goes around every route.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(&request) {
        Ok(()) => within_time(request, next).await,
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let title = format!("the hub could not answer within {} s", ANSWER_WITHIN.as_secs());
            Refused::from(Problem::new(ProblemKind::Timeout, title)).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn guard_of(listens: &str, names: &[&str]) -> Guard {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Guard::new(listens.parse().unwrap(), &names)
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut builder = Request::builder().method(method).uri("/v1/stacks");
        for (key, value) in headers {
            builder = builder.header(*key, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    fn kind(guard: &Guard, method: &str, headers: &[(&str, &str)]) -> Option<ProblemKind> {
        guard.check(&request(method, headers)).err().map(|refused| refused.0.kind)
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        let guard = guard_of("127.0.0.1:7640", &["Hub.lan"]);
        for good in ["localhost:7640", "LOCALHOST", "127.0.0.1:7640", "127.0.0.2", "[::1]:7640", "hub.lan:80"] {
            assert_eq!(kind(&guard, "GET", &[("host", good)]), None, "{good}");
        }
        for bad in ["evil.example:7640", "localhost.evil.example", "192.168.1.9", "0x7f.1", "hub.lan.evil"] {
            assert_eq!(kind(&guard, "GET", &[("host", bad)]), Some(ProblemKind::WrongHost), "{bad}");
        }
    }

    #[test]
    fn where_others_reach_the_hub_its_names_count_only_if_given() {
        assert_eq!(kind(&guard_of("0.0.0.0:7640", &[]), "GET", &[("host", "hub.lan")]), None);
        let named = guard_of("0.0.0.0:7640", &["hub.lan"]);
        assert_eq!(kind(&named, "GET", &[("host", "evil.example")]), Some(ProblemKind::WrongHost));
        assert_eq!(kind(&named, "GET", &[("host", "192.168.1.9:7640")]), None);
    }

    #[test]
    fn a_request_names_one_host() {
        let guard = guard_of("127.0.0.1:7640", &[]);
        assert_eq!(kind(&guard, "GET", &[]), Some(ProblemKind::Malformed));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(kind(&guard, "GET", &twice), Some(ProblemKind::Malformed));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let guard = guard_of("127.0.0.1:7640", &[]);
        let from = |origin| [("host", "localhost:7640"), ("origin", origin)];
        for foreign in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:7640"] {
            assert_eq!(kind(&guard, "POST", &from(foreign)), Some(ProblemKind::WrongOrigin), "{foreign}");
        }
        assert_eq!(kind(&guard, "POST", &from("http://localhost:7640")), None);
        assert_eq!(kind(&guard, "GET", &from("https://evil.example")), None, "it cannot read the answer");
    }
}
