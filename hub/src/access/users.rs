//! Users: people who log in with a browser. What a token is to a program, a user with his password is to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use outrigger_api::{Role, SecretText, User, UserRequest};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::warn;

use super::Scope;
use super::passwords::{PasswordProblem, Passwords};
use super::tokens::{TokenProblem, check_reach};
use crate::store::{Side, SideError, SideRecord, SideTables};

/// Name of their side table.
const TABLE: &str = "users";
/// Users at one time.
const MAX_USERS: usize = 1000;

/// What is kept of a user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// In PHC form: algorithm, costs, salt, hash.
    password: String,
    role: Role,
    /// None: for the whole fleet.
    stacks: Option<Vec<String>>,
    created_unix_ms: u64,
    created_by: String,
    password_unix_ms: u64,
}

/// Without the hash, which somebody could try passwords on.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("role", &self.role).field("stacks", &self.stacks).finish_non_exhaustive()
    }
}

/// A user who is not saved yet.
#[derive(Debug)]
pub struct Prepared {
    name: String,
    kept: Kept,
}

/// All users.
#[derive(Debug)]
pub struct Users {
    side: Side,
    kept: RwLock<BTreeMap<String, Kept>>,
    passwords: Passwords,
    /// Held while something is saved, so that two changes cannot rest on the same past.
    changing: Mutex<()>,
}

/// Why a user was not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UserProblem {
    /// The name or what he may do.
    #[error("{0}")]
    Malformed(String),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// He is there already.
    #[error("there is a user `{0}` already")]
    Taken(String),
    /// There are too many.
    #[error("there are {MAX_USERS} users already; remove some first")]
    TooMany,
    /// There is none.
    #[error("there is no user `{0}`")]
    None(String),
    /// The present password is another one.
    #[error("the present password is another one")]
    Wrong,
    /// It could not be saved.
    #[error(transparent)]
    Side(#[from] SideError),
}

impl Users {
    pub(super) fn load(saved: &SideTables, side: Side) -> Self {
        let mut kept = BTreeMap::new();
        for (name, value) in saved.get(TABLE).into_iter().flatten() {
            match serde_json::from_slice(value) {
                Ok(user) => drop(kept.insert(name.clone(), user)),
                Err(error) => warn!(user = name, %error, "a saved user cannot be read; he cannot log in"),
            }
        }
        Self { side, kept: RwLock::new(kept), passwords: Passwords::default(), changing: Mutex::new(()) }
    }

    /// All, by their names.
    #[must_use]
    pub fn list(&self) -> Vec<User> {
        self.kept().iter().map(|(name, kept)| shown(name, kept)).collect()
    }

    /// What this user may do; none if there is no such user.
    #[must_use]
    pub fn may(&self, name: &str) -> Option<(Role, Scope)> {
        let kept = self.kept();
        let found = kept.get(name)?;
        let scope = found.stacks.as_ref().map(|stacks| Scope::Stacks(stacks.iter().cloned().collect::<BTreeSet<_>>()));
        Some((found.role, scope.unwrap_or(Scope::Fleet)))
    }

    /// Whether somebody may make users.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        self.kept().values().any(|kept| kept.role == Role::Admin)
    }

    /// Whether this is the password of this user. Takes the same time where there is no such user.
    ///
    /// # Errors
    /// If too many log in at once.
    pub async fn knows(&self, name: &str, password: &SecretText) -> Result<bool, PasswordProblem> {
        let kept = self.kept().get(name).map(|kept| kept.password.clone());
        self.passwords.matches(password, kept).await
    }

    /// Checks a user to be, and hashes his password. Nothing is saved yet.
    ///
    /// # Errors
    /// If he cannot be so.
    pub async fn prepare(&self, request: &UserRequest, by: &str, now_unix_ms: u64) -> Result<Prepared, UserProblem> {
        let UserRequest { name, role, stacks, password } = request;
        check_reach("user", name, *role, stacks).map_err(|fault| match fault {
            TokenProblem::Malformed(text) => UserProblem::Malformed(text),
            other => UserProblem::Malformed(other.to_string()),
        })?;
        self.check_room(name)?;
        let kept = Kept {
            password: self.passwords.hash(password).await?,
            role: *role,
            stacks: (!stacks.is_empty()).then(|| stacks.clone()),
            created_unix_ms: now_unix_ms,
            created_by: by.to_owned(),
            password_unix_ms: now_unix_ms,
        };
        Ok(Prepared { name: name.clone(), kept })
    }

    /// Makes a user.
    ///
    /// # Errors
    /// If he cannot be so, or cannot be saved.
    pub async fn create(&self, request: &UserRequest, by: &str, now_unix_ms: u64) -> Result<User, UserProblem> {
        let prepared = self.prepare(request, by, now_unix_ms).await?;
        let _alone = self.changing.lock().await;
        self.check_room(&prepared.name)?;
        self.side.save_all(vec![prepared.record()]).await?;
        Ok(self.adopt(prepared))
    }

    fn check_room(&self, name: &str) -> Result<(), UserProblem> {
        let known = self.kept();
        if known.contains_key(name) {
            return Err(UserProblem::Taken(name.to_owned()));
        }
        if known.len() >= MAX_USERS { Err(UserProblem::TooMany) } else { Ok(()) }
    }

    /// A prepared user whose record was saved.
    pub fn adopt(&self, prepared: Prepared) -> User {
        let user = shown(&prepared.name, &prepared.kept);
        self.kept_to_change().insert(prepared.name, prepared.kept);
        user
    }

    /// Gives a user another password. With `old`: only if that is the present one.
    ///
    /// # Errors
    /// If there is none, he does not know the old one, or it cannot be saved.
    pub async fn set_password(
        &self,
        name: &str,
        new: &SecretText,
        old: Option<&SecretText>,
        now_unix_ms: u64,
    ) -> Result<User, UserProblem> {
        let none = || UserProblem::None(name.chars().take(64).collect());
        if self.may(name).is_none() {
            return Err(none());
        }
        if let Some(old) = old
            && !self.knows(name, old).await?
        {
            return Err(UserProblem::Wrong);
        }
        let password = self.passwords.hash(new).await?;
        let _alone = self.changing.lock().await;
        let known = self.kept().get(name).cloned().ok_or_else(none)?;
        let prepared =
            Prepared { name: name.to_owned(), kept: Kept { password, password_unix_ms: now_unix_ms, ..known } };
        self.side.save_all(vec![prepared.record()]).await?;
        Ok(self.adopt(prepared))
    }

    /// Removes a user.
    ///
    /// # Errors
    /// If there is none or that cannot be saved.
    pub async fn remove(&self, name: &str) -> Result<User, UserProblem> {
        let _alone = self.changing.lock().await;
        let known = self.kept().get(name).cloned();
        let known = known.ok_or_else(|| UserProblem::None(name.chars().take(64).collect()))?;
        self.side.save_all(vec![SideRecord { table: TABLE.into(), key: name.into(), value: None }]).await?;
        self.kept_to_change().remove(name);
        Ok(shown(name, &known))
    }

    fn kept(&self) -> RwLockReadGuard<'_, BTreeMap<String, Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_to_change(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Kept>> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prepared {
    /// What is to be saved.
    #[must_use]
    pub fn record(&self) -> SideRecord {
        // A user is texts and numbers: it always serialises.
        let value = serde_json::to_vec(&self.kept).ok();
        SideRecord { table: TABLE.to_owned(), key: self.name.clone(), value }
    }
}

fn shown(name: &str, kept: &Kept) -> User {
    User {
        name: name.to_owned(),
        role: kept.role,
        stacks: kept.stacks.clone().unwrap_or_default(),
        created_unix_ms: kept.created_unix_ms,
        created_by: kept.created_by.clone(),
        password_unix_ms: kept.password_unix_ms,
    }
}
