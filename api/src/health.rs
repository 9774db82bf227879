//! Whether the hub works, and the fleet in one answer.

use serde::{Deserialize, Serialize};

/// Whether the hub works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Whether all checks hold.
    pub ok: bool,
    /// Version of the hub.
    pub version: String,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Check {
    /// `started`, `store` or `broker`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The fleet in one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fleet {
    /// Version of the hub.
    pub version: String,
    /// Counts takeovers and restores.
    pub epoch: u32,
    /// Seconds since the hub's start.
    pub uptime_s: u64,
    /// Why nothing is moved at present, if so: too many devices fell silent at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_mode: Option<String>,
    /// Devices known.
    pub devices: u32,
    /// Of these, heard and not overdue.
    pub devices_online: u32,
    /// Stacks.
    pub stacks: u32,
    /// Services.
    pub services: u32,
    /// Copies wanted.
    pub wanted: u32,
    /// Copies that run and are healthy.
    pub running: u32,
    /// Copies that no device can take at present.
    pub pending: u32,
    /// Number of the latest event; 0: none yet.
    pub last_event: u64,
}
