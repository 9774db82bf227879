//! Devices: what each is, how it is, and what the operator says about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceList {
    /// In the order of their names.
    pub devices: Vec<Device>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether it is heard.
    pub state: DeviceState,
    /// Why it is in that state, where that is worth saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether it is given work.
    pub availability: Availability,
    /// Milliseconds since it was heard last; none: not since the hub's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms_ago: Option<u64>,
    /// Silence after which it counts as lost, learnt from its past gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after_ms: Option<u64>,
    /// Labels that the operator has set.
    pub labels: BTreeMap<String, String>,
    /// Labels from the device's own configuration.
    pub engine_labels: BTreeMap<String, String>,
    /// Architecture as OCI names it, such as `arm64`; none: the device has not said what it is yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Distribution and release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Board, such as `Raspberry Pi 4 Model B Rev 1.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Address by which others reach published ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The container engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineView>,
    /// Processor time that replicas may reserve, in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory that replicas may reserve.
    pub memory_bytes: u64,
    /// What its replicas have reserved.
    pub reserved: Reserved,
    /// Countable things that it has, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generic: BTreeMap<String, u32>,
    /// What is attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<Attached>,
    /// Copies assigned to it.
    pub replicas: u32,
    /// Of these, how many run.
    pub running: u32,
    /// Whether it holds the assignment that the hub made for it last.
    pub in_step: bool,
    /// Its load as last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// How the service network does there; none: the device takes no part in it, or has not said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<crate::DeviceNetwork>,
    /// Why it is kept out until it is approved or joins anew; none: it may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// What the operator should look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<DeviceWarning>,
}

/// Whether a device is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It is.
    Online,
    /// It should have been heard by now. Nothing moves yet.
    Suspect,
    /// It is not, for so long that its replicas are replaced.
    Lost,
    /// It has said that it restarts or shuts down.
    Away,
    /// The hub has started and has not heard it since; nothing moves for that alone.
    Unheard,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// Whether a device is given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It is.
    Active,
    /// It keeps what it has and gets nothing new.
    Cordon,
    /// What it has is moved away, gently.
    Drain,
}

/// A container engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EngineView {
    /// `docker`, `podman` or `memory`.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Whether it answers and can store.
    pub up: bool,
    /// If not: what it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What replicas have reserved on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reserved {
    /// Processor time in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_bytes: u64,
}

/// Something attached that a container may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attached {
    /// `video`, `serial`, `gpio`, `i2c`, `render` or `gpu`.
    pub kind: String,
    /// Its path, such as `/dev/ttyUSB0`.
    pub path: String,
}

/// How loaded a device is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Load {
    /// Processor time used of all cores.
    pub cpu_permille: u16,
    /// Memory that cannot be given away.
    pub memory_permille: u16,
    /// Swap used.
    pub swap_permille: u16,
    /// Space used on the engine's file system.
    pub disk_permille: u16,
    /// Load average of one minute.
    pub load1: f64,
    /// Kilobytes per second received.
    pub rx_kbps: u32,
    /// Kilobytes per second sent.
    pub tx_kbps: u32,
    /// Hottest sensor in degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f64>,
    /// Whether the board slows itself down at present, for heat or for a weak supply.
    pub throttled: bool,
    /// Whether its supply is too weak at present.
    pub undervoltage: bool,
}

/// Something that the operator of a device should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceWarning {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Answer to the removal of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Forgotten {
    /// The device.
    pub device: String,
    /// Replicas that had a copy there; they are placed elsewhere where something can take them.
    pub replicas: Vec<String>,
}

/// Devices that are switched off or destroyed, whatever it looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LossConfirmation {
    /// Which; empty: all that are silent now.
    #[serde(default)]
    pub devices: Vec<String>,
}

/// A change of what the operator says about a device. What is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    /// Whether it is given work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// Labels to set; `null` takes one away. Others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
}

/// The same changes of several devices at once: all of them, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DevicesChange {
    /// Their names.
    pub devices: Vec<String>,
    /// Whether they are given work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// Labels to set; `null` takes one away. Others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
}
