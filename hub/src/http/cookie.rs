//! The cookie that holds a browser's session. Its name's prefix has browsers accept it by HTTPS from this host only, for all
//! its paths and for no other host.

use axum::http::{HeaderMap, HeaderValue, header};
use outrigger_trust::Token;

use super::admit::Unauthenticated;
use crate::access::LIFE;

/// Its name.
const NAME: &str = "__Host-outrigger";
/// The header that shows that a page of ours asks.
pub(super) const CSRF: &str = "x-outrigger-csrf";

/// The session that a request carries; none if it has no cookie of ours.
pub(super) fn session(headers: &HeaderMap) -> Result<Option<&str>, Unauthenticated> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| value);
    match (ours.next(), ours.next()) {
        (one, None) => Ok(one),
        // Two can only come from somebody who has set one beside ours.
        (_, Some(_)) => Err(Unauthenticated::new("the session's cookie is there twice; log in again")),
    }
}

/// Sets it. Scripts cannot read it, and requests that other sites make do not carry it.
pub(super) fn set(session: &Token) -> Option<HeaderValue> {
    let life = LIFE.as_secs();
    let text = format!("{NAME}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={life}", session.reveal());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Takes it away.
pub(super) fn gone() -> HeaderValue {
    HeaderValue::from_static("__Host-outrigger=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn the_session_is_found_among_other_cookies_and_refused_when_it_is_there_twice() {
        for (lines, found) in [
            (vec![], None),
            (vec!["a=b"], None),
            (vec!["__Host-outrigger=x"], Some("x")),
            (vec!["a=b; __Host-outrigger=x ;c=d"], Some("x")),
            (vec!["a=b", "__Host-outrigger=x"], Some("x")),
            (vec!["outrigger=x; __Host-outrigger2=y; __host-outrigger=z"], None),
        ] {
            assert_eq!(session(&headers(&lines)).ok().flatten(), found, "{lines:?}");
        }
        assert!(session(&headers(&["__Host-outrigger=x; __Host-outrigger=y"])).is_err());
        assert!(session(&headers(&["__Host-outrigger=x", "__Host-outrigger=y"])).is_err());
    }
}
