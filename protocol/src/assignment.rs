//! What a device is told to run.

use serde::{Deserialize, Serialize};

use crate::{ContainerSpec, Epoch, FleetId, LossPolicy, NetworkSpec, PlacementId, ReplicaName, SessionNumber, Stamp};

/// Everything that one device must run: the whole, never a change. What is not in it is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose word it is. A device that belongs to another fleet refuses it.
    pub fleet: FleetId,
    /// Its place in the order of assignments.
    pub stamp: Stamp,
    /// The containers' specifications, each once however many copies it has.
    pub specs: Vec<ContainerSpec>,
    /// The copies, in the order of their names.
    pub replicas: Vec<Assigned>,
    /// The networks that its containers join, by name.
    pub networks: Vec<NetworkSpec>,
}

/// One copy that a device must run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Which copy. Its specification never changes; a changed one is another placement.
    pub placement: PlacementId,
    /// Of which replica.
    pub replica: ReplicaName,
    /// Index into [`Assignment::specs`].
    pub spec: u32,
    /// How far to go.
    pub goal: Goal,
    /// What the device does with it when it hears nothing.
    pub loss: LossPolicy,
}

/// How far a copy is to be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Goal {
    /// Its image is pulled; nothing runs.
    Prepare,
    /// It runs.
    Run,
}

impl Assignment {
    /// The specification of one of its copies; none where a faulty hub sent a wrong index.
    #[must_use]
    pub fn spec_of(&self, assigned: &Assigned) -> Option<&ContainerSpec> {
        self.specs.get(usize::try_from(assigned.spec).ok()?)
    }
}

/// Renews the lease on all exclusive replicas of a device, in answer to one of its reports.
///
/// The device counts the time from when it *sent* that report, the hub from when it *answered*, which is later: so the
/// device's lease always ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The hub's epoch; a lower one than the agent has seen renews nothing.
    pub epoch: Epoch,
    /// The connection that the report came on.
    pub session: SessionNumber,
    /// The report that this answers.
    pub sequence: u32,
}
