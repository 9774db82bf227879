//! Assignments for the model.

use std::time::Duration;

use outrigger_protocol::{
    Assigned, Assignment, ContainerSpec, Epoch, FleetId, Generation, Goal, LossPolicy, PlacementId, ReplicaName, Stamp,
};

/// One copy of an assignment.
pub type Copy = ((PlacementId, ReplicaName), ContainerSpec, LossPolicy);

/// A plain specification.
pub fn spec() -> ContainerSpec {
    ContainerSpec { image: "web:1".into(), stop_grace: Duration::from_secs(10), ..ContainerSpec::default() }
}

/// A copy of a replica that has the same number.
pub fn one(placement: u64, spec: ContainerSpec) -> Copy {
    ((PlacementId(placement), format!("shop/web.{placement}").parse().unwrap()), spec, LossPolicy::Available)
}

/// An assignment of epoch 1.
pub fn assignment(generation: u64, copies: &[Copy]) -> Assignment {
    assignment_of(1, generation, copies, Goal::Run)
}

pub fn assignment_of(epoch: u32, generation: u64, copies: &[Copy], goal: Goal) -> Assignment {
    let mut assignment = Assignment {
        fleet: FleetId(0),
        stamp: Stamp { epoch: Epoch(epoch), generation: Generation(generation) },
        specs: Vec::new(),
        replicas: Vec::new(),
        networks: Vec::new(),
    };
    for ((placement, replica), spec, loss) in copies {
        let index = u32::try_from(assignment.specs.len()).unwrap();
        assignment.specs.push(spec.clone());
        assignment.replicas.push(Assigned {
            placement: *placement,
            replica: replica.clone(),
            spec: index,
            goal,
            loss: *loss,
        });
    }
    assignment
}
