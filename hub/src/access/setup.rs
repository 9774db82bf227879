//! Setup codes: whoever has one becomes administrator, once. The hub prints one at its first start; later ones need the
//! state folder.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_trust::{Digest, Kind, Pin, Token, TokenError, TokenId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Tokens;
use super::tokens::{TokenProblem, record};
use crate::store::{SideError, SideRecord, SideTables};

/// Name of their side table.
pub(super) const TABLE: &str = "setup-codes";
/// For so long a code counts: somebody who starts a hub logs in soon, and may make another at any time.
pub const CODE_LIFE: Duration = Duration::from_secs(3600);

/// What is kept of a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Code {
    digest: Digest,
    expires_unix_ms: u64,
}

/// Why a code makes nobody an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetupError {
    /// It is no code.
    #[error(transparent)]
    Text(#[from] TokenError),
    /// It is a token for something else.
    #[error("this is a {0} token, not a setup code: that begins with `or1.setup.`")]
    OtherKind(Kind),
    /// It is none of ours, was used, replaced or is over.
    #[error("the setup code does not count: it was used, replaced, or is older than an hour")]
    Unknown,
    /// The token was not made.
    #[error(transparent)]
    Token(#[from] TokenProblem),
}

impl Tokens {
    /// Makes a setup code. Earlier ones count no longer.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub async fn fresh_code(&self, pin: Pin, now_unix_ms: u64) -> Result<(Token, u64), SideError> {
        let (token, code) = fresh(pin, now_unix_ms);
        let expires = code.expires_unix_ms;
        self.replace_codes(token.id, code).await?;
        Ok((token, expires))
    }

    /// Makes an administrator's token for a code, which is used up by it. What is `beside` is saved with it.
    ///
    /// # Errors
    /// If the code does not count, or the token cannot be made or saved; then the code still counts.
    pub async fn redeem(
        &self,
        code: &str,
        name: &str,
        pin: Pin,
        now_unix_ms: u64,
        beside: Vec<SideRecord>,
    ) -> Result<(Token, outrigger_api::Token), SetupError> {
        self.redeem_code(&code.trim().parse()?, name, pin, now_unix_ms, beside).await
    }
}

/// A setup code for the store of a hub that does not run; the earlier ones go.
#[must_use]
pub fn code_records(saved: &SideTables, pin: Pin, now_unix_ms: u64) -> (Token, Vec<SideRecord>) {
    let (token, code) = fresh(pin, now_unix_ms);
    let earlier = saved.get(TABLE).into_iter().flatten();
    let mut records: Vec<_> =
        earlier.map(|(key, _)| SideRecord { table: TABLE.to_owned(), key: key.clone(), value: None }).collect();
    // A code is bytes and a number: it always serialises.
    records.push(record(TABLE, token.id, serde_json::to_vec(&code).ok()));
    (token, records)
}

fn fresh(pin: Pin, now_unix_ms: u64) -> (Token, Code) {
    let token = Token::fresh(Kind::Setup, pin);
    let life = u64::try_from(CODE_LIFE.as_millis()).unwrap_or(u64::MAX);
    let code = Code { digest: token.secret.digest(), expires_unix_ms: now_unix_ms.saturating_add(life) };
    (token, code)
}

pub(super) fn check(codes: &BTreeMap<TokenId, Code>, given: &Token, now_unix_ms: u64) -> Result<(), SetupError> {
    if given.kind != Kind::Setup {
        return Err(SetupError::OtherKind(given.kind));
    }
    let counts = |code: &&Code| given.secret.matches(&code.digest) && code.expires_unix_ms > now_unix_ms;
    codes.get(&given.id).filter(counts).map(|_| ()).ok_or(SetupError::Unknown)
}
