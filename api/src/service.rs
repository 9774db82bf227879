//! Services: what is wanted and how far it is.

use serde::{Deserialize, Serialize};

use crate::Port;

/// Services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceList {
    /// In the order of their names.
    pub services: Vec<Service>,
}

/// A service and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    /// Stack and name, such as `shop/web`.
    pub name: String,
    /// Its stack.
    pub stack: String,
    /// Image as the user wrote it.
    pub image: String,
    /// How many copies there are to be.
    pub mode: ServiceMode,
    /// Copies wanted now; of a global service one per suitable device.
    pub wanted: u32,
    /// Copies that run and are healthy.
    pub running: u32,
    /// Copies that no device can take at present.
    pub pending: u32,
    /// Ports as the Compose file publishes them; host port 0 where the engine picks one.
    pub ports: Vec<Port>,
    /// What happens to a copy whose device is lost: `available`, `exclusive` or `wait`.
    pub on_device_loss: String,
    /// Counts changes of its specification.
    pub revision: u64,
    /// How far the last change is.
    pub update: Update,
    /// Devices whose owners do not allow its present content: the first few of them, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<crate::Refusal>,
    /// What keeps requests from it, such as a published port that is taken on a device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How many copies there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceMode {
    /// A number.
    Replicated,
    /// One on every suitable device.
    Global,
}

/// How far the last change of a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Update {
    /// Where it is.
    pub state: UpdateState,
    /// Copies that have the present specification and run.
    pub done: u32,
    /// Copies that are to have it.
    pub total: u32,
    /// With `paused`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a change of a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Every copy has the present specification.
    Done,
    /// The new image is pulled; nothing has stopped yet.
    Preparing,
    /// Copies are being changed.
    Rolling,
    /// A new copy did not become healthy, and the rest keep what they have.
    Paused,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// How many copies there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// So many.
    pub replicas: u32,
}

/// Answer to a change of the number of copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScaleResponse {
    /// The service.
    pub service: String,
    /// Copies that were wanted.
    pub before: u32,
    /// Copies that are wanted.
    pub after: u32,
}

/// Answer to a restart: the copies are replaced one after another, as a change of the service would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Restarted {
    /// The service.
    pub service: String,
    /// The revision that all copies will have when it is over.
    pub revision: u64,
}
