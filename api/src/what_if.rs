//! What would become of a device's replicas if it were lost.

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// What would become of a device's replicas if it were lost now, as things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhatIfLost {
    /// The device.
    pub device: String,
    /// Silence after which it is lost.
    pub lost_after_ms: u64,
    /// Why nothing would move at all: too many devices would be silent at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_mode: Option<String>,
    /// Each replica that has a copy there, by name.
    pub replicas: Vec<IfLost>,
}

/// What would become of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IfLost {
    /// The replica.
    pub replica: String,
    /// What would become of it.
    pub outcome: IfLostOutcome,
    /// Where it would be started, or goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// So long after the device was heard last it would be started there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Why, in one sentence.
    pub reason: String,
    /// Where no device can take it: why not, of the first few devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
}

/// What would become of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum IfLostOutcome {
    /// It would be started on another device.
    Moves,
    /// It would wait.
    Waits,
    /// A copy on another device does its work already.
    GoesOn,
    /// Nothing: it has ended as it should.
    Done,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}
