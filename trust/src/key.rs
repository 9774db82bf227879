//! A device's key, and its request for a certificate. The key is made where it is used and never leaves.
//!
//! The request (PKCS #10, RFC 2986) is forty lines of DER here: the crates that write it would add more to the agent than
//! TLS itself does, and what it says is always the same. The hub reads it with rcgen, and a test does, too.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::der::{BIT_STRING, CONTEXT_0, INTEGER, OBJECT, SEQUENCE, SET, UTF8, value};
use crate::pem::encode;
use crate::pin::sha256;

/// `id-ecPublicKey`.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `prime256v1`.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `ecdsa-with-SHA256`.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// An ECDSA key on P-256.
pub struct DeviceKey {
    pair: EcdsaKeyPair,
    pkcs8: PrivateKeyDer<'static>,
}

/// A key cannot be made or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// None can be made.
    #[error("no key can be made: the system gives no random numbers")]
    Random,
    /// This is none of ours.
    #[error("this is no P-256 key in PKCS #8 form")]
    NotOurs,
}

impl DeviceKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn fresh() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| KeyError::Random)?;
        Self::from_der(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()).into())
    }

    /// The key in this file's contents.
    ///
    /// # Errors
    /// If it is of another sort.
    pub fn from_der(pkcs8: PrivateKeyDer<'static>) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.secret_der(), &SystemRandom::new());
        Ok(Self { pair: pair.map_err(|_| KeyError::NotOurs)?, pkcs8 })
    }

    /// For the TLS library.
    #[must_use]
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        self.pkcs8.clone_key()
    }

    /// The text of its file. For the file, and for nothing else.
    #[must_use]
    pub fn reveal_pem(&self) -> String {
        encode("PRIVATE KEY", self.pkcs8.secret_der())
    }

    /// SHA-256 of its public half, as [`crate::Certificate::key_digest`] has it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.public())
    }

    /// The public half as certificates hold it (`SubjectPublicKeyInfo`).
    fn public(&self) -> Vec<u8> {
        public_of_point(self.pair.public_key().as_ref())
    }

    /// The public half alone, an uncompressed point.
    #[must_use]
    pub fn point(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// Its signature (ECDSA with SHA-256, DER). What is signed must say what for, so that it is good for nothing else.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    /// A request for a certificate with this name, as PEM.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn request(&self, name: &str) -> Result<String, KeyError> {
        Ok(encode("CERTIFICATE REQUEST", &self.request_der(name)?))
    }

    /// The same, as DER.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn request_der(&self, name: &str) -> Result<Vec<u8>, KeyError> {
        let part = value(SEQUENCE, &[&value(OBJECT, &[COMMON_NAME]), &value(UTF8, &[name.as_bytes()])]);
        let subject = value(SEQUENCE, &[&value(SET, &[&part])]);
        let body = value(SEQUENCE, &[&value(INTEGER, &[&[0]]), &subject, &self.public(), &value(CONTEXT_0, &[])]);
        let signature = self.pair.sign(&SystemRandom::new(), &body).map_err(|_| KeyError::Random)?;
        let algorithm = value(SEQUENCE, &[&value(OBJECT, &[ECDSA_SHA256])]);
        Ok(value(SEQUENCE, &[&body, &algorithm, &value(BIT_STRING, &[&[0], signature.as_ref()])]))
    }
}

fn public_of_point(point: &[u8]) -> Vec<u8> {
    let algorithm = value(SEQUENCE, &[&value(OBJECT, &[EC_PUBLIC_KEY]), &value(OBJECT, &[P256])]);
    value(SEQUENCE, &[&algorithm, &value(BIT_STRING, &[&[0], point])])
}

/// SHA-256 of the public half that is this point, as [`DeviceKey::digest`] has it.
#[must_use]
pub fn digest_of_point(point: &[u8]) -> [u8; 32] {
    sha256(&public_of_point(point))
}

/// Whether the key with this public half ([`DeviceKey::point`]) has signed these bytes.
#[must_use]
pub fn is_signed_by(point: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(bytes, signature).is_ok()
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateSigningRequestParams, DnType, DnValue, PublicKeyData};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_hub_reads_name_and_key_in_a_request_and_its_signature_holds(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let key = DeviceKey::fresh().unwrap();
            // rcgen verifies the signature while it reads.
            let read = CertificateSigningRequestParams::from_pem(&key.request(&name).unwrap()).unwrap();
            let found = read.params.distinguished_name.get(&DnType::CommonName);
            prop_assert_eq!(found, Some(&DnValue::Utf8String(name)));
            prop_assert_eq!(read.public_key.der_bytes(), key.pair.public_key().as_ref());
        }
    }

    #[test]
    fn a_key_is_the_same_after_it_was_written_and_read() {
        let key = DeviceKey::fresh().unwrap();
        let again = DeviceKey::from_der(crate::pem::key_from_pem(&key.reveal_pem()).unwrap()).unwrap();
        assert_eq!(again.pair.public_key().as_ref(), key.pair.public_key().as_ref());
        assert_eq!(format!("{key:?}"), "DeviceKey");
    }

    #[test]
    fn a_signature_holds_for_its_key_and_its_bytes_alone() {
        let (key, other) = (DeviceKey::fresh().unwrap(), DeviceKey::fresh().unwrap());
        let signature = key.sign(b"this").unwrap();
        assert!(is_signed_by(&key.point(), b"this", &signature));
        assert!(!is_signed_by(&key.point(), b"that", &signature));
        assert!(!is_signed_by(&other.point(), b"this", &signature));
        assert!(!is_signed_by(&[], b"this", &signature));
        assert_eq!(digest_of_point(&key.point()), key.digest());
    }

    #[test]
    fn other_keys_are_refused() {
        let other = PrivatePkcs8KeyDer::from(vec![0x30, 0]);
        assert_eq!(DeviceKey::from_der(other.into()).unwrap_err(), KeyError::NotOurs);
    }
}
