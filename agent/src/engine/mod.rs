//! The seam to whatever runs containers. Two real implementations: [`docker`] (Docker Engine, and Podman's service, which
//! speaks the same API) and `memory` (for tests and large simulated fleets).
//!
//! What every implementation promises:
//! * it lists and touches only containers and networks with the label `outrigger.scope` of its own scope;
//! * every call ends: each is time-boxed, and an engine that hangs is an engine that is [`EngineError::Unreachable`];
//! * the engine itself restarts nothing. The agent does, because it knows back-off, leases and assignments;
//! * what it says about a failure is handed on verbatim.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    Arch, CgroupVersion, ContainerSpec, DeviceName, EngineKind, FleetId, LogChunk, Login, LogsRequest, LossPolicy,
    PlacementId, Platform, PortProtocol, ReplicaName,
};
use tokio::sync::{mpsc, watch};

pub mod docker;
mod error;
pub mod label;
pub mod memory;
mod network;

pub use error::EngineError;
pub use network::{Joined, Network, NetworkId, Networks, NewNetwork};

/// A container engine.
pub trait Engine: Send + Sync + 'static {
    /// What it is. Also serves as the question whether it answers.
    fn describe(&self) -> impl Future<Output = Result<Description, EngineError>> + Send;

    /// All containers of our scope, running or not.
    fn list(&self) -> impl Future<Output = Result<Vec<Container>, EngineError>> + Send;

    /// One container of our scope; none where it does not exist (any more) or is not ours.
    fn inspect(&self, id: &ContainerId) -> impl Future<Output = Result<Option<Container>, EngineError>> + Send;

    /// The digest of an image that is there, or none. An image that was built locally and never pushed has its id instead.
    fn image(&self, image: &str) -> impl Future<Output = Result<Option<String>, EngineError>> + Send;

    /// Pulls an image, whether or not it is there, and returns its digest. `progress` gets the sum of all layers.
    /// Dropping the future ends the pull. A login is shown to the registry, and kept nowhere.
    fn pull(
        &self,
        image: &str,
        platform: Option<Platform>,
        login: Option<&Login>,
        progress: watch::Sender<PullProgress>,
    ) -> impl Future<Output = Result<String, EngineError>> + Send;

    /// Removes an image by the reference by which it was pulled, if that still means `digest`. Nothing is
    /// removed by force: what a container of anybody is made from stays on the disk, even where it loses this name.
    fn remove_image(&self, image: &str, digest: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Makes the container of a placement and starts it; a leftover container of the same placement is taken over.
    /// Fails with [`EngineError::ImageNotFound`] where the image has to be pulled first: nobody asks before, because that
    /// would cost every start a round trip. A container that did not start is removed again.
    fn create_and_start(&self, new: &NewContainer) -> impl Future<Output = Result<ContainerId, EngineError>> + Send;

    /// Starts a container that has ended. One that runs already is left alone.
    fn start(&self, id: &ContainerId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Asks a container to end and kills it after `grace`; returns once it has ended. One that has ended, or is gone, is
    /// no error.
    fn stop(&self, id: &ContainerId, grace: Duration) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Kills a container if it runs and removes it with its anonymous volumes. One that is gone is no error.
    fn remove(&self, id: &ContainerId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The networks of our scope, and what addresses all networks take.
    fn networks(&self) -> impl Future<Output = Result<Networks, EngineError>> + Send;

    /// Makes a network. Fails with [`EngineError::AddressesTaken`] where another one has a part of its addresses.
    fn create_network(&self, new: &NewNetwork) -> impl Future<Output = Result<Network, EngineError>> + Send;

    /// Removes a network of ours that no container is in. One that is gone is no error.
    fn remove_network(&self, id: &NetworkId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Tells what happens to the containers of our scope, until nobody listens. Survives restarts of the engine: after
    /// each (re)connection it sends all networks and then the whole list first, because events of the gap are lost.
    fn watch(&self, events: mpsc::Sender<EngineEvent>) -> impl Future<Output = ()> + Send;

    /// Sends the output of a container, until its end (or for ever with `follow`), or until nobody listens. The channel's
    /// bound is what slows a chatty container down to the speed of its reader.
    fn logs(
        &self,
        id: &ContainerId,
        request: &LogsRequest,
        chunks: mpsc::Sender<LogChunk>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
}

/// The engine's name for a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub Arc<str>);

impl ContainerId {
    /// The first twelve characters, as people know them.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// What an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Which one.
    pub kind: EngineKind,
    /// Its version.
    pub version: String,
    /// Architecture that it pulls for; none where we do not know its word for it.
    pub arch: Option<Arch>,
    /// The cgroup interface that it uses.
    pub cgroup: CgroupVersion,
    /// Whether it can limit memory.
    pub memory_limit: bool,
    /// Where it keeps images and volumes.
    pub root_dir: Option<PathBuf>,
}

/// One container of ours as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's name for it.
    pub id: ContainerId,
    /// Which copy it is.
    pub placement: PlacementId,
    /// Whose it is, for a device that has lost its assignment; none where its label cannot be read.
    pub fleet: Option<FleetId>,
    /// Of which replica.
    pub replica: ReplicaName,
    /// What is to happen with it while the hub is not heard, for a device that has lost its assignment.
    pub loss: LossLabel,
    /// How far it is.
    pub state: ContainerState,
    /// Since when, in seconds since 1970; none where the engine does not say.
    pub since_unix: Option<i64>,
    /// The image as it was asked for.
    pub image: String,
    /// The image's digest as pulled, or its id where it was never pulled; empty where not known.
    pub digest: String,
    /// Ports as opened on the device: container port, host port, protocol.
    pub ports: Vec<(u16, u16, PortProtocol)>,
    /// First process, by which its cgroup is found; none while it does not run.
    pub pid: Option<u32>,
    /// The networks that it is in.
    pub joined: Vec<Joined>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started (or the start failed).
    Created,
    /// It runs.
    Running {
        /// What its healthcheck says.
        health: Health,
    },
    /// It has ended.
    Exited {
        /// Exit code; 128 + signal where one killed it.
        code: i64,
        /// Whether the kernel killed it for memory.
        out_of_memory: bool,
    },
    /// It is being removed, or could not be removed; it can only be removed again.
    Dead,
}

/// What a healthcheck says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There is no healthcheck.
    None,
    /// It has neither passed nor failed often enough.
    Starting,
    /// It passes.
    Healthy,
    /// It fails.
    Unhealthy,
}

/// The loss policy as a container's label holds it: a device without its assignment must still know what may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossLabel {
    /// `available`
    Available,
    /// `exclusive`
    Exclusive,
    /// `wait`
    Wait,
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    /// The device's name, for the container's environment.
    pub device: DeviceName,
    /// Which copy.
    pub placement: PlacementId,
    /// Of which fleet.
    pub fleet: FleetId,
    /// Of which replica.
    pub replica: ReplicaName,
    /// What happens to it while the hub is not heard.
    pub loss: LossLabel,
    /// How to make it.
    pub spec: Arc<ContainerSpec>,
    /// Name servers of the networks that it joins, for where its specification names none.
    pub name_servers: Vec<IpAddr>,
    /// Its secrets and configs, read-only, as the agent has put them there.
    pub files: Vec<FileBind>,
}

/// A secret or config of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBind {
    /// The file on the device.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that have arrived.
    pub done: u64,
    /// Bytes known to be wanted; grows while the layers become known.
    pub total: u64,
}

/// What an engine tells by itself.
#[allow(clippy::large_enum_variant, reason = "one at a time, and soon taken apart")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// All networks of our scope. Told before each [`EngineEvent::Listed`].
    Networks(Vec<Network>),
    /// The engine answers (again); these are all containers of our scope.
    Listed(Vec<Container>),
    /// One was made, started, ended, or its health changed. Always the state as of now, never a difference.
    Changed(Container),
    /// One was removed.
    Gone(ContainerId),
    /// The engine does not answer any more; what it said last. Sent once, then [`EngineEvent::Listed`] when it is back.
    Lost(String),
}

impl LossLabel {
    /// The label's text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Exclusive => "exclusive",
            Self::Wait => "wait",
        }
    }

    /// The label with this text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Available, Self::Exclusive, Self::Wait].into_iter().find(|label| label.text() == text)
    }
}

impl From<LossPolicy> for LossLabel {
    fn from(policy: LossPolicy) -> Self {
        match policy {
            LossPolicy::Available => Self::Available,
            LossPolicy::Exclusive { .. } => Self::Exclusive,
            LossPolicy::Wait => Self::Wait,
        }
    }
}

impl ContainerState {
    /// Whether its processes run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// The word of Docker, Podman and Compose for a port's transport.
#[must_use]
pub fn port_protocol_text(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}

/// The transport that such a word means.
#[must_use]
pub fn port_protocol(text: &str) -> Option<PortProtocol> {
    [PortProtocol::Tcp, PortProtocol::Udp, PortProtocol::Sctp].into_iter().find(|one| port_protocol_text(*one) == text)
}
