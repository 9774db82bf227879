//! One device of the crowd: the agent's own core and its own connection to the hub, with an engine in memory that takes no
//! time to speak of. What it leaves out of a real agent is the probing of the machine and the proxy, which it plays itself.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outrigger_agent::clock::Clock;
use outrigger_agent::core::{Action, Core, Effect, Held, Input, ProxyEvent, Settings};
use outrigger_agent::engine::Health;
use outrigger_agent::identity::IdentityDir;
use outrigger_agent::mqtt::{self, MqttEvent, Route, Sender, Target};
use outrigger_protocol::{
    Arch, BootId, Bytes, CgroupVersion, DeviceName, DownMessage, EndpointState, Engine as EngineFacts, EngineKind,
    Facts, Load, MemoryLimits, MilliCpu, Moment, Permille, PlacementId,
};
use outrigger_proxy::control::Observed;
use outrigger_tests::clock::monotonic;
use outrigger_tests::sim::engine::{Engine, Manners, Op, Out};
use outrigger_tests::sim::rng::Rng;
use tokio::sync::mpsc;

use super::crowd::{Seen, Shared};

/// A device samples its load so often, as agents do; a report carries it where it has changed.
const SAMPLE: Duration = Duration::from_secs(10);
/// Where its proxy would listen.
const MESH_PORT: u16 = 7946;

/// What the bench tells a device.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// The healthcheck of a copy says so from now on.
    Health(PlacementId, Health),
}

/// Who a device is.
#[derive(Debug, Clone)]
pub struct Who {
    /// Its number in the crowd.
    pub number: usize,
    /// Its name.
    pub name: DeviceName,
    /// Folder of its identity, as `outrigger-agent join` leaves it.
    pub state: PathBuf,
    /// Time between its reports.
    pub heartbeat: Duration,
}

/// A device that lives.
struct Device {
    who: Who,
    core: Core,
    engine: Engine,
    later: BTreeMap<(Moment, u64), Op>,
    next: u64,
    sender: Option<Sender>,
    inputs: VecDeque<Input>,
    running: usize,
    shared: Arc<Shared>,
    random: fastrand::Rng,
}

/// Lives until the runtime ends.
pub async fn live(who: Who, shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let (told, mut events) = mpsc::channel(16);
    let route = Route::Joined(IdentityDir::of(&who.state), None);
    let target = Target { device: who.name.clone(), route, heartbeat: who.heartbeat };
    let mut random = fastrand::Rng::with_seed(who.number as u64);
    // Devices were not switched on at the same instant; without this their heartbeats would come in one burst.
    tokio::time::sleep(who.heartbeat.mul_f64(random.f64())).await;
    tokio::spawn(mqtt::run(target, Clock, told));
    let mut device = Device::new(who, shared, random);
    let mut sample_at = Clock.now();
    loop {
        let now = Clock.now();
        let due = device.later.first_key_value().map_or(Moment::NEVER, |((at, _), _)| *at);
        let wake_at = device.core.wake_at(now).min(due).min(sample_at);
        let sleep = wake_at.since(now).max(Duration::from_millis(1));
        // All may be cancelled: channels lose nothing, a sleep holds nothing.
        tokio::select! {
            Some(event) = events.recv() => device.hear(event),
            Some(Order::Health(placement, health)) = orders.recv() => {
                let outs = device.engine.turn_health(placement, health);
                device.engine_outs(outs);
            }
            () = tokio::time::sleep(sleep) => {
                if Clock.now() >= sample_at {
                    sample_at = Clock.now() + SAMPLE;
                    device.sample();
                }
                device.pass_time();
            }
        }
        device.work();
    }
}

impl Device {
    fn new(who: Who, shared: Arc<Shared>, random: fastrand::Rng) -> Self {
        let settings = Settings {
            boot: BootId(who.number as u128 + 1),
            machine: who.number as u128 + 1,
            device: who.name.clone(),
            heartbeat: who.heartbeat,
            policy: Arc::default(),
        };
        // A core wakes no sooner than a millisecond later, so that is what anything takes.
        let manners = Manners {
            pull: (2, 4),
            start: (2, 4),
            stop: (1, 2),
            answer: (2, 2),
            registry_down: false,
            disk_full: false,
            crashing: BTreeMap::new(),
            unhealthy: std::collections::BTreeSet::new(),
        };
        let engine = Engine::new(&format!("{}c", who.name), manners, Rng::new(who.number as u64));
        let core = Core::new(settings, facts(), Held::Nothing);
        let (later, inputs) = (BTreeMap::new(), VecDeque::from([Input::Wall(Clock.unix_ms())]));
        let mut device = Self { who, core, engine, later, next: 0, sender: None, inputs, running: 0, shared, random };
        let listed = device.engine.tell_all();
        device.engine_outs(vec![listed]);
        device.inputs.push_back(Input::Proxy(told(None)));
        device.work();
        device
    }

    fn hear(&mut self, event: MqttEvent) {
        match event {
            MqttEvent::Connected { session, sender, address: _, certificate } => {
                self.sender = Some(sender);
                self.inputs.push_back(Input::Wall(Clock.unix_ms()));
                self.inputs.extend(certificate.map(Input::Certificate));
                self.inputs.push_back(Input::Connected(session));
                self.shared.connected(self.who.number);
            }
            MqttEvent::Disconnected => {
                self.sender = None;
                self.inputs.push_back(Input::Disconnected);
                self.shared.connected.fetch_sub(1, Ordering::Relaxed);
            }
            MqttEvent::Down(message) => {
                self.note_routes(&message);
                self.inputs.push_back(Input::Down(message));
            }
        }
    }

    /// Has the bench know which copies the device would send requests to now.
    fn note_routes(&self, message: &DownMessage) {
        let DownMessage::Routes(routes) = message else { return };
        self.shared.routes.fetch_add(1, Ordering::Relaxed);
        if self.shared.is_watching.load(Ordering::Relaxed) {
            let all = routes.services.iter().flat_map(|service| &service.endpoints);
            let ready = all.filter(|one| one.state == EndpointState::Ready).map(|one| one.placement).collect();
            // Who does not look any more has ended the bench.
            let _ = self.shared.seen.send(Seen { device: self.who.number, at: monotonic(), ready });
        }
    }

    fn sample(&mut self) {
        let permille = |value: u16| Permille::new(value);
        let load = Load { cpu: permille(self.random.u16(50..400)), memory: permille(300), ..Load::default() };
        self.inputs.push_back(Input::Wall(Clock.unix_ms()));
        self.inputs.push_back(Input::Load(load));
    }

    fn pass_time(&mut self) {
        let now = Clock.now();
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let op = entry.remove();
            let outs = self.engine.step(op, true);
            self.engine_outs(outs);
        }
        self.inputs.push_back(Input::Tick);
    }

    fn engine_outs(&mut self, outs: Vec<Out>) {
        for out in outs {
            match out {
                Out::Done(id, outcome) => self.inputs.push_back(Input::Done(id, outcome)),
                Out::Tell(event) => self.inputs.push_back(Input::Engine(event)),
                Out::Later(ms, op) => {
                    self.next += 1;
                    self.later.insert((Clock.now() + Duration::from_millis(ms), self.next), op);
                }
            }
        }
        for flip in self.engine.flips.drain(..) {
            if flip.runs {
                self.running += 1;
                self.shared.running.fetch_add(1, Ordering::Relaxed);
            } else {
                self.running -= 1;
                self.shared.running.fetch_sub(1, Ordering::Relaxed);
                self.shared.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Gives the core all that has come, and does what it wants.
    fn work(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            for effect in self.core.step(Clock.now(), input) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(message) => {
                let channel = message.channel();
                if let Some(sender) = &self.sender
                    && sender.try_send(&message).is_err()
                {
                    self.inputs.push_back(Input::Unsent(channel));
                }
            }
            // Its disk takes no time.
            Effect::Save(assignment) => self.inputs.push_back(Input::Saved(assignment.stamp, Ok(()))),
            Effect::Act(id, action) => {
                if matches!(action, Action::Stop(..)) {
                    self.shared.stops.fetch_add(1, Ordering::Relaxed);
                }
                let out = self.engine.call(id, action);
                self.engine_outs(vec![out]);
            }
            Effect::Abort(id) => self.engine.abort(id),
            Effect::Proxy(wanted) => self.inputs.push_back(Input::Proxy(told(Some(wanted.routes.number)))),
            // Nobody asks for output, certificates are new, and nothing is kept for a later agent.
            Effect::Logs(..) | Effect::Taken(..) | Effect::Cancel(_) | Effect::Adopt(_) | Effect::KeepMesh(..) => (),
        }
    }
}

/// What its proxy says.
fn told(held: Option<u64>) -> ProxyEvent {
    ProxyEvent::Told(Box::new(Observed { held, mesh_port: Some(MESH_PORT), ..Observed::default() }))
}

/// What a device of the crowd is.
pub fn facts() -> Facts {
    Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch: Arch::Arm64,
        also_runs: vec![Arch::ArmV7],
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: "6.12.47+rpt-rpi-v8".to_owned(),
        board: Some("Raspberry Pi 4 Model B Rev 1.4".to_owned()),
        cpu: MilliCpu(4000),
        memory: Bytes(4 << 30),
        engine: Some(EngineFacts { kind: EngineKind::Memory, version: "1".to_owned() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![("site".to_owned(), "attic".to_owned())],
        generic: vec![],
        devices: vec![],
        root_on_flash: true,
        address: Some(std::net::IpAddr::from([127, 0, 0, 1])),
        mesh_port: Some(MESH_PORT),
        policy: 0,
    }
}
