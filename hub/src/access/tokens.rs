//! Tokens of users and programs: made, listed, revoked, recognised. Of each secret only the digest is kept.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use outrigger_api::{Role, TokenRequest};
use outrigger_protocol::StackName;
use outrigger_trust::{Digest, Kind, Pin, Token, TokenId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tracing::warn;

use super::setup::Code;
use super::{Caller, Scope, Who, setup};
use crate::store::{Side, SideError, SideRecord, SideTables};

/// Name of their side table.
pub(super) const TABLE: &str = "api-tokens";
/// Tokens at one time.
const MAX_TOKENS: usize = 1000;
/// Stacks of one token.
const MAX_STACKS: usize = 64;
/// Life of a token if nobody says.
const DEFAULT_LIFE_S: u64 = 90 * DAY_S;
/// Longest life of a token.
const MAX_LIFE_S: u64 = 3660 * DAY_S;
const DAY_S: u64 = 86_400;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    digest: Digest,
    name: String,
    role: Role,
    /// None: for the whole fleet.
    stacks: Option<Vec<String>>,
    created_unix_ms: u64,
    created_by: String,
    expires_unix_ms: u64,
}

/// Tokens and setup codes.
#[derive(Debug)]
pub struct Tokens {
    side: Side,
    kept: RwLock<BTreeMap<TokenId, Kept>>,
    codes: RwLock<BTreeMap<TokenId, Code>>,
    /// Held while something is saved, so that two changes cannot rest on the same past.
    changing: Mutex<()>,
    changed: watch::Sender<()>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// The text is none of our tokens.
    #[error("the token is not one of this hub's, or it was revoked")]
    Unknown,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// A token for something else.
    #[error("this is a {0} token; the API takes those that begin with `or1.api.`")]
    OtherKind(Kind),
}

/// Why a token was not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenProblem {
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already; revoke some first")]
    TooMany,
    /// There is no such token.
    #[error("there is no token `{0}`")]
    None(String),
    /// It could not be saved.
    #[error(transparent)]
    Side(#[from] SideError),
}

impl Tokens {
    pub(super) fn load(saved: &SideTables, side: Side) -> Self {
        let (kept, codes) = (read(saved, TABLE), read(saved, setup::TABLE));
        Self {
            side,
            kept: RwLock::new(kept),
            codes: RwLock::new(codes),
            changing: Mutex::new(()),
            changed: watch::channel(()).0,
        }
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// If it does not count.
    pub fn recognise(&self, text: &str, now_unix_ms: u64) -> Result<Caller, Denied> {
        let token: Token = text.parse().map_err(|_| Denied::Unknown)?;
        if token.kind != Kind::Api {
            return Err(Denied::OtherKind(token.kind));
        }
        let kept = self.kept();
        let found = kept.get(&token.id).filter(|found| token.secret.matches(&found.digest)).ok_or(Denied::Unknown)?;
        if found.expires_unix_ms <= now_unix_ms {
            return Err(Denied::Expired);
        }
        Ok(Caller {
            who: Who::Token { id: token.id, name: found.name.clone() },
            role: found.role,
            scope: found.stacks.as_ref().map_or(Scope::Fleet, |stacks| Scope::Stacks(stacks.iter().cloned().collect())),
            expires_unix_ms: Some(found.expires_unix_ms),
        })
    }

    /// Whether this token is there and not over.
    #[must_use]
    pub fn counts(&self, id: TokenId, now_unix_ms: u64) -> bool {
        self.kept().get(&id).is_some_and(|kept| kept.expires_unix_ms > now_unix_ms)
    }

    /// Whether somebody may make tokens.
    #[must_use]
    pub fn has_admin(&self, now_unix_ms: u64) -> bool {
        self.kept().values().any(|kept| kept.role == Role::Admin && kept.expires_unix_ms > now_unix_ms)
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<outrigger_api::Token> {
        let mut tokens: Vec<_> = self.kept().iter().map(|(id, kept)| shown(*id, kept)).collect();
        tokens.sort_by(|a, b| (a.created_unix_ms, &a.id).cmp(&(b.created_unix_ms, &b.id)));
        tokens
    }

    /// Makes one. The only answer that has its secret.
    ///
    /// # Errors
    /// If it makes no sense or cannot be saved.
    pub async fn create(
        &self,
        request: &TokenRequest,
        by: &str,
        pin: Pin,
        now_unix_ms: u64,
    ) -> Result<(Token, outrigger_api::Token), TokenProblem> {
        let _alone = self.changing.lock().await;
        self.add(request, by, pin, now_unix_ms, Vec::new()).await
    }

    /// Makes a token and saves other changes with it.
    async fn add(
        &self,
        request: &TokenRequest,
        by: &str,
        pin: Pin,
        now_unix_ms: u64,
        mut records: Vec<SideRecord>,
    ) -> Result<(Token, outrigger_api::Token), TokenProblem> {
        let token = Token::fresh(Kind::Api, pin);
        let kept = kept(request, by, token.secret.digest(), now_unix_ms)?;
        let over = {
            let known = self.kept();
            if known.contains_key(&token.id) {
                return Err(TokenProblem::TooMany);
            }
            // Those that are over are of use in the list for a while; they go when their place is needed.
            let over = known.iter().filter(|(_, kept)| kept.expires_unix_ms <= now_unix_ms).map(|(id, _)| *id);
            let over: Vec<_> = if known.len() >= MAX_TOKENS { over.collect() } else { Vec::new() };
            if known.len() - over.len() >= MAX_TOKENS {
                return Err(TokenProblem::TooMany);
            }
            over
        };
        records.extend(over.iter().map(|id| record(TABLE, *id, None)));
        // A record is texts and numbers: it always serialises.
        records.push(record(TABLE, token.id, serde_json::to_vec(&kept).ok()));
        self.side.save_all(records).await?;
        let shown = shown(token.id, &kept);
        let mut known = self.kept_to_change();
        over.iter().for_each(|id| drop(known.remove(id)));
        known.insert(token.id, kept);
        Ok((token, shown))
    }

    /// Makes one count no longer, at once and for open streams too.
    ///
    /// # Errors
    /// If there is none or that cannot be saved.
    pub async fn revoke(&self, id: &str) -> Result<outrigger_api::Token, TokenProblem> {
        let none = || TokenProblem::None(id.chars().take(40).collect());
        let id: TokenId = id.parse().map_err(|_| none())?;
        let _alone = self.changing.lock().await;
        let revoked = self.kept().get(&id).map(|kept| shown(id, kept)).ok_or_else(none)?;
        self.side.save_all(vec![record(TABLE, id, None)]).await?;
        self.kept_to_change().remove(&id);
        self.changed.send_replace(());
        Ok(revoked)
    }

    /// The first administrator's token, for a code that is used up by it. What is `beside` is saved with it.
    pub(super) async fn redeem_code(
        &self,
        code: &Token,
        name: &str,
        pin: Pin,
        now_unix_ms: u64,
        mut beside: Vec<SideRecord>,
    ) -> Result<(Token, outrigger_api::Token), setup::SetupError> {
        let _alone = self.changing.lock().await;
        setup::check(&self.codes(), code, now_unix_ms)?;
        let request =
            TokenRequest { name: name.to_owned(), role: Role::Admin, stacks: Vec::new(), ttl_s: Some(365 * DAY_S) };
        let by = format!("setup code {}", code.id);
        beside.push(record(setup::TABLE, code.id, None));
        let made = self.add(&request, &by, pin, now_unix_ms, beside).await?;
        self.codes.write().unwrap_or_else(PoisonError::into_inner).remove(&code.id);
        Ok(made)
    }

    /// Replaces all setup codes by this one.
    pub(super) async fn replace_codes(&self, id: TokenId, code: Code) -> Result<(), SideError> {
        let _alone = self.changing.lock().await;
        let mut records: Vec<_> = self.codes().keys().map(|old| record(setup::TABLE, *old, None)).collect();
        records.push(record(setup::TABLE, id, serde_json::to_vec(&code).ok()));
        self.side.save_all(records).await?;
        *self.codes.write().unwrap_or_else(PoisonError::into_inner) = BTreeMap::from([(id, code)]);
        Ok(())
    }

    fn kept(&self) -> RwLockReadGuard<'_, BTreeMap<TokenId, Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_to_change(&self) -> RwLockWriteGuard<'_, BTreeMap<TokenId, Kept>> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn codes(&self) -> RwLockReadGuard<'_, BTreeMap<TokenId, Code>> {
        self.codes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is saved in this table. What cannot be read does not count, and whoever it belongs to is not let in.
fn read<T: serde::de::DeserializeOwned>(saved: &SideTables, table: &str) -> BTreeMap<TokenId, T> {
    let rows = saved.get(table).into_iter().flatten();
    let entry = |(key, value): (&String, &Vec<u8>)| {
        let entry = key.parse().ok().zip(serde_json::from_slice(value).ok());
        if entry.is_none() {
            warn!(table, key, "a saved record cannot be read; it does not count");
        }
        entry
    };
    rows.filter_map(entry).collect()
}

pub(super) fn record(table: &str, id: TokenId, value: Option<Vec<u8>>) -> SideRecord {
    SideRecord { table: table.to_owned(), key: id.to_string(), value }
}

fn kept(request: &TokenRequest, by: &str, digest: Digest, now_unix_ms: u64) -> Result<Kept, TokenProblem> {
    check_reach("token", &request.name, request.role, &request.stacks)?;
    let life_s = request.ttl_s.unwrap_or(DEFAULT_LIFE_S);
    if !(1..=MAX_LIFE_S).contains(&life_s) {
        return Err(TokenProblem::Malformed(format!("a token counts for 1 second to {} days", MAX_LIFE_S / DAY_S)));
    }
    Ok(Kept {
        digest,
        name: request.name.clone(),
        role: request.role,
        stacks: (!request.stacks.is_empty()).then(|| request.stacks.clone()),
        created_unix_ms: now_unix_ms,
        created_by: by.to_owned(),
        expires_unix_ms: now_unix_ms.saturating_add(life_s * 1000),
    })
}

/// What holds for the name, the role and the stacks of tokens and of users.
pub(super) fn check_reach(what: &str, name: &str, role: Role, stacks: &[String]) -> Result<(), TokenProblem> {
    let wrong = |text: String| Err(TokenProblem::Malformed(text));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return wrong(format!("a {what}'s name has 1 to 64 of a-z, A-Z, 0-9, -, _, . and @"));
    }
    if stacks.len() > MAX_STACKS {
        return wrong(format!("a {what} is for at most {MAX_STACKS} stacks, or for the whole fleet"));
    }
    if role == Role::Admin && !stacks.is_empty() {
        return wrong(format!("an administrator's {what} is for the whole fleet: he could make another"));
    }
    for stack in stacks {
        stack.parse::<StackName>().map_err(|fault| TokenProblem::Malformed(fault.to_string()))?;
    }
    Ok(())
}

fn shown(id: TokenId, kept: &Kept) -> outrigger_api::Token {
    outrigger_api::Token {
        id: id.to_string(),
        name: kept.name.clone(),
        role: kept.role,
        stacks: kept.stacks.clone().unwrap_or_default(),
        created_unix_ms: kept.created_unix_ms,
        created_by: kept.created_by.clone(),
        expires_unix_ms: kept.expires_unix_ms,
    }
}
