//! What one device is told of the service network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use outrigger_protocol::{Attachment, DeviceName, Endpoint, NetworkName, Peer, Routes, ServiceRoutes};

use super::{Known, Mesh, PeerFacts};
use crate::fleet::Fleet;
use crate::table::{DeviceIx, ServiceIx};

/// Copies of one service that a device is told of. Of more, each device gets its own part, so that the routes of a service
/// with thousands of copies stay small and all copies have callers.
const MOST_ENDPOINTS: usize = 256;
/// Devices that are named to those with copies of services with published ports: some 10 kB, told anew when one joins or is
/// removed. In larger fleets any certificate of the fleet counts for these ports (decision 0021).
pub(super) const MOST_ADMITTED: usize = 1000;
/// Devices that a device can be told of.
const MOST_PEERS: usize = u16::MAX as usize;

impl Fleet {
    /// What a device needs to reach the services that it may reach; none: it takes no part in the service network, or there
    /// is no such device. The number and the hub's port are the caller's to fill in.
    #[must_use]
    pub fn routes(&self, name: &DeviceName) -> Option<Routes> {
        let ix = self.devices.find(name)?;
        let own = self.mesh.peers.get(&ix)?;
        let seen = self.seen_by(ix);
        let mut peers = Peers::default();
        for known in &seen {
            self.mesh.of_service(known, ix).needs(&mut peers);
        }
        peers.number(|ix| self.devices.get(ix).map(|device| &device.name));
        let services = seen.iter().map(|known| self.mesh.of_service(known, ix).told(&peers)).collect();
        let peers = peers.order.iter().filter_map(|other| {
            let (device, facts) = (self.devices.get(*other)?, self.mesh.peers.get(other)?);
            Some(Peer { device: device.name.clone(), addresses: addresses(own, facts), port: facts.port })
        });
        let peers = peers.collect();
        let is_public = seen.iter().any(|known| !known.published.is_empty() && known.hosts.contains(&ix));
        let admitted = is_public.then(|| self.admitted(ix)).flatten();
        Some(Routes { fleet: self.id(), epoch: self.epoch(), number: 0, relay_port: None, peers, services, admitted })
    }

    /// All other devices, because each opens the published ports; none: too many to name.
    fn admitted(&self, ix: DeviceIx) -> Option<Vec<DeviceName>> {
        let others = || self.mesh.peers.keys().filter(|other| **other != ix);
        // Looked at before any name is: in a large fleet this is asked for each device.
        if others().nth(MOST_ADMITTED).is_some() {
            return None;
        }
        let mut names: Vec<_> = others().filter_map(|other| Some(self.devices.get(*other)?.name.clone())).collect();
        names.sort();
        Some(names)
    }

    /// The services that a device sees, by name.
    fn seen_by(&self, ix: DeviceIx) -> Vec<&Known> {
        let copies = self.devices.get(ix).into_iter().flat_map(|device| &device.placements);
        let assigned = copies.filter_map(|id| self.placements.get(id)).map(|copy| copy.service);
        let leaving = self.mesh.leaving.values().filter(|leaving| leaving.device == ix).map(|leaving| leaving.service);
        let hosted: BTreeSet<ServiceIx> = assigned.chain(leaving).collect();
        let hosted: Vec<(ServiceIx, &Known)> = hosted
            .into_iter()
            .filter_map(|six| Some((six, self.mesh.known.get(&six)?)))
            .filter(|(_, known)| known.hosts.contains(&ix))
            .collect();
        let networks: BTreeSet<&NetworkName> =
            hosted.iter().flat_map(|(_, known)| &known.attachments).map(|attachment| &attachment.network).collect();
        let mut all: BTreeSet<ServiceIx> = hosted.iter().map(|(six, _)| *six).collect();
        all.extend(networks.into_iter().filter_map(|network| self.mesh.joined.get(network)).flatten());
        all.extend(&self.mesh.published);
        let mut seen: Vec<&Known> = all.into_iter().filter_map(|six| self.mesh.known.get(&six)).collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        seen
    }
}

/// A service as one device sees it, before devices have their numbers.
struct Seen<'a> {
    known: &'a Known,
    networks: Vec<&'a Attachment>,
    endpoints: Vec<(Endpoint, Option<DeviceIx>)>,
    callers: BTreeSet<DeviceIx>,
}

impl Mesh {
    fn of_service<'a>(&'a self, known: &'a Known, ix: DeviceIx) -> Seen<'a> {
        let is_member = |network: &NetworkName| self.members.get(network).is_some_and(|of| of.contains_key(&ix));
        let networks = known.attachments.iter().filter(|attachment| is_member(&attachment.network)).collect();
        let mut callers = BTreeSet::new();
        if known.hosts.contains(&ix) {
            for attachment in &known.attachments {
                callers.extend(self.members.get(&attachment.network).into_iter().flat_map(BTreeMap::keys).copied());
            }
            callers.retain(|other| *other != ix && self.peers.contains_key(other));
        }
        let endpoints = known
            .part_for(ix)
            .map(|&(placement, on, state)| (Endpoint { placement, peer: None, state }, (on != ix).then_some(on)));
        Seen { known, networks, endpoints: endpoints.collect(), callers }
    }
}

impl Known {
    /// The endpoints that a device is told of: all, or its own and as many of the others as it may have, from another one on
    /// for each device.
    fn part_for(
        &self,
        ix: DeviceIx,
    ) -> impl Iterator<Item = &(outrigger_protocol::PlacementId, DeviceIx, outrigger_protocol::EndpointState)> {
        let all = self.endpoints.len();
        let first = if all > MOST_ENDPOINTS { ix.0.wrapping_mul(0x9e37_79b9) as usize % all } else { 0 };
        let is_in = move |at: usize| (at + all - first) % all < MOST_ENDPOINTS;
        let chosen = self.endpoints.iter().enumerate().filter(move |(at, (_, on, _))| is_in(*at) || *on == ix);
        chosen.map(|(_, endpoint)| endpoint)
    }
}

impl Seen<'_> {
    fn needs(&self, peers: &mut Peers) {
        peers.all.extend(self.endpoints.iter().filter_map(|(_, on)| *on));
        peers.all.extend(&self.callers);
    }

    fn told(self, peers: &Peers) -> ServiceRoutes {
        let number = |(endpoint, on): (Endpoint, Option<DeviceIx>)| match on {
            None => Some(endpoint),
            Some(on) => Some(Endpoint { peer: Some(*peers.numbers.get(&on)?), ..endpoint }),
        };
        ServiceRoutes {
            service: self.known.name.clone(),
            networks: self.networks.into_iter().cloned().collect(),
            published: self.known.published.clone(),
            traffic: self.known.traffic,
            endpoints: self.endpoints.into_iter().filter_map(number).collect(),
            callers: self.callers.iter().filter_map(|ix| peers.numbers.get(ix).copied()).collect(),
        }
    }
}

/// The other devices that a device is told of.
#[derive(Default)]
struct Peers {
    all: BTreeSet<DeviceIx>,
    order: Vec<DeviceIx>,
    numbers: BTreeMap<DeviceIx, u16>,
}

impl Peers {
    /// Numbers them by name, so that the same fleet always gives the same routes.
    fn number<'a>(&mut self, name: impl Fn(DeviceIx) -> Option<&'a DeviceName>) {
        self.order = self.all.iter().copied().collect();
        self.order.sort_by_key(|ix| name(*ix));
        self.order.truncate(MOST_PEERS);
        self.numbers = self.order.iter().zip(0_u16..).map(|(ix, number)| (*ix, number)).collect();
    }
}

/// Where a device may be reached by another. A loopback address, which a device on the hub's own machine has, is another
/// device's only if that one is on the same machine.
fn addresses(own: &PeerFacts, other: &PeerFacts) -> Vec<IpAddr> {
    let is_local = |facts: &PeerFacts| facts.address.is_some_and(|address| address.is_loopback());
    other.address.filter(|address| !address.is_loopback() || is_local(own)).into_iter().collect()
}
