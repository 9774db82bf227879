//! Stories: a hub with its fleet, and devices as simple as can be, on one clock that only the story moves.

pub mod agent;
pub mod mesh;
pub mod tell;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_planner::{
    Committed, CopyView, Fleet, Heard, Key, Liveness, Note, NoteKind, Policy, Record, Reply, RollState, Stage, Value,
    Wish,
};
use outrigger_protocol::{
    DeviceName, Epoch, FleetId, LossPolicy, Mode, Moment, Phase, PlacementId, ReplicaName, Routes, ServiceRef,
};

use agent::Agent;

/// The hub's fleet.
pub const FLEET: FleetId = FleetId(0xf1ee7);

/// Time between two looks at everything.
pub const STEP: Duration = Duration::from_millis(100);

/// A hub, its store, and the devices.
pub struct World {
    pub fleet: Fleet,
    pub policy: Policy,
    pub now: Moment,
    pub agents: BTreeMap<DeviceName, Agent>,
    pub store: BTreeMap<Key, Value>,
    pub notes: Vec<Note>,
    /// What each device was told of the service network last.
    pub routes: BTreeMap<DeviceName, Routes>,
    /// Containers started since the beginning.
    pub starts: u32,
    /// Containers stopped that had been running.
    pub stops: u32,
    /// Whether the hub runs.
    pub hub_up: bool,
    look_at: Option<Moment>,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let fleet = Fleet::new(policy.clone(), FLEET, Epoch(1));
        Self {
            fleet,
            policy,
            now: Moment(1_000_000),
            agents: BTreeMap::new(),
            store: BTreeMap::new(),
            notes: vec![],
            routes: BTreeMap::new(),
            starts: 0,
            stops: 0,
            hub_up: true,
            look_at: None,
        }
    }

    pub fn wish(&mut self, wish: Wish) -> Result<(), String> {
        let records = self.fleet.check(&wish).map_err(|refusal| refusal.to_string())?;
        self.save(records);
        let notes = self.fleet.wish(wish, self.now).map_err(|refusal| refusal.to_string())?;
        self.notes.extend(notes);
        self.plan();
        Ok(())
    }

    /// The hub forgets all that it has not saved.
    pub fn restart_hub(&mut self) {
        let records: Vec<Record> =
            self.store.iter().map(|(key, value)| Record { key: key.clone(), value: Some(value.clone()) }).collect();
        let restored = Fleet::restore(records, self.policy.clone(), FLEET, Epoch(1), self.now);
        assert!(restored.ignored.is_empty(), "{:?}", restored.ignored);
        self.fleet = restored.fleet;
        self.routes.clear();
        self.hub_up = true;
        for agent in self.agents.values_mut() {
            agent.greeted = false;
        }
        self.plan();
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + STEP;
            self.step();
        }
    }

    fn step(&mut self) {
        let names: Vec<DeviceName> = self.agents.keys().cloned().collect();
        for name in names {
            let Some(agent) = self.agents.get_mut(&name) else { continue };
            let (started, stopped) = agent.advance(self.now);
            self.starts += started;
            self.stops += stopped;
            if !self.hub_up {
                continue;
            }
            for message in agent.speak(self.now) {
                self.hear(&name, message);
            }
        }
        if self.hub_up && self.look_at.is_some_and(|at| at <= self.now) {
            self.plan();
        }
        if self.hub_up {
            // Looked at when something was told, and now and then, in case that something was not.
            if self.route() || self.now.0.is_multiple_of(1000) {
                self.check_routes();
            }
        }
        self.check();
    }

    pub fn hear(&mut self, name: &DeviceName, message: Heard) {
        let Reply { ask_hello, lease, publish, notes, .. } = self.fleet.hear(name, message, self.now);
        self.notes.extend(notes);
        if let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.is_connected()) {
            agent.greeted &= !ask_hello;
            if let Some(lease) = lease {
                agent.renew(&lease);
            }
        }
        self.plan();
        if publish {
            self.publish(name);
        }
    }

    fn plan(&mut self) {
        let before = self.good();
        let (Committed { devices, records, notes, leaving: _ }, look_at) = self.fleet.settle(self.now);
        if !notes.iter().any(|note| note.kind == NoteKind::DeviceLost) {
            self.check_availability(&before);
        }
        self.save(records);
        self.notes.extend(notes);
        self.look_at = look_at;
        let (again, _) = self.fleet.settle(self.now);
        assert_eq!(again, Committed::default(), "planning twice at {} changed something", self.now);
        for name in devices {
            self.publish(&name);
        }
        self.route();
    }

    /// Replicas of which a copy does its work, as far as the hub knows.
    fn good(&self) -> BTreeMap<ServiceRef, BTreeSet<u32>> {
        let works = |copy: &CopyView<'_>| {
            let runs = copy.seen.is_some_and(|seen| matches!(seen.phase, Phase::Running | Phase::Completed));
            runs && copy.stage == Stage::Run && !matches!(copy.liveness, Liveness::Unheard | Liveness::Lost)
        };
        let numbers = |service: &ServiceRef| {
            let good = self.fleet.replicas(service).filter(|replica| replica.copies.iter().any(works));
            good.map(|replica| replica.name.number).collect()
        };
        self.fleet.services().map(|service| (service.name.clone(), numbers(service.name))).collect()
    }

    /// No plan takes away what does its work, beyond what a roll may; losses are not the plan's fault.
    fn check_availability(&self, before: &BTreeMap<ServiceRef, BTreeSet<u32>>) {
        let after = self.good();
        for service in self.fleet.services().filter(|service| service.spec.loss == LossPolicy::Available) {
            let Mode::Replicated(wanted) = service.spec.mode else { continue };
            let count = |good: &BTreeMap<ServiceRef, BTreeSet<u32>>| {
                good.get(service.name).map_or(0, |numbers| numbers.range(..=wanted).count())
            };
            let rolls = service.roll.state != RollState::Done;
            let may = if rolls { service.spec.update.parallelism as usize } else { 0 };
            let (had, now) = (count(before), count(&after));
            assert!(now + may >= had, "{} had {had} and was cut to {now} at {}", service.name, self.now);
        }
    }

    fn publish(&mut self, name: &DeviceName) {
        let Some(assignment) = self.fleet.assignment(name) else { return };
        if let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.is_connected()) {
            agent.send(assignment, self.now);
        }
    }

    fn save(&mut self, records: Vec<Record>) {
        for Record { key, value } in records {
            match value {
                Some(value) => drop(self.store.insert(key, value)),
                None => drop(self.store.remove(&key)),
            }
        }
    }

    /// What must hold at every moment.
    fn check(&self) {
        let mut exclusive: BTreeMap<&ReplicaName, BTreeSet<(&DeviceName, PlacementId)>> = BTreeMap::new();
        for (name, agent) in &self.agents {
            for (id, container) in agent.running() {
                if matches!(container.loss, LossPolicy::Exclusive { .. }) {
                    exclusive.entry(&container.replica).or_default().insert((name, id));
                }
            }
        }
        for (replica, copies) in exclusive {
            assert!(copies.len() < 2, "{replica} is exclusive and runs {copies:?} at {}", self.now);
        }
    }

    /// Devices on which a replica runs, or all replicas of a service.
    pub fn running(&self, what: &str) -> Vec<String> {
        let mut found = vec![];
        for (name, agent) in &self.agents {
            for (_, container) in agent.running() {
                let replica = container.replica.to_string();
                if replica == what || container.replica.service.to_string() == what {
                    found.push(name.to_string());
                }
            }
        }
        found
    }
}
