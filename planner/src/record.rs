//! What the store keeps. A record is a key with a value, or a key whose value is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_protocol::{
    DeviceName, Epoch, Facts, FleetId, Generation, LossPolicy, NetworkName, NetworkSpec, PlacementId, Platform,
    ReplicaName, Revision, ServiceName, ServiceRef, ServiceSpec, StackName,
};
use serde::{Deserialize, Serialize};

use crate::plan::Reason;
use crate::wish::Availability;

/// One entry of the store. Saving an entry twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub key: Key,
    /// Its content; none: it is deleted.
    pub value: Option<Value>,
}

/// Names an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The fleet itself.
    Meta,
    /// A stack.
    Stack(StackName),
    /// A service.
    Service(ServiceRef),
    /// A device.
    Device(DeviceName),
    /// A placed copy.
    Placement(PlacementId),
    /// What the registry says about an image.
    Image(String),
    /// A network.
    Network(NetworkName),
    /// A named volume on a device.
    Volume(String, DeviceName),
}

/// Content of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Of [`Key::Meta`].
    Meta(MetaRecord),
    /// Of [`Key::Stack`].
    Stack(StackRecord),
    /// Of [`Key::Service`].
    Service(Box<ServiceRecord>),
    /// Of [`Key::Device`].
    Device(Box<DeviceRecord>),
    /// Of [`Key::Placement`].
    Placement(Box<PlacementRecord>),
    /// Of [`Key::Image`].
    Image(Vec<Platform>),
    /// Of [`Key::Network`].
    Network(NetworkSpec),
    /// Of [`Key::Volume`]: the replicas whose containers have used it there, also those that are gone since.
    Volume(BTreeSet<ReplicaName>),
}

/// The fleet itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRecord {
    /// Epoch in which the numbers below count.
    pub epoch: Epoch,
    /// No placement has this number or a higher one. Reserved in blocks, so that it is not written for every copy.
    pub placements_below: PlacementId,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Its services, by name.
    pub services: Vec<ServiceName>,
    /// The networks that it defines, by name.
    pub networks: Vec<NetworkSpec>,
    /// When it was applied, for people.
    pub applied_unix_ms: Option<u64>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What is wanted.
    pub spec: ServiceSpec,
    /// Its revision.
    pub revision: Revision,
    /// The highest revision ever given: a service that returns to an older content returns to its number.
    pub newest: Revision,
    /// Earlier contents that copies still have.
    pub older: Vec<(Revision, ServiceSpec)>,
    /// Whether a copy was ever placed; until then it waits for what it depends on.
    pub released: bool,
    /// Why its roll is paused.
    pub paused: Option<String>,
    /// Whether it is gone, and only waits until exclusive copies have surely stopped.
    pub removed: bool,
    /// On which device each replica has its local volume.
    pub homes: BTreeMap<u32, DeviceName>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Labels that the operator has set.
    pub labels: BTreeMap<String, String>,
    /// Whether it is given work.
    pub availability: Availability,
    /// Generation of its assignment.
    pub generation: Generation,
    /// From which generation on it holds no exclusive copy that it must not: older holders get no lease.
    pub lease_from: Generation,
    /// The installation that has this name.
    pub machine: u128,
    /// What it said about itself last.
    pub facts: Option<Facts>,
    /// Whether it was lost when this was saved.
    pub lost: bool,
    /// The other fleet that it belongs to.
    pub foreign: Option<FleetId>,
}

/// A placed copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRecord {
    /// Of which service.
    pub service: ServiceRef,
    /// Of which replica.
    pub number: u32,
    /// On which device.
    pub device: DeviceName,
    /// With which content.
    pub revision: Revision,
    /// How far it is to go.
    pub stage: Stage,
    /// What its device was told to do with it when it hears nothing.
    pub loss: LossPolicy,
    /// Longest lease that its device was ever told for it.
    pub longest_lease: Duration,
    /// Why it is there.
    pub reason: Reason,
}

/// How far a placed copy is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Its image is pulled.
    Prepare,
    /// It runs.
    Run,
    /// It is to stop, and counts until it surely has: exclusive copies only.
    Stop,
}
