//! Keeps web pages of others away from the API, and every handler within its time.
//!
//! A browser on a user's machine reaches the hub too: so a name that some page's DNS points at it is refused (DNS
//! rebinding), and so is a request that changes something, or would stay open, and comes from a page of another origin.
//! A page that could borrow its user's session must also show that it is ours (`admit`). No CORS header is ever sent, and
//! nothing runs in our own pages but what this hub serves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use outrigger_api::{Problem, ProblemKind};

use super::admit::Peer;
use super::problem::{Refused, malformed};
use super::server::Door;
use crate::pki::ServerTls;

/// Time for a handler to begin its answer. Applying a stack to a large fleet takes a second or two.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// For so long a browser that was here once asks for nothing but HTTPS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What our pages may do: load from here, and no script or style that stands in a page itself.
const PAGES: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// By which names the hub may be addressed.
#[derive(Debug, Clone)]
pub struct Guard(Ours);

#[derive(Debug, Clone)]
enum Ours {
    /// Those of this machine for itself.
    Loopback,
    /// Those in the certificate.
    Certificate(ServerTls),
}

impl Guard {
    /// For a hub that is spoken to like this.
    #[must_use]
    pub fn new(door: &Door) -> Self {
        Self(match door {
            Door::Plain => Ours::Loopback,
            Door::Tls(tls) => Ours::Certificate(tls.clone()),
        })
    }

    /// Whether a request may name this host.
    fn is_ours(&self, host: &str) -> bool {
        match &self.0 {
            Ours::Loopback => {
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
            }
            Ours::Certificate(tls) => tls.names().has(host),
        }
    }

    fn scheme(&self) -> &'static str {
        match self.0 {
            Ours::Loopback => "http://",
            Ours::Certificate(_) => "https://",
        }
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        // Whoever can open the socket in the state folder is no web page.
        if request.extensions().get::<Peer>() == Some(&Peer::Socket) {
            return Ok(());
        }
        let host = authority(request)?;
        if !self.is_ours(host.host()) {
            let title = format!("this hub is not `{}`", host.host());
            return Err(Problem::new(ProblemKind::WrongHost, title)
                .with_hint("address it as localhost, or give it that name under `names` in its settings")
                .into());
        }
        let is_look = matches!(*request.method(), Method::GET | Method::HEAD);
        if (!is_look || stays_open(request.uri().path())) && self.is_foreign(request.headers(), &host) {
            let title = "a page of another site must not change anything here, or hold a stream open";
            return Err(Problem::new(ProblemKind::WrongOrigin, title).into());
        }
        Ok(())
    }

    /// Whether a browser says that the request comes from a page of another origin. Other programs say nothing.
    fn is_foreign(&self, headers: &HeaderMap, host: &Authority) -> bool {
        // Without an `Origin`, as from an image on a page: newer browsers tell all the same.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if matches!(site, Some(b"cross-site" | b"same-site")) {
            return true;
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return false };
        let of_origin = origin.to_str().unwrap_or_default().strip_prefix(self.scheme());
        !of_origin.is_some_and(|of_origin| of_origin.eq_ignore_ascii_case(host.as_str()))
    }
}

/// Whether what this path answers has no end.
pub(super) fn stays_open(path: &str) -> bool {
    path.ends_with("/stream") || path.ends_with("/logs")
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

/// Goes around every route.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let is_tls = matches!(guard.0, Ours::Certificate(_));
    let mut response = match guard.check(&request) {
        Ok(()) => within_time(request, next).await,
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::CONTENT_SECURITY_POLICY, PAGES);
    if is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
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
    use crate::pki::{Authority, Names};

    fn plain() -> Guard {
        Guard::new(&Door::Plain)
    }

    /// As a hub with a certificate for these names.
    fn named(names: &[&str]) -> Guard {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), false, 1_795_000_000).unwrap();
        let tls = ServerTls::new(&authority, Names::of_this_machine(&names), 1_795_000_000).unwrap();
        Guard::new(&Door::Tls(tls))
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
        for good in ["localhost:7640", "LOCALHOST", "127.0.0.1:7640", "127.0.0.2", "[::1]:7640"] {
            assert_eq!(kind(&plain(), "GET", &[("host", good)]), None, "{good}");
        }
        for bad in ["attacker.example:7640", "localhost.attacker.example", "192.168.1.9", "0x7f.1", "hub.lan"] {
            assert_eq!(kind(&plain(), "GET", &[("host", bad)]), Some(ProblemKind::WrongHost), "{bad}");
        }
    }

    #[test]
    fn on_the_network_only_names_of_the_certificate_are_answered() {
        let guard = named(&["Hub.lan", "192.0.2.7"]);
        for good in ["hub.lan:7640", "192.0.2.7:7640", "localhost"] {
            assert_eq!(kind(&guard, "GET", &[("host", good)]), None, "{good}");
        }
        for bad in ["attacker.example", "192.0.2.8:7640", "hub.lan.attacker.example"] {
            assert_eq!(kind(&guard, "GET", &[("host", bad)]), Some(ProblemKind::WrongHost), "{bad}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        assert_eq!(kind(&plain(), "GET", &[]), Some(ProblemKind::Malformed));
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(kind(&plain(), "GET", &twice), Some(ProblemKind::Malformed));
        let absolute = Request::builder().uri("http://attacker.example/v1/stacks").header("host", "localhost");
        let refused = plain().check(&absolute.body(Body::empty()).unwrap()).unwrap_err();
        assert_eq!(refused.0.kind, ProblemKind::WrongHost, "the absolute form counts");
    }

    #[test]
    fn pages_of_other_sites_change_nothing_and_hold_no_stream() {
        let from = |origin| [("host", "localhost:7640"), ("origin", origin)];
        for foreign in ["https://attacker.example", "null", "http://localhost:3000", "http://127.0.0.1:7640"] {
            assert_eq!(kind(&plain(), "POST", &from(foreign)), Some(ProblemKind::WrongOrigin), "{foreign}");
        }
        assert_eq!(kind(&plain(), "POST", &from("http://localhost:7640")), None);
        assert_eq!(kind(&plain(), "GET", &from("https://attacker.example")), None, "it cannot read the answer");
        assert_eq!(kind(&named(&[]), "POST", &from("http://localhost:7640")), Some(ProblemKind::WrongOrigin));
        assert_eq!(kind(&named(&[]), "POST", &from("https://localhost:7640")), None);
        let stream = |key: &str, value: &str| {
            let request = Request::builder().uri("/v1/events/stream").header("host", "localhost").header(key, value);
            plain().check(&request.body(Body::empty()).unwrap()).err().map(|refused| refused.0.kind)
        };
        assert_eq!(stream("origin", "https://attacker.example"), Some(ProblemKind::WrongOrigin));
        assert_eq!(stream("sec-fetch-site", "cross-site"), Some(ProblemKind::WrongOrigin));
        assert_eq!(stream("sec-fetch-site", "same-origin"), None);
    }
}
