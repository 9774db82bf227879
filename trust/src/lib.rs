//! What hub, agent and command line share about trust: tokens with their pins, certificates, TLS settings. Nothing here
//! waits asynchronously, so the smallest of the three can use it before its runtime stands.
//!
//! The design is decision 0012. In short: one authority, whose digest is the *pin* in every token; names come from
//! certificates; nobody sends a secret before the pin has matched.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod certificate;
mod clock;
mod code;
mod connect;
mod der;
mod key;
mod peer;
mod pem;
mod pin;
mod seal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod tls;
mod token;
mod verify;

pub use certificate::{Certificate, CertificateProblem};
pub use code::{Between, CodeKey, JoinCode, JoinCodeError, Proof, ProofError, Prover, fresh_nonce};
pub use connect::{ConnectError, authority_behind, chain_of, shake_hands};
pub use key::{DeviceKey, KeyError, digest_of_point, is_signed_by};
pub use peer::{PeerTls, peer_name};
pub use pem::{
    FileError, PemProblem, certificates_from_pem, pem_of_certificates, read_certificates, read_key, write_private,
};
pub use pin::{Pin, PinError};
pub use rustls::ClientConfig;
pub use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
pub use seal::{ReaderKey, RestKey, SEAL_OVERHEAD, SealError, seal};
pub use tls::{Identity, TlsError, client_config, client_config_for, provider, server_config, verify_device_chain};
pub use token::{Digest, Kind, Secret, Token, TokenError, TokenId};
pub use verify::{Trouble, trouble_of, trusted_time};
pub use zeroize::Zeroizing;
