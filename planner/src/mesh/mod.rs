//! Who reaches what: which copies take requests, and which devices must know of them.
//!
//! Level-triggered like the rest: whatever touches a copy or a service makes the service dirty, its endpoints are then worked
//! out anew, and only if they are others than before the devices that see the service are told. So an event costs as much as
//! the services that it touches and the devices that see them, whatever the size of the fleet.

mod endpoints;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    Attachment, DeviceName, EndpointState, Generation, IngressPort, Moment, NetworkName, PlacementId, ServiceRef,
    Status, Traffic,
};

use crate::fleet::Fleet;
use crate::standing;
use crate::table::{DeviceIx, ServiceIx};

pub use endpoints::EndpointView;

/// A copy that was told to stop and is not seen to have done so counts as gone so long after its grace: its device may
/// have lost the word, or tells nothing.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// Longest grace of a stopping container that is waited for.
const LONGEST_GRACE: Duration = Duration::from_secs(600);

/// Services, copies and devices as the service network sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh {
    dirty: BTreeSet<ServiceIx>,
    known: BTreeMap<ServiceIx, Known>,
    /// Services that join a network.
    joined: BTreeMap<NetworkName, BTreeSet<ServiceIx>>,
    /// Devices with copies in a network, each with the number of services that it has there.
    members: BTreeMap<NetworkName, BTreeMap<DeviceIx, u32>>,
    /// Services with ports that every device opens.
    published: BTreeSet<ServiceIx>,
    /// Devices that take part.
    peers: BTreeMap<DeviceIx, PeerFacts>,
    /// Copies that are no longer assigned and may not have stopped yet.
    leaving: BTreeMap<PlacementId, Leaving>,
    /// Devices whose routes may be others than those they were given.
    changed: BTreeSet<DeviceIx>,
}

/// A service that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: ServiceRef,
    attachments: Vec<Attachment>,
    published: Vec<IngressPort>,
    traffic: Traffic,
    /// By placement.
    endpoints: Vec<(PlacementId, DeviceIx, EndpointState)>,
    /// Devices with copies, in whatever state.
    hosts: BTreeSet<DeviceIx>,
}

/// How a device is reached by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PeerFacts {
    port: u16,
    address: Option<IpAddr>,
}

/// A copy that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    service: ServiceIx,
    device: DeviceIx,
    /// Generation of its device's assignment that no longer has it.
    by: Generation,
    until: Moment,
}

impl Known {
    /// Pairs of a network and a device with copies in it.
    fn pairs(&self) -> BTreeSet<(&NetworkName, DeviceIx)> {
        let networks = self.attachments.iter().map(|attachment| &attachment.network);
        networks.flat_map(|network| self.hosts.iter().map(move |ix| (network, *ix))).collect()
    }
}

impl Mesh {
    /// Devices that see a service: those that have copies in one of its networks or of itself, and all if it has published
    /// ports.
    fn viewers(&self, known: &Known) -> BTreeSet<DeviceIx> {
        let mut viewers = known.hosts.clone();
        for attachment in &known.attachments {
            viewers.extend(self.members.get(&attachment.network).into_iter().flat_map(BTreeMap::keys));
        }
        if !known.published.is_empty() {
            viewers.extend(self.peers.keys());
        }
        viewers
    }

    /// Another device has come into a network, or has left it: it sees other services, and may reach the copies in it.
    fn member_changed(&mut self, network: &NetworkName, ix: DeviceIx) {
        self.changed.insert(ix);
        for six in self.joined.get(network).into_iter().flatten() {
            self.changed.extend(self.known.get(six).into_iter().flat_map(|known| &known.hosts));
        }
    }

    fn count_member(&mut self, network: &NetworkName, ix: DeviceIx, more: bool) {
        let members = self.members.entry(network.clone()).or_default();
        let count = members.entry(ix).or_insert(0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        let turned = (*count == 1 && more) || *count == 0;
        if *count == 0 {
            members.remove(&ix);
        }
        if members.is_empty() {
            self.members.remove(network);
        }
        if turned {
            self.member_changed(network, ix);
        }
    }

    /// A service is now like this; none: it takes no part.
    fn set(&mut self, six: ServiceIx, now: Option<Known>) {
        let before = self.known.remove(&six);
        if before == now {
            self.known.extend(now.map(|known| (six, known)));
            return;
        }
        for known in before.iter().chain(&now) {
            let viewers = self.viewers(known);
            self.changed.extend(viewers);
        }
        for attachment in before.iter().flat_map(|known| &known.attachments) {
            if let Some(services) = self.joined.get_mut(&attachment.network) {
                services.remove(&six);
                if services.is_empty() {
                    self.joined.remove(&attachment.network);
                }
            }
        }
        let (old, new) = (before.as_ref().map(Known::pairs), now.as_ref().map(Known::pairs));
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        for &(network, ix) in old.difference(&new) {
            self.count_member(network, ix, false);
        }
        if let Some(known) = &now {
            for attachment in &known.attachments {
                self.joined.entry(attachment.network.clone()).or_default().insert(six);
            }
        }
        for &(network, ix) in new.difference(&old) {
            self.count_member(network, ix, true);
        }
        if now.as_ref().is_some_and(|known| !known.published.is_empty()) {
            self.published.insert(six);
        } else {
            self.published.remove(&six);
        }
        if let Some(known) = now {
            let viewers = self.viewers(&known);
            self.changed.extend(viewers);
            self.known.insert(six, known);
        }
    }
}

impl Fleet {
    /// Something about a service's copies, or about itself, may have changed.
    pub(crate) fn touch_mesh(&mut self, six: ServiceIx) {
        let takes_part = self.services.get(six).is_some_and(|service| {
            let container = &service.content.spec.container;
            !container.networks.is_empty() || !container.ports.is_empty()
        });
        if (takes_part || self.mesh.known.contains_key(&six)) && !self.mesh.dirty.contains(&six) {
            Arc::make_mut(&mut self.mesh).dirty.insert(six);
        }
    }

    /// A service is about to be removed from the table: its number may become another's.
    pub(crate) fn leave_mesh(&mut self, six: ServiceIx) {
        let mesh = Arc::make_mut(&mut self.mesh);
        mesh.dirty.remove(&six);
        mesh.leaving.retain(|_, leaving| leaving.service != six);
        mesh.set(six, None);
    }

    /// How a device is reached may have changed.
    pub(crate) fn touch_peer(&mut self, ix: DeviceIx) {
        let device = self.devices.get(ix).filter(|device| device.foreign.is_none());
        let now = device.and_then(|device| {
            let facts = device.facts.as_ref()?;
            Some(PeerFacts { port: facts.mesh_port.filter(|port| *port != 0)?, address: facts.address })
        });
        self.set_peer(ix, now);
    }

    fn set_peer(&mut self, ix: DeviceIx, now: Option<PeerFacts>) {
        if self.mesh.peers.get(&ix).copied() == now {
            return;
        }
        let copies = self.devices.get(ix).into_iter().flat_map(|device| &device.placements);
        let hosted: BTreeSet<ServiceIx> =
            copies.filter_map(|id| self.placements.get(id)).map(|copy| copy.service).collect();
        let mesh = Arc::make_mut(&mut self.mesh);
        let before = mesh.peers.len();
        match now {
            Some(facts) => drop(mesh.peers.insert(ix, facts)),
            None => drop(mesh.peers.remove(&ix)),
        }
        // Whoever serves a published port is told who may come to it, as long as these are few enough to be named.
        if mesh.peers.len() != before && before.min(mesh.peers.len()) <= routes::MOST_ADMITTED + 1 {
            let public = mesh.published.iter().filter_map(|six| mesh.known.get(six));
            mesh.changed.extend(public.flat_map(|known| &known.hosts).copied());
        }
        mesh.changed.insert(ix);
        for six in &hosted {
            let Some(known) = mesh.known.get(six) else { continue };
            let (viewers, networks) = (mesh.viewers(known), known.attachments.clone());
            mesh.changed.extend(viewers);
            for attachment in networks {
                mesh.member_changed(&attachment.network, ix);
            }
        }
        mesh.dirty.extend(hosted);
    }

    /// A device is about to be removed from the table: its number may become another's. Its copies are gone already.
    pub(crate) fn forget_peer(&mut self, ix: DeviceIx) {
        let mesh = Arc::make_mut(&mut self.mesh);
        let left: BTreeSet<ServiceIx> =
            mesh.leaving.values().filter(|leaving| leaving.device == ix).map(|leaving| leaving.service).collect();
        mesh.leaving.retain(|_, leaving| leaving.device != ix);
        mesh.dirty.extend(left);
        self.set_peer(ix, None);
        self.settle_mesh();
        Arc::make_mut(&mut self.mesh).changed.remove(&ix);
    }

    /// A copy is taken from its device. Until it has stopped it finishes what it has; who sends it requests is to know
    /// before it stops.
    pub(crate) fn note_leaving(&mut self, id: PlacementId, now: Moment) {
        let Some(copy) = self.placements.get(&id) else { return };
        let (six, ix) = (copy.service, copy.device);
        let Some(known) = self.mesh.known.get(&six) else { return };
        let Some(device) = self.devices.get(ix).filter(|device| device.is_believed()) else { return };
        if !known.endpoints.iter().any(|(endpoint, _, _)| *endpoint == id) {
            return;
        }
        let grace = copy.content.spec.container.stop_grace.min(LONGEST_GRACE);
        let leaving =
            Leaving { service: six, device: ix, by: device.generation.next(), until: now + grace + STOPS_WITHIN };
        let viewers = self.mesh.viewers(known);
        self.unsaved.leaving.entry(ix).or_default().extend(viewers);
        let mesh = Arc::make_mut(&mut self.mesh);
        mesh.leaving.insert(id, leaving);
        mesh.dirty.insert(six);
    }

    /// A device tells what it runs: what it was told to stop may have stopped.
    pub(crate) fn see_leaving(&mut self, ix: DeviceIx, status: &Status) {
        if !self.mesh.leaving.values().any(|leaving| leaving.device == ix) {
            return;
        }
        let runs = |id: &PlacementId| {
            let mut all = status.replicas.iter();
            all.any(|observed| observed.placement == *id && !standing::is_over(&observed.phase))
        };
        let gone = |id: &PlacementId, leaving: &Leaving| {
            leaving.device == ix && status.held >= Some(self.stamp(leaving.by)) && !runs(id)
        };
        let gone: Vec<PlacementId> =
            self.mesh.leaving.iter().filter(|(id, leaving)| gone(id, leaving)).map(|(id, _)| *id).collect();
        self.have_left(&gone);
    }

    /// A device is judged anew, and with it what it was told to stop.
    pub(crate) fn touch_leaving(&mut self, ix: DeviceIx) {
        let leaving = self.mesh.leaving.values().filter(|leaving| leaving.device == ix);
        let services: Vec<ServiceIx> = leaving.map(|leaving| leaving.service).collect();
        if !services.is_empty() {
            Arc::make_mut(&mut self.mesh).dirty.extend(services);
        }
    }

    fn have_left(&mut self, gone: &[PlacementId]) {
        if gone.is_empty() {
            return;
        }
        let mesh = Arc::make_mut(&mut self.mesh);
        for id in gone {
            if let Some(leaving) = mesh.leaving.remove(id) {
                mesh.dirty.insert(leaving.service);
            }
        }
    }

    /// Works out anew what has become dirty.
    fn settle_mesh(&mut self) {
        if self.mesh.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut Arc::make_mut(&mut self.mesh).dirty);
        for six in dirty {
            let known = self.mesh_of(six);
            Arc::make_mut(&mut self.mesh).set(six, known);
        }
    }

    /// The devices whose routes may be others than those that [`Fleet::routes`] gave before, by name.
    pub fn take_changed_routes(&mut self, now: Moment) -> Vec<DeviceName> {
        let over = self.mesh.leaving.iter().filter(|(_, leaving)| leaving.until <= now);
        let over: Vec<PlacementId> = over.map(|(id, _)| *id).collect();
        self.have_left(&over);
        self.settle_mesh();
        if self.mesh.changed.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut Arc::make_mut(&mut self.mesh).changed);
        let mut names: Vec<DeviceName> =
            changed.into_iter().filter_map(|ix| self.devices.get(ix)).map(|device| device.name.clone()).collect();
        names.sort();
        names
    }

    /// Whether every device that is to run something has told what it runs, as far as it is there.
    #[must_use]
    pub fn has_heard_all(&self) -> bool {
        let mut all = self.devices.iter().map(|(_, device)| device);
        all.all(|device| device.placements.is_empty() || !device.is_expected() || device.told_under.is_some())
    }
}
