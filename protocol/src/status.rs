//! What a device says about the replicas it runs, and that it goes away.

use serde::{Deserialize, Serialize};

use crate::{PlacementId, PortProtocol, ReplicaName, SessionNumber, Stamp};

/// All replicas that the device knows of. The only acknowledgement that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The connection that it was sent on.
    pub session: SessionNumber,
    /// Counts the statuses of that connection from 1. Each [`Report`](crate::Report) names the newest, so that one that
    /// was lost on the way is noticed.
    pub number: u32,
    /// The assignment that the device holds and works towards; none before its first.
    pub held: Option<Stamp>,
    /// The engine.
    pub engine: EngineState,
    /// Every replica that is held or has a container.
    pub replicas: Vec<Observed>,
    /// Images of the assignment that the engine has.
    pub images: Vec<String>,
}

/// Whether the container engine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineState {
    /// It answers.
    Up,
    /// It does not; what it said last.
    Down(String),
    /// Local storage has failed or is full: nothing new is started.
    StorageFailed(String),
}

/// One copy as its device sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which copy.
    pub placement: PlacementId,
    /// Of which replica; from the container's labels, so that orphans can be named.
    pub replica: ReplicaName,
    /// How far it is.
    pub phase: Phase,
    /// Restarts on this device so far, by back-off or by the engine.
    pub restarts: u32,
    /// Seconds since the phase began.
    pub since_s: u32,
    /// How the container ended last.
    pub last_exit: Option<ExitCause>,
    /// Container id, twelve characters; empty while there is none.
    pub container: String,
    /// The image's digest as pulled (`sha256:…`); empty while not known.
    pub digest: String,
    /// Ports as opened on the device: container port, host port, protocol.
    pub ports: Vec<(u16, u16, PortProtocol)>,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not begun: the engine is busy with others or does not answer.
    Waiting,
    /// The image is on its way.
    Pulling {
        /// Bytes that have arrived.
        done: u64,
        /// Bytes known to be wanted.
        total: u64,
    },
    /// The image is there; a copy to be prepared rests here.
    Prepared,
    /// The container is being made or starts, or has a healthcheck that has not passed yet.
    Starting,
    /// It runs, and its healthcheck (if any) passes.
    Running,
    /// It runs, and its healthcheck fails.
    Unhealthy,
    /// It ended and is started again after a pause.
    BackOff {
        /// Milliseconds left.
        retry_ms: u32,
        /// Why it cannot run, as the engine says it.
        reason: String,
    },
    /// It ended as it should and is not started again.
    Completed,
    /// It is given up here: attempts are spent, or it cannot work on this device.
    Failed {
        /// Why, as the engine says it.
        reason: String,
    },
    /// It is being stopped.
    Stopping,
    /// Its lease has run out, and it was stopped for that.
    LeaseOver,
    /// The owner of the device does not allow it. Nothing was pulled or made, and nothing changes before it asks for less or
    /// the owner allows more.
    Refused {
        /// What he does not allow, and how he could.
        reason: String,
    },
}

impl Phase {
    /// Whether it does its work now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitCause {
    /// By itself or by a signal, with this code.
    Exited(i64),
    /// The kernel killed it: it, or its device, had no memory left.
    OutOfMemory,
    /// It could not be made or started; the engine's words.
    NotStarted(String),
}

/// The device goes away on purpose, or (as the will of its connection) has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// The connection that ends. A will that comes late names an old one.
    pub session: SessionNumber,
    /// Why.
    pub reason: ByeReason,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByeReason {
    /// The broker lost the connection: the will.
    Lost,
    /// The agent restarts or is upgraded; containers go on.
    Restart,
    /// The device shuts down or reboots; containers stop.
    Shutdown,
    /// The device leaves the fleet.
    Leave,
}
