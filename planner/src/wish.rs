//! What the operator wants, and why a wish may be refused.

use std::collections::BTreeMap;

use outrigger_protocol::{
    DeviceName, FileRef, NetworkName, PlacementId, Platform, PortProtocol, ServiceRef, StackName, StackSpec,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Something that the operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// These services, and no others, in this stack.
    Apply {
        /// The stack.
        stack: StackSpec,
        /// When, for people; nothing is decided by it.
        applied_unix_ms: Option<u64>,
    },
    /// The stack and its copies are to go.
    RemoveStack(StackName),
    /// Another number of copies.
    Scale {
        /// Which service.
        service: ServiceRef,
        /// How many.
        replicas: u32,
    },
    /// Every copy is replaced by a new one, one after another, as an update would.
    Restart(ServiceRef),
    /// A paused roll goes on.
    Resume(ServiceRef),
    /// A label of a device.
    Label {
        /// The device.
        device: DeviceName,
        /// The label.
        key: String,
        /// Its value; none takes it away.
        value: Option<String>,
    },
    /// Whether a device is given work.
    Availability {
        /// The device.
        device: DeviceName,
        /// What it is given.
        availability: Availability,
    },
    /// Several things about several devices at once: all of it, or nothing.
    Devices {
        /// The devices.
        devices: Vec<DeviceName>,
        /// Labels; none takes one away.
        labels: BTreeMap<String, Option<String>>,
        /// What they are given; none: as before.
        availability: Option<Availability>,
    },
    /// The device is gone for good; its copies are replaced, and with a volume too.
    Forget(DeviceName),
    /// These devices are switched off or destroyed, whatever it looks like: safe mode, leases and grace do not wait
    /// for them. Empty: all that are silent now.
    ConfirmLoss(Vec<DeviceName>),
    /// The registry says for which platforms an image exists.
    ImagePlatforms {
        /// The image as written in the stack.
        image: String,
        /// Its platforms.
        platforms: Vec<Platform>,
    },
    /// A secret or config has a new content: whatever uses it is replaced, one copy after another, as an update would.
    FileChanged(FileRef),
}

/// Whether a device is given work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// It is.
    #[default]
    Active,
    /// It keeps what it has and gets nothing new.
    Cordon,
    /// What it has is moved away, started elsewhere first.
    Drain,
}

/// Why a wish is not fulfilled. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such stack.
    #[error("there is no stack `{0}`")]
    NoStack(StackName),
    /// No such service.
    #[error("there is no service `{0}`")]
    NoService(ServiceRef),
    /// No such device.
    #[error("there is no device `{0}`")]
    NoDevice(DeviceName),
    /// No such devices, of several that were named.
    #[error("there is no device {}; nothing was changed", listed(.0))]
    NoDevices(Vec<DeviceName>),
    /// No such copy.
    #[error("there is no copy {0}")]
    NoCopy(PlacementId),
    /// Scaling what runs once everywhere.
    #[error("`{0}` runs once on every suitable device and cannot be scaled")]
    Global(ServiceRef),
    /// More copies than are allowed.
    #[error("{wanted} copies of `{service}` are more than the {most} that one service may have")]
    TooMany {
        /// The service.
        service: ServiceRef,
        /// As wished.
        wanted: u32,
        /// As allowed.
        most: u32,
    },
    /// A stack that names a service twice.
    #[error("stack `{stack}` has two services `{service}`")]
    Twice {
        /// The stack.
        stack: StackName,
        /// The service.
        service: String,
    },
    /// A service that waits for one that is not there, or for itself.
    #[error("`{service}` depends on `{on}`, {why}")]
    Depends {
        /// The service.
        service: ServiceRef,
        /// What it names.
        on: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A service joins a network that nobody defines.
    #[error(
        "`{service}` joins the network `{network}`, which no stack defines; deploy the stack that defines it first, or take \
         `external: true` away"
    )]
    NoNetwork {
        /// The service.
        service: ServiceRef,
        /// The network.
        network: NetworkName,
    },
    /// Two stacks define one network.
    #[error(
        "the network `{network}` is defined by stack `{stack}` already; join it with `external: true`, or give yours another \
         name"
    )]
    NetworkTaken {
        /// The network.
        network: NetworkName,
        /// The other stack.
        stack: StackName,
    },
    /// A network would change under containers that are in it.
    #[error(
        "the network `{network}` cannot be changed while `{service}` is in it; give the changed one another name, or remove \
         the stack first"
    )]
    NetworkInUse {
        /// The network.
        network: NetworkName,
        /// A service in it.
        service: ServiceRef,
    },
    /// A network would go that another stack's service is in.
    #[error("stack `{stack}` lends the network `{network}` to `{to}`, which must go first")]
    NetworkLent {
        /// The network.
        network: NetworkName,
        /// The stack that defines it.
        stack: StackName,
        /// A service of another stack in it.
        to: ServiceRef,
    },
    /// A port that every device opens, and that another service has.
    #[error(
        "`{service}` cannot publish port {port}/{protocol}: `{by}` has it, and a port that every device opens leads to one service"
    )]
    PortTaken {
        /// The service.
        service: ServiceRef,
        /// The port.
        port: u16,
        /// TCP or UDP.
        protocol: PortProtocol,
        /// Who has it.
        by: ServiceRef,
    },
    /// Nothing to resume.
    #[error("no change of `{0}` is paused")]
    NotPaused(ServiceRef),
    /// A device that is still there cannot be forgotten.
    #[error("device `{0}` is connected; drain it and stop its agent first")]
    Connected(DeviceName),
}

fn listed(devices: &[DeviceName]) -> String {
    let names: Vec<String> = devices.iter().map(|device| format!("`{device}`")).collect();
    names.join(" or ")
}

/// Most copies of one service: a placement's number and a list of them must stay cheap.
pub const MAX_REPLICAS: u32 = 1_000_000;
