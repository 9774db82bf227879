//! Browsers that are logged in. Kept in memory only: a hub that starts anew has everybody log in again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_api::{SecretText, Session};
use outrigger_protocol::Moment;
use outrigger_trust::{Digest, Kind, Pin, Token, TokenId};
use tokio::sync::watch;

use crate::pki::hex;

/// A session that was not used for so long is over.
pub const IDLE: Duration = Duration::from_secs(2 * 3600);
/// And each one after so long.
pub const LIFE: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one user; the one that was used longest ago makes room.
const MAX_OF_USER: usize = 16;
/// Sessions in all.
const MAX_SESSIONS: usize = 4096;

/// All of them.
#[derive(Debug)]
pub struct Sessions {
    open: Mutex<BTreeMap<TokenId, Open>>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Clone)]
struct Open {
    digest: Digest,
    user: String,
    address: String,
    since: Moment,
    used: Moment,
    since_unix_ms: u64,
}

impl Open {
    fn is_over(&self, now: Moment) -> bool {
        now.since(self.used) >= IDLE || now.since(self.since) >= LIFE
    }

    fn expires_unix_ms(&self) -> u64 {
        self.since_unix_ms.saturating_add(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Mutex::default(), changed: watch::channel(()).0 }
    }
}

impl Sessions {
    /// Opens one. The token is for the cookie and for nobody else.
    pub fn open(&self, user: &str, address: String, pin: Pin, now: Moment, now_unix_ms: u64) -> Token {
        let token = Token::fresh(Kind::Session, pin);
        let mut open = self.all();
        open.retain(|_, one| !one.is_over(now));
        let of_user = open.values().filter(|one| one.user == user).count();
        if of_user >= MAX_OF_USER || open.len() >= MAX_SESSIONS {
            let of_user = |one: &&Open| of_user < MAX_OF_USER || one.user == user;
            let oldest = open.iter().filter(|(_, one)| of_user(one)).min_by_key(|(_, one)| one.used).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        let one = Open {
            digest: token.secret.digest(),
            user: user.to_owned(),
            address,
            since: now,
            used: now,
            since_unix_ms: now_unix_ms,
        };
        open.insert(token.id, one);
        drop(open);
        self.changed.send_replace(());
        token
    }

    /// Whose session this is and when it ends; it is used by that.
    pub fn recognise(&self, text: &str, now: Moment) -> Option<(TokenId, String, u64)> {
        let token: Token = text.parse().ok().filter(|token: &Token| token.kind == Kind::Session)?;
        let mut open = self.all();
        let one = open.get_mut(&token.id).filter(|one| token.secret.matches(&one.digest) && !one.is_over(now))?;
        one.used = now;
        Some((token.id, one.user.clone(), one.expires_unix_ms()))
    }

    /// Whether it is open still.
    #[must_use]
    pub fn counts(&self, id: TokenId, now: Moment) -> bool {
        self.all().get(&id).is_some_and(|one| !one.is_over(now))
    }

    /// Ends one, at once and for open streams too.
    pub fn close(&self, id: TokenId) -> Option<String> {
        let closed = self.all().remove(&id).map(|one| one.user);
        self.changed.send_replace(());
        closed
    }

    /// Ends all of a user, but this one.
    pub fn close_all_of(&self, user: &str, but: Option<TokenId>) {
        self.all().retain(|id, one| one.user != user || Some(*id) == but);
        self.changed.send_replace(());
    }

    /// All that are open, the oldest first.
    #[must_use]
    pub fn list(&self, now: Moment) -> Vec<Session> {
        let open = self.all();
        let mut listed: Vec<_> = open
            .iter()
            .filter(|(_, one)| !one.is_over(now))
            .map(|(id, one)| Session {
                id: id.to_string(),
                user: one.user.clone(),
                address: one.address.clone(),
                since_unix_ms: one.since_unix_ms,
                idle_s: now.since(one.used).as_secs(),
                expires_unix_ms: one.expires_unix_ms(),
            })
            .collect();
        drop(open);
        listed.sort_by(|a, b| (a.since_unix_ms, &a.id).cmp(&(b.since_unix_ms, &b.id)));
        listed
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<TokenId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a page must send with each change: only a page of ours can have read it, and the cookie cannot be told from it.
#[must_use]
pub fn csrf(session: &str) -> SecretText {
    let text = format!("outrigger csrf 1 {session}");
    SecretText(hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()))
}

/// Whether a page has sent what it must. Digests are compared, so the time taken tells nothing about them.
#[must_use]
pub fn is_csrf(session: &str, given: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest(&csrf(session).0).as_ref() == digest(given).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(sessions: &Sessions, user: &str, now: u64) -> Token {
        sessions.open(user, "::1".into(), Pin([1; 32]), Moment(now), now)
    }

    fn user(sessions: &Sessions, token: &Token, now: u64) -> Option<String> {
        sessions.recognise(&token.reveal(), Moment(now)).map(|(_, user, _)| user)
    }

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_session_ends_when_it_is_not_used_and_in_any_case_after_its_life() {
        let sessions = Sessions::default();
        let (used, idle) = (open(&sessions, "ann", 0), open(&sessions, "bob", 0));
        for half_hours in 1..24 {
            assert_eq!(user(&sessions, &used, half_hours * HOUR / 2).as_deref(), Some("ann"), "{half_hours}");
        }
        assert_eq!(user(&sessions, &idle, 2 * HOUR), None);
        assert_eq!(user(&sessions, &used, 12 * HOUR), None);
        assert!(sessions.list(Moment(12 * HOUR)).is_empty());
    }

    #[test]
    fn only_the_whole_token_opens_a_session() {
        let sessions = Sessions::default();
        let token = open(&sessions, "ann", 0);
        let forged = Token { secret: Token::fresh(Kind::Session, Pin([1; 32])).secret, ..open(&sessions, "ann", 0) };
        assert_eq!(user(&sessions, &forged, 0), None);
        let api = token.reveal().replace("or1.session.", "or1.api.");
        assert_eq!(sessions.recognise(&api, Moment(0)), None);
        assert!(user(&sessions, &token, 0).is_some());
        sessions.close(token.id);
        assert_eq!(user(&sessions, &token, 0), None);
    }

    #[test]
    fn one_user_has_so_many_and_takes_no_place_of_others() {
        let sessions = Sessions::default();
        let (first, other) = (open(&sessions, "ann", 0), open(&sessions, "bob", 0));
        for second in 1..40 {
            open(&sessions, "ann", second);
        }
        assert_eq!(sessions.list(Moment(40)).len(), MAX_OF_USER + 1);
        assert!(user(&sessions, &first, 40).is_none() && user(&sessions, &other, 40).is_some());
        sessions.close_all_of("ann", None);
        assert_eq!(sessions.list(Moment(40)).len(), 1);
    }

    #[test]
    fn a_page_proves_that_it_is_ours_by_what_belongs_to_this_session() {
        assert!(is_csrf("a", &csrf("a").0));
        for wrong in ["", "a", &csrf("b").0, &csrf("a").0[1..]] {
            assert!(!is_csrf("a", wrong), "{wrong}");
        }
    }
}
