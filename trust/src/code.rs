//! Join codes: a device without an invite shows one, and the operator tells it to his hub.
//!
//! The code is a secret between those two for a quarter of an hour, and is never sent. Each of the two proves to the other
//! that it knows the code, over what it sees of the connection: the pin of the authority behind the TLS of the one, the key
//! that the other asks a certificate for. Somebody in between has another authority or another key, so his proof is for
//! something else. What he overhears lets him try codes at home, and each try costs [`ROUNDS`]; decision 0017 counts that.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{hmac, pbkdf2};
use thiserror::Error;
use zeroize::Zeroize;

use crate::Pin;
use crate::text::{decode_32, encode};

/// Characters of a code: 50 bits.
const CHARS: usize = 10;
/// Digits and letters without those that are mistaken for others (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// HMAC computations for one try. A tenth of a second on a small board; a quarter of an hour and 2^50 codes are far apart.
const ROUNDS: NonZeroU32 = match NonZeroU32::new(100_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

/// What a device shows. Wiped from memory when dropped; shown by [`JoinCode::reveal`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode([u8; CHARS]);

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a join code looks like 7KQ2M-XW4RP: {CHARS} digits and letters, as the device shows them")]
pub struct JoinCodeError;

/// What both sides must agree about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// The authority behind the hub's TLS: as the device sees it, as the hub has it.
    pub hub: Pin,
    /// SHA-256 of the key that the certificate is for.
    pub device: [u8; 32],
    /// Random, of the device: no two attempts have anything in common.
    pub nonce: [u8; 32],
}

/// What a code comes to for one nonce. Costs `ROUNDS` to make.
pub struct CodeKey(hmac::Key);

/// Shows that its maker knows the code, over what he has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof(pub [u8; 32]);

/// A text that is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no proof of a join code")]
pub struct ProofError;

/// Whose proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prover {
    /// The device.
    Device,
    /// The hub. One is never good for the other.
    Hub,
}

impl JoinCode {
    /// A new one.
    ///
    /// # Panics
    /// If the system has no random numbers.
    #[must_use]
    pub fn fresh() -> Self {
        loop {
            let mut bytes = [0; CHARS];
            SystemRandom::new().fill(&mut bytes).expect("every system that we run on has random numbers");
            let code = Self(bytes.map(|byte| ALPHABET[usize::from(byte % 32)]));
            // One without a letter could be taken for the name of a device.
            if code.0.iter().any(u8::is_ascii_alphabetic) {
                return code;
            }
        }
    }

    /// For whoever stands before the device.
    ///
    /// ```
    /// use outrigger_trust::JoinCode;
    /// let code = JoinCode::fresh();
    /// assert!(code.reveal().parse() == Ok(code));
    /// ```
    #[must_use]
    pub fn reveal(&self) -> String {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        let (first, second) = text.split_at(CHARS / 2);
        format!("{first}-{second}")
    }

    /// Takes a while: call it where nobody waits.
    #[must_use]
    pub fn key(&self, nonce: &[u8; 32]) -> CodeKey {
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, nonce, &self.0, &mut key);
        let made = CodeKey(hmac::Key::new(hmac::HMAC_SHA256, &key));
        key.zeroize();
        made
    }
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode")
    }
}

impl Drop for JoinCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    /// As people type: in small letters, with or without the dash, with O for 0 and l for 1.
    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let mut code = [0; CHARS];
        let mut filled = 0;
        for c in text.trim().chars().filter(|c| !matches!(c, '-' | ' ')) {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let byte = u8::try_from(c).ok().filter(|byte| ALPHABET.contains(byte)).ok_or(JoinCodeError)?;
            *code.get_mut(filled).ok_or(JoinCodeError)? = byte;
            filled += 1;
        }
        if filled == CHARS { Ok(Self(code)) } else { Err(JoinCodeError) }
    }
}

impl CodeKey {
    /// Proves that we know the code.
    #[must_use]
    pub fn prove(&self, prover: Prover, between: &Between) -> Proof {
        let mut proof = [0; 32];
        proof.copy_from_slice(hmac::sign(&self.0, &said(prover, between)).as_ref());
        Proof(proof)
    }

    /// Whether the other side has proven the same.
    #[must_use]
    pub fn is_proven(&self, prover: Prover, between: &Between, proof: &Proof) -> bool {
        hmac::verify(&self.0, &said(prover, between), &proof.0).is_ok()
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey")
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encode(&self.0))
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        decode_32(text).map(Self).ok_or(ProofError)
    }
}

/// 32 random bytes for [`Between::nonce`].
///
/// # Panics
/// If the system has no random numbers.
#[must_use]
pub fn fresh_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).expect("every system that we run on has random numbers");
    nonce
}

/// All parts have a fixed length, so no two different things are written alike.
fn said(prover: Prover, between: &Between) -> Vec<u8> {
    let who: &[u8] = match prover {
        Prover::Device => b"outrigger join code 1, device",
        Prover::Hub => b"outrigger join code 1, hub   ",
    };
    [who, &between.hub.0, &between.device, &between.nonce].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between() -> Between {
        Between { hub: Pin([1; 32]), device: [2; 32], nonce: [3; 32] }
    }

    #[test]
    fn a_code_is_understood_as_people_type_it() {
        let code: JoinCode = "7KQ2M-XW0R1".parse().unwrap();
        for typed in ["7kq2m-xw0r1", "7KQ2MXWORL", " 7kq2m xwOri\n"] {
            assert!(typed.parse() == Ok(code.clone()), "{typed}");
        }
        for bad in ["", "7KQ2M", "7KQ2M-XW4RP9", "7KQ2M-XW4RU", "7KQ2M-XW4Rß", "or1.join.x"] {
            assert_eq!(bad.parse::<JoinCode>(), Err(JoinCodeError), "{bad}");
        }
        assert_eq!(format!("{code:?}"), "JoinCode");
    }

    #[test]
    fn what_somebody_in_between_has_seen_proves_nothing_to_either_side() {
        let code = JoinCode::fresh();
        let (seen, key) = (between(), code.key(&between().nonce));
        let proof = key.prove(Prover::Device, &seen);
        assert!(key.is_proven(Prover::Device, &seen, &proof));
        let other_hub = Between { hub: Pin([9; 32]), ..seen };
        let other_device = Between { device: [9; 32], ..seen };
        let other_time = Between { nonce: [9; 32], ..seen };
        for other in [other_hub, other_device, other_time] {
            assert!(!key.is_proven(Prover::Device, &other, &proof), "{other:?}");
        }
        assert!(!key.is_proven(Prover::Hub, &seen, &proof), "sent back, it is no proof of the hub");
        assert!(!JoinCode::fresh().key(&seen.nonce).is_proven(Prover::Device, &seen, &proof), "another code");
    }

    proptest! {
        #[test]
        fn every_code_has_a_letter_and_its_text_is_a_code(_ in 0..64) {
            let text = JoinCode::fresh().reveal();
            prop_assert!(text.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert_eq!(text.parse::<JoinCode>().unwrap().reveal(), text);
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<JoinCode>();
            let _ = text.parse::<Proof>();
        }
    }
}
