//! Who may use the API: tokens, what each may do, and the record of what was done.
//!
//! Everything that decides is here and knows no HTTP; `http/admit.rs` asks it for each request.

mod attempts;
mod audit;
mod passwords;
mod rights;
mod sessions;
mod setup;
mod tokens;
mod users;

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::Role;
use outrigger_trust::{Pin, TokenId};
use thiserror::Error;

pub use attempts::Attempts;
pub(crate) use attempts::network;
pub use audit::{Audit, AuditError, Entry};
pub use passwords::PasswordProblem;
pub use rights::{Need, Reach, Right, Rights, Scope, Verdict, decide};
pub use sessions::{IDLE, LIFE, Sessions, csrf, is_csrf};
pub use setup::{CODE_LIFE, SetupError, code_records};
pub use tokens::{Denied, TokenProblem, Tokens};
pub use users::{Prepared, UserProblem, Users};

use crate::clock;
use crate::pki::Pki;
use crate::store::{Side, SideError, SideTables};

/// How often an open stream looks whether its token still counts, besides being told of every change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Failed logins within [`LOGIN_WINDOW`] from one address, and for one user whatever the address.
const LOGINS_OF_ADDRESS: u32 = 20;
const LOGINS_OF_USER: u32 = 10;
/// Time after which failed logins are forgotten.
const LOGIN_WINDOW: Duration = Duration::from_secs(900);

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
    /// A user with a browser that is logged in.
    Session {
        /// Which session.
        id: TokenId,
        /// The user.
        user: String,
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
            Self::Session { id, user } => write!(f, "{user} (session {id})"),
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
    users: Users,
    sessions: Sessions,
    attempts: Attempts<IpAddr>,
    logins: Logins,
    audit: Audit,
}

/// Who tried passwords in vain. Passwords can be guessed, so this is stricter than for tokens.
#[derive(Debug)]
pub struct Logins {
    /// From which addresses.
    pub addresses: Attempts<IpAddr>,
    /// Under which names, of users or not.
    pub users: Attempts<String>,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            addresses: Attempts::new(LOGINS_OF_ADDRESS, LOGIN_WINDOW),
            users: Attempts::new(LOGINS_OF_USER, LOGIN_WINDOW),
        }
    }
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
        let tokens = Tokens::load(saved, side.clone());
        let users = Users::load(saved, side);
        let (sessions, attempts, logins) = (Sessions::default(), Attempts::default(), Logins::default());
        Ok(Self(Arc::new(Parts { pki, tokens, users, sessions, attempts, logins, audit })))
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

    /// People who log in with a browser.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.0.users
    }

    /// Browsers that are logged in.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Addresses that tried in vain.
    #[must_use]
    pub fn attempts(&self) -> &Attempts<IpAddr> {
        &self.0.attempts
    }

    /// Who tried passwords in vain.
    #[must_use]
    pub fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// Whether somebody may say who else may do what.
    #[must_use]
    pub fn has_admin(&self, now_unix_ms: u64) -> bool {
        self.tokens().has_admin(now_unix_ms) || self.users().has_admin()
    }

    /// Who has this session in his cookie. What he may do is read anew each time: a user who is gone has no rights.
    #[must_use]
    pub fn by_session(&self, cookie: &str) -> Option<Caller> {
        let (id, user, expires) = self.sessions().recognise(cookie, clock::now())?;
        let (role, scope) = self.users().may(&user)?;
        Some(Caller { who: Who::Session { id, user }, role, scope, expires_unix_ms: Some(expires) })
    }

    /// The record of what was done.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Ends when this caller's token or session no longer counts: revoked, or over. Open streams end with it.
    pub fn end_of(&self, caller: &Caller) -> impl Future<Output = ()> + Send + use<> {
        let access = self.clone();
        let who = caller.who.clone();
        async move {
            let mut changes = match who {
                Who::Token { .. } => access.tokens().changes(),
                Who::Session { .. } => access.sessions().changes(),
                Who::Local | Who::Insecure => return std::future::pending().await,
            };
            while access.counts(&who) {
                // Both may be cancelled: the next look tells the same.
                tokio::select! {
                    _ = changes.changed() => (),
                    () = tokio::time::sleep(LOOK_AGAIN) => (),
                }
            }
        }
    }

    fn counts(&self, who: &Who) -> bool {
        match who {
            Who::Token { id, .. } => self.tokens().counts(*id, clock::unix_ms()),
            Who::Session { id, user } => self.sessions().counts(*id, clock::now()) && self.users().may(user).is_some(),
            Who::Local | Who::Insecure => true,
        }
    }
}
