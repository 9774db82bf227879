//! Secrets, configs and logins of registries: set, listed, removed, and never given back.

use serde::{Deserialize, Serialize};

use crate::SecretText;

/// A secret or config to be set. Nobody can read it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// Its content, in base64 (RFC 4648, with padding).
    pub content: SecretText,
}

/// A secret or config, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredFile {
    /// Its name.
    pub name: String,
    /// The stack whose Compose file says what is in it; none: it was set by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// When it was set last.
    pub set_unix_ms: u64,
    /// By whom.
    pub set_by: String,
    /// Services that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// Whether the hub can decrypt it; if not, it was restored without its key, and it must be set again.
    pub readable: bool,
}

/// Secrets or configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredFileList {
    /// Sorted by name.
    pub files: Vec<StoredFile>,
}

/// A login for a registry. Nobody can read its password again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RegistryLoginRequest {
    /// The name there.
    pub username: String,
    /// The password, or a token.
    pub password: SecretText,
}

/// A login for a registry, without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistryLogin {
    /// The registry, as images name it.
    pub registry: String,
    /// The name there.
    pub username: String,
    /// When it was set.
    pub set_unix_ms: u64,
    /// By whom.
    pub set_by: String,
    /// Whether the hub can decrypt it.
    pub readable: bool,
}

/// Logins for registries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistryLoginList {
    /// Sorted by registry.
    pub registries: Vec<RegistryLogin>,
}
