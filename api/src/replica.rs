//! Replicas: where each copy runs and how it is.

use serde::{Deserialize, Serialize};

/// Which replicas to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ReplicaQuery {
    /// Of this stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Of this service, such as `shop/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only what comes after this replica in the list; the `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// On this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplicaList {
    /// In the order of their services and numbers.
    pub replicas: Vec<Replica>,
    /// There is more: ask again with `after` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One wanted copy of a service: where it runs and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Replica {
    /// Its name, such as `shop/web.2`.
    pub name: String,
    /// Its service, such as `shop/web`.
    pub service: String,
    /// Which copy; from 1.
    pub number: u32,
    /// How it is.
    pub state: ReplicaState,
    /// Why it is so, where that is worth saying: why it waits, cannot run, or is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether owners of devices do not allow it and no other device can take it: nothing comes of waiting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Seconds since the state began, as the device says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// Whether it has the service's present specification.
    pub up_to_date: bool,
    /// The copy that does the work, or is to; none while no device can take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<PlacedCopy>,
    /// Further copies: one that is being replaced or prepared, or was left on a lost device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PlacedCopy>,
}

/// One placed copy of a replica on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlacedCopy {
    /// Names it for ever; of two copies of one replica the higher number is the newer. Hexadecimal.
    pub placement: String,
    /// Where.
    pub device: String,
    /// How far it is.
    pub state: ReplicaState,
    /// Why it is so, where that is worth saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The image as the user wrote it; left out for a copy with an older content than the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The service's revision that it was made from.
    pub revision: u64,
    /// Why it is on that device.
    pub reason: String,
    /// What was pulled: `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// With `pulling`: how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Container id, twelve characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Ports as opened on the device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Restarts on this device so far.
    pub restarts: u32,
    /// How its container ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Processor time used, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Memory used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// How a replica or a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// No device can take it at present.
    Pending,
    /// It is assigned; its device has not said anything about it yet.
    Assigned,
    /// Its device has it and has not begun.
    Waiting,
    /// The image is on its way.
    Pulling,
    /// The image is there, and it rests until its turn.
    Prepared,
    /// The container is being made, or its healthcheck has not passed yet.
    Starting,
    /// It runs, and its healthcheck (if any) passes.
    Running,
    /// It runs, and its healthcheck fails.
    Unhealthy,
    /// It ended and is started again after a pause.
    BackOff,
    /// It ended as it should.
    Completed,
    /// It is given up on that device.
    Failed,
    /// It is being stopped.
    Stopping,
    /// Its lease ran out, and it was stopped for that.
    LeaseOver,
    /// The owner of its device does not allow it there.
    Refused,
    /// Its device has not been heard since the hub's start: nobody knows how it is.
    Unknown,
    /// Its device is lost: nobody knows how it is.
    Lost,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pull {
    /// Bytes that have arrived.
    pub done_bytes: u64,
    /// Bytes known to be wanted; grows while layers are found.
    pub total_bytes: u64,
}

/// An opened port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// Port inside the container.
    pub container: u16,
    /// Port on the device; 0: the engine picks one.
    pub host: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exit {
    /// In which way.
    pub kind: ExitKind,
    /// With `exited`: the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// With `not_started`: the engine's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Ways in which a container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// By itself or by a signal.
    Exited,
    /// The kernel killed it: it, or its device, had no memory left.
    OutOfMemory,
    /// It could not be made or started.
    NotStarted,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}
