//! Networks of the fleet as bridge networks of Docker or Podman.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bollard::models::{Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest};
use outrigger_protocol::{NetworkName, NetworkSpec};
use outrigger_proxy::control::Subnet;
use serde::Deserialize;
use tracing::info;

use super::super::{EngineError, Network, NetworkId, Networks, NewContainer, NewNetwork, label};
use super::ask::encode;
use super::{CHANGE, DockerConfig, DockerEngine, boxed};
use crate::pool;

/// What the engine's names of our networks begin with. A `shop_default` of Docker Compose may be on the device, too.
const PREFIX: &str = "outrigger_";
/// The option by which an interface gets its name, in both engines.
const BRIDGE: &str = "com.docker.network.bridge.name";
/// What bridges' names begin with; as those of Docker do, so that whoever leaves bridges alone leaves these alone.
const BRIDGE_PREFIX: &str = "br-or";

/// One of `/networks`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    id: String,
    name: String,
    internal: bool,
    labels: Option<HashMap<String, String>>,
    options: Option<HashMap<String, String>>,
    #[serde(rename = "IPAM")]
    ipam: Addresses,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Addresses {
    config: Option<Vec<Range>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Range {
    subnet: String,
    gateway: Option<String>,
}

/// The engine's name for a network: unique among the agents that share an engine.
pub(super) fn name(network: &NetworkName, config: &DockerConfig) -> String {
    format!("{}{network}", beginning(config))
}

/// The fleet's name for one of the engine's; none: it is not ours.
pub(super) fn fleets_name(name: &str, config: &DockerConfig) -> Option<NetworkName> {
    name.strip_prefix(&beginning(config))?.parse().ok()
}

fn beginning(config: &DockerConfig) -> String {
    if config.scope == config.device.as_str() { PREFIX.to_owned() } else { format!("{PREFIX}{}_", config.scope) }
}

/// An interface's name has 15 characters at most, so it cannot be the network's.
fn bridge(name: &str) -> String {
    format!("{BRIDGE_PREFIX}{:08x}", pool::spread(name))
}

impl DockerEngine {
    pub(super) async fn list_networks(&self) -> Result<Networks, EngineError> {
        let listed: Vec<Listed> = self.ask("/networks", "list networks").await?;
        let taken = listed.iter().flat_map(Listed::ranges).map(|(base, prefix, _)| (base, prefix)).collect();
        let ours = listed.iter().filter_map(|one| one.ours(&self.config)).collect();
        Ok(Networks { ours, taken })
    }

    pub(super) async fn make_network(&self, new: &NewNetwork) -> Result<Network, EngineError> {
        let name = name(&new.spec.name, &self.config);
        let bridge = bridge(&name);
        let labels = [
            (label::SCOPE, self.config.scope.clone()),
            (label::NETWORK, new.spec.name.to_string()),
            (label::FLEET, new.fleet.to_string()),
        ];
        let request = NetworkCreateRequest {
            name,
            driver: Some("bridge".to_owned()),
            internal: Some(new.spec.internal),
            ipam: Some(Ipam { config: Some(ranges(new)), ..Ipam::default() }),
            enable_ipv6: Some(new.v6.is_some()),
            options: Some(HashMap::from([(BRIDGE.to_owned(), bridge.clone())])),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            ..NetworkCreateRequest::default()
        };
        let made = boxed("create network", CHANGE, self.client()?.create_network(request)).await?;
        let id = NetworkId(made.id.into());
        Ok(Network { id, spec: new.spec.clone(), fleet: Some(new.fleet), bridge, v4: new.v4, v6: new.v6 })
    }

    pub(super) async fn remove_network_by(&self, id: &NetworkId) -> Result<(), EngineError> {
        match boxed("remove network", CHANGE, self.client()?.remove_network(&encode(&id.0))).await {
            Err(EngineError::NetworkNotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Joins the networks besides the first, which a container is made in. One that could not is removed again.
    pub(super) async fn join_others(&self, new: &NewContainer, id: &str) -> Result<(), EngineError> {
        for attachment in new.spec.networks.iter().skip(1) {
            let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: None };
            let name = encode(&name(&attachment.network, &self.config));
            let joined = boxed("connect network", CHANGE, self.client()?.connect_network(&name, request)).await;
            match joined {
                Ok(()) => (),
                // A leftover that is taken over is in it.
                Err(EngineError::Refused { reason }) if reason.contains("already exists in network") => (),
                Err(EngineError::Refused { reason }) if reason.contains("is already connected to network") => (),
                Err(error) => {
                    if let Err(left) = self.remove_by(id).await {
                        info!(container = id, error = %left, "a container that could not join its networks stays");
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The engine gives containers addresses of the lower half; the upper half is for virtual addresses.
fn ranges(new: &NewNetwork) -> Vec<IpamConfig> {
    let v4 = &new.v4;
    let range = |base: IpAddr, prefix: u8, lower: u8, gateway: IpAddr| IpamConfig {
        subnet: Some(format!("{base}/{prefix}")),
        ip_range: Some(format!("{base}/{lower}")),
        gateway: Some(gateway.to_string()),
        auxiliary_addresses: None,
    };
    let mut all = vec![range(v4.base.into(), v4.prefix, v4.virtual_prefix, v4.gateway.into())];
    all.extend(new.v6.as_ref().map(|v6| range(v6.base.into(), v6.prefix, v6.virtual_prefix, v6.gateway.into())));
    all
}

impl Listed {
    /// First address, length of the prefix, gateway.
    fn ranges(&self) -> impl Iterator<Item = (IpAddr, u8, Option<IpAddr>)> {
        self.ipam.config.iter().flatten().filter_map(|range| {
            let (base, prefix) = range.subnet.split_once('/')?;
            // IPv6 gateways may carry a prefix.
            let gateway = range.gateway.as_ref().and_then(|text| text.split('/').next()?.parse().ok());
            Some((base.parse().ok()?, prefix.parse().ok()?, gateway))
        })
    }

    /// What we have made, if it is ours and has the addresses that it must have.
    fn ours(&self, config: &DockerConfig) -> Option<Network> {
        let labels = self.labels.as_ref()?;
        if *labels.get(label::SCOPE)? != config.scope {
            return None;
        }
        let name: NetworkName = labels.get(label::NETWORK)?.parse().ok()?;
        let (mut v4, mut v6) = (None::<Subnet<Ipv4Addr>>, None::<Subnet<Ipv6Addr>>);
        for (base, prefix, gateway) in self.ranges() {
            match (base, gateway) {
                (IpAddr::V4(base), Some(IpAddr::V4(gateway))) => {
                    v4 = Some(Subnet { gateway, ..pool::v4_of(base, prefix) })
                }
                (IpAddr::V6(base), Some(IpAddr::V6(gateway))) => {
                    v6 = Some(Subnet { gateway, ..pool::v6_of(base, prefix) })
                }
                _ => (),
            }
        }
        let named = self.options.as_ref().and_then(|options| options.get(BRIDGE)).cloned();
        Some(Network {
            id: NetworkId(self.id.as_str().into()),
            spec: NetworkSpec { name, internal: self.internal, ipv6: v6.is_some() },
            fleet: labels.get(label::FLEET).and_then(|text| text.parse().ok()),
            bridge: named.unwrap_or_else(|| bridge(&self.name)),
            v4: v4?,
            v6,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Flavour;
    use super::*;
    use crate::policy::Policy;

    fn config(scope: &str) -> DockerConfig {
        DockerConfig {
            socket: "/x".into(),
            flavour: Flavour::Docker,
            scope: scope.to_owned(),
            device: "pi".parse().unwrap(),
            policy: Arc::new(Policy::default()),
            files: crate::files::FilesDir::of(std::path::Path::new("/run/x"), "pi", std::path::Path::new("/var/x")),
        }
    }

    #[test]
    fn a_network_is_ours_by_its_label_alone_and_keeps_the_addresses_that_it_has() {
        let text = r#"[{"Id": "a1", "Name": "outrigger_shop_default", "Internal": true,
            "Labels": {"outrigger.scope": "pi", "outrigger.network": "shop_default", "outrigger.fleet": "000000000000000000000000000f1ee7"},
            "Options": {"com.docker.network.bridge.name": "br-or1"},
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.212.8.0/21", "IPRange": "10.212.8.0/22", "Gateway": "10.212.8.1"},
                {"Subnet": "fd01::/64", "Gateway": "fd01::1"}]}},
            {"Id": "b2", "Name": "bridge", "Labels": {}, "Options": null, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}},
            {"Id": "c3", "Name": "host", "IPAM": {"Config": null}}]"#;
        let listed: Vec<Listed> = serde_json::from_str(text).unwrap();
        let ours: Vec<Network> = listed.iter().filter_map(|one| one.ours(&config("pi"))).collect();
        assert_eq!(ours.len(), 1);
        assert_eq!((ours[0].bridge.as_str(), ours[0].v4.gateway), ("br-or1", Ipv4Addr::new(10, 212, 8, 1)));
        assert_eq!(ours[0].v4.virtual_base, Ipv4Addr::new(10, 212, 12, 0));
        assert!(ours[0].spec.internal && ours[0].spec.ipv6);
        assert_eq!(listed.iter().filter_map(|one| one.ours(&config("other"))).count(), 0);
        assert_eq!(listed.iter().flat_map(Listed::ranges).count(), 3);
    }

    #[test]
    fn names_tell_agents_on_one_engine_apart_and_lead_back() {
        let network: NetworkName = "shop_default".parse().unwrap();
        for (scope, expected) in [("pi", "outrigger_shop_default"), ("demo", "outrigger_demo_shop_default")] {
            let name = name(&network, &config(scope));
            assert_eq!(name, expected);
            assert_eq!(fleets_name(&name, &config(scope)).as_ref(), Some(&network));
            assert!(bridge(&name).len() <= 15);
        }
        for foreign in ["bridge", "shop_default", "host"] {
            assert_eq!(fleets_name(foreign, &config("pi")), None, "{foreign}");
        }
    }
}
