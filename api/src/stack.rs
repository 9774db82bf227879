//! Stacks: applying, planning, listing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Diagnostic, Service};

/// A Compose project as the user has it; the hub reads it.
///
/// The client first sends the Compose files alone. Where they refer to others or to variables, the answer is a `Problem` of
/// kind `missing_input` that names them, and the client sends again with these: nothing else leaves the user's machine.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// Which of `files` is the Compose file.
    pub main: String,
    /// Further Compose files among `files`: each is merged over those before it, as Docker Compose merges them. Paths in
    /// them are relative to `main`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// Profiles that are active; `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Texts by path, as the Compose file refers to them. `null`: there is no such file.
    pub files: BTreeMap<String, Option<String>>,
    /// Variables for interpolation by name. `null`: the user has not set it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Option<String>>,
}

/// Names only: contents of files and variables may be secrets.
impl fmt::Debug for ApplyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { main, overrides, profiles, files, variables } = self;
        f.debug_struct("ApplyRequest")
            .field("main", main)
            .field("overrides", overrides)
            .field("profiles", profiles)
            .field("files", &files.keys())
            .field("variables", &variables.keys())
            .finish()
    }
}

/// What applying a stack changed, or (of `plan`) would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApplyResponse {
    /// The stack.
    pub stack: String,
    /// Whether nothing was changed, because this is the answer of `plan`.
    pub dry_run: bool,
    /// What the user should know about the file.
    pub warnings: Vec<Diagnostic>,
    /// Every service of the stack, and those that are gone from it.
    pub services: Vec<ServiceChange>,
    /// Of `plan`: where each replica would run. Empty otherwise: ask for the stack or its replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<PlannedReplica>,
}

/// What happens to one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceChange {
    /// Name within the stack.
    pub name: String,
    /// What happens.
    pub change: ServiceChangeKind,
    /// Copies wanted from now on; none for a service that runs once on every suitable device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// With `changed`: which parts are new, such as `image` or `environment`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

/// What happens to a service when its stack is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceChangeKind {
    /// It is new.
    Created,
    /// It gets new copies, or another number of them.
    Changed,
    /// It stays as it is.
    Unchanged,
    /// It is no longer in the file, and its copies are stopped.
    Removed,
}

/// Where a replica would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedReplica {
    /// The replica.
    pub replica: String,
    /// On which device; none: it would wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why there, or why it would wait.
    pub reason: String,
}

/// Answer of `POST /v1/compose/check`, for a file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckResponse {
    /// The stack that it would be.
    pub stack: String,
    /// Its services.
    pub services: Vec<String>,
    /// What the user should know about the file.
    pub warnings: Vec<Diagnostic>,
}

/// All stacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StackList {
    /// In the order of their names.
    pub stacks: Vec<StackSummary>,
}

/// A stack in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StackSummary {
    /// Its name.
    pub name: String,
    /// Number of its services.
    pub services: u32,
    /// Copies wanted.
    pub wanted: u32,
    /// Copies that run and are healthy.
    pub running: u32,
    /// Copies that no device can take at present.
    pub pending: u32,
    /// When it was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_unix_ms: Option<u64>,
}

/// A stack with its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// When it was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_unix_ms: Option<u64>,
    /// Its services, in the order of their names.
    pub services: Vec<Service>,
}

/// Answer to the removal of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Removed {
    /// What was removed.
    pub name: String,
    /// Services that it had. Their copies are stopped by their devices after this answer; volumes stay.
    pub services: Vec<String>,
}
