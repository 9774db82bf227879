//! Everything that a person pastes has one form: `or1.KIND.PIN.ID.SECRET`.
//!
//! The pin says which hub may see the secret; the id finds the hub's record of it; the secret is 256 random bits, of which
//! the hub keeps the digest. Secrets are printed by [`Token::reveal`] and by nothing else: they have no `Debug`.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroize;

use crate::Pin;
use crate::pin::sha256;
use crate::text::{CHARS_OF_32, decode_32, encode};

/// What precedes every token: our name and the form's number.
const PREFIX: &str = "or1";
/// Characters of an id.
const CHARS_OF_ID: usize = 12;

/// A secret with what its owner must know to use it safely.
pub struct Token {
    /// What it is good for.
    pub kind: Kind,
    /// Which hub may see it.
    pub pin: Pin,
    /// Under what the hub finds it.
    pub id: TokenId,
    /// What nobody else knows.
    pub secret: Secret,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A device joins with it.
    Join,
    /// The first administrator comes in with it.
    Setup,
    /// A user or program speaks to the API with it.
    Api,
    /// A browser whose user has logged in keeps it as a cookie. Nobody pastes it.
    Session,
}

/// The public part of a token: in lists, in the audit log, for revoking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 6]);

/// 256 random bits. Wiped from memory when dropped.
pub struct Secret([u8; 32]);

/// SHA-256 of a secret: what the hub keeps. Random bits of that many need no slower hash.
pub type Digest = [u8; 32];

/// A text that is no token. It never repeats any of the text: that may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error("this is no token: one begins with `{PREFIX}.join.`, `{PREFIX}.setup.` or `{PREFIX}.api.`")]
    NotOne,
    /// A kind that this release does not know.
    #[error("tokens of this kind are unknown to this release; known are join, setup and api")]
    Kind,
    /// Shorter than it should be.
    #[error("the token is cut off (its {0} is missing or too short): copy the whole of it, in one line")]
    CutOff(&'static str),
    /// Longer than it should be.
    #[error("the token goes on behind its end: copy the token alone, without what stands around it")]
    TooLong,
    /// A part with characters that it cannot have.
    #[error("the token's {0} is damaged: copy the token once more")]
    Damaged(&'static str),
}

impl Token {
    /// A new one.
    ///
    /// # Panics
    /// If the system has no random numbers.
    #[must_use]
    pub fn fresh(kind: Kind, pin: Pin) -> Self {
        let (mut id, mut secret) = ([0; 6], [0; 32]);
        let random = SystemRandom::new();
        let filled = random.fill(&mut id).and_then(|()| random.fill(&mut secret));
        filled.expect("every system that we run on has random numbers");
        Self { kind, pin, id: TokenId(id), secret: Secret(secret) }
    }

    /// The whole text, secret included. For the person who asked for it, and for nobody else.
    ///
    /// ```
    /// use outrigger_trust::{Kind, Pin, Token};
    /// let token = Token::fresh(Kind::Join, Pin([7; 32]));
    /// let again: Token = token.reveal().parse().unwrap();
    /// assert!(again.id == token.id && again.secret.matches(&token.secret.digest()));
    /// ```
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}.{}.{}.{}.{}", self.kind, self.pin, self.id, encode(&self.secret.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.split('.');
        if parts.next() != Some(PREFIX) {
            return Err(TokenError::NotOne);
        }
        let kind = parts.next().ok_or(TokenError::CutOff("kind"))?.parse()?;
        let pin = part(parts.next(), "fingerprint", CHARS_OF_32)?;
        let id = part(parts.next(), "id", CHARS_OF_ID)?;
        let secret = part(parts.next(), "secret", CHARS_OF_32)?;
        if parts.next().is_some() {
            return Err(TokenError::TooLong);
        }
        Ok(Self {
            kind,
            pin: pin.parse().map_err(|_| TokenError::Damaged("fingerprint"))?,
            id: id.parse()?,
            secret: Secret(decode_32(secret).ok_or(TokenError::Damaged("secret"))?),
        })
    }
}

fn part<'a>(text: Option<&'a str>, what: &'static str, chars: usize) -> Result<&'a str, TokenError> {
    let text = text.unwrap_or_default();
    match text.len() {
        length if length < chars => Err(TokenError::CutOff(what)),
        length if length > chars => Err(TokenError::TooLong),
        _ => Ok(text),
    }
}

impl Secret {
    /// What the hub keeps of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.0)
    }

    /// Whether it is the secret with this digest. Takes the same time whatever the answer.
    #[must_use]
    pub fn matches(&self, digest: &Digest) -> bool {
        self.digest().ct_eq(digest).into()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Join => "join",
            Self::Setup => "setup",
            Self::Api => "api",
            Self::Session => "session",
        })
    }
}

impl FromStr for Kind {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        [Self::Join, Self::Setup, Self::Api, Self::Session]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or(TokenError::Kind)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&text)
    }
}

impl FromStr for TokenId {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let digits: Option<Vec<u8>> = text.bytes().map(digit).collect();
        let digits = digits.filter(|digits| digits.len() == CHARS_OF_ID).ok_or(TokenError::Damaged("id"))?;
        let mut id = [0; 6];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |value, digit| value << 4 | digit);
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::fresh(Kind::Join, Pin([9; 32]))
    }

    #[test]
    fn a_half_copied_token_says_so() {
        let text = token().reveal();
        for length in 4..text.len() {
            let error = text[..length].parse::<Token>().unwrap_err();
            assert!(matches!(error, TokenError::CutOff(_) | TokenError::Kind), "{length}: {error}");
        }
        assert_eq!(format!("{text}x").parse::<Token>().unwrap_err(), TokenError::TooLong);
        assert_eq!(format!("{text}\n").parse::<Token>().unwrap_err(), TokenError::TooLong);
    }

    #[test]
    fn what_is_no_token_says_what_one_looks_like() {
        for bad in ["", "hello", "K10abc::server:x", "or2.join.x.y.z", " or1.join"] {
            assert_eq!(bad.parse::<Token>().unwrap_err(), TokenError::NotOne, "{bad}");
        }
        assert_eq!("or1.root.a.b.c".parse::<Token>().unwrap_err(), TokenError::Kind);
    }

    #[test]
    fn neither_debug_nor_errors_show_the_secret() {
        let token = token();
        let text = token.reveal();
        let secret = text.rsplit('.').next().unwrap();
        assert!(!format!("{token:?}").contains(secret));
        let damaged = text.replacen(secret, &secret.replace(&secret[..1], "!"), 1);
        assert!(!damaged.parse::<Token>().unwrap_err().to_string().contains(&secret[1..9]));
    }

    #[test]
    fn two_tokens_have_nothing_in_common() {
        let (a, b) = (token(), token());
        assert!(a.id != b.id && !a.secret.matches(&b.secret.digest()));
    }

    proptest! {
        #[test]
        fn the_text_of_a_token_is_its_only_text(
            kind in prop_oneof![Just(Kind::Join), Just(Kind::Setup), Just(Kind::Api), Just(Kind::Session)],
            pin: [u8; 32], id: [u8; 6], secret: [u8; 32], at in 0_usize..110, other in "[ -~]",
        ) {
            let token = Token { kind, pin: Pin(pin), id: TokenId(id), secret: Secret(secret) };
            let text = token.reveal();
            let again: Token = text.parse().unwrap();
            prop_assert_eq!(again.reveal(), text.clone());
            prop_assert!(again.secret.matches(&token.secret.digest()));
            // Whatever else parses is another token: no two texts mean the same one.
            let at = at.min(text.len() - 1);
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            if let Ok(changed_token) = changed.parse::<Token>() {
                prop_assert_eq!(changed_token.reveal(), changed);
            }
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,200}", tail in "(or1\\.(join|api)\\.)?[A-Za-z0-9_.-]{0,150}") {
            let _ = text.parse::<Token>();
            let _ = tail.parse::<Token>();
        }
    }
}
