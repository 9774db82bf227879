//! The service network: who takes requests, and how each device does.

use serde::{Deserialize, Serialize};

/// The copies of a service that take requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndpointList {
    /// The service.
    pub service: String,
    /// Networks in which it is found by name.
    pub networks: Vec<String>,
    /// Ports that every device opens for it.
    pub published: Vec<Published>,
    /// The oldest first.
    pub endpoints: Vec<Endpoint>,
    /// Devices on which a published port could not be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenPort>,
}

/// A port that every device opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Published {
    /// On the devices.
    pub port: u16,
    /// Inside the containers.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A copy that takes requests, or finishes those it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Endpoint {
    /// Its replica, such as `shop/web.2`; none: it is no longer assigned and about to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// Number of the copy.
    pub placement: u64,
    /// Where it runs.
    pub device: String,
    /// Whether it takes new requests.
    pub state: EndpointState,
    /// Devices that it did not answer and that send it nothing for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ejected_by: Vec<String>,
}

/// Whether a copy takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It does.
    Ready,
    /// It finishes those it has: it is about to stop, or it is not sure that it runs and others are.
    Draining,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// A published port that could not be opened on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TakenPort {
    /// Where.
    pub device: String,
    /// Which.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Why, as the kernel says it.
    pub reason: String,
}

/// How the service network does on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceNetwork {
    /// Whether it holds the routes that the hub sent last.
    pub in_step: bool,
    /// Published ports that could not be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenPort>,
    /// Devices that it reaches through the hub only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relayed: Vec<String>,
    /// Replicas that did not answer it and get nothing from it for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ejected: Vec<String>,
    /// Why there is no service network; none: it works, or nothing needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Targets as Prometheus' HTTP service discovery has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScrapeGroup {
    /// Addresses with ports.
    pub targets: Vec<String>,
    /// Labels of these targets.
    pub labels: std::collections::BTreeMap<String, String>,
}
