//! Renewal of a device's certificate over its own connection.

use serde::{Deserialize, Serialize};

use crate::SessionNumber;

/// A device asks for a new certificate. Its key stays the same, and the name comes from the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The connection it is sent on.
    pub session: SessionNumber,
    /// The request, signed with the device's key (PKCS #10, DER).
    pub request: Vec<u8>,
}

/// A certificate for a device, and whom it may trust from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The device's own first, then whoever signed it (DER).
    pub chain: Vec<Vec<u8>>,
    /// All authorities that may stand behind the hub (DER). They replace the ones the device knew.
    pub authorities: Vec<Vec<u8>>,
}
