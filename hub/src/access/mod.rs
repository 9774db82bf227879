//! Who may use the API: tokens, what each may do, and the record of what was done.
//!
//! Everything that decides is here and knows no HTTP; `http/admit.rs` asks it for each request.

mod attempts;
mod audit;
mod rights;
mod setup;
mod tokens;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::Role;
use outrigger_trust::{Pin, TokenId};
use thiserror::Error;

pub use attempts::Attempts;
pub use audit::{Audit, AuditError, Entry};
pub use rights::{Need, Reach, Right, Rights, Scope, Verdict, decide};
pub use setup::{CODE_LIFE, SetupError, code_records};
pub use tokens::{Denied, TokenProblem, Tokens};

use crate::clock;
use crate::pki::Pki;
use crate::store::{Side, SideError, SideTables};

/// How often an open stream looks whether its token still counts, besides being told of every change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// What he may do.
    pub role: Role,
    /// To which stacks.
    pub scope: Scope,
    /// Until when; none: as long as he is there.
    pub expires_unix_ms: Option<u64>,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Whoever has the hub's state folder, and with it everything.
    Local,
    /// Whoever is on this machine, while `insecure_local` is set.
    Insecure,
    /// The bearer of a token.
    Token {
        /// Which.
        id: TokenId,
        /// For whom or what it was made.
        name: String,
    },
}

impl Caller {
    /// Whoever has the hub's state folder.
    #[must_use]
    pub fn local() -> Self {
        Self { who: Who::Local, role: Role::Admin, scope: Scope::Fleet, expires_unix_ms: None }
    }

    /// Whoever is on this machine, while nobody is asked.
    #[must_use]
    pub fn insecure() -> Self {
        Self { who: Who::Insecure, ..Self::local() }
    }

    pub(super) fn is_local(&self) -> bool {
        self.who == Who::Local
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Insecure => f.write_str("insecure-local"),
            Self::Token { id, name } => write!(f, "{name} ({id})"),
        }
    }
}

/// Whether callers must show a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nobody is asked: plain HTTP on loopback.
    Open,
    /// All must; the pin of the hub's authority is in the tokens that it makes.
    Tokens(Pin),
}

/// What the API asks about its callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// None: nobody is asked for a token.
    pki: Option<Pki>,
    tokens: Tokens,
    attempts: Attempts,
    audit: Audit,
}

/// Why access cannot be decided, so that the hub must not start.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A setup code could not be saved.
    #[error("cannot save the setup code")]
    Setup(#[from] SideError),
}

impl Access {
    /// With what was saved. Without `pki` nobody is asked for a token.
    ///
    /// # Errors
    /// If the audit log cannot be written.
    pub fn open(pki: Option<Pki>, state_dir: &Path, saved: &SideTables, side: Side) -> Result<Self, AccessError> {
        let audit = Audit::open(state_dir, saved, side.clone())?;
        let tokens = Tokens::load(saved, side);
        Ok(Self(Arc::new(Parts { pki, tokens, attempts: Attempts::default(), audit })))
    }

    /// Whether callers must show a token.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.0.pki.as_ref().map_or(Gate::Open, |pki| Gate::Tokens(pki.pin()))
    }

    /// Tokens and setup codes.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Addresses that tried in vain.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    /// The record of what was done.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Ends when this caller's token no longer counts: revoked, or over. Open streams end with it.
    pub fn end_of(&self, caller: &Caller) -> impl Future<Output = ()> + Send + use<> {
        let access = self.clone();
        let id = match caller.who {
            Who::Token { id, .. } => Some(id),
            Who::Local | Who::Insecure => None,
        };
        async move {
            let Some(id) = id else { return std::future::pending().await };
            let mut changes = access.tokens().changes();
            while access.tokens().counts(id, clock::unix_ms()) {
                // Both may be cancelled: the next look tells the same.
                tokio::select! {
                    _ = changes.changed() => (),
                    () = tokio::time::sleep(LOOK_AGAIN) => (),
                }
            }
        }
    }
}
