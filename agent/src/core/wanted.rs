//! The assignment as the core works on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_protocol::{
    Assignment, ContainerSpec, FleetId, Goal, LossPolicy, NetworkName, NetworkSpec, PlacementId, ReplicaName, Stamp,
};

use super::action::ImageKey;
use crate::policy::{Policy, Refusal};

/// What this device is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose word it is.
    pub fleet: FleetId,
    /// Of which assignment.
    pub stamp: Stamp,
    /// Its copies.
    pub replicas: BTreeMap<PlacementId, WantedReplica>,
    /// The networks that they join.
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
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
    /// Why the owner of the device does not let it run, if so.
    pub refused: Option<Refusal>,
}

impl Wanted {
    /// What an assignment asks for, and the copies in it that make no sense: a faulty hub gave them a specification that
    /// is not there. They are skipped; the rest is obeyed, as far as the owner of the device lets it.
    #[must_use]
    pub fn of(assignment: &Assignment, policy: &Policy) -> (Self, Vec<PlacementId>) {
        let judged = |spec: &ContainerSpec| (Arc::new(spec.clone()), policy.refuses(spec));
        let specs: Vec<(Arc<ContainerSpec>, Option<Refusal>)> = assignment.specs.iter().map(judged).collect();
        let mut replicas = BTreeMap::new();
        let mut skipped = Vec::new();
        for one in &assignment.replicas {
            let Some((spec, refused)) = usize::try_from(one.spec).ok().and_then(|index| specs.get(index)) else {
                skipped.push(one.placement);
                continue;
            };
            let wanted = WantedReplica {
                replica: one.replica.clone(),
                spec: Arc::clone(spec),
                goal: one.goal,
                loss: one.loss,
                refused: refused.clone(),
            };
            replicas.insert(one.placement, wanted);
        }
        let networks = assignment.networks.iter().map(|network| (network.name.clone(), network.clone())).collect();
        (Self { fleet: assignment.fleet, stamp: assignment.stamp, replicas, networks }, skipped)
    }

    /// What the owner refuses now and did not before, with the reasons.
    #[must_use]
    pub fn refused_since(&self, before: &Self) -> Vec<(ReplicaName, String)> {
        let is_new = |placement: &PlacementId, one: &WantedReplica| {
            before.replicas.get(placement).is_none_or(|before| before.refused != one.refused)
        };
        let new = self.replicas.iter().filter(|(placement, one)| is_new(placement, one));
        new.filter_map(|(_, one)| Some((one.replica.clone(), one.refused.as_ref()?.reason.clone()))).collect()
    }

    /// Whether this copy is to run here.
    #[must_use]
    pub fn runs(&self, placement: PlacementId) -> bool {
        self.replicas.get(&placement).is_some_and(|one| one.goal == Goal::Run && !one.must_end())
    }

    /// The images of all its copies that may run.
    #[must_use]
    pub fn images(&self) -> BTreeSet<ImageKey> {
        self.replicas.values().filter(|one| one.refused.is_none()).map(WantedReplica::image).collect()
    }
}

impl WantedReplica {
    /// Whether it must not run, even if it does already.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.refused.as_ref().is_some_and(|refusal| refusal.stops)
    }

    /// The image that it is made from.
    #[must_use]
    pub fn image(&self) -> ImageKey {
        ImageKey { image: self.spec.image.clone(), platform: self.spec.platform }
    }
}
