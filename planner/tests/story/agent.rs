//! A device as simple as can be: it does what its assignment says, after the time that such things take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_planner::Heard;
use outrigger_protocol::{
    Assigned, Assignment, BootId, Bye, ByeReason, DeviceName, EngineState, ExitCause, Facts, FleetId, Goal, Hello,
    Lease, Load, LossPolicy, Moment, Observed, Phase, PlacementId, ReplicaName, Report, SessionNumber, Stamp, Status,
};

const BEAT: Duration = Duration::from_secs(1);

/// A device and its agent.
pub struct Agent {
    pub name: DeviceName,
    pub facts: Facts,
    pub machine: u128,
    pub boot: u128,
    pub session: u64,
    pub powered: bool,
    /// Whether messages get through.
    pub cable: bool,
    pub greeted: bool,
    pub engine: EngineState,
    pub load: Load,
    pub pull_time: Duration,
    pub start_time: Duration,
    /// How long what is published takes to reach it.
    pub delay: Duration,
    inbox: Vec<(Moment, Assignment)>,
    /// Containers of these services (or with this image) fail so.
    pub faults: BTreeMap<String, Fault>,
    pub held: Option<Assignment>,
    pub containers: BTreeMap<PlacementId, Container>,
    pub images: BTreeSet<String>,
    sequence: u32,
    sent_at: BTreeMap<u32, Moment>,
    next_beat: Moment,
    told: Option<Told>,
    /// Statuses of this connection.
    statuses: u32,
    /// Belongs to this fleet, whatever it holds.
    pub fleet: Option<FleetId>,
    lease_from: Option<Moment>,
}

/// All that a status says.
type Told = (Option<Stamp>, EngineState, Vec<Observed>);

/// How containers fail.
#[derive(Clone, PartialEq, Eq)]
pub enum Fault {
    /// The image cannot be had.
    Pull(String),
    /// Nothing of the image arrives.
    Hang,
    /// It ends a moment after its start.
    Crash(String),
    /// The kernel kills it.
    Memory,
    /// Its healthcheck fails.
    Unhealthy,
    /// The owner of the device does not allow it.
    Owner(String),
}

/// A container, or one to be.
pub struct Container {
    pub replica: ReplicaName,
    pub service: String,
    pub image: String,
    pub goal: Goal,
    pub loss: LossPolicy,
    pub phase: Phase,
    pub since: Moment,
    pub restarts: u32,
    pub exit: Option<ExitCause>,
}

impl Agent {
    pub fn new(name: DeviceName, facts: Facts, number: u64, now: Moment) -> Self {
        Self {
            name,
            facts,
            machine: u128::from(number) + 1,
            boot: u128::from(number) * 1000 + 1,
            session: 1,
            powered: true,
            cable: true,
            greeted: false,
            engine: EngineState::Up,
            load: Load::default(),
            pull_time: Duration::ZERO,
            start_time: Duration::from_millis(300),
            delay: Duration::ZERO,
            inbox: vec![],
            faults: BTreeMap::new(),
            held: None,
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            sequence: 0,
            sent_at: BTreeMap::new(),
            // Heartbeats of different devices do not fall together.
            next_beat: now + Duration::from_millis(number * 137 % 1000),
            told: None,
            statuses: 0,
            fleet: None,
            lease_from: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.powered && self.cable
    }

    pub fn running(&self) -> impl Iterator<Item = (PlacementId, &Container)> {
        let alive = |c: &Container| matches!(c.phase, Phase::Running | Phase::Unhealthy | Phase::Starting);
        self.containers.iter().filter(move |(_, c)| self.powered && alive(c)).map(|(id, c)| (*id, c))
    }

    pub fn power_off(&mut self) {
        self.powered = false;
        self.inbox.clear();
        self.containers.clear();
        self.lease_from = None;
    }

    /// Boots: what is `available` starts from the disk, what is exclusive waits for a lease.
    pub fn power_on(&mut self) {
        self.powered = true;
        self.boot += 1;
        self.session = 1;
        self.greeted = false;
        self.told = None;
        self.statuses = 0;
    }

    pub fn reconnect(&mut self) {
        self.session += 1;
        self.greeted = false;
        self.told = None;
        self.statuses = 0;
    }

    pub fn bye(&self, reason: ByeReason) -> Heard {
        Heard::Bye(Bye { session: SessionNumber(self.session), reason })
    }

    /// Its owner has it leave its fleet for this one, or for the first that it finds.
    pub fn leave_for(&mut self, fleet: Option<FleetId>) {
        self.held = None;
        self.containers.clear();
        self.fleet = fleet;
        self.reconnect();
    }

    /// Its owner allows what was refused: it says that its policy is another one, and what it was refused goes on.
    pub fn allow(&mut self, what: &str) {
        self.faults.remove(what);
        self.facts.policy += 1;
        self.greeted = false;
        for container in self.containers.values_mut() {
            if container.service == what && matches!(container.phase, Phase::Refused { .. }) {
                container.phase = Phase::Waiting;
            }
        }
    }

    /// What another machine with its name would say.
    pub fn impostor(&self) -> Heard {
        let hello = self.hello(Moment(0));
        Heard::Hello(Hello { machine: self.machine + 1_000_000, boot: BootId(self.boot + 1_000_000), ..hello })
    }

    /// An assignment is on its way to it.
    pub fn send(&mut self, assignment: Assignment, now: Moment) {
        self.inbox.push((now + self.delay, assignment));
        self.receive(now);
    }

    fn receive(&mut self, now: Moment) {
        let (due, later) = std::mem::take(&mut self.inbox).into_iter().partition(|(at, _)| *at <= now);
        self.inbox = later;
        let due: Vec<(Moment, Assignment)> = due;
        due.into_iter().for_each(|(_, assignment)| self.obey(assignment));
    }

    /// Takes an assignment; what it says is done as soon as the engine answers.
    fn obey(&mut self, assignment: Assignment) {
        if self.fleet.or(self.held.as_ref().map(|held| held.fleet)).is_some_and(|own| own != assignment.fleet) {
            return;
        }
        if self.held.as_ref().is_none_or(|held| held.stamp <= assignment.stamp) {
            self.held = Some(assignment);
        }
    }

    /// Makes and removes containers as the assignment says; says how many running ones it stops.
    fn converge(&mut self, now: Moment) -> u32 {
        let Some(assignment) = &self.held else { return 0 };
        let wanted: BTreeMap<PlacementId, &Assigned> = assignment.replicas.iter().map(|a| (a.placement, a)).collect();
        let alive = |c: &Container| matches!(c.phase, Phase::Running | Phase::Unhealthy | Phase::Starting);
        let before = self.containers.values().filter(|c| alive(c)).count();
        self.containers.retain(|id, _| wanted.contains_key(id));
        let stopped = before - self.containers.values().filter(|c| alive(c)).count();
        for (id, assigned) in wanted {
            let Some(spec) = assignment.spec_of(assigned) else { continue };
            let container = self.containers.entry(id).or_insert_with(|| Container {
                replica: assigned.replica.clone(),
                service: assigned.replica.service.to_string(),
                image: spec.image.clone(),
                goal: assigned.goal,
                loss: assigned.loss,
                phase: Phase::Waiting,
                since: now,
                restarts: 0,
                exit: None,
            });
            container.goal = assigned.goal;
            container.loss = assigned.loss;
        }
        u32::try_from(stopped).unwrap()
    }

    pub fn renew(&mut self, lease: &Lease) {
        if lease.session == SessionNumber(self.session) {
            self.lease_from = self.sent_at.get(&lease.sequence).copied();
        }
    }

    /// Lets containers go on; says how many were started and stopped.
    pub fn advance(&mut self, now: Moment) -> (u32, u32) {
        if !self.powered {
            return (0, 0);
        }
        self.receive(now);
        if self.engine != EngineState::Up {
            return (0, self.end_leases(now));
        }
        let (mut started, mut stopped) = (0, self.converge(now));
        for container in self.containers.values_mut() {
            let leased = match container.loss {
                LossPolicy::Exclusive { lease } => self.lease_from.is_some_and(|from| now < from + lease),
                LossPolicy::Available | LossPolicy::Wait => true,
            };
            let fault = self.faults.get(&container.image).or_else(|| self.faults.get(&container.service));
            let next = next_phase(container, fault, leased, now, (self.pull_time, self.start_time));
            let Some(next) = next else { continue };
            started += u32::from(next == Phase::Starting);
            stopped += u32::from(next == Phase::LeaseOver);
            if next == Phase::Starting {
                self.images.insert(container.image.clone());
            }
            if next == Phase::Prepared {
                self.images.insert(container.image.clone());
            }
            if !matches!((&container.phase, &next), (Phase::Pulling { .. }, Phase::Pulling { .. })) {
                container.since = now;
            }
            container.phase = next;
        }
        (started, stopped)
    }

    /// What must not run without a lease is stopped even when the engine does not answer: its processes are killed.
    fn end_leases(&mut self, now: Moment) -> u32 {
        let mut stopped = 0;
        for container in self.containers.values_mut() {
            let LossPolicy::Exclusive { lease } = container.loss else { continue };
            let leased = self.lease_from.is_some_and(|from| now < from + lease);
            let alive = matches!(container.phase, Phase::Running | Phase::Unhealthy | Phase::Starting);
            if alive && !leased {
                container.phase = Phase::LeaseOver;
                container.since = now;
                stopped += 1;
            }
        }
        stopped
    }

    /// What it says now.
    pub fn speak(&mut self, now: Moment) -> Vec<Heard> {
        let mut messages = vec![];
        if !self.is_connected() {
            return messages;
        }
        if !self.greeted {
            self.greeted = true;
            self.told = None;
            messages.push(Heard::Hello(self.hello(now)));
        }
        let observed = self.observed();
        let telling = (self.held.as_ref().map(|held| held.stamp), self.engine.clone(), observed.clone());
        if self.told.as_ref() != Some(&telling) {
            self.statuses += 1;
            messages.push(Heard::Status(self.status(observed)));
            self.told = Some(telling);
        }
        if now >= self.next_beat {
            self.next_beat = self.next_beat + BEAT;
            while self.next_beat <= now {
                self.next_beat = self.next_beat + BEAT;
            }
            self.sequence += 1;
            self.sent_at.insert(self.sequence, now);
            let session = SessionNumber(self.session);
            let held = self.held.as_ref().map(|held| held.stamp);
            let (sequence, statuses, load) = (self.sequence, self.statuses, Some(self.load));
            let report = Report { session, sequence, statuses, held, load, usage: vec![] };
            messages.push(Heard::Report(report));
        }
        messages
    }

    fn hello(&self, now: Moment) -> Hello {
        Hello {
            boot: BootId(self.boot),
            session: SessionNumber(self.session),
            machine: self.machine,
            fleet: self.fleet.or(self.held.as_ref().map(|held| held.fleet)),
            held: self.held.as_ref().map(|held| held.stamp),
            unix_ms: now.0,
            heartbeat_ms: 1000,
            facts: self.facts.clone(),
        }
    }

    fn observed(&self) -> Vec<Observed> {
        let observed = self.containers.iter().map(|(id, container)| Observed {
            placement: *id,
            replica: container.replica.clone(),
            phase: container.phase.clone(),
            restarts: container.restarts,
            since_s: 0,
            last_exit: container.exit.clone(),
            container: String::new(),
            digest: String::new(),
            ports: vec![],
        });
        observed.collect()
    }

    fn status(&self, replicas: Vec<Observed>) -> Status {
        Status {
            session: SessionNumber(self.session),
            number: self.statuses,
            held: self.held.as_ref().map(|held| held.stamp),
            engine: self.engine.clone(),
            replicas,
            images: self.images.iter().cloned().collect(),
        }
    }
}

fn next_phase(
    container: &mut Container,
    fault: Option<&Fault>,
    leased: bool,
    now: Moment,
    (pull, start): (Duration, Duration),
) -> Option<Phase> {
    let passed = now.since(container.since);
    let run = container.goal == Goal::Run;
    match &container.phase {
        Phase::Running | Phase::Unhealthy | Phase::Starting if !leased => Some(Phase::LeaseOver),
        Phase::Waiting => match fault {
            Some(Fault::Owner(reason)) => Some(Phase::Refused { reason: reason.clone() }),
            Some(Fault::Pull(reason)) => Some(Phase::BackOff { retry_ms: 1000, reason: reason.clone() }),
            _ => Some(Phase::Pulling { done: 0, total: 10 }),
        },
        Phase::Pulling { .. } if fault == Some(&Fault::Hang) => None,
        Phase::Pulling { done, .. } if passed < pull => {
            // It gets on by a tenth at a time.
            let now_done = u64::try_from(passed.as_millis() * 10 / pull.as_millis().max(1)).unwrap();
            (now_done > *done).then_some(Phase::Pulling { done: now_done, total: 10 })
        }
        Phase::Pulling { .. } => Some(Phase::Prepared),
        Phase::Prepared if !run => None,
        Phase::Prepared | Phase::LeaseOver => leased.then_some(Phase::Starting),
        Phase::Starting if passed < start => None,
        Phase::Starting | Phase::Running => match fault {
            Some(Fault::Crash(reason)) => {
                container.restarts += 1;
                container.exit = Some(ExitCause::Exited(1));
                Some(Phase::BackOff { retry_ms: 500, reason: reason.clone() })
            }
            Some(Fault::Memory) => {
                container.restarts += 1;
                container.exit = Some(ExitCause::OutOfMemory);
                Some(Phase::BackOff { retry_ms: 500, reason: "killed for memory".into() })
            }
            Some(Fault::Unhealthy) => Some(Phase::Unhealthy),
            Some(Fault::Pull(_) | Fault::Hang | Fault::Owner(_)) | None => {
                (container.phase == Phase::Starting).then_some(Phase::Running)
            }
        },
        Phase::BackOff { .. } if passed < Duration::from_millis(500) => None,
        Phase::BackOff { .. } if container.restarts == 0 => match fault {
            Some(Fault::Pull(_)) => None,
            _ => Some(Phase::Waiting),
        },
        Phase::BackOff { .. } => Some(Phase::Starting),
        Phase::Unhealthy => fault.is_none().then_some(Phase::Running),
        Phase::Completed | Phase::Failed { .. } | Phase::Refused { .. } | Phase::Stopping => None,
    }
}
