//! Passwords: hashed with argon2id, one at a time, so that logins cost the hub a bounded share of memory and time.

use std::sync::LazyLock;
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use outrigger_api::SecretText;
use outrigger_trust::fresh_nonce;
use thiserror::Error;
use tokio::sync::Semaphore;

/// Memory of one hash, in KiB, and passes over it: what OWASP recommends for argon2id (2024), so about 50 ms and 19 MiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Hashes at one time. Each takes its memory while it runs.
const AT_ONCE: usize = 1;
/// Longest wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Characters of a password (NIST SP 800-63B asks for at least 8, and for no rules about which).
const LEAST: usize = 10;
/// Bytes of a password: a longer one only costs time.
const MOST: usize = 256;

/// What is compared with where there is no such user, so that his absence takes the same time.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hashed(b"there is no such user").ok());

/// Hashes passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Semaphore,
}

/// Why a password cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PasswordProblem {
    /// Too short or too long.
    #[error("a password has at least {LEAST} characters, and at most {MOST} bytes")]
    Length,
    /// Others are before us.
    #[error("too many log in at once; try again in a moment")]
    Busy,
    /// The library says no, which it never does for these sizes.
    #[error("the password cannot be hashed")]
    Hash,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { places: Semaphore::new(AT_ONCE) }
    }
}

impl Passwords {
    /// What is kept of a password.
    pub(super) async fn hash(&self, password: &SecretText) -> Result<String, PasswordProblem> {
        if password.0.chars().count() < LEAST || password.0.len() > MOST {
            return Err(PasswordProblem::Length);
        }
        let password = password.clone();
        self.work(move || hashed(password.0.as_bytes())).await?
    }

    /// Whether this is the password of which `kept` was kept. Takes the same time where nothing was.
    pub(super) async fn matches(&self, password: &SecretText, kept: Option<String>) -> Result<bool, PasswordProblem> {
        if password.0.len() > MOST {
            return Ok(false);
        }
        let password = password.clone();
        self.work(move || {
            let is_somebody = kept.is_some();
            let Some(kept) = kept.or_else(|| NOBODY.clone()) else { return false };
            let parsed = PasswordHash::new(&kept);
            let matches = parsed.is_ok_and(|kept| argon2().verify_password(password.0.as_bytes(), &kept).is_ok());
            matches && is_somebody
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordProblem> {
        let turn = tokio::time::timeout(PATIENCE, self.places.acquire()).await.map_err(|_| PasswordProblem::Busy)?;
        let _turn = turn.map_err(|_| PasswordProblem::Busy)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| PasswordProblem::Hash)
    }
}

fn argon2() -> Argon2<'static> {
    // These numbers are within the library's bounds; its own default is the same algorithm.
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hashed(password: &[u8]) -> Result<String, PasswordProblem> {
    let salt = SaltString::encode_b64(&fresh_nonce()[..16]).map_err(|_| PasswordProblem::Hash)?;
    let hash = argon2().hash_password(password, &salt).map_err(|_| PasswordProblem::Hash)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> SecretText {
        SecretText(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_matches_itself_and_nothing_else() {
        let passwords = Passwords::default();
        let kept = passwords.hash(&text("correct horse")).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, passwords.hash(&text("correct horse")).await.unwrap(), "each has a salt of its own");
        assert!(passwords.matches(&text("correct horse"), Some(kept.clone())).await.unwrap());
        for wrong in ["correct horsE", "", "correct horse ", &"x".repeat(10_000)] {
            assert!(!passwords.matches(&text(wrong), Some(kept.clone())).await.unwrap(), "{wrong}");
        }
        assert!(!passwords.matches(&text("correct horse"), Some("no hash".into())).await.unwrap());
        assert!(!passwords.matches(&text("there is no such user"), None).await.unwrap(), "nobody has no password");
    }

    #[tokio::test]
    async fn passwords_that_are_too_short_or_too_long_are_not_taken() {
        let passwords = Passwords::default();
        for bad in ["", "short", &"x".repeat(257)] {
            assert_eq!(passwords.hash(&text(bad)).await.unwrap_err(), PasswordProblem::Length);
        }
    }
}
