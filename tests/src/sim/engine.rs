//! A model of a container engine. It behaves like Docker where decisions depend on it: images must be pulled, making and
//! starting are two steps, stopping takes time, ports collide, containers end with the power and outlive the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_agent::core::{Action, ActionId, Outcome, Success};
use outrigger_agent::engine::{
    Container, ContainerId, ContainerState, EngineError, EngineEvent, Health, LossLabel, NewContainer,
};
use outrigger_protocol::{ContainerSpec, PlacementId, PublishMode, ReplicaName, ServiceRef};

use super::bridges::Bridges;
use super::queue::Time;
use super::rng::Rng;

/// How long things take and what fails.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Shortest and longest time of a pull.
    pub pull: (Time, Time),
    /// Of making and starting a container.
    pub start: (Time, Time),
    /// Of a program's end once it is asked; longer than its grace, it is killed.
    pub stop: (Time, Time),
    /// Of an answer or an event on its way to the agent.
    pub answer: (Time, Time),
    /// Pulls fail.
    pub registry_down: bool,
    /// Pulls and new containers fail.
    pub disk_full: bool,
    /// Containers of these services end by themselves soon after each start.
    pub crashing: BTreeMap<ServiceRef, End>,
    /// Healthchecks of these services fail.
    pub unhealthy: BTreeSet<ServiceRef>,
}

/// How a container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Exit code.
    pub code: i64,
    /// Whether the kernel killed it for memory.
    pub out_of_memory: bool,
}

/// A step of a call, or of a container's life, that is due later.
#[derive(Debug, Clone)]
pub enum Op {
    /// The call takes effect.
    Act(ActionId, Action),
    /// A container that was made is started.
    Run(ActionId, ContainerId),
    /// A program that was asked to end does so, or is killed.
    Stopped(ActionId, ContainerId),
    /// A program ends by itself; of that start only.
    Exit(ContainerId, u32, End),
    /// A healthcheck passes or fails; of that start only.
    Health(ContainerId, u32, Health),
}

/// What comes of a step.
#[derive(Debug)]
pub enum Out {
    /// The agent gets this answer.
    Done(ActionId, Outcome),
    /// The agent hears this.
    Tell(EngineEvent),
    /// This is due after so long.
    Later(Time, Op),
}

/// A container began or ended to run, in true time.
#[derive(Debug, Clone)]
pub struct Flip {
    /// The container as it is now.
    pub container: Container,
    /// Whether it runs now.
    pub runs: bool,
}

/// The engine of one device.
#[derive(Debug)]
pub struct Engine {
    /// Whether it answers.
    pub is_up: bool,
    /// Counts its starts; steps of an earlier one are void.
    pub life: u32,
    /// How it behaves.
    pub manners: Manners,
    /// What has begun or ended to run and nobody has looked at yet.
    pub flips: Vec<Flip>,
    calls: BTreeMap<ActionId, u32>,
    entries: BTreeMap<ContainerId, Entry>,
    images: BTreeSet<String>,
    bridges: Bridges,
    next: u64,
    prefix: String,
    rng: Rng,
}

#[derive(Debug, Clone)]
struct Entry {
    container: Container,
    spec: Arc<ContainerSpec>,
    start: u32,
}

impl Engine {
    /// An engine without containers and images.
    #[must_use]
    pub fn new(prefix: &str, manners: Manners, rng: Rng) -> Self {
        Self {
            is_up: true,
            life: 0,
            manners,
            flips: Vec::new(),
            calls: BTreeMap::new(),
            entries: BTreeMap::new(),
            images: BTreeSet::new(),
            bridges: Bridges::default(),
            next: 0,
            prefix: prefix.to_owned(),
            rng,
        }
    }

    /// All containers as they truly are.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.entries.values().map(|entry| &entry.container)
    }

    /// Time until an answer or an event reaches the agent.
    pub fn latency(&mut self) -> Time {
        self.rng.range(self.manners.answer.0, self.manners.answer.1)
    }

    /// A call begins.
    pub fn call(&mut self, id: ActionId, action: Action) -> Out {
        if !self.is_up {
            return Out::Done(id, Err(unreachable()));
        }
        self.calls.insert(id, self.life);
        let (low, high) = match &action {
            Action::Pull(_) => self.manners.pull,
            Action::Create(_) | Action::Start(..) => self.manners.start,
            Action::MakeNetwork(..) | Action::RemoveNetwork(..) | Action::ListNetworks => self.manners.start,
            Action::Check(_)
            | Action::Stop(..)
            | Action::Remove(..)
            | Action::List
            | Action::Inspect(..)
            | Action::Lay(..)
            | Action::Clear(_) => self.manners.answer,
        };
        let half = self.rng.range(low, high) / 2;
        Out::Later(half, Op::Act(id, action))
    }

    /// A call is given up.
    pub fn abort(&mut self, id: ActionId) {
        self.calls.remove(&id);
    }

    /// The agent's process is gone, and its calls with it. What the engine has begun goes on.
    pub fn agent_gone(&mut self) {
        self.calls.clear();
    }

    /// The engine's process ends. Containers go on, or end with it where it does not keep them (`live-restore` is off).
    pub fn go_down(&mut self, ends_containers: bool) -> Vec<Out> {
        self.is_up = false;
        self.life += 1;
        if ends_containers {
            self.end_all();
        }
        let calls = std::mem::take(&mut self.calls);
        let mut outs = vec![Out::Tell(EngineEvent::Lost("connection refused".to_owned()))];
        outs.extend(calls.into_keys().map(|id| Out::Done(id, Err(unreachable()))));
        outs
    }

    /// It answers again.
    pub fn come_up(&mut self) -> Vec<Out> {
        self.is_up = true;
        vec![self.tell_all()]
    }

    /// The power is cut: nothing runs any more, and nobody is told.
    pub fn cut_power(&mut self) {
        self.is_up = false;
        self.life += 1;
        self.calls.clear();
        self.end_all();
    }

    /// All containers, for an agent that begins to listen.
    #[must_use]
    pub fn tell_all(&self) -> Out {
        Out::Tell(if self.is_up {
            EngineEvent::Listed(self.containers().cloned().collect())
        } else {
            EngineEvent::Lost("connection refused".to_owned())
        })
    }

    /// A running container of the fault's choice ends.
    pub fn end_one(&mut self, choice: u64, end: End) -> Vec<Out> {
        let running: Vec<ContainerId> = self
            .entries
            .values()
            .filter(|one| one.container.state.is_running())
            .map(|one| one.container.id.clone())
            .collect();
        let Some(id) = running.get(usize::try_from(choice).unwrap_or(0) % running.len().max(1)) else { return vec![] };
        self.end(&id.clone(), None, end)
    }

    /// A step is due. `has_agent`: the agent that made the call still runs.
    pub fn step(&mut self, op: Op, has_agent: bool) -> Vec<Out> {
        match op {
            Op::Act(id, action) => self.act(id, action, has_agent),
            Op::Run(id, container) => self.run_made(id, &container, has_agent),
            Op::Stopped(id, container) => {
                let mut outs = self.end(&container, None, End { code: 143, out_of_memory: false });
                outs.extend(self.done(id, Ok(Success::Done)));
                outs
            }
            Op::Exit(container, start, end) => self.end(&container, Some(start), end),
            Op::Health(container, start, health) => self.set_health(&container, start, health),
        }
    }

    fn act(&mut self, id: ActionId, action: Action, has_agent: bool) -> Vec<Out> {
        // A call whose caller is gone before the engine has seen it never comes.
        if !has_agent || !self.calls.contains_key(&id) {
            return vec![];
        }
        match action {
            Action::Check(image) => {
                let found = self.images.contains(&image.image).then(|| digest(&image.image));
                self.done(id, Ok(Success::Checked(found)))
            }
            Action::Pull(image) => {
                let outcome = self.pull(&image.image);
                self.done(id, outcome)
            }
            Action::Create(new) => self.create(id, new),
            Action::Start(_, container) => {
                let outs = self.start(&container);
                self.finish(id, outs.map(|outs| (Success::Done, outs)))
            }
            Action::Stop(_, container, grace) => {
                self.stop(id, container, u64::try_from(grace.as_millis()).unwrap_or(0))
            }
            Action::Remove(_, container) => {
                let mut outs = self.remove(&container);
                outs.extend(self.done(id, Ok(Success::Done)));
                outs
            }
            Action::List => {
                let all = self.entries.values().map(|entry| entry.container.clone()).collect();
                self.done(id, Ok(Success::Listed(all)))
            }
            Action::MakeNetwork(spec, fleet) => {
                let outcome = self.bridges.make(&spec, fleet);
                self.done(id, outcome)
            }
            Action::RemoveNetwork(name, _) => {
                let outcome = self.bridges.remove(&name);
                self.done(id, outcome)
            }
            Action::ListNetworks => {
                let all = self.bridges.all();
                self.done(id, Ok(Success::Networks(all)))
            }
            Action::Lay(..) | Action::Clear(_) => self.done(id, Ok(Success::Done)),
            Action::Inspect(_, container) => {
                let seen = self.entries.get(&container).map(|entry| entry.container.clone());
                self.done(id, Ok(Success::Inspected(seen)))
            }
        }
    }

    fn done(&mut self, id: ActionId, outcome: Outcome) -> Vec<Out> {
        if self.calls.remove(&id).is_some() { vec![Out::Done(id, outcome)] } else { vec![] }
    }

    fn finish(&mut self, id: ActionId, result: Result<(Success, Vec<Out>), EngineError>) -> Vec<Out> {
        match result {
            Ok((success, mut outs)) => {
                outs.extend(self.done(id, Ok(success)));
                outs
            }
            Err(error) => self.done(id, Err(error)),
        }
    }

    fn pull(&mut self, image: &str) -> Outcome {
        let failed = |reason: &str| EngineError::PullFailed { image: image.to_owned(), reason: reason.to_owned() };
        if self.manners.registry_down {
            return Err(failed("dial tcp: i/o timeout"));
        }
        if self.manners.disk_full {
            return Err(no_space());
        }
        self.images.insert(image.to_owned());
        Ok(Success::Pulled(digest(image)))
    }

    fn create(&mut self, id: ActionId, new: NewContainer) -> Vec<Out> {
        if !self.images.contains(&new.spec.image) {
            return self.done(id, Err(EngineError::ImageNotFound { image: new.spec.image.clone() }));
        }
        if self.manners.disk_full {
            return self.done(id, Err(no_space()));
        }
        if self.bridges.join(&new, 0).is_none() {
            let reason = "network not found".to_owned();
            return self.done(id, Err(EngineError::NetworkNotFound { reason }));
        }
        let leftover = self.entries.values().find(|entry| entry.container.placement == new.placement);
        let container = match leftover {
            Some(entry) => entry.container.id.clone(),
            None => self.make(&new),
        };
        let half = self.rng.range(self.manners.start.0, self.manners.start.1) / 2;
        vec![Out::Later(half, Op::Run(id, container))]
    }

    fn make(&mut self, new: &NewContainer) -> ContainerId {
        self.next += 1;
        let id = ContainerId(format!("{}{:08x}", self.prefix, self.next).into());
        let container = Container {
            id: id.clone(),
            placement: new.placement,
            fleet: Some(new.fleet),
            replica: new.replica.clone(),
            loss: new.loss,
            state: ContainerState::Created,
            since_unix: None,
            image: new.spec.image.clone(),
            digest: digest(&new.spec.image),
            ports: Vec::new(),
            pid: None,
            joined: self.bridges.join(new, self.next).unwrap_or_default(),
        };
        self.entries.insert(id.clone(), Entry { container, spec: Arc::clone(&new.spec), start: 0 });
        id
    }

    fn run_made(&mut self, id: ActionId, container: &ContainerId, has_agent: bool) -> Vec<Out> {
        // Making and starting are two calls: what was made for an agent that is gone stays as it is.
        if !has_agent {
            return vec![];
        }
        match self.start(container) {
            Ok(outs) => self.finish(id, Ok((Success::Created(container.clone()), outs))),
            Err(error) => {
                let mut outs = self.remove(container);
                outs.extend(self.done(id, Err(error)));
                outs
            }
        }
    }

    fn start(&mut self, id: &ContainerId) -> Result<Vec<Out>, EngineError> {
        let taken: BTreeSet<_> = self
            .containers()
            .filter(|other| other.state.is_running() && other.id != *id)
            .flat_map(|other| other.ports.iter().map(|(_, host, protocol)| (*host, *protocol)))
            .collect();
        let entry = self.entries.get_mut(id).ok_or_else(|| no_container(id))?;
        if entry.container.state.is_running() {
            return Ok(vec![]);
        }
        let wanted = entry.spec.ports.iter().filter(|port| port.mode == PublishMode::Host);
        let wanted = wanted.filter_map(|port| port.host.map(|host| (port.container, host, port.protocol)));
        let ports: Vec<_> = wanted.collect();
        if let Some((_, host, _)) = ports.iter().find(|(_, host, protocol)| taken.contains(&(*host, *protocol))) {
            return Err(EngineError::PortTaken { reason: format!("Bind for 0.0.0.0:{host} failed") });
        }
        entry.start += 1;
        entry.container.ports = ports;
        let health = if entry.spec.healthcheck.is_some() { Health::Starting } else { Health::None };
        entry.container.state = ContainerState::Running { health };
        let (start, service, container) =
            (entry.start, entry.container.replica.service.clone(), entry.container.clone());
        self.flips.push(Flip { container: container.clone(), runs: true });
        let mut outs = vec![Out::Tell(EngineEvent::Changed(container))];
        outs.extend(self.fate(id, start, &service, health));
        Ok(outs)
    }

    /// What becomes of a container that has just started.
    fn fate(&mut self, id: &ContainerId, start: u32, service: &ServiceRef, health: Health) -> Vec<Out> {
        let mut outs = vec![];
        if health == Health::Starting {
            let becomes = if self.manners.unhealthy.contains(service) { Health::Unhealthy } else { Health::Healthy };
            outs.push(Out::Later(self.rng.range(200, 2000), Op::Health(id.clone(), start, becomes)));
        }
        if let Some(end) = self.manners.crashing.get(service) {
            outs.push(Out::Later(self.rng.range(20, 3000), Op::Exit(id.clone(), start, *end)));
        }
        outs
    }

    fn stop(&mut self, id: ActionId, container: ContainerId, grace: Time) -> Vec<Out> {
        if !self.entries.get(&container).is_some_and(|entry| entry.container.state.is_running()) {
            return self.done(id, Ok(Success::Done));
        }
        let takes = self.rng.range(self.manners.stop.0, self.manners.stop.1).min(grace);
        vec![Out::Later(takes, Op::Stopped(id, container))]
    }

    fn remove(&mut self, id: &ContainerId) -> Vec<Out> {
        let mut outs = self.end(id, None, End { code: 137, out_of_memory: false });
        if self.entries.remove(id).is_some() {
            outs.push(Out::Tell(EngineEvent::Gone(id.clone())));
        }
        outs
    }

    fn end(&mut self, id: &ContainerId, start: Option<u32>, end: End) -> Vec<Out> {
        let Some(entry) = self.entries.get_mut(id) else { return vec![] };
        if !entry.container.state.is_running() || start.is_some_and(|start| start != entry.start) {
            return vec![];
        }
        entry.container.state = ContainerState::Exited { code: end.code, out_of_memory: end.out_of_memory };
        entry.container.ports.clear();
        self.flips.push(Flip { container: entry.container.clone(), runs: false });
        vec![Out::Tell(EngineEvent::Changed(entry.container.clone()))]
    }

    fn end_all(&mut self) {
        let ids: Vec<ContainerId> = self.entries.keys().cloned().collect();
        for id in ids {
            self.end(&id, None, End { code: 137, out_of_memory: false });
        }
    }

    fn set_health(&mut self, id: &ContainerId, start: u32, health: Health) -> Vec<Out> {
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.start == start) else { return vec![] };
        if !entry.container.state.is_running() {
            return vec![];
        }
        entry.container.state = ContainerState::Running { health };
        vec![Out::Tell(EngineEvent::Changed(entry.container.clone()))]
    }

    /// The healthcheck of a copy says so from now on.
    pub fn turn_health(&mut self, placement: PlacementId, health: Health) -> Vec<Out> {
        let found = self.entries.values().find(|entry| entry.container.placement == placement);
        let Some((id, start)) = found.map(|entry| (entry.container.id.clone(), entry.start)) else { return vec![] };
        self.set_health(&id, start, health)
    }

    /// Healthchecks are run again after the reason for their failing is gone.
    pub fn recover_health(&mut self) -> Vec<Out> {
        let sick: Vec<(ContainerId, u32)> = self
            .entries
            .values()
            .filter(|entry| entry.container.state == ContainerState::Running { health: Health::Unhealthy })
            .map(|entry| (entry.container.id.clone(), entry.start))
            .collect();
        sick.into_iter().map(|(id, start)| Out::Later(500, Op::Health(id, start, Health::Healthy))).collect()
    }
}

/// Whether the copy may run only once in the fleet.
#[must_use]
pub fn is_exclusive(container: &Container) -> bool {
    container.loss == LossLabel::Exclusive
}

/// The replica and its copy, for a trace.
#[must_use]
pub fn shown(replica: &ReplicaName, container: &Container) -> String {
    format!("{replica} ({}) {:?}", container.placement, container.state)
}

fn digest(image: &str) -> String {
    format!("sha256:{image}")
}

fn unreachable() -> EngineError {
    EngineError::Unreachable { reason: "connection refused".to_owned() }
}

fn no_space() -> EngineError {
    EngineError::NoSpace { reason: "no space left on device".to_owned() }
}

fn no_container(id: &ContainerId) -> EngineError {
    EngineError::NoSuchContainer { id: id.short().to_owned() }
}
