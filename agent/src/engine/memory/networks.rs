//! The networks of an engine in memory: names and addresses collide as they do in a real one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use outrigger_protocol::{Attachment, NetworkName};

use super::super::{Container, EngineError, Joined, Network, NetworkId, Networks, NewNetwork};
use super::world::World;

/// All networks.
#[derive(Debug, Default)]
pub(super) struct Bridges(BTreeMap<NetworkName, Network>);

impl Bridges {
    /// Whether all of these are there.
    pub(super) fn check(&self, wanted: &[Attachment]) -> Result<(), EngineError> {
        match wanted.iter().find(|one| !self.0.contains_key(&one.network)) {
            None => Ok(()),
            Some(missing) => {
                Err(EngineError::NetworkNotFound { reason: format!("network {} not found", missing.network) })
            }
        }
    }

    /// The networks of the container with this number, which gets the address of that number in each.
    pub(super) fn join(&self, wanted: &[Attachment], number: u64) -> Vec<Joined> {
        let one = |network: &Network| {
            // Behind the gateway, and never beyond the half for containers.
            let offset = u32::try_from(number % 1_000).unwrap_or(0) + 2;
            let v4 = Ipv4Addr::from(u32::from(network.v4.base) + offset);
            let v6 = network.v6.map(|v6| Ipv6Addr::from(u128::from(v6.base) + u128::from(offset)));
            let addresses = std::iter::once(IpAddr::from(v4)).chain(v6.map(IpAddr::from)).collect();
            Joined { network: Some(network.spec.name.clone()), addresses }
        };
        wanted.iter().filter_map(|attachment| self.0.get(&attachment.network)).map(one).collect()
    }
}

impl World {
    pub(super) fn networks(&self) -> Networks {
        self.with_bridges(|bridges, _| {
            let taken = bridges.0.values().map(|one| (IpAddr::from(one.v4.base), one.v4.prefix)).collect();
            Networks { ours: bridges.0.values().cloned().collect(), taken }
        })
    }

    pub(super) fn create_network(&self, new: &NewNetwork) -> Result<Network, EngineError> {
        self.with_bridges(|bridges, _| {
            let name = &new.spec.name;
            if bridges.0.contains_key(name) {
                return Err(EngineError::Refused { reason: format!("network with name {name} already exists") });
            }
            if bridges.0.values().any(|other| other.v4.base == new.v4.base) {
                let reason = "Pool overlaps with other one on this address space".to_owned();
                return Err(EngineError::AddressesTaken { reason });
            }
            let id = NetworkId(format!("{name}-{}", bridges.0.len()).into());
            let (spec, fleet) = (new.spec.clone(), Some(new.fleet));
            let network = Network { id, spec, fleet, bridge: format!("br-{name}"), v4: new.v4, v6: new.v6 };
            bridges.0.insert(name.clone(), network.clone());
            Ok(network)
        })
    }

    pub(super) fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        self.with_bridges(|bridges, containers| {
            let Some(name) = bridges.0.values().find(|one| one.id == *id).map(|one| one.spec.name.clone()) else {
                return Ok(());
            };
            let is_in = |container: &&Container| container.joined.iter().any(|one| one.network.as_ref() == Some(&name));
            if let Some(container) = containers.iter().find(is_in) {
                let reason = format!("network {name} has active endpoints: {}", container.replica);
                return Err(EngineError::Refused { reason });
            }
            bridges.0.remove(&name);
            Ok(())
        })
    }
}
