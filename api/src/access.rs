//! Who may do what: tokens, roles, the first administrator, and what was done.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a user or program may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything but secrets, and changes nothing.
    Viewer,
    /// Also runs things: stacks, services, devices' work.
    Operator,
    /// Also says who else may, which devices belong to the fleet, and takes backups.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// A secret on its way to or from its owner. It is shown once, in the one answer or request that carries it, and never by
/// `{:?}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For whom or what, such as `ci`.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Only for these stacks; empty: for the whole fleet. Not with `admin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<String>,
    /// How long it counts; 90 days if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// A token, without its secret: nobody can read that again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Tells it from others; the fourth part of its text.
    pub id: String,
    /// For whom or what.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Only for these stacks; empty: for the whole fleet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<String>,
    /// When it was made.
    pub created_unix_ms: u64,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_unix_ms: u64,
}

/// Tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenList {
    /// The oldest first.
    pub tokens: Vec<Token>,
}

/// A new token. Its text is in this answer and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    /// What to send as `Authorization: Bearer …`.
    pub secret: SecretText,
    /// What is known about it.
    pub token: Token,
}

/// The first administrator, or a new one with the leave of whoever has the hub's state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The code that the hub printed at its first start, or that `outrigger-hub setup-code` printed.
    pub code: SecretText,
    /// Name of the token to be made, such as that of the person.
    pub name: String,
    /// Also make a user of this name with this password, who can log in with a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretText>,
}

/// A new setup code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupCode {
    /// What `outrigger login --setup-code` takes.
    pub code: SecretText,
    /// When it ends.
    pub expires_unix_ms: u64,
}

/// Who the hub takes the bearer of a token for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// As the audit log names it.
    pub who: String,
    /// What it may do.
    pub role: Role,
    /// Only for these stacks; left out: for the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Vec<String>>,
    /// When its token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
}

/// A user to be made: somebody who logs in with a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Name to log in with.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// Only for these stacks; empty: for the whole fleet. Not with `admin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<String>,
    /// His password.
    pub password: SecretText,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    /// Name to log in with.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// Only for these stacks; empty: for the whole fleet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<String>,
    /// When he was made.
    pub created_unix_ms: u64,
    /// By whom.
    pub created_by: String,
    /// When he got his present password.
    pub password_unix_ms: u64,
}

/// Users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserList {
    /// By their names.
    pub users: Vec<User>,
}

/// A new password. All sessions of its user end, but the one that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The new one.
    pub password: SecretText,
    /// The present one; who changes his own must know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<SecretText>,
}

/// A browser logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Name of the user.
    pub user: String,
    /// His password.
    pub password: SecretText,
}

/// A browser is logged in. Its session is in a cookie that pages cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionOpened {
    /// Who.
    pub who: Whoami,
    /// To be sent as the header `X-Outrigger-Csrf` with each request that changes something.
    pub csrf: SecretText,
    /// The session ends when it is not used for so long.
    pub idle_s: u64,
}

/// A browser that is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Tells it from others.
    pub id: String,
    /// Who.
    pub user: String,
    /// From which address he logged in.
    pub address: String,
    /// When.
    pub since_unix_ms: u64,
    /// For how many seconds it has not been used.
    pub idle_s: u64,
    /// When it ends at the latest.
    pub expires_unix_ms: u64,
}

/// Browsers that are logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// The oldest first.
    pub sessions: Vec<Session>,
}

/// Which records of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only those with a greater number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// So many of the latest; 100 if not said, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Records of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditList {
    /// The oldest first.
    pub records: Vec<AuditRecord>,
}

/// One change, or an attempt at one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Its number, from 1 without a gap.
    pub number: u64,
    /// When.
    pub at_unix_ms: u64,
    /// Who: a token's name and id, or `local` for somebody with the hub's state folder.
    pub who: String,
    /// From which address.
    pub from: String,
    /// What was asked: method and path.
    pub what: String,
    /// More about it, never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The HTTP status of the answer: below 300 it was done.
    pub status: u16,
    /// SHA-256 of the record before, as it stands in the file; 64 zeros for the first.
    pub previous: String,
}

/// Whether the audit log is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditCheck {
    /// Whether it is.
    pub ok: bool,
    /// Records that were read.
    pub records: u64,
    /// What is wrong, with its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_mistake() {
        let request =
            SetupRequest { code: SecretText("or1.setup.x.y.canary".into()), name: "ann".into(), password: None };
        assert!(!format!("{request:?}").contains("canary"));
    }

    #[test]
    fn roles_stand_in_their_order() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
