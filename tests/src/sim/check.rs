//! What must hold, looked at after every event and in true time.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_agent::core::{Action, Held};
use outrigger_agent::engine::{Container, ContainerId, ContainerState, Health};
use outrigger_hub::core::Remark;
use outrigger_planner::{Cause, Key, Liveness, PlacementRecord, Record, Stage, Value};
use outrigger_protocol::{
    Assignment, ByeReason, DeviceName, DownMessage, FleetId, Goal, LossPolicy, PlacementId, ReplicaName, Report,
    ServiceRef, SessionNumber, Stamp, Status, UpMessage,
};

use super::device::Device;
use super::engine::is_exclusive;
use super::faults::Fault;
use super::naive;
use super::queue::Time;
use super::world::World;

/// A device is never lost for less silence than this, whatever it or its broker said.
const SHORTEST_SILENCE: Time = 1_900;
/// Nor for less than this where neither said anything.
const SHORTEST_UNANNOUNCED: Time = 3_900;
/// Time after its start in which a hub loses nobody that it has not heard.
const START_GRACE: Time = 14_900;

/// Something that does not hold.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What should have held.
    pub invariant: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Watches.
#[derive(Debug)]
pub struct Checker {
    /// The first thing that did not hold.
    pub broken: Option<Broken>,
    /// All faults have ended.
    pub is_healing: bool,
    /// The fleet has settled and nothing is to happen any more.
    pub is_idle: bool,
    /// Nothing may move or stop: what a quiet run is about.
    pub is_still: bool,
    /// Steps of the hub's core since somebody last looked.
    pub hub_ticks: u64,
    pub(super) heard_at: Vec<Option<Time>>,
    pub(super) bye_at: Vec<Option<Time>>,
    sessions: Vec<Option<SessionNumber>>,
    hub_started: Time,
    hub_resumed: Time,
    lost_before: BTreeSet<DeviceName>,
    placements: BTreeSet<PlacementId>,
    documents: BTreeMap<(usize, FleetId, Stamp), Assignment>,
    exclusive: BTreeMap<ReplicaName, BTreeSet<(usize, ContainerId)>>,
    available: BTreeMap<ReplicaName, BTreeSet<(usize, ContainerId)>>,
    mass_until: Time,
    /// Services of which something was ever placed: from then on they wait for nothing that they depend on.
    begun: BTreeSet<ServiceRef>,
    /// Services of which something has run.
    ran: BTreeSet<ServiceRef>,
}

impl Checker {
    /// Watches over so many devices.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self {
            broken: None,
            is_healing: false,
            is_idle: false,
            is_still: false,
            hub_ticks: 0,
            heard_at: vec![None; devices],
            bye_at: vec![None; devices],
            sessions: vec![None; devices],
            hub_started: 0,
            hub_resumed: 0,
            lost_before: BTreeSet::new(),
            placements: BTreeSet::new(),
            documents: BTreeMap::new(),
            exclusive: BTreeMap::new(),
            available: BTreeMap::new(),
            mass_until: 0,
            begun: BTreeSet::new(),
            ran: BTreeSet::new(),
        }
    }

    /// Something does not hold. Only the first counts: what follows from it would hide it.
    pub fn fail(&mut self, invariant: &'static str, seen: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { invariant, seen });
        }
    }

    /// Copies that were ever placed.
    #[must_use]
    pub fn placed(&self) -> usize {
        self.placements.len()
    }

    /// The hub has a message of a device.
    pub fn heard(&mut self, device: usize, message: &UpMessage, now: Time) {
        match message {
            UpMessage::Bye(bye) if bye.reason == ByeReason::Restart => (),
            UpMessage::Bye(_) => self.bye_at[device] = Some(now),
            UpMessage::Hello(hello) => {
                self.sessions[device] = Some(hello.session);
                self.heard_at[device] = Some(now);
            }
            // Of a connection that has not introduced itself nobody can say whether it is the present one.
            UpMessage::Report(Report { session, .. }) | UpMessage::Status(Status { session, .. }) => {
                // And what comes right behind a goodbye was sent before it.
                let is_late = self.bye_at[device].is_some_and(|at| now < at + 1_000);
                if self.sessions[device] == Some(*session) && !is_late {
                    self.heard_at[device] = Some(now);
                }
            }
            UpMessage::Answer(_) | UpMessage::Renew(_) | UpMessage::Mesh(_) | UpMessage::Unseal(_) => (),
        }
    }

    /// The hub has started; these devices it had counted as lost before.
    pub fn hub_started(&mut self, now: Time, lost: BTreeSet<DeviceName>) {
        self.hub_started = now;
        self.lost_before = lost;
        self.sessions.fill(None);
        self.heard_at.fill(None);
        self.bye_at.fill(None);
    }

    /// The hub has ended.
    pub fn hub_ended(&mut self, _now: Time) {}

    /// The hub goes on after it stood still.
    pub fn hub_resumed(&mut self, now: Time) {
        self.hub_resumed = now;
    }

    /// A fault begins.
    pub fn fault_begins(&mut self, fault: &Fault, _now: Time) {
        if let Fault::MassCut(_) = fault {
            self.mass_until = Time::MAX;
        }
    }

    /// A fault ends.
    pub fn fault_ends(&mut self, fault: &Fault, now: Time) {
        if let Fault::MassCut(_) = fault {
            self.mass_until = now;
        }
    }

    /// An agent starts with what its disk has.
    pub fn agent_started(&mut self, device: usize, one: &Device) {
        let has = one.file.durable().map(|assignment| assignment.stamp);
        let saved = one.duty.newest.as_ref().map(|assignment| assignment.stamp);
        if has < saved {
            self.fail("what an agent has saved survives", format!("d{device} has {has:?} of {saved:?}"));
        }
    }

    /// An agent's core has stepped.
    pub fn agent_stepped(&mut self, _device: usize, _one: &Device) {}

    /// An agent's file is written.
    pub fn saved(&mut self, device: usize, one: &mut Device, assignment: Assignment) {
        let owner = |container: &Container| container.fleet.filter(|fleet| *fleet != assignment.fleet);
        let held = one.duty.newest.as_ref().map(|newest| newest.fleet).filter(|fleet| *fleet != assignment.fleet);
        if let Some(owner) = held.or_else(|| one.engine.containers().find_map(owner)) {
            let seen = format!("d{device} of {owner} takes {} of {}", assignment.stamp, assignment.fleet);
            self.fail("a device of one fleet obeys no other", seen);
        }
        let duty = &mut one.duty;
        if let Some(newest) = &duty.newest
            && assignment.stamp < newest.stamp
        {
            let seen = format!("d{device} takes {} for {}", assignment.stamp, newest.stamp);
            self.fail("no device obeys an older assignment", seen);
        }
        duty.earlier = duty.newest.replace(assignment);
    }

    /// The agent's process is gone; a write under way may have become durable without anybody having been told.
    pub fn file_cut(&mut self, _device: usize, one: &mut Device) {
        // A damaged file is no assignment: its device holds none, and is whoever's takes it next.
        let Held::Assignment(durable) = one.file.read() else { return };
        let durable = Some(durable);
        if durable.as_ref().map(|a| a.stamp) > one.duty.newest.as_ref().map(|a| a.stamp) {
            one.duty.earlier = std::mem::replace(&mut one.duty.newest, durable);
        }
    }

    /// The agent's file is damaged: it has to begin anew.
    pub fn file_damaged(&mut self, one: &mut Device) {
        // A write that was under way may have mended it.
        if one.file.read() == Held::Unreadable {
            one.duty.newest = None;
        }
    }
}

impl World {
    /// A device receives something.
    pub fn check_received(&mut self, device: usize, message: &DownMessage) {
        let DownMessage::Want(want) = message else { return };
        let known = self.check.documents.get(&(device, want.fleet, want.stamp));
        if known.is_some_and(|known| known != want) {
            let seen = format!("d{device} gets another {}", super::show::assignment(want));
            self.check.fail("a device gets its own document, and one per stamp", seen);
        }
    }

    /// An agent wants its engine to do something.
    pub fn check_action(&mut self, device: usize, action: &Action) {
        let one = &mut self.devices[device];
        let Some(placement) = action.placement() else { return };
        // What has just become durable is not worked towards before the core was told.
        let held = one.agent.as_ref().and_then(|agent| agent.core.held());
        let saved = [one.duty.newest.as_ref(), one.duty.earlier.as_ref()];
        let newest = saved.into_iter().flatten().find(|want| Some(want.stamp) == held).or(one.duty.newest.as_ref());
        let assigned = newest.and_then(|want| want.replicas.iter().find(|copy| copy.placement == placement));
        let runs = assigned.is_some_and(|copy| copy.goal == Goal::Run);
        let is_true_to_newest = one.agent.as_ref().and_then(|agent| agent.core.held()) == newest.map(|want| want.stamp)
            && self.bug.is_faithful();
        let running = one.engine.containers().find(|other| other.placement == placement && other.state.is_running());
        let is_leased = assigned.is_some_and(|copy| matches!(copy.loss, LossPolicy::Exclusive { .. }));
        let seen = || format!("d{device}: {}", super::show::action(action));
        match action {
            Action::Create(_) if !runs => {
                self.check.fail("only what the newest saved assignment wants is begun", seen())
            }
            Action::Create(_) if running.is_some() => self.check.fail("what runs is adopted", seen()),
            Action::Stop(..) | Action::Remove(..)
                if runs && is_true_to_newest && !is_leased && running.is_some_and(|one| !is_unhealthy(one)) =>
            {
                self.check.fail("what is to run is not stopped", seen());
            }
            _ => (),
        }
        if runs && is_leased && matches!(action, Action::Stop(..)) && !one.link.is_whole() {
            self.sometimes.count("a lease ran out under a partition");
        }
        let is_stop = matches!(action, Action::Stop(..) | Action::Remove(..));
        if is_stop && self.check.is_still {
            self.check.fail("a restart of the hub, the broker or an agent stops nothing", seen());
        }
        if matches!(action, Action::Create(_) | Action::Start(..)) && self.check.is_still {
            self.check.fail("a restart of the hub, the broker or an agent starts nothing", seen());
        }
    }

    /// Containers have begun or ended to run.
    pub fn look_at_flips(&mut self, device: usize) {
        for flip in std::mem::take(&mut self.devices[device].engine.flips) {
            let container = flip.container;
            self.trace.count(&[51, self.now, device as u64, container.placement.0, u64::from(flip.runs)]);
            self.line(|| {
                format!(
                    "d{device} TRULY {} {}",
                    if flip.runs { "runs" } else { "ends" },
                    super::engine::shown(&container.replica, &container)
                )
            });
            let of_kind = if is_exclusive(&container) { &mut self.check.exclusive } else { &mut self.check.available };
            let alive = of_kind.entry(container.replica.clone()).or_default();
            if flip.runs {
                self.check.ran.insert(container.replica.service.clone());
                alive.insert((device, container.id.clone()));
            } else {
                alive.remove(&(device, container.id.clone()));
            }
            if alive.len() < 2 {
                continue;
            }
            if is_exclusive(&container) {
                let seen = format!("{} runs as {alive:?}", container.replica);
                self.check.fail("an exclusive replica runs once", seen);
            } else {
                self.sometimes.count("two copies of an available replica were alive at once");
            }
        }
    }

    /// The hub has decided something and begins to save it.
    pub fn check_decision(&mut self, records: &[Record]) {
        // What could not be saved at once is no new decision, and the fleet has gone on since.
        let is_late = self.hub.core.as_ref().is_some_and(|core| core.read_only().is_some());
        for record in records {
            let (Key::Placement(id), Some(Value::Placement(placement))) = (&record.key, &record.value) else {
                continue;
            };
            if self.check.placements.insert(*id) && !is_late {
                self.check_new_placement(*id, placement);
                self.check_dependencies(placement);
            }
        }
        // All that one decision places begins at once.
        for record in records {
            if let Some(Value::Placement(placement)) = &record.value {
                self.check.begun.insert(placement.service.clone());
            }
        }
    }

    fn check_new_placement(&mut self, id: PlacementId, placement: &PlacementRecord) {
        if self.check.is_still {
            let seen = format!(
                "{}.{} on {} because {}",
                placement.service, placement.number, placement.device, placement.reason.cause
            );
            self.check.fail("a restart of the hub, the broker or an agent moves nothing", seen);
        }
        let Some(core) = &self.hub.core else { return };
        let fleet = core.fleet();
        let seen = |what: &str| {
            let (service, number, device) = (&placement.service, placement.number, &placement.device);
            format!("{service}.{number} ({id}) on {device} because {}: {what}", placement.reason.cause)
        };
        if placement.stage != Stage::Stop
            && let Err(reason) = naive::may_take(fleet, id, placement, &self.devices)
        {
            self.check.fail("constraints, capacity and ports hold when a copy is placed", seen(&reason));
        }
        let liveness = fleet.device(&placement.device).map(|device| device.liveness);
        if liveness != Some(Liveness::Up) {
            self.check.fail("only a device that is up gets something new", seen(&format!("{liveness:?}")));
        }
        let Some(core) = &self.hub.core else { return };
        let safe_mode = core.fleet().safe_mode().map(str::to_owned);
        let Cause::Lost(from) = &placement.reason.cause else { return };
        self.sometimes.count("a device was lost and its copies replaced");
        if matches!(placement.loss, LossPolicy::Exclusive { .. }) {
            self.sometimes.count("an exclusive copy was replaced");
        }
        if let Some(why) = safe_mode {
            self.check.fail("nothing moves in safe mode", seen(&why));
        }
        if self.check.mass_until > self.now && !self.check.is_healing {
            self.check.fail("nothing moves while more than half of the fleet is silent", seen("a mass cut"));
        }
        self.check_silence(from.as_str(), &seen("heard too lately"));
    }

    /// What a service depends on has run before the first copy of it is placed. It may have ended since, unheard.
    fn check_dependencies(&mut self, placement: &PlacementRecord) {
        if self.check.begun.contains(&placement.service) {
            return;
        }
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return };
        let Some(view) = fleet.service(&placement.service) else { return };
        let idle = view.spec.depends_on.iter().find(|on| {
            let on = ServiceRef { stack: placement.service.stack.clone(), service: (*on).clone() };
            fleet.service(&on).is_some() && !self.check.ran.contains(&on)
        });
        if let Some(on) = idle {
            let seen = format!("{}.{} before {on}", placement.service, placement.number);
            self.check.fail("what a service depends on runs before it does", seen);
        }
    }

    /// A device whose copies are moved because it was lost must have been silent for long enough.
    fn check_silence(&mut self, from: &str, seen: &str) {
        let Some(index) = from.strip_prefix('d').and_then(|number| number.parse::<usize>().ok()) else { return };
        let now = self.now;
        let limit = match (self.check.heard_at[index], self.check.bye_at[index]) {
            (None, _) if self.check.lost_before.iter().any(|device| device.as_str() == from) => 0,
            (None, _) => START_GRACE.saturating_sub(now - self.check.hub_started) + now,
            (Some(heard), Some(bye)) if bye >= heard.saturating_sub(500) => heard + SHORTEST_SILENCE,
            (Some(heard), _) => heard + SHORTEST_UNANNOUNCED,
        };
        if now < limit {
            self.check.fail("no copy is moved from a device that was heard", seen.to_owned());
        }
    }

    /// The hub tells a device what to run.
    pub fn check_published(&mut self, device: usize, message: &DownMessage) {
        let DownMessage::Want(want) = message else { return };
        let name = self.devices[device].name.clone();
        let durable = self.hub.store.durable();
        for copy in &want.replicas {
            let Some(Value::Placement(saved)) = durable.get(&Key::Placement(copy.placement)) else {
                let seen = format!("{name}: {} in {}", copy.placement, want.stamp);
                self.check.fail("what is published was saved", seen);
                return;
            };
            if saved.device != name || saved.number != copy.replica.number {
                let seen = format!("{name}: {} is {}'s", copy.placement, saved.device);
                self.check.fail("no device gets another's copies", seen);
                return;
            }
        }
        if want.stamp.epoch != self.hub.epoch {
            self.check.fail("what is published has the hub's epoch", format!("{name}: {}", want.stamp));
        }
        if let Some(before) = self.check.documents.insert((device, want.fleet, want.stamp), want.clone())
            && before != *want
        {
            let seen = format!("{name}: {}", super::show::difference(want, &before));
            self.check.fail("one stamp has one document", seen);
        }
        if let Err(reason) = naive::fits_together(want, &self.devices[device], &self.operator) {
            self.check.fail("what a device is to run fits together", format!("{name}: {reason}"));
        }
    }

    /// The hub's store has been written: it must have what was granted, and nothing that was refused.
    pub fn check_store(&mut self) {
        if self.hub.lost.is_some() {
            return;
        }
        let open: BTreeSet<String> = self.operator.open.values().map(super::workload::touches).collect();
        let durable = self.hub.store.durable();
        for (name, spec) in self.operator.wanted.services() {
            if open.contains(name.stack.as_str()) {
                continue;
            }
            let seen = match durable.get(&Key::Service(name.clone())) {
                Some(Value::Service(saved)) if saved.spec == *spec && !saved.removed => continue,
                Some(Value::Service(saved)) => format!("{name}: {:?} instead of {:?}", saved.spec, spec),
                _ => format!("{name} is not there"),
            };
            self.check.fail("what was granted is in the store, and nothing that was refused", seen);
            return;
        }
        for key in durable.keys() {
            let Key::Stack(stack) = key else { continue };
            if !self.operator.wanted.stacks.contains_key(stack) && !open.contains(stack.as_str()) {
                let seen = format!("{stack} should not be there");
                self.check.fail("what was granted is in the store, and nothing that was refused", seen);
                return;
            }
        }
    }

    /// The hub remarks something.
    pub fn remarked(&mut self, remark: &Remark) {
        match remark.kind {
            "device_refused" if self.hub.lost.is_some() => {
                self.sometimes.count("a device refused the hub of another fleet");
            }
            "safe_mode_began" => self.sometimes.count("safe mode was entered"),
            "roll_changed" if self.devices.iter().any(|device| !device.is_on || !device.link.is_whole()) => {
                self.sometimes.count("a roll went on while a device was away");
            }
            "replica_pending" if remark.reason.as_deref().is_some_and(|reason| reason.contains("waits until")) => {
                self.sometimes.count("a service waited for what it depends on");
            }
            "replica_moved" => {
                let is_failing = remark.reason.as_deref().is_some_and(|reason| reason.contains("kept failing"));
                if is_failing || remark.message.contains("kept failing") {
                    self.sometimes.count("a copy kept failing and was placed elsewhere");
                }
            }
            _ => (),
        }
    }
}

/// What does not become healthy is started anew.
fn is_unhealthy(container: &Container) -> bool {
    container.state == ContainerState::Running { health: Health::Unhealthy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::profile::Profile;
    use crate::sim::rng::Rng;

    #[test]
    fn a_device_whose_file_is_damaged_and_on_which_nothing_is_left_belongs_to_no_fleet() {
        let (rng, profile) = (&mut Rng::new(1), Profile::Storage);
        let (manners, link) = (profile.manners(rng), profile.link(rng));
        let mut one = Device::new(0, manners, link, rng);
        let mut check = Checker::new(1);
        let of = |fleet| Assignment { fleet: FleetId(fleet), ..Assignment::default() };
        let number = one.file.begin(of(1));
        let (written, _) = one.file.end(number).expect("it was begun");
        check.saved(0, &mut one, written);
        one.file.damage();
        check.file_damaged(&mut one);
        // The power goes: what is on the disk is still of no use.
        check.file_cut(0, &mut one);
        check.saved(0, &mut one, of(2));
        assert!(check.broken.is_none(), "{:?}", check.broken);
    }
}
