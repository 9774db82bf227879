//! What the API and the command line show of a fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_protocol::{
    BootId, Bytes, DeviceName, EngineState, Facts, FleetId, Load, MilliCpu, Moment, Observed, PlacementId, ReplicaName,
    Revision, ServiceRef, ServiceSpec, SessionNumber, StackName, Stamp, Usage,
};

use crate::plan::{Liveness, Reason, Waiting};
use crate::record::Stage;
use crate::wish::Availability;

/// A device as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView<'a> {
    /// Its name.
    pub name: &'a DeviceName,
    /// Whether it is there.
    pub liveness: Liveness,
    /// Why it is judged so.
    pub why: &'a str,
    /// Whether it is given work.
    pub availability: Availability,
    /// When it was heard last; none: not since the hub's start.
    pub heard_at: Option<Moment>,
    /// Silence after which it is lost: by the policy, or longer as learnt from its past gaps.
    pub lost_after: Duration,
    /// Labels that the operator has set.
    pub labels: &'a BTreeMap<String, String>,
    /// What it said about itself; none: nothing yet.
    pub facts: Option<&'a Facts>,
    /// Its engine as in its last status.
    pub engine: Option<&'a EngineState>,
    /// Processor time reserved by its copies.
    pub reserved_cpu: MilliCpu,
    /// Memory reserved by its copies.
    pub reserved_memory: Bytes,
    /// Copies assigned.
    pub replicas: u32,
    /// Of these, how many run and are healthy.
    pub running: u32,
    /// Its assignment's place in the order.
    pub stamp: Stamp,
    /// The assignment that it says it holds.
    pub held: Option<Stamp>,
    /// Its load as last reported.
    pub load: Option<Load>,
    /// Its boot and connection; none: not heard since the hub's start.
    pub session: Option<(BootId, SessionNumber)>,
    /// The other fleet that it belongs to; it is left alone then.
    pub foreign: Option<FleetId>,
}

/// A stack as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct StackView<'a> {
    /// Its name.
    pub name: &'a StackName,
    /// When it was applied last.
    pub applied_unix_ms: Option<u64>,
    /// Its services, by name.
    pub services: Vec<ServiceRef>,
}

/// A service as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceView<'a> {
    /// Its name.
    pub name: &'a ServiceRef,
    /// What is wanted.
    pub spec: &'a ServiceSpec,
    /// Its revision.
    pub revision: Revision,
    /// Copies wanted; of a global service one per suitable device.
    pub wanted: u32,
    /// Replicas of which a copy runs and is healthy.
    pub running: u32,
    /// Replicas that wait and of which no copy runs.
    pub pending: u32,
    /// How far its last change is.
    pub roll: RollView<'a>,
    /// Devices whose owners do not allow it, with what they say: the first few of them, by name.
    pub refused: Vec<(&'a DeviceName, &'a str)>,
}

/// How far a change of a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollView<'a> {
    /// Where it is.
    pub state: RollState,
    /// Replicas that have the present content and run.
    pub done: u32,
    /// Replicas that are to have it.
    pub total: u32,
    /// Why it pauses.
    pub reason: Option<&'a str>,
}

/// Where a roll is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RollState {
    /// Every copy has the present content.
    Done,
    /// Images are pulled; nothing has stopped yet.
    Preparing,
    /// Copies are changed.
    Rolling,
    /// A new copy did not become healthy.
    Paused,
}

/// A replica and its copies as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaView<'a> {
    /// Its name.
    pub name: ReplicaName,
    /// Why it waits, if it does.
    pub waiting: Option<&'a Waiting>,
    /// Its copies: the one that does the work, or is to, first.
    pub copies: Vec<CopyView<'a>>,
    /// Whether the first copy has the service's present content.
    pub up_to_date: bool,
}

/// A copy of a replica.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyView<'a> {
    /// Its number.
    pub placement: PlacementId,
    /// Of which replica.
    pub replica: ReplicaName,
    /// Where it is.
    pub device: &'a DeviceName,
    /// Whether its device is there.
    pub liveness: Liveness,
    /// With which content.
    pub revision: Revision,
    /// That content; the service's present one may be another.
    pub spec: &'a ServiceSpec,
    /// How far it is to go.
    pub stage: Stage,
    /// Why it is there.
    pub reason: &'a Reason,
    /// As its device saw it last; none: not heard of it yet.
    pub seen: Option<&'a Observed>,
    /// When that was told; add the time since to `since_s`.
    pub seen_at: Option<Moment>,
    /// What it uses, as last reported.
    pub usage: Option<Usage>,
}

/// The fleet in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Devices known.
    pub devices: u32,
    /// Of these, up.
    pub up: u32,
    /// Stacks.
    pub stacks: u32,
    /// Services.
    pub services: u32,
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas that run and are healthy.
    pub running: u32,
    /// Replicas that wait and of which no copy runs.
    pub pending: u32,
}
