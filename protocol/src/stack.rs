//! The specification of a stack: what the user wants, after the Compose file has been read and checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bytes, ContainerSpec, MilliCpu, NetworkSpec, Platform, ServiceName, StackName, Traffic};

/// What the user wants of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSpec {
    /// Its name.
    pub name: StackName,
    /// Its services, by name.
    pub services: Vec<ServiceSpec>,
    /// The networks that it defines, by name. Those of other stacks that its services join are not among them.
    pub networks: Vec<NetworkSpec>,
}

/// What the user wants of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name in the stack.
    pub name: ServiceName,
    /// How each of its containers is made.
    pub container: ContainerSpec,
    /// How many, or one everywhere.
    pub mode: Mode,
    /// What a device must have free for one copy.
    pub reservation: Reservation,
    /// All of them must hold on a device.
    pub constraints: Vec<Constraint>,
    /// `placement.preferences: spread`: values of these are evened out, the first first.
    pub spread: Vec<ConstraintKey>,
    /// Most copies on one device.
    pub max_per_device: Option<u32>,
    /// Platforms that the image exists for; none: not known (yet), the user's `platform:` alone decides.
    pub platforms: Option<Vec<Platform>>,
    /// What happens to a copy whose device is lost.
    pub loss: LossPolicy,
    /// Time of silence after which its device counts as lost; none: the fleet's.
    pub lost_after: Option<Duration>,
    /// Whether a copy with local volumes may start elsewhere without them.
    pub volume_move: VolumeMove,
    /// How changes are rolled out.
    pub update: UpdateConfig,
    /// Services that must be healthy (or started) before the first start of this one.
    pub depends_on: Vec<ServiceName>,
    /// Labels of the service itself (`deploy.labels`).
    pub labels: Vec<(String, String)>,
    /// How requests are spread over its copies.
    pub traffic: Traffic,
}

/// How many copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// So many, wherever there is room.
    Replicated(u32),
    /// One on every device that the filters allow.
    Global,
}

/// What a device must have free for one copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reservation {
    /// Processor time.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Generic resources and GPUs, by kind.
    pub generic: Vec<GenericResource>,
}

/// A countable thing that devices have by their configuration (`generic_resources`) or by what is attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GenericResource {
    /// Kind, such as `camera` or `gpu`.
    pub kind: String,
    /// How many.
    pub count: u32,
}

/// One rule of `placement.constraints`, such as `node.labels.zone == attic`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Constraint {
    /// What is compared.
    pub key: ConstraintKey,
    /// Whether the values must be equal (`==`) or must not (`!=`).
    pub equal: bool,
    /// With what.
    pub value: String,
}

/// What a constraint or a spread preference looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConstraintKey {
    /// `node.labels.KEY`: set by the operator.
    NodeLabel(String),
    /// `engine.labels.KEY`: set on the device.
    EngineLabel(String),
    /// `node.hostname` and `node.id`: the device's name.
    Name,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Arch,
    /// `node.role`: `manager` (where a hub runs) or `worker`. Agents are workers.
    Role,
}

/// What happens to a copy whose device is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LossPolicy {
    /// It is replaced at once; both may run until the device returns.
    Available,
    /// Never two: the device stops it when the lease runs out, and only then it is replaced.
    Exclusive {
        /// How long the device may run it without hearing the hub.
        lease: Duration,
    },
    /// It stays with its device and waits (`x-outrigger.on_device_loss: wait`).
    Wait,
}

/// Whether a copy with local volumes may start elsewhere without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeMove {
    /// It waits for its device and says so.
    Stay,
    /// The user allows the move; the data stays behind.
    Allow,
}

/// How changes are rolled out (`deploy.update_config`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Copies changed at a time; 0 is all.
    pub parallelism: u32,
    /// Wait between batches.
    pub delay: Duration,
    /// Whether the old copy stops before the new one starts.
    pub order: Order,
    /// What a copy that does not become healthy does to the roll.
    pub failure: UpdateFailure,
    /// How long a new copy must stay healthy to count.
    pub monitor: Duration,
}

impl Default for UpdateConfig {
    /// Compose's defaults: one at a time, stop first, pause on failure, watched for 5 s.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            order: Order::StopFirst,
            failure: UpdateFailure::Pause,
            monitor: Duration::from_secs(5),
        }
    }
}

/// Which of the two copies of a changing replica gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// The old one stops, then the new one starts.
    StopFirst,
    /// The new one is healthy, then the old one stops.
    StartFirst,
}

/// What a copy that does not become healthy does to the roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpdateFailure {
    /// The roll stops there and says so.
    Pause,
    /// It goes on.
    Continue,
}

/// Counts changes of one service's specification. Given by the hub when a stack is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);
