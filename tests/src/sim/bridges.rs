//! The networks of a model engine: they outlive the agent and the power, as Docker's do.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use outrigger_agent::core::{Outcome, Success};
use outrigger_agent::engine::{EngineError, Joined, Network, NetworkId, NewContainer};
use outrigger_agent::pool::Pool;
use outrigger_protocol::{FleetId, NetworkName, NetworkSpec};

/// The networks of one engine.
#[derive(Debug, Default)]
pub struct Bridges(BTreeMap<NetworkName, Network>);

impl Bridges {
    /// All of them.
    pub fn all(&self) -> Vec<Network> {
        self.0.values().cloned().collect()
    }

    /// Makes one; one that is there is as good.
    pub fn make(&mut self, spec: &NetworkSpec, fleet: FleetId) -> Outcome {
        if let Some(there) = self.0.get(&spec.name) {
            return Ok(Success::Made(Box::new(there.clone())));
        }
        let taken: Vec<_> = self.0.values().map(|one| (one.v4.base.into(), one.v4.prefix)).collect();
        let v4 = Pool::default().pick(spec.name.as_str(), &taken);
        let v4 = v4.map_err(|error| EngineError::Refused { reason: error.to_string() })?;
        let (id, bridge) = (NetworkId(spec.name.as_str().into()), format!("br-{}", spec.name));
        let network = Network { id, spec: spec.clone(), fleet: Some(fleet), bridge, v4, v6: None };
        self.0.insert(spec.name.clone(), network.clone());
        Ok(Success::Made(Box::new(network)))
    }

    /// Removes one.
    pub fn remove(&mut self, name: &NetworkName) -> Outcome {
        self.0.remove(name);
        Ok(Success::Done)
    }

    /// What the container with this number joins; none where a network of it is not there.
    pub fn join(&self, new: &NewContainer, number: u64) -> Option<Vec<Joined>> {
        let one = |network: &Network| {
            let offset = u32::try_from(number % 1_000).unwrap_or(0) + 2;
            let address = Ipv4Addr::from(u32::from(network.v4.base) + offset);
            Joined { network: Some(network.spec.name.clone()), addresses: vec![address.into()] }
        };
        new.spec.networks.iter().map(|attachment| self.0.get(&attachment.network).map(one)).collect()
    }
}
