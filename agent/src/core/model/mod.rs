//! A model of a device for tests: the core with an engine, a disk and a hub that behave as told, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    Arch, Assignment, BootId, Bytes, CgroupVersion, DownMessage, Epoch, Facts, Goal, Lease, MemoryLimits, MeshStatus,
    MilliCpu, Moment, SessionNumber, Stamp, Status, UpMessage,
};

mod engine;
mod want;

pub use engine::ModelEngine;
pub use want::{Copy, assignment, assignment_of, one, spec};

use super::{Action, ActionId, Core, Effect, Held, Input, Keep, KeptMesh, Outcome, Settings, Success};
use crate::engine::{ContainerId, ContainerState, EngineError, EngineEvent, NewContainer};
use crate::policy::Policy;

/// What happens at some moment.
enum Due {
    Done(ActionId, Outcome),
    /// A create takes effect after nobody waits for it any more.
    Late(NewContainer),
    /// The process of this start of the container ends.
    End(ContainerId, u64, i64),
    /// After the end of its container.
    Stopped(ActionId, ContainerId),
    Saved(Stamp),
    Answer(Lease),
}

/// The disk.
#[derive(Default)]
pub struct ModelDisk {
    pub held: Option<Assignment>,
    pub is_slow: bool,
    pub fails: bool,
    /// How often something was to be saved.
    pub tried: u32,
    waiting: Option<Assignment>,
}

/// A device.
pub struct Device {
    pub core: Core,
    pub engine: ModelEngine,
    pub disk: ModelDisk,
    /// What its owner allows, from the agent's next start.
    pub policy: Policy,
    pub now: Moment,
    pub session: u64,
    pub is_connected: bool,
    /// Whether the hub renews the lease with each report.
    pub hub_answers: bool,
    /// The newest assignment that the hub has sent.
    pub retained: Option<Assignment>,
    /// The hub's epoch: the highest of any assignment.
    pub hub_epoch: Epoch,
    /// When it did last.
    pub last_answer: Moment,
    /// Time until the answer arrives.
    pub answer_time: Duration,
    pub told: Vec<Status>,
    pub aborted: usize,
    /// All that the proxy has been told.
    pub proxied: Vec<Arc<outrigger_proxy::control::Wanted>>,
    pub kept: Vec<(KeptMesh, Keep)>,
    pub mesh_told: Vec<MeshStatus>,
    due: Vec<(Moment, Due)>,
    under_way: BTreeMap<ActionId, Action>,
}

fn core(held: Held, policy: Policy) -> Core {
    let settings = Settings {
        boot: BootId(1),
        machine: 1,
        device: "pi".parse().unwrap(),
        heartbeat: Duration::from_secs(1),
        policy: Arc::new(policy),
    };
    let facts = Facts {
        agent: "0".into(),
        arch: Arch::Arm64,
        also_runs: vec![],
        os: String::new(),
        kernel: String::new(),
        board: None,
        cpu: MilliCpu(4000),
        memory: Bytes(1 << 30),
        engine: None,
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![],
        devices: vec![],
        root_on_flash: true,
        address: None,
        mesh_port: None,
        policy: 0,
    };
    Core::new(settings, facts, held)
}

impl Device {
    /// A device whose agent has just started; nobody has listed the engine or connected.
    pub fn new(held: Held) -> Self {
        let engine = ModelEngine {
            images: ["web:1".to_owned()].into(),
            pull_time: Duration::from_secs(2),
            start_time: Duration::from_millis(20),
            end_time: Duration::from_millis(500),
            ..ModelEngine::default()
        };
        let disk = ModelDisk {
            held: if let Held::Assignment(held) = &held { Some(held.clone()) } else { None },
            ..ModelDisk::default()
        };
        Self {
            core: core(held, Policy::default()),
            policy: Policy::default(),
            engine,
            disk,
            now: Moment(1_000_000),
            session: 0,
            is_connected: false,
            hub_answers: false,
            retained: None,
            hub_epoch: Epoch(0),
            last_answer: Moment::ZERO,
            answer_time: Duration::from_millis(50),
            told: Vec::new(),
            aborted: 0,
            proxied: Vec::new(),
            kept: Vec::new(),
            mesh_told: Vec::new(),
            due: Vec::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// A connected device that runs these copies, as generation 1.
    pub fn settled(copies: &[Copy]) -> Self {
        let mut device = Self::new(Held::Nothing);
        device.list();
        device.connect();
        device.hear(DownMessage::Want(assignment(1, copies)));
        device.run(Duration::from_secs(20));
        let placements: Vec<u64> = copies.iter().map(|((placement, _), ..)| placement.0).collect();
        assert_eq!(device.running(), placements);
        device
    }

    pub fn connect(&mut self) {
        self.session = self.now.0;
        self.is_connected = true;
        let _ = self.step(Input::Connected(SessionNumber(self.session)));
        // As the broker does with what is retained.
        if let Some(newest) = self.retained.clone() {
            self.hear(DownMessage::Want(newest));
        }
    }

    pub fn disconnect(&mut self) {
        self.is_connected = false;
        let _ = self.step(Input::Disconnected);
    }

    /// The agent dies and starts again; its engine and disk are as they were, what was under way there goes on unheard.
    pub fn restart_agent(&mut self) {
        let renewed_at = self.core.renewed_at();
        self.restart_agent_with(renewed_at);
    }

    pub fn restart_agent_with(&mut self, renewed_at: Option<Moment>) {
        let was_connected = self.is_connected;
        let held = self.disk.held.clone().map_or(Held::Nothing, Held::Assignment);
        self.core = core(held, self.policy.clone()).with_lease(renewed_at);
        self.due.retain(|(_, due)| matches!(due, Due::End(..)));
        self.under_way.clear();
        self.disk.waiting = None;
        self.engine.events.clear();
        self.now = self.now + Duration::from_millis(1);
        self.list();
        if was_connected {
            self.connect();
        }
    }

    pub fn list(&mut self) {
        self.engine.events.clear();
        let networks = self.engine.networks.values().cloned().collect();
        let _ = self.step(Input::Engine(EngineEvent::Networks(networks)));
        let list = self.engine.containers.values().map(|(container, _)| container.clone()).collect();
        let _ = self.step(Input::Engine(EngineEvent::Listed(list)));
    }

    pub fn engine_lost(&mut self, why: &str) {
        let _ = self.step(Input::Engine(EngineEvent::Lost(why.into())));
    }

    pub fn hear(&mut self, message: DownMessage) {
        if let DownMessage::Want(assignment) = &message {
            self.hub_epoch = self.hub_epoch.max(assignment.stamp.epoch);
            if self.retained.as_ref().is_none_or(|retained| retained.stamp < assignment.stamp) {
                self.retained = Some(assignment.clone());
            }
        }
        let _ = self.step(Input::Down(message));
    }

    pub fn want_of(&mut self, epoch: u32, generation: u64, copies: &[Copy]) {
        self.hear(DownMessage::Want(assignment_of(epoch, generation, copies, Goal::Run)));
    }

    pub fn running(&self) -> Vec<u64> {
        self.engine.running()
    }

    /// The last status told.
    pub fn status(&self) -> Status {
        self.told.last().unwrap().clone()
    }

    /// The device sleeps: time passes and nothing happens.
    pub fn suspend(&mut self, time: Duration) {
        self.now = self.now + time;
        self.due.retain(|(at, _)| *at > self.now);
    }

    /// Lets time pass, from one thing that is due to the next.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.flush();
            let next = self.due.iter().map(|(at, _)| *at).min().unwrap_or(Moment::NEVER);
            let next = next.min(self.core.wake_at(self.now)).max(self.now);
            if next > until {
                self.now = until;
                return;
            }
            // The core must not ask to be woken again and again at the same moment.
            self.now = next.max(self.now);
            let due = std::mem::take(&mut self.due);
            let (now, later) = due.into_iter().partition(|(at, _)| *at <= self.now);
            self.due = later;
            for (_, due) in now {
                self.happen(due);
                self.flush();
            }
            let _ = self.step(Input::Tick);
            assert!(self.core.wake_at(self.now) > self.now, "the core asks to be woken at a moment that is over");
        }
    }

    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        self.engine.now = self.now;
        let effects = self.core.step(self.now, input);
        for effect in effects.clone() {
            self.carry_out(effect);
        }
        effects
    }

    fn flush(&mut self) {
        self.engine.now = self.now;
        for event in std::mem::take(&mut self.engine.events) {
            let _ = self.step(Input::Engine(event));
        }
        if !self.disk.is_slow
            && let Some(waiting) = self.disk.waiting.take()
        {
            self.save(waiting);
        }
    }

    fn later(&mut self, time: Duration, due: Due) {
        self.due.push((self.now + time, due));
    }

    fn save(&mut self, assignment: Assignment) {
        self.disk.tried += 1;
        let stamp = assignment.stamp;
        if !self.disk.fails {
            self.disk.held = Some(assignment);
        }
        self.later(Duration::from_millis(5), Due::Saved(stamp));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(UpMessage::Status(status)) => self.told.push(status),
            Effect::Publish(UpMessage::Report(report)) if self.hub_answers && self.is_connected => {
                let lease = Lease { epoch: self.hub_epoch, session: report.session, sequence: report.sequence };
                self.last_answer = self.now;
                let time = self.answer_time;
                self.later(time, Due::Answer(lease));
            }
            Effect::Proxy(wanted) => self.proxied.push(wanted),
            Effect::KeepMesh(kept, keep) => self.kept.push((*kept, keep)),
            Effect::Publish(UpMessage::Mesh(status)) => self.mesh_told.push(status),
            Effect::Publish(_) | Effect::Logs(..) | Effect::Taken(..) | Effect::Cancel(_) | Effect::Adopt(_) => (),
            Effect::Save(assignment) if self.disk.is_slow => self.disk.waiting = Some(*assignment),
            Effect::Save(assignment) => self.save(*assignment),
            Effect::Abort(id) => {
                self.aborted += 1;
                self.under_way.remove(&id);
            }
            Effect::Act(id, action) => self.begin(id, action),
        }
    }

    fn begin(&mut self, id: ActionId, action: Action) {
        self.check_bounds(&action);
        self.under_way.insert(id, action.clone());
        let (pull_time, start_time) = (self.engine.pull_time, self.engine.start_time);
        match action {
            Action::Check(key) => {
                let digest = self.engine.images.contains(&key.image).then(|| "sha256:1".to_owned());
                self.later(Duration::from_millis(5), Due::Done(id, Ok(Success::Checked(digest))));
            }
            Action::Pull(key) => {
                self.engine.pulls.push(key.image.clone());
                let outcome = match self.engine.refused.get(&key.image).cloned() {
                    Some(reason) => Err(EngineError::PullFailed { image: key.image, reason }),
                    None => Ok(Success::Pulled("sha256:1".into())),
                };
                self.later(pull_time, Due::Done(id, outcome));
            }
            Action::Create(_) | Action::Start(..) => {
                let outcome = self.engine.fails.take().map_or(Ok(Success::Done), Err);
                if let (Action::Create(new), Some(late)) = (&self.under_way[&id], self.engine.late.take()) {
                    let new = new.clone();
                    self.later(start_time + late, Due::Late(new));
                }
                self.later(start_time, Due::Done(id, outcome));
            }
            Action::Stop(_, container, grace) => {
                self.engine.graces.push(grace);
                let time = self.engine.end_time.min(grace);
                self.later(time, Due::Stopped(id, container));
            }
            Action::Lay(..) => {
                let outcome = self.engine.no_files.clone().map_or(Ok(Success::Done), Err);
                self.later(Duration::from_millis(5), Due::Done(id, outcome));
            }
            Action::Remove(..)
            | Action::List
            | Action::Inspect(..)
            | Action::Clear(_)
            | Action::MakeNetwork(..)
            | Action::RemoveNetwork(..)
            | Action::ListNetworks => {
                self.later(Duration::from_millis(5), Due::Done(id, Ok(Success::Done)));
            }
        }
    }

    fn check_bounds(&mut self, action: &Action) {
        let same = |other: &Action| match (action, other) {
            (Action::Pull(a), Action::Pull(b)) => a == b,
            (a, b) => a.is_start() && b.is_start() && a.placement() == b.placement(),
        };
        assert!(!self.under_way.values().any(same), "{action:?} is under way already");
        let count =
            |is: fn(&Action) -> bool, action| self.under_way.values().chain([action]).filter(|other| is(other)).count();
        self.engine.most_starts = self.engine.most_starts.max(count(Action::is_start, action));
        self.engine.most_pulls = self.engine.most_pulls.max(count(|one| matches!(one, Action::Pull(_)), action));
    }

    fn happen(&mut self, due: Due) {
        self.engine.now = self.now;
        match due {
            Due::End(container, start, code) => {
                if self
                    .engine
                    .containers
                    .get(&container)
                    .is_some_and(|(one, at)| *at == start && one.state.is_running())
                {
                    self.engine.change(&container, ContainerState::Exited { code, out_of_memory: false });
                }
            }
            Due::Stopped(id, container) => {
                self.engine.stops += 1;
                self.engine.change(&container, ContainerState::Exited { code: 143, out_of_memory: false });
                self.finish(id, Ok(Success::Done));
            }
            Due::Saved(stamp) => {
                let result = if self.disk.fails { Err("read-only file system".into()) } else { Ok(()) };
                let _ = self.step(Input::Saved(stamp, result));
            }
            Due::Answer(lease) => {
                if self.is_connected {
                    self.hear(DownMessage::Lease(lease));
                }
            }
            Due::Late(new) => {
                let container = self.engine.make(&new);
                self.start(&container);
            }
            Due::Done(id, outcome) => self.complete(id, outcome),
        }
    }

    fn complete(&mut self, id: ActionId, outcome: Outcome) {
        let Some(action) = self.under_way.get(&id).cloned() else { return };
        let outcome = match (action, outcome) {
            (_, Err(error)) => Err(error),
            (Action::Pull(key), ok) => {
                self.engine.images.insert(key.image);
                ok
            }
            (Action::Create(new), _) if !self.engine.images.contains(&new.spec.image) => {
                Err(EngineError::ImageNotFound { image: new.spec.image.clone() })
            }
            (Action::Create(new), _) => {
                let container = self.engine.make(&new);
                self.start(&container);
                Ok(Success::Created(container))
            }
            (Action::Start(_, container), ok) => {
                self.start(&container);
                ok
            }
            (Action::Remove(_, container), ok) => {
                self.engine.remove(&container);
                ok
            }
            (Action::List, _) => {
                Ok(Success::Listed(self.engine.containers.values().map(|(one, _)| one.clone()).collect()))
            }
            (Action::Inspect(_, container), _) => {
                Ok(Success::Inspected(self.engine.containers.get(&container).map(|(one, _)| one.clone())))
            }
            (Action::MakeNetwork(spec, _), _) => self.engine.make_network(&spec),
            (Action::RemoveNetwork(name, _), _) => self.engine.remove_network(&name),
            (Action::ListNetworks, _) => Ok(Success::Networks(self.engine.networks.values().cloned().collect())),
            (Action::Lay(placement, _), ok) => {
                self.engine.laid.insert(placement.0);
                ok
            }
            (Action::Clear(placement), ok) => {
                self.engine.laid.remove(&placement.0);
                ok
            }
            (Action::Check(_) | Action::Stop(..), ok) => ok,
        };
        self.finish(id, outcome);
    }

    fn start(&mut self, container: &ContainerId) {
        self.engine.start(container);
        if let Some(time) = self.engine.lives_for {
            let start = self.engine.starts;
            self.later(time, Due::End(container.clone(), start, 1));
        }
    }

    fn finish(&mut self, id: ActionId, outcome: Outcome) {
        if self.under_way.remove(&id).is_some() {
            let _ = self.step(Input::Done(id, outcome));
        }
    }
}
