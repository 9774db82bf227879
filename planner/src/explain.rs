//! Why a replica is where it is, or waits.

use outrigger_protocol::{DeviceName, ReplicaName, ServiceRef};

use crate::plan::{Reason, Waiting};
use crate::score::Score;

/// Why the replicas of a service are where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The service.
    pub service: ServiceRef,
    /// What holds for all of it, such as that nothing moves or that its roll is paused.
    pub notes: Vec<String>,
    /// Each replica asked about, by number.
    pub replicas: Vec<ReplicaExplanation>,
}

/// Why one replica is where it is, or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaExplanation {
    /// The replica.
    pub replica: ReplicaName,
    /// Where it is and why, as decided then.
    pub placed: Option<(DeviceName, Reason)>,
    /// Why it waits.
    pub waiting: Option<Waiting>,
    /// What each device is worth to it now, or why it cannot take it; by name.
    pub devices: Vec<(DeviceName, Verdict)>,
}

/// What a device is worth to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can take it, and this speaks for it.
    Fits(Score),
    /// It cannot; why, with the values compared.
    Refused(String),
}
