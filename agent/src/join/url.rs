//! The hub's address as it is pasted: `https://HOST:PORT`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::config::{HubAddress, parse_address};

/// The hub's port for HTTPS.
const PORT: u16 = 7640;

/// Where a hub listens for HTTPS.
///
/// ```
/// let url: outrigger_agent::join::HubUrl = "https://hub.local".parse().unwrap();
/// assert_eq!(url.to_string(), "https://hub.local:7640");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that is no such address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Without TLS the token could be read on the way.
    #[error("`{0}` has no TLS, so anybody on the way could read the token; it must begin with https://")]
    Plain(String),
    /// Something else.
    #[error("`{0}` is no address of a hub; one looks like https://hub.local:7640")]
    Malformed(String),
}

impl HubUrl {
    /// At this address.
    #[must_use]
    pub fn of(address: std::net::IpAddr, port: u16) -> Self {
        Self { host: address.to_string(), port }
    }
}

impl FromStr for HubUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let shown = || text.chars().take(120).collect();
        if text.starts_with("http://") {
            return Err(UrlError::Plain(shown()));
        }
        let rest = text.strip_prefix("https://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
        let address = parse_address(rest, Some(PORT)).filter(|address| address.host.chars().all(is_plain));
        let HubAddress { host, port } = address.ok_or_else(|| UrlError::Malformed(shown()))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", HubAddress { host: self.host.clone(), port: self.port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        for (text, meant) in [
            ("https://hub.local:7640", "https://hub.local:7640"),
            ("https://hub.local:7640/", "https://hub.local:7640"),
            ("hub", "https://hub:7640"),
            ("10.0.0.1:99", "https://10.0.0.1:99"),
            ("https://[fd00::1]", "https://[fd00::1]:7640"),
        ] {
            assert_eq!(text.parse::<HubUrl>().unwrap().to_string(), meant);
        }
    }

    #[test]
    fn what_has_no_tls_or_is_no_address_is_refused() {
        assert!(matches!("http://hub".parse::<HubUrl>(), Err(UrlError::Plain(_))));
        for bad in ["", "https://", "ftp://hub", "https://hub/v1", "https://u@hub", "hub\nx", "hub;rm -rf /", "`id`"] {
            assert!(matches!(bad.parse::<HubUrl>(), Err(UrlError::Malformed(_))), "{bad}");
        }
    }
}
