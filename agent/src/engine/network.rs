//! Networks of the fleet as an engine has them: bridge networks with our label.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use outrigger_protocol::{FleetId, NetworkName, NetworkSpec};
use outrigger_proxy::control::Subnet;

/// The engine's name for a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub Arc<str>);

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The engine's name for it.
    pub id: NetworkId,
    /// What it is.
    pub spec: NetworkSpec,
    /// Whose it is; none where its label cannot be read.
    pub fleet: Option<FleetId>,
    /// The bridge's interface.
    pub bridge: String,
    /// Its addresses of IPv4.
    pub v4: Subnet<Ipv4Addr>,
    /// Its addresses of IPv6, where it has them.
    pub v6: Option<Subnet<Ipv6Addr>>,
}

/// What a network is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNetwork {
    /// What it is.
    pub spec: NetworkSpec,
    /// Whose it is.
    pub fleet: FleetId,
    /// Its addresses of IPv4.
    pub v4: Subnet<Ipv4Addr>,
    /// Its addresses of IPv6, where it has them.
    pub v6: Option<Subnet<Ipv6Addr>>,
}

/// All networks of an engine, as far as they concern us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Those of our scope.
    pub ours: Vec<Network>,
    /// The subnets of all, each with the length of its prefix: none of them can be had again.
    pub taken: Vec<(IpAddr, u8)>,
}

/// A network that a container is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Which; none: it is not one of the fleet, such as the engine's default bridge.
    pub network: Option<NetworkName>,
    /// The container's addresses in it. None while the container does not run.
    pub addresses: Vec<IpAddr>,
}

impl Network {
    /// The name under which its gateway is a name server.
    #[must_use]
    pub fn name_server(&self) -> IpAddr {
        self.v4.gateway.into()
    }
}
