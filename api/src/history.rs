//! How a device's load was.

use serde::{Deserialize, Serialize};

/// Which part of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// How far back; an hour if not said.
    #[serde(default)]
    pub range: Range,
}

/// How far back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Range {
    /// The last hour, a value for every ten seconds.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// The last day, a value for every minute.
    #[serde(rename = "24h")]
    Day,
}

/// How a device's load was. Kept in memory: it begins with the hub's start, and with the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// The device.
    pub device: String,
    /// How far back.
    pub range: Range,
    /// Time between two values.
    pub step_s: u32,
    /// Time of the first value of every series.
    pub from_unix_ms: u64,
    /// One for each dimension; all of the same length.
    pub series: Vec<Series>,
}

/// How one dimension of the load was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Series {
    /// What.
    pub dimension: Dimension,
    /// Mean of each step, the oldest first; `null` where the device was not heard.
    pub values: Vec<Option<f64>>,
}

/// What of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Processor time used of all cores, in thousandths.
    CpuPermille,
    /// Memory that cannot be given away, in thousandths.
    MemoryPermille,
    /// Space used on the engine's file system, in thousandths.
    DiskPermille,
    /// Hottest sensor in degrees Celsius.
    TemperatureCelsius,
    /// Kilobytes per second received.
    RxKbps,
    /// Kilobytes per second sent.
    TxKbps,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}
