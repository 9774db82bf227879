//! The service network as the core sees it: which routes count, what the proxy is to do, what the hub is told of it, and
//! what is kept for an agent after this one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    DeviceName, Epoch, MAX_DETAIL, MeshStatus, Moment, NetworkName, Routes, ServiceRef, SessionNumber, UpMessage,
};
use outrigger_proxy::control::{LocalCopy, LocalNetwork, Mesh as Reach, Observed as Told, Virtual, Wanted};
use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::{Effect, cut};
use crate::engine::{ContainerState, Health, Network};
use crate::pool;

/// Endpoints come and go all the time, and flash wears out. What changed but for them is on the disk at once; they are so when
/// they have had time to settle, if that does not happen more often than this in the long run. In between they are kept where a
/// restart of the agent finds them, but not one of the device.
const DISK_PAUSE: Duration = Duration::from_secs(600);
/// So many times more than that in a row: a fleet that changes a few times a day has all of it on its disks.
const DISK_BURST: u32 = 3;
/// Copies of a stack start and become healthy one after the other.
const SETTLE: Duration = Duration::from_secs(5);
/// Shortest time between two words to the hub about how the proxy does: ejections come in bursts.
const TELL_PAUSE: Duration = Duration::from_millis(200);
/// A word that could not be sent is sent again after this.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Entries of each list that the hub is told at most: its message is bounded.
const MAX_TOLD: usize = 256;

/// What an agent keeps of the service network for the one after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMesh {
    /// The newest routes.
    pub routes: Option<Routes>,
    /// The virtual addresses in each network, counted from the first of them.
    pub addresses: BTreeMap<NetworkName, BTreeMap<ServiceRef, u32>>,
    /// Where the proxy listened for other devices. It outlives the agent: one that restarts must not say, before it has heard
    /// the proxy, that this device takes no part in the service network.
    pub mesh_port: Option<u16>,
}

/// For how long something is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until the device boots again.
    Boot,
    /// On the disk.
    Disk,
}

/// What is heard of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyEvent {
    /// How it does.
    Told(Box<Told>),
    /// It does not answer; why.
    Lost(String),
    /// It has ended, and nothing needs it.
    Ended,
}

/// The service network.
#[derive(Debug, Clone)]
pub struct Mesh {
    kept: KeptMesh,
    /// Came before anybody could say whether they are to be obeyed.
    pub(super) early: Option<Box<Routes>>,
    epoch: Epoch,
    reach: Option<Reach>,
    sent: Option<Arc<Wanted>>,
    proxy: ProxyState,
    /// Services that have no virtual address, because their network has no room.
    homeless: Option<ServiceRef>,
    is_dirty: bool,
    unkept: Option<Keep>,
    /// When mere endpoints go to the disk; zero: there are none that have not.
    disk_at: Moment,
    /// When so many of them will have gone there as are good for it in the long run.
    disk_paid: Moment,
    told: Option<MeshStatus>,
    tell_from: Moment,
}

/// How the proxy does.
#[derive(Debug, Clone, Default)]
enum ProxyState {
    /// It does not run, as far as is known.
    #[default]
    Absent,
    Up(Box<Told>),
    Down(String),
}

impl Mesh {
    /// With what an agent before kept.
    #[must_use]
    pub fn new(kept: KeptMesh) -> Self {
        let epoch = kept.routes.as_ref().map_or(Epoch::default(), |routes| routes.epoch);
        Self {
            kept,
            early: None,
            epoch,
            reach: None,
            sent: None,
            proxy: ProxyState::Absent,
            homeless: None,
            is_dirty: true,
            unkept: None,
            disk_at: Moment::ZERO,
            disk_paid: Moment::ZERO,
            told: None,
            tell_from: Moment::ZERO,
        }
    }

    /// The routes in force.
    #[must_use]
    pub fn routes(&self) -> Option<&Routes> {
        self.kept.routes.as_ref()
    }

    /// Where the proxy listens for other devices, as far as is known.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.kept.mesh_port
    }

    /// Something has happened from which something may follow.
    pub fn mark(&mut self) {
        self.is_dirty = true;
    }

    /// How other devices are reached.
    pub fn reach(&mut self, reach: Option<Reach>) {
        self.is_dirty |= self.reach != reach;
        self.reach = reach;
    }

    /// The proxy has said something, or does not any more.
    pub fn hear(&mut self, event: ProxyEvent) {
        let port = match &event {
            ProxyEvent::Told(told) => told.mesh_port,
            // One that has died is back in a moment, at the same port.
            ProxyEvent::Lost(_) => self.kept.mesh_port,
            ProxyEvent::Ended => None,
        };
        if self.kept.mesh_port != port {
            self.kept.mesh_port = port;
            self.keep(Keep::Boot);
        }
        self.proxy = match event {
            ProxyEvent::Told(told) => ProxyState::Up(told),
            ProxyEvent::Lost(reason) => ProxyState::Down(reason),
            ProxyEvent::Ended => ProxyState::Absent,
        };
    }

    /// Takes routes of the device's own fleet. False where they are older than what it has.
    pub fn take(&mut self, routes: Routes) -> bool {
        if routes.epoch < self.epoch {
            return false;
        }
        self.epoch = routes.epoch;
        if self.kept.routes.as_ref() == Some(&routes) {
            return true;
        }
        let is_same_shape = self.kept.routes.as_ref().is_some_and(|before| has_shape_of(before, &routes));
        self.keep(if is_same_shape { Keep::Boot } else { Keep::Disk });
        self.kept.routes = Some(routes);
        self.is_dirty = true;
        true
    }

    /// Forgets routes of a fleet that is not the device's.
    pub fn drop_routes(&mut self) {
        self.kept.routes = None;
        self.is_dirty = true;
    }

    fn keep(&mut self, keep: Keep) {
        // What is on its way to the disk goes there.
        if self.unkept != Some(Keep::Disk) {
            self.unkept = Some(keep);
        }
    }

    /// Whether the proxy has anything to do.
    #[must_use]
    pub fn is_needed(wanted: &Wanted) -> bool {
        !wanted.networks.is_empty() || !wanted.routes.services.is_empty()
    }

    /// Hands the proxy what it is to do, where that has changed.
    pub fn serve(&mut self, device: &DeviceName, observed: &Observed, effects: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        self.assign(observed);
        let networks = observed.networks.there.values().map(|network| self.local(network)).collect();
        let wanted = Wanted {
            device: device.clone(),
            mesh: self.reach.clone(),
            networks,
            copies: copies(observed),
            routes: self.kept.routes.clone().unwrap_or_default(),
        };
        if self.sent.as_deref() != Some(&wanted) {
            let wanted = Arc::new(wanted);
            self.sent = Some(Arc::clone(&wanted));
            effects.push(Effect::Proxy(wanted));
        }
    }

    /// Gives each service an address in each network through which it is reached, and forgets networks that are gone.
    fn assign(&mut self, observed: &Observed) {
        let mut addresses = std::mem::take(&mut self.kept.addresses);
        let before = addresses.len();
        addresses.retain(|name, _| observed.networks.there.contains_key(name));
        let mut has_changed = addresses.len() != before;
        let mut wanted: BTreeMap<&NetworkName, BTreeSet<&ServiceRef>> = BTreeMap::new();
        for one in self.kept.routes.iter().flat_map(|routes| &routes.services) {
            for attachment in &one.networks {
                wanted.entry(&attachment.network).or_default().insert(&one.service);
            }
        }
        self.homeless = None;
        for (name, services) in wanted {
            let Some(network) = observed.networks.there.get(name) else { continue };
            let held = addresses.entry(name.clone()).or_default();
            let (changed, homeless) = give(held, &services, pool::room(&network.v4));
            has_changed |= changed;
            self.homeless = self.homeless.take().or(homeless.cloned());
        }
        self.kept.addresses = addresses;
        if has_changed {
            self.keep(Keep::Disk);
        }
    }

    fn local(&self, network: &Network) -> LocalNetwork {
        let name = &network.spec.name;
        let held = self.kept.addresses.get(name);
        let reached = self.kept.routes.iter().flat_map(|routes| &routes.services);
        let here = reached.filter(|one| one.networks.iter().any(|attachment| attachment.network == *name));
        let services = here.filter_map(|one| {
            let offset = *held?.get(&one.service)?;
            let v4 = Ipv4Addr::from(u32::from(network.v4.virtual_base) + offset);
            let v6 = network.v6.map(|v6| Ipv6Addr::from(u128::from(v6.virtual_base) + u128::from(offset)));
            Some(Virtual { service: one.service.clone(), v4, v6 })
        });
        LocalNetwork {
            name: name.clone(),
            bridge: network.bridge.clone(),
            v4: network.v4,
            v6: network.v6,
            services: services.collect(),
        }
    }

    /// Has what is worth it kept; all of it where the agent ends.
    pub fn keep_due(&mut self, now: Moment, is_ending: bool, effects: &mut Vec<Effect>) {
        let is_disk_due = self.disk_at != Moment::ZERO && (self.disk_at <= now || is_ending);
        let keep = match self.unkept.take() {
            Some(Keep::Disk) => Keep::Disk,
            _ if is_disk_due => Keep::Disk,
            Some(Keep::Boot) if is_ending => Keep::Disk,
            Some(Keep::Boot) => Keep::Boot,
            None => return,
        };
        match keep {
            Keep::Disk => {
                if is_disk_due {
                    self.disk_paid = self.disk_paid.max(now) + DISK_PAUSE;
                }
                self.disk_at = Moment::ZERO;
            }
            Keep::Boot if self.disk_at == Moment::ZERO => {
                self.disk_at = (now + SETTLE).max(self.disk_paid - DISK_PAUSE * DISK_BURST);
            }
            Keep::Boot => (),
        }
        effects.push(Effect::KeepMesh(Box::new(self.kept.clone()), keep));
    }

    /// A new connection hears how the proxy does.
    pub fn connected(&mut self) {
        self.told = None;
        self.tell_from = Moment::ZERO;
    }

    /// The last word was not sent after all.
    pub fn unsent(&mut self, now: Moment) {
        self.told = None;
        self.tell_from = now + TELL_AGAIN;
    }

    /// Tells the hub how the proxy does, where that has changed.
    pub fn tell(&mut self, session: SessionNumber, now: Moment, effects: &mut Vec<Effect>) {
        if now < self.tell_from {
            return;
        }
        let status = self.status(session);
        if self.told.as_ref() != Some(&status) {
            self.tell_from = now + TELL_PAUSE;
            self.told = Some(status.clone());
            effects.push(Effect::Publish(UpMessage::Mesh(status)));
        }
    }

    fn status(&self, session: SessionNumber) -> MeshStatus {
        let is_needed = self.sent.as_deref().is_some_and(Self::is_needed);
        let own = self.homeless.as_ref().map(|service| {
            format!("a network has more services than virtual addresses; without one is {service}, among others")
        });
        let base = MeshStatus { session, trouble: own, ..MeshStatus::default() };
        match &self.proxy {
            // Nothing has to be done for them, so they are in force.
            _ if !is_needed => MeshStatus { held: self.routes().map(|routes| routes.number), ..base },
            ProxyState::Absent => base,
            ProxyState::Down(reason) => MeshStatus { trouble: Some(cut(reason, MAX_DETAIL)), ..base },
            ProxyState::Up(told) => MeshStatus {
                session,
                held: told.held,
                taken: told.taken.iter().take(MAX_TOLD).cloned().collect(),
                relayed: told.relayed.iter().take(MAX_TOLD).cloned().collect(),
                ejected: told.ejected.iter().take(MAX_TOLD).copied().collect(),
                trouble: told.trouble.as_ref().map(|text| cut(text, MAX_DETAIL)).or(base.trouble),
            },
        }
    }

    /// When something is due.
    #[must_use]
    pub fn wake_at(&self, has_session: bool) -> Moment {
        let disk = if self.disk_at == Moment::ZERO { Moment::NEVER } else { self.disk_at };
        let has_news = || self.told.as_ref().is_none_or(|told| *told != self.status(told.session));
        if has_session && self.tell_from != Moment::ZERO && has_news() { disk.min(self.tell_from) } else { disk }
    }
}

/// The copies here that take requests. Whoever has just died, or fails its healthcheck, is not among them, whatever the hub
/// says; it will say so, too.
fn copies(observed: &Observed) -> Vec<LocalCopy> {
    let is_ready = |state| match state {
        ContainerState::Running { health: Health::None | Health::Healthy } => true,
        ContainerState::Running { health: Health::Starting | Health::Unhealthy }
        | ContainerState::Created
        | ContainerState::Exited { .. }
        | ContainerState::Dead => false,
    };
    let ready = observed.by_placement().into_values().filter(|container| is_ready(container.state));
    let copy = |container: &crate::engine::Container| LocalCopy {
        placement: container.placement,
        service: container.replica.service.clone(),
        addresses: container
            .joined
            .iter()
            .flat_map(|joined| joined.addresses.iter().map(|address| (joined.network.clone(), *address)))
            .collect(),
    };
    ready.map(copy).collect()
}

/// Gives each service that has none an address, counted from the first virtual one. Where it begins to search follows from its
/// name, so that an agent that has lost its state usually finds the same. Returns whether anything has changed, and a
/// service for which there is no room.
fn give<'a>(
    held: &mut BTreeMap<ServiceRef, u32>,
    services: &BTreeSet<&'a ServiceRef>,
    room: u32,
) -> (bool, Option<&'a ServiceRef>) {
    let mut missing: Vec<&ServiceRef> =
        services.iter().copied().filter(|service| !held.contains_key(*service)).collect();
    if missing.is_empty() {
        return (false, None);
    }
    if u64::from(room) < (held.len() + missing.len()) as u64 {
        // Addresses of services that are gone are kept for their return, as long as nobody else needs them.
        held.retain(|service, _| services.contains(service));
    }
    let mut used: BTreeSet<u32> = held.values().copied().collect();
    let free = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(held.len());
    let homeless = missing.get(free).copied();
    missing.truncate(free);
    let has_changed = !missing.is_empty();
    for service in missing {
        let first = pool::spread(&service.to_string()) % room;
        let offset = (0..room).map(|step| (first + step) % room + 1).find(|offset| !used.contains(offset));
        let offset = offset.expect("no more are given than there is room for");
        used.insert(offset);
        held.insert(service.clone(), offset);
    }
    (has_changed, homeless)
}

/// Whether two sets of routes differ in endpoints and their devices only.
fn has_shape_of(a: &Routes, b: &Routes) -> bool {
    let is_same = |(a, b): (&outrigger_protocol::ServiceRoutes, &outrigger_protocol::ServiceRoutes)| {
        (&a.service, &a.networks, &a.published, &a.traffic) == (&b.service, &b.networks, &b.published, &b.traffic)
    };
    a.fleet == b.fleet && a.services.len() == b.services.len() && a.services.iter().zip(&b.services).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceRef {
        format!("shop/{name}").parse().unwrap()
    }

    #[test]
    fn a_thousand_services_have_addresses_of_their_own_and_keep_them() {
        let all: Vec<ServiceRef> = (0..1_000).map(|number| service(&format!("s{number}"))).collect();
        let mut held = BTreeMap::new();
        for some in [10, 500, 1_000] {
            let before = held.clone();
            let wanted = all.iter().take(some).collect();
            assert_eq!(give(&mut held, &wanted, 1_022), (true, None));
            assert!(before.iter().all(|(service, offset)| held.get(service) == Some(offset)));
        }
        let offsets: BTreeSet<u32> = held.values().copied().collect();
        assert_eq!(offsets.len(), 1_000);
        assert!(offsets.iter().all(|offset| (1..=1_022).contains(offset)));
        assert_eq!(give(&mut held, &all.iter().collect(), 1_022), (false, None));
    }

    #[test]
    fn an_address_is_kept_for_a_service_that_is_gone_until_the_room_is_needed() {
        let (a, b, c) = (service("a"), service("b"), service("c"));
        let mut held = BTreeMap::new();
        give(&mut held, &[&a, &b].into(), 2);
        let of_a = held[&a];
        assert_eq!(give(&mut held, &[&a].into(), 2), (false, None));
        assert!(held.contains_key(&b));
        assert_eq!(give(&mut held, &[&a, &c].into(), 2), (true, None));
        assert_eq!((held.len(), held[&a], held.contains_key(&b)), (2, of_a, false));
        assert_eq!(give(&mut held, &[&a, &b, &c].into(), 2), (false, Some(&b)), "told, not silently left out");
    }
}
