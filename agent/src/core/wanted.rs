//! The assignment as the core works on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_protocol::{Assignment, ContainerSpec, FleetId, Goal, LossPolicy, PlacementId, ReplicaName, Stamp};

use super::action::ImageKey;

/// What this device is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose word it is.
    pub fleet: FleetId,
    /// Of which assignment.
    pub stamp: Stamp,
    /// Its copies.
    pub replicas: BTreeMap<PlacementId, WantedReplica>,
}

/// One copy that this device is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedReplica {
    /// Its name.
    pub replica: ReplicaName,
    /// How its container is made.
    pub spec: Arc<ContainerSpec>,
    /// How far to go.
    pub goal: Goal,
    /// What happens to it when the hub is not heard.
    pub loss: LossPolicy,
}

impl Wanted {
    /// What an assignment asks for, and the copies in it that make no sense: a faulty hub gave them a specification that
    /// is not there. They are skipped; the rest is obeyed.
    #[must_use]
    pub fn of(assignment: &Assignment) -> (Self, Vec<PlacementId>) {
        let specs: Vec<Arc<ContainerSpec>> = assignment.specs.iter().cloned().map(Arc::new).collect();
        let mut replicas = BTreeMap::new();
        let mut skipped = Vec::new();
        for one in &assignment.replicas {
            let Some(spec) = usize::try_from(one.spec).ok().and_then(|index| specs.get(index)) else {
                skipped.push(one.placement);
                continue;
            };
            let wanted =
                WantedReplica { replica: one.replica.clone(), spec: Arc::clone(spec), goal: one.goal, loss: one.loss };
            replicas.insert(one.placement, wanted);
        }
        (Self { fleet: assignment.fleet, stamp: assignment.stamp, replicas }, skipped)
    }

    /// Whether this copy is to run here.
    #[must_use]
    pub fn runs(&self, placement: PlacementId) -> bool {
        self.replicas.get(&placement).is_some_and(|one| one.goal == Goal::Run)
    }

    /// The images of all its copies.
    #[must_use]
    pub fn images(&self) -> BTreeSet<ImageKey> {
        self.replicas.values().map(WantedReplica::image).collect()
    }
}

impl WantedReplica {
    /// The image that it is made from.
    #[must_use]
    pub fn image(&self) -> ImageKey {
        ImageKey { image: self.spec.image.clone(), platform: self.spec.platform }
    }
}
