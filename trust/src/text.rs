//! Bytes as text in tokens and pins: base64url without padding, one text for each value and no other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Characters of 32 bytes.
pub(crate) const CHARS_OF_32: usize = 43;

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The 32 bytes in this text; none if it is not exactly the text of 32 bytes.
pub(crate) fn decode_32(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
