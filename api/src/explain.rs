//! Why a replica is where it is, or waits.

use serde::{Deserialize, Serialize};

/// Why the replicas of a service are where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// What holds for the whole fleet at present, such as that nothing moves because too many devices are silent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Each replica asked about.
    pub replicas: Vec<ReplicaExplanation>,
}

/// Why one replica is where it is, or waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaExplanation {
    /// The replica.
    pub replica: String,
    /// What was decided.
    pub verdict: Verdict,
    /// Where it is placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why, in one sentence.
    pub reason: String,
    /// How its copy is, where that is worth saying: why it does not start, say, in its engine's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What spoke for its device when it was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub score: Vec<ScorePart>,
    /// Every device that cannot take it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// Every device that could take it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// A device that could take a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// The device.
    pub device: String,
    /// What speaks for it.
    pub score: Vec<ScorePart>,
}

/// What was decided for a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has a device.
    Placed,
    /// No device can take it.
    Pending,
    /// It could be placed, and waits on purpose: for its device, its lease, its turn, or what it depends on.
    Held,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// One part of a score. `spread` and `copies` count copies of the service that are there already (as negative points) and
/// decide first, in this order; the others are summed. More is better, and ties go to the smaller name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScorePart {
    /// What was looked at: `spread`, `copies`, `free`, `load`, `trouble` or `image`.
    pub name: String,
    /// What it gave.
    pub points: i64,
}

/// Why a device cannot take a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// The device.
    pub device: String,
    /// Why not, with the values compared.
    pub reason: String,
}
