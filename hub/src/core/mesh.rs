//! The service network's part of the core: when a device is told its routes, what it says back, and that a copy which takes
//! requests is stopped only after those who send them have heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use outrigger_planner::Liveness;
use outrigger_protocol::{DeviceName, DownMessage, MeshStatus, Moment, Routes, encode_down};

use super::{Effect, HubCore, Remark};

/// Changes within this time are told as one. Containers of a stack start together.
const BATCH: Duration = Duration::from_millis(5);
/// A device is told its routes no more often than this, and than their size allows.
const PACE: Duration = Duration::from_millis(50);
/// Bytes of routes that a device is sent in a second at most, beyond the first of a change.
const BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// After its start the hub hears all devices before it says who is to be reached, but waits no longer than this for any.
const LISTEN: Duration = Duration::from_secs(2);
/// Devices that are told in one step; the rest are next.
const MOST_AT_ONCE: usize = 512;
/// A copy that takes requests is stopped so long after everybody knows: what was on its way arrives, and short requests end.
const LINGER: Duration = Duration::from_millis(250);
/// It is stopped so long after the decision in any case: who has not heard by then finds out by connecting.
const LONGEST_HOLD: Duration = Duration::from_secs(1);
/// Taken ports of one message that are worth an event each.
const MOST_REMARKS: usize = 10;

/// What the core remembers of the service network.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    relay_port: Option<u16>,
    /// When the broker came up first.
    up_at: Option<Moment>,
    has_listened: bool,
    due: BTreeSet<(Moment, DeviceName)>,
    due_at: BTreeMap<DeviceName, Moment>,
    told: BTreeMap<DeviceName, Told>,
    statuses: BTreeMap<DeviceName, MeshStatus>,
    holds: BTreeMap<DeviceName, Hold>,
}

/// The routes that a device was told last.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    number: u64,
    /// Of their bytes; none: the broker may have forgotten them, or they did not fit.
    digest: Option<u64>,
    /// Before this it is told nothing new.
    next_at: Moment,
    is_too_large: bool,
}

/// An assignment that takes copies away which take requests: it is published when those who send them know.
#[derive(Debug)]
struct Hold {
    until: Moment,
    /// Devices that have not said yet that they hold the routes of this number or a later one; none: they were not told yet.
    waits: BTreeMap<DeviceName, Option<u64>>,
    release_at: Option<Moment>,
    /// Whether the assignment is saved.
    is_saved: bool,
}

impl Hold {
    fn at(&self) -> Moment {
        self.release_at.map_or(self.until, |at| at.min(self.until))
    }
}

impl Mesh {
    fn schedule(&mut self, device: DeviceName, now: Moment) {
        if self.due_at.contains_key(&device) {
            return;
        }
        let next = self.told.get(&device).map_or(Moment::ZERO, |told| told.next_at);
        let at = (now + BATCH).max(next);
        self.due.insert((at, device.clone()));
        self.due_at.insert(device, at);
    }

    fn next_due(&mut self, now: Moment) -> Option<DeviceName> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        let (_, device) = self.due.pop_first()?;
        self.due_at.remove(&device);
        Some(device)
    }

    /// When something is to be done even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let due = self.due.first().map(|(at, _)| *at).filter(|_| self.has_listened);
        self.holds.values().map(Hold::at).chain(due).min()
    }

    pub(super) fn holds(&self, device: &DeviceName) -> bool {
        self.holds.contains_key(device)
    }

    /// The assignment of a device is saved; whether it is published now.
    pub(super) fn is_free(&mut self, device: &DeviceName) -> bool {
        let hold = self.holds.get_mut(device);
        hold.map(|hold| hold.is_saved = true).is_none()
    }

    pub(super) fn forget(&mut self, device: &DeviceName) {
        if let Some(at) = self.due_at.remove(device) {
            self.due.remove(&(at, device.clone()));
        }
        self.told.remove(device);
        self.statuses.remove(device);
        self.holds.remove(device);
    }

    /// A device was sent routes, or had them already.
    fn has_been_told(&mut self, device: &DeviceName, number: u64) {
        for hold in self.holds.values_mut() {
            if let Some(wanted) = hold.waits.get_mut(device) {
                wanted.get_or_insert(number);
            }
        }
    }

    /// Nothing is known of whether a device has heard; it is not waited for.
    fn waits_no_more(&mut self, device: &DeviceName) {
        for hold in self.holds.values_mut() {
            hold.waits.remove(device);
        }
    }

    fn holds_routes(&mut self, device: &DeviceName, held: Option<u64>) {
        for hold in self.holds.values_mut() {
            if hold.waits.get(device).is_some_and(|wanted| wanted.is_some() && *wanted <= held) {
                hold.waits.remove(device);
            }
        }
    }
}

impl HubCore {
    /// Devices that cannot reach each other are joined at this port of the hub.
    pub fn set_relay_port(&mut self, port: Option<u16>) {
        self.mesh.relay_port = port;
    }

    /// How the service network does on a device, as it said last; none: it has not.
    #[must_use]
    pub fn mesh_status(&self, device: &DeviceName) -> Option<&MeshStatus> {
        self.mesh.statuses.get(device)
    }

    /// How the service network does on all devices that have said so, by name.
    pub fn mesh_statuses(&self) -> impl Iterator<Item = (&DeviceName, &MeshStatus)> {
        self.mesh.statuses.iter()
    }

    /// Number of the routes that a device was told last; none: it was told none since the hub's start.
    #[must_use]
    pub fn routes_told(&self, device: &DeviceName) -> Option<u64> {
        self.mesh.told.get(device).map(|told| told.number)
    }

    /// The broker may have forgotten everything.
    pub(super) fn reroute_all(&mut self, now: Moment) {
        self.mesh.up_at.get_or_insert(now);
        self.mesh.told.values_mut().for_each(|told| told.digest = None);
        let ours = self.fleet.devices().filter(|device| device.foreign.is_none());
        let devices: Vec<DeviceName> = ours.map(|device| device.name.clone()).collect();
        devices.into_iter().for_each(|device| self.mesh.schedule(device, now));
    }

    /// Copies that take requests are taken from these devices: who sends them is to know before the assignments are
    /// published. Devices that say nothing of the service network are not waited for.
    pub(super) fn hold_back(&mut self, now: Moment, leaving: BTreeMap<DeviceName, BTreeSet<DeviceName>>) {
        for (device, viewers) in leaving {
            let waits: BTreeMap<DeviceName, Option<u64>> =
                viewers.into_iter().filter(|viewer| self.is_listening(viewer)).map(|viewer| (viewer, None)).collect();
            if waits.is_empty() {
                continue;
            }
            let fresh =
                || Hold { until: now + LONGEST_HOLD, waits: BTreeMap::new(), release_at: None, is_saved: false };
            let hold = self.mesh.holds.entry(device).or_insert_with(fresh);
            hold.waits.extend(waits);
            hold.release_at = None;
            hold.is_saved = false;
        }
    }

    fn is_listening(&self, device: &DeviceName) -> bool {
        let session = self.fleet.device(device).filter(|view| view.liveness == Liveness::Up).and_then(|v| v.session);
        let status = self.mesh.statuses.get(device);
        status.is_some_and(|status| session.is_some_and(|(_, session)| session == status.session))
    }

    /// Tells devices the routes that have changed, and publishes the assignments that waited for that.
    pub(super) fn route(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.link_down.is_some() {
            return;
        }
        for device in self.fleet.take_changed_routes(now) {
            self.mesh.schedule(device, now);
        }
        let up_at = self.mesh.up_at.unwrap_or(now);
        self.mesh.has_listened |= now >= up_at + LISTEN || self.fleet.has_heard_all();
        if self.mesh.has_listened {
            for _ in 0..MOST_AT_ONCE {
                let Some(device) = self.mesh.next_due(now) else { break };
                self.publish_routes(&device, now, effects);
            }
        }
        self.release(now, effects);
    }

    fn publish_routes(&mut self, device: &DeviceName, now: Moment, effects: &mut Vec<Effect>) {
        let before = self.mesh.told.get(device).copied().unwrap_or_default();
        let routes = match self.fleet.routes(device) {
            Some(routes) => Routes { relay_port: self.mesh.relay_port, ..routes },
            // It takes no part any more: what is kept for it must not wait for its return.
            None if self.mesh.told.contains_key(device) => {
                Routes { fleet: self.fleet.id(), epoch: self.fleet.epoch(), ..Routes::default() }
            }
            None => return self.mesh.waits_no_more(device),
        };
        let message = DownMessage::Routes(routes);
        let bytes = match encode_down(&message) {
            Ok(bytes) => bytes,
            Err(error) => {
                if !before.is_too_large {
                    effects.push(Effect::Remark(Remark::routes_too_large(device, &error.to_string())));
                }
                self.mesh.told.insert(device.clone(), Told { digest: None, is_too_large: true, ..before });
                return self.mesh.waits_no_more(device);
            }
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let digest = Some(hasher.finish());
        if before.digest == digest {
            return self.mesh.has_been_told(device, before.number);
        }
        let number = before.number + 1;
        let rest = Duration::from_micros(bytes.len() as u64 * 1_000_000 / BYTES_PER_SECOND);
        let told = Told { number, digest, next_at: now + PACE.max(rest), is_too_large: false };
        self.mesh.told.insert(device.clone(), told);
        self.mesh.has_been_told(device, number);
        let DownMessage::Routes(routes) = message else { return };
        let message = DownMessage::Routes(Routes { number, ..routes });
        effects.push(Effect::Send { device: device.clone(), message });
    }

    /// Publishes assignments whose copies have no callers any more, or that have waited long enough.
    fn release(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let mut free = Vec::new();
        for (device, hold) in &mut self.mesh.holds {
            if hold.waits.is_empty() {
                hold.release_at.get_or_insert(now + LINGER);
            }
            if hold.at() <= now {
                free.push((device.clone(), hold.is_saved));
            }
        }
        for (device, is_saved) in free {
            self.mesh.holds.remove(&device);
            // What is not saved yet, or has changed since, is published when it is.
            if is_saved && !self.is_pending(&device) {
                self.publish(&device, effects);
            }
        }
    }

    /// A device says how the service network does there.
    pub(super) fn hear_mesh(&mut self, device: &DeviceName, status: MeshStatus, effects: &mut Vec<Effect>) {
        let session = self.fleet.device(device).and_then(|view| view.session);
        if session.is_none_or(|(_, session)| session != status.session) {
            return;
        }
        let before = self.mesh.statuses.get(device);
        let is_new = |taken: &&outrigger_protocol::TakenPort| before.is_none_or(|before| !before.taken.contains(taken));
        for taken in status.taken.iter().filter(is_new).take(MOST_REMARKS) {
            let service = self.fleet.publisher(taken.port, taken.protocol);
            effects.push(Effect::Remark(Remark::port_taken(device, taken, service)));
        }
        let trouble = before.and_then(|before| before.trouble.as_deref());
        if status.trouble.as_deref() != trouble {
            effects.push(Effect::Remark(Remark::network_trouble(device, status.trouble.as_deref())));
        }
        self.mesh.holds_routes(device, status.held);
        self.mesh.statuses.insert(device.clone(), status);
    }
}
