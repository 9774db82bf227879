//! Encryption for one reader, and at rest.
//!
//! For one reader: ECIES in its plainest form. The reader makes an X25519 key for one question; whoever answers makes one
//! for one answer; HKDF-SHA256 over both turns their secret into a key that encrypts once, with ChaCha20-Poly1305, which
//! is fast on boards without AES instructions. Neither key is ever kept, so nothing that is found later opens what was
//! sent (forward secrecy). The context is bound into the key and into the ciphertext.
//!
//! At rest: ChaCha20-Poly1305 under a key from a file, a random nonce for each, and what it is as associated data.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::text;

/// Bytes of a key of the cipher.
const KEY: usize = 32;
/// Bytes that encryption adds to what is sealed to a reader.
pub const SEAL_OVERHEAD: usize = 16;

/// Something could not be sealed or opened. On purpose it does not say more: there is nothing that a user could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// It was sealed for another key or another purpose, or it was changed.
    #[error("it was encrypted with another key, or was changed since")]
    Foreign,
}

/// A key for one answer. Used up by opening it.
pub struct ReaderKey {
    private: EphemeralPrivateKey,
    public: [u8; 32],
}

impl ReaderKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn fresh() -> Result<Self, SealError> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| SealError::Random)?;
        let public = private.compute_public_key().map_err(|_| SealError::Random)?;
        let public = public.as_ref().try_into().map_err(|_| SealError::Random)?;
        Ok(Self { private, public })
    }

    /// What the other side needs to seal something for it.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// What was sealed for it ([`seal`]) in this context.
    ///
    /// # Errors
    /// If it was not.
    pub fn open(self, context: &[u8], from: &[u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = agree(self.private, from, context, &self.public, from)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let length = key.open_in_place(once(), Aad::from(context), &mut bytes).map_err(|_| SealError::Foreign)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl fmt::Debug for ReaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReaderKey")
    }
}

/// Encrypts for whoever has made `to`, in this context. Returns our half of the key, and the ciphertext.
///
/// # Errors
/// If the system gives no random numbers, or `to` is no key.
pub fn seal(to: &[u8; 32], context: &[u8], plain: &[u8]) -> Result<([u8; 32], Vec<u8>), SealError> {
    let own = ReaderKey::fresh()?;
    let from = own.public;
    let key = agree(own.private, to, context, to, &from)?;
    let mut bytes = plain.to_vec();
    let sealed = key.seal_in_place_append_tag(once(), Aad::from(context), &mut bytes);
    sealed.map_err(|_| SealError::Foreign)?;
    Ok((from, bytes))
}

/// The key of one answer: of what both sides alone know, bound to both halves and the context (RFC 5869).
fn agree(
    own: EphemeralPrivateKey,
    other: &[u8; 32],
    context: &[u8],
    to: &[u8; 32],
    from: &[u8; 32],
) -> Result<LessSafeKey, SealError> {
    // ring refuses the few points that would give everybody the same secret.
    let agreed = agree_ephemeral(own, &UnparsedPublicKey::new(&X25519, other), |shared| {
        let info = [context, to.as_slice(), from.as_slice()];
        let mut key = Zeroizing::new([0; KEY]);
        let derived = Salt::new(HKDF_SHA256, &[]).extract(shared);
        derived.expand(&info, Bytes).and_then(|okm| okm.fill(key.as_mut_slice())).map(|()| key)
    });
    let key = agreed.map_err(|_| SealError::Foreign)?.map_err(|_| SealError::Foreign)?;
    cipher(&key)
}

fn cipher(key: &[u8; KEY]) -> Result<LessSafeKey, SealError> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| SealError::Foreign)?))
}

/// The key encrypts once, so its nonce need not differ from anything.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

struct Bytes;

impl KeyType for Bytes {
    fn len(&self) -> usize {
        KEY
    }
}

/// The key under which secrets rest.
pub struct RestKey(Zeroizing<[u8; KEY]>);

impl RestKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn fresh() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY]);
        SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| SealError::Random)?;
        Ok(Self(key))
    }

    /// The key in this file's contents ([`Self::reveal`]); none if it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        text::decode_32(text.trim()).map(Zeroizing::new).map(Self)
    }

    /// The text of its file. For the file, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(text::encode(self.0.as_slice()))
    }

    /// Encrypts. `what` must be given again to decrypt. A random nonce is safe for billions of these.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn seal(&self, what: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut bytes = plain.to_vec();
        let sealed =
            cipher(&self.0)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(what), &mut bytes);
        sealed.map_err(|_| SealError::Foreign)?;
        Ok([nonce.as_slice(), &bytes].concat())
    }

    /// Decrypts.
    ///
    /// # Errors
    /// If it was encrypted with another key, as something else, or was changed.
    pub fn open(&self, what: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Foreign)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let opened = cipher(&self.0)?.open_in_place(nonce, Aad::from(what), &mut bytes);
        let length = opened.map_err(|_| SealError::Foreign)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl fmt::Debug for RestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn only_who_asked_opens_it_and_only_as_what_it_is(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (reader, other) = (ReaderKey::fresh().unwrap(), ReaderKey::fresh().unwrap());
            let (from, sealed) = seal(&reader.public(), b"pi-1 db 3", &plain).unwrap();
            prop_assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD);
            prop_assert_eq!(other.open(b"pi-1 db 3", &from, &sealed), Err(SealError::Foreign));
            prop_assert_eq!(&*reader.open(b"pi-1 db 3", &from, &sealed).unwrap(), &plain);
            let again = ReaderKey::fresh().unwrap();
            let (from, sealed) = seal(&again.public(), b"pi-1 db 3", &plain).unwrap();
            prop_assert_eq!(again.open(b"pi-2 db 3", &from, &sealed), Err(SealError::Foreign));
        }

        #[test]
        fn what_was_changed_opens_no_more(byte in 0_usize..40, bit in 0_u8..8) {
            let reader = ReaderKey::fresh().unwrap();
            let (from, mut sealed) = seal(&reader.public(), b"x", b"twenty-four bytes, right").unwrap();
            sealed[byte] ^= 1 << bit;
            prop_assert_eq!(reader.open(b"x", &from, &sealed), Err(SealError::Foreign));
            let key = RestKey::fresh().unwrap();
            let mut rests = key.seal(b"x", b"twelve bytes").unwrap();
            rests[byte] ^= 1 << bit;
            prop_assert_eq!(key.open(b"x", &rests), Err(SealError::Foreign));
        }
    }

    #[test]
    fn a_key_that_is_a_point_of_low_order_is_refused() {
        assert_eq!(seal(&[0; 32], b"x", b"secret"), Err(SealError::Foreign));
    }

    #[test]
    fn at_rest_only_the_same_key_opens_it_and_only_as_what_it_is() {
        let key = RestKey::fresh().unwrap();
        let again = RestKey::from_text(&format!("{}\n", *key.reveal())).unwrap();
        let sealed = key.seal(b"secret db 3", b"hunter2").unwrap();
        assert_ne!(sealed, key.seal(b"secret db 3", b"hunter2").unwrap(), "equal contents do not look equal");
        assert_eq!(&**again.open(b"secret db 3", &sealed).unwrap(), b"hunter2");
        assert_eq!(again.open(b"secret db 4", &sealed), Err(SealError::Foreign));
        assert_eq!(RestKey::fresh().unwrap().open(b"secret db 3", &sealed), Err(SealError::Foreign));
        assert_eq!(key.open(b"", &[1, 2, 3]), Err(SealError::Foreign));
        assert_eq!(format!("{key:?}"), "RestKey");
        assert!(RestKey::from_text("short").is_none());
    }
}
