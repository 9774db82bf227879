//! What a service may refer to: the rest of its stack.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::NetworkName;

use super::files::Files;

/// The stack around a service.
pub(crate) struct World<'a> {
    /// Names of all services.
    pub(crate) services: BTreeSet<String>,
    /// Those left out because of their profiles.
    pub(crate) left_out: BTreeSet<String>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) networks: BTreeMap<String, Network>,
    /// Secrets and configs.
    pub(crate) files: Files<'a>,
}

/// A named volume of the stack.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// The engine's name for it.
    pub(crate) name: String,
    pub(crate) driver: Option<String>,
    pub(crate) options: Vec<(String, String)>,
}

/// A network that services of the stack may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its name in the fleet.
    pub(crate) name: NetworkName,
    pub(crate) internal: bool,
    pub(crate) ipv6: bool,
    /// Whether another stack defines it.
    pub(crate) external: bool,
}
