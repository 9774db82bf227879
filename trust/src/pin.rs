//! The digest of an authority's certificate: what a token carries so that its owner knows the right hub.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::text::{CHARS_OF_32, decode_32, encode};

/// SHA-256 of an authority's certificate.
///
/// ```
/// use outrigger_trust::Pin;
/// let pin = Pin([7; 32]);
/// assert_eq!(pin.to_string().parse(), Ok(pin));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub [u8; 32]);

/// A text that is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fingerprint has {CHARS_OF_32} of A-Z, a-z, 0-9, - and _")]
pub struct PinError;

impl Pin {
    /// The pin of this certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(certificate.as_ref()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encode(&self.0))
    }
}

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        decode_32(text).map(Self).ok_or(PinError)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
