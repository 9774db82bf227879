//! What a device says about itself when it connects.

use serde::{Deserialize, Serialize};

use crate::{Arch, BootId, Bytes, FleetId, GenericResource, MilliCpu, SessionNumber, Stamp};

/// First message of every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The kernel's name for this boot.
    pub boot: BootId,
    /// This connection.
    pub session: SessionNumber,
    /// Random, made once per installation and kept beside the assignment: two machines that claim one name differ here.
    pub machine: u128,
    /// The fleet that the device belongs to: that of its assignment, else of its containers; none: it takes the first.
    pub fleet: Option<FleetId>,
    /// The assignment that the device holds; none before its first.
    pub held: Option<Stamp>,
    /// The device's wall clock in milliseconds since 1970; only to tell how wrong it is.
    pub unix_ms: u64,
    /// Heartbeat interval in milliseconds.
    pub heartbeat_ms: u32,
    /// What the device is.
    pub facts: Facts,
}

/// What a device is. Changes with a reboot or an upgrade, not with load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the agent.
    pub agent: String,
    /// Architecture as OCI names it.
    pub arch: Arch,
    /// Further architectures whose images it runs.
    pub also_runs: Vec<Arch>,
    /// Distribution and release, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Board from the device tree or DMI, such as `Raspberry Pi 4 Model B Rev 1.4`.
    pub board: Option<String>,
    /// Processor time that replicas may reserve.
    pub cpu: MilliCpu,
    /// Memory that replicas may reserve.
    pub memory: Bytes,
    /// The container engine.
    pub engine: Option<Engine>,
    /// Which cgroup interface the kernel offers.
    pub cgroup: CgroupVersion,
    /// Whether memory limits work.
    pub memory_limits: MemoryLimits,
    /// Labels from the device's own configuration (`engine.labels.*`).
    pub labels: Vec<(String, String)>,
    /// Countable things from the device's own configuration.
    pub generic: Vec<GenericResource>,
    /// What is attached.
    pub devices: Vec<AttachedDevice>,
    /// Whether the root file system is on an SD card or eMMC.
    pub root_on_flash: bool,
    /// Address by which others reach published ports; the one that its connection to the hub comes from.
    pub address: Option<std::net::IpAddr>,
    /// Port on which its proxy listens for other devices; none: it takes no part in the service network.
    pub mesh_port: Option<u16>,
    /// Changes with what the owner of the device allows; says nothing else. What was refused is tried again then.
    pub policy: u64,
}

/// A container engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Which one.
    pub kind: EngineKind,
    /// Its version.
    pub version: String,
}

/// Which container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineKind {
    /// Docker Engine
    Docker,
    /// Podman's service, which speaks the same API
    Podman,
    /// None: containers are entries in memory, for tests and simulated fleets
    Memory,
}

/// Which cgroup interface the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupVersion {
    /// One hierarchy per controller
    V1,
    /// The unified hierarchy
    V2,
    /// Neither was found
    Unknown,
}

/// Whether memory limits work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryLimits {
    /// They do.
    Work,
    /// The memory cgroup is switched off, as Raspberry Pi OS ships: `cgroup_enable=memory` is missing on the kernel's
    /// command line.
    Off,
}

/// Something attached to the device that a container may ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttachedDevice {
    /// What sort of thing.
    pub kind: DeviceKind,
    /// Its path, such as `/dev/ttyUSB0`.
    pub path: String,
}

/// Sorts of attached devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceKind {
    /// `/dev/video*`
    Video,
    /// `/dev/ttyUSB*`, `/dev/ttyACM*`
    Serial,
    /// `/dev/gpiochip*`
    Gpio,
    /// `/dev/i2c-*`
    I2c,
    /// `/dev/dri/*`
    Render,
    /// An NVIDIA or other compute GPU
    Gpu,
}
