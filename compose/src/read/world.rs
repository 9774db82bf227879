//! What a service may refer to: the rest of its stack.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Files;

/// The stack around a service.
pub(crate) struct World<'a> {
    /// Names of all services.
    pub(crate) services: BTreeSet<String>,
    /// Those left out because of their profiles.
    pub(crate) left_out: BTreeSet<String>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) networks: BTreeSet<String>,
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
