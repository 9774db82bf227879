//! What is wanted, in the shape in which it is looked up for each connection. Made anew at each change, never mended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use outrigger_protocol::{
    DeviceName, EndpointState, NetworkName, Peer, PlacementId, PortProtocol, Routes, ServiceRef, ServiceRoutes, Traffic,
};

use crate::balance::Candidate;
use crate::control::{LocalCopy, LocalNetwork, Subnet, Wanted};

/// All of it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) wanted: Arc<Wanted>,
    is_empty: bool,
    services: HashMap<ServiceRef, Arc<Service>>,
    virtuals: HashMap<IpAddr, (usize, ServiceRef)>,
    published: BTreeMap<(PortProtocol, u16), (ServiceRef, u16)>,
    admitted: Option<HashSet<DeviceName>>,
}

/// A service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: ServiceRef,
    pub(crate) traffic: Traffic,
    targets: Vec<Target>,
    callers: HashSet<DeviceName>,
    published: HashSet<(PortProtocol, u16)>,
}

/// A copy that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) placement: PlacementId,
    pub(crate) place: Place,
    is_ready: bool,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Here(Vec<(Option<NetworkName>, IpAddr)>),
    On(DeviceName),
}

/// What a virtual address stands for.
#[derive(Debug)]
pub(crate) struct Virtual {
    pub(crate) network: NetworkName,
    pub(crate) service: Arc<Service>,
}

impl Table {
    pub(crate) fn new(wanted: Arc<Wanted>) -> Self {
        let copies: HashMap<_, _> = wanted.copies.iter().map(|copy| (copy.placement, copy)).collect();
        let services = wanted.routes.services.iter();
        let services: HashMap<_, _> = services
            .map(|routes| (routes.service.clone(), Arc::new(Service::new(routes, &wanted.routes.peers, &copies))))
            .collect();
        let mut virtuals = HashMap::new();
        for (index, network) in wanted.networks.iter().enumerate() {
            for one in &network.services {
                let v6 = one.v6.map(IpAddr::V6);
                for address in [IpAddr::V4(one.v4)].into_iter().chain(v6) {
                    virtuals.insert(address, (index, one.service.clone()));
                }
            }
        }
        let mut published = BTreeMap::new();
        for routes in &wanted.routes.services {
            for port in &routes.published {
                published.entry((port.protocol, port.port)).or_insert_with(|| (routes.service.clone(), port.target));
            }
        }
        let admitted = wanted.routes.admitted.as_ref().map(|names| names.iter().cloned().collect());
        Self { wanted, is_empty: false, services, virtuals, published, admitted }
    }

    /// Nothing has been said yet.
    pub(crate) fn empty() -> Self {
        let nobody = "unknown".parse().expect("this is a name");
        let (networks, copies, routes) = (vec![], vec![], Routes::default());
        let mut table = Self::new(Arc::new(Wanted { device: nobody, mesh: None, networks, copies, routes }));
        table.is_empty = true;
        table
    }

    /// Whether nothing has been said yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub(crate) fn service(&self, name: &ServiceRef) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The ports that are to be open here.
    pub(crate) fn published(&self) -> impl Iterator<Item = (PortProtocol, u16)> {
        self.published.keys().copied()
    }

    /// What a published port leads to, and to which port there.
    pub(crate) fn at_port(&self, protocol: PortProtocol, port: u16) -> Option<(Arc<Service>, u16)> {
        let (service, target) = self.published.get(&(protocol, port))?;
        Some((Arc::clone(self.services.get(service)?), *target))
    }

    /// What a virtual address stands for, if `from` may use it: only containers of the address' own network may.
    pub(crate) fn at_address(&self, address: IpAddr, from: IpAddr) -> Option<Virtual> {
        let (network, service) = self.virtuals.get(&address)?;
        let network = self.wanted.networks.get(*network)?;
        if !is_container_of(network, from) {
            return None;
        }
        Some(Virtual { network: network.name.clone(), service: Arc::clone(self.services.get(service)?) })
    }

    /// Whether a device of the fleet may speak with us at all: one that the hub says has business here, or that may come to a
    /// published port of a copy here. Each stream is judged once more, by copy and port.
    pub(crate) fn admits(&self, device: &DeviceName) -> bool {
        let is_public = || {
            let mut services = self.wanted.routes.services.iter();
            services
                .any(|one| !one.published.is_empty() && one.endpoints.iter().any(|endpoint| endpoint.peer.is_none()))
        };
        self.peer(device).is_some() || (self.is_of_fleet(device) && is_public())
    }

    /// Whether the hub counts it among the devices that open published ports; it names them as long as they are not too many.
    fn is_of_fleet(&self, device: &DeviceName) -> bool {
        self.admitted.as_ref().is_none_or(|admitted| admitted.contains(device))
    }

    pub(crate) fn peer(&self, device: &DeviceName) -> Option<&Peer> {
        self.wanted.routes.peers.iter().find(|peer| peer.device == *device)
    }

    /// The copy on this device with this number, if `caller` may speak with it on this port.
    pub(crate) fn for_caller(
        &self,
        caller: &DeviceName,
        placement: PlacementId,
        protocol: PortProtocol,
        port: u16,
    ) -> Option<(&LocalCopy, &Arc<Service>)> {
        let copy = self.wanted.copies.iter().find(|copy| copy.placement == placement)?;
        let service = self.services.get(&copy.service)?;
        let may = service.callers.contains(caller)
            || (service.published.contains(&(protocol, port)) && self.is_of_fleet(caller));
        may.then_some((copy, service))
    }

    /// Devices that may come to copies on this one: to some ports of it at least.
    pub(crate) fn callers(&self) -> HashSet<&DeviceName> {
        let here = self.wanted.copies.iter().filter_map(|copy| self.services.get(&copy.service));
        let (open, closed): (Vec<_>, Vec<_>) = here.partition(|service| !service.published.is_empty());
        if !open.is_empty() {
            let named = self.wanted.routes.peers.iter().map(|peer| &peer.device);
            return named.chain(self.admitted.iter().flatten()).collect();
        }
        closed.into_iter().flat_map(|service| &service.callers).collect()
    }

    /// Devices with copies that this one may ask.
    pub(crate) fn called(&self) -> HashSet<&DeviceName> {
        let targets = self.services.values().flat_map(|service| &service.targets);
        targets.filter_map(|target| if let Place::On(device) = &target.place { Some(device) } else { None }).collect()
    }

    /// Whether there is anything to do.
    pub(crate) fn is_needed(&self) -> bool {
        !self.wanted.networks.is_empty() || !self.published.is_empty() || !self.callers().is_empty()
    }
}

impl Service {
    fn new(routes: &ServiceRoutes, peers: &[Peer], copies: &HashMap<PlacementId, &LocalCopy>) -> Self {
        let device = |index: u16| peers.get(usize::from(index)).map(|peer| peer.device.clone());
        let targets = routes.endpoints.iter().filter_map(|endpoint| {
            let place = match endpoint.peer {
                None => Place::Here(copies.get(&endpoint.placement)?.addresses.clone()),
                Some(peer) => Place::On(device(peer)?),
            };
            let is_ready = endpoint.state == EndpointState::Ready;
            Some(Target { placement: endpoint.placement, place, is_ready })
        });
        Self {
            name: routes.service.clone(),
            traffic: routes.traffic,
            targets: targets.collect(),
            callers: routes.callers.iter().filter_map(|index| device(*index)).collect(),
            published: routes.published.iter().map(|port| (port.protocol, port.target)).collect(),
        }
    }

    pub(crate) fn target(&self, placement: PlacementId) -> Option<&Target> {
        self.targets.iter().find(|target| target.placement == placement)
    }

    pub(crate) fn has_copies_on(&self, device: &DeviceName) -> bool {
        self.targets.iter().any(|target| matches!(&target.place, Place::On(there) if there == device))
    }

    /// Its copies. `lost`: devices that cannot be reached at present.
    pub(crate) fn candidates(&self, lost: &HashSet<DeviceName>) -> Vec<Candidate> {
        let candidate = |target: &Target| Candidate {
            placement: target.placement,
            is_local: matches!(target.place, Place::Here(_)),
            is_ready: target.is_ready,
            is_reachable: !matches!(&target.place, Place::On(device) if lost.contains(device)),
        };
        self.targets.iter().map(candidate).collect()
    }
}

/// The address at which to reach a copy: in this network, where it has one there.
pub(crate) fn address_in(addresses: &[(Option<NetworkName>, IpAddr)], network: Option<&NetworkName>) -> Option<IpAddr> {
    let same = addresses.iter().find(|(name, _)| name.is_some() && name.as_ref() == network);
    same.or_else(|| addresses.iter().find(|(_, address)| address.is_ipv4())).or(addresses.first()).map(|found| found.1)
}

fn is_container_of(network: &LocalNetwork, address: IpAddr) -> bool {
    match (address, network.v6) {
        (IpAddr::V4(v4), _) => network.v4.holds(v4) && !network.v4.is_virtual(v4),
        (IpAddr::V6(v6), Some(subnet)) => subnet.holds(v6) && !subnet.is_virtual(v6),
        (IpAddr::V6(_), None) => false,
    }
}

impl Subnet<Ipv4Addr> {
    /// Whether an address is one of it.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        shares_v4(address, self.base, self.prefix)
    }

    /// Whether an address is in the part for virtual ones.
    #[must_use]
    pub fn is_virtual(&self, address: Ipv4Addr) -> bool {
        shares_v4(address, self.virtual_base, self.virtual_prefix)
    }
}

impl Subnet<Ipv6Addr> {
    /// Whether an address is one of it.
    #[must_use]
    pub fn holds(&self, address: Ipv6Addr) -> bool {
        shares_v6(address, self.base, self.prefix)
    }

    /// Whether an address is in the part for virtual ones.
    #[must_use]
    pub fn is_virtual(&self, address: Ipv6Addr) -> bool {
        shares_v6(address, self.virtual_base, self.virtual_prefix)
    }
}

fn shares_v4(one: Ipv4Addr, other: Ipv4Addr, bits: u8) -> bool {
    (u32::from(one) ^ u32::from(other)).checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
}

fn shares_v6(one: Ipv6Addr, other: Ipv6Addr, bits: u8) -> bool {
    (u128::from(one) ^ u128::from(other)).checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
}
