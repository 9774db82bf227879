//! The whole fleet in one place: virtual time, and who does what when.

use outrigger_agent::core::{ActionId, Outcome};
use outrigger_hub::core::BatchId;
use outrigger_planner::Wish;
use outrigger_protocol::Channel;

use super::bug::{Bug, BugState};
use super::check::Checker;
use super::device::Device;
use super::engine::{Manners, Op};
use super::faults::Fault;
use super::hub::Hub;
use super::net::{Broker, ConnId, Link};
use super::queue::{Queue, Time};
use super::rng::Rng;
use super::sometimes::Sometimes;
use super::trace::{Detail, Trace};
use super::workload::Operator;

/// What a run is made from.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// A planted bug.
    pub bug: Option<Bug>,
    /// Moves the time of day of every machine.
    pub wall_shift_ms: i64,
    /// How much of the trace is kept.
    pub detail: Detail,
}

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// A device's kernel is up: its engine answers and its agent starts.
    Booted(usize, u32),
    /// The supervisor starts an agent again; of that run.
    AgentStarts(usize, u32),
    /// The core's next moment; of that run.
    AgentTick(usize, u32, Time),
    /// An agent that was held up goes on.
    Thaw(usize, Time),
    /// The agent tries to connect; of that run.
    Connect(usize, u32),
    /// The device learns that its connection stands.
    Connected(usize, u32, ConnId),
    /// A message arrives at the broker.
    AtBroker(ConnId, Channel, Vec<u8>),
    /// A message arrives at a device.
    AtDevice(ConnId, Channel, Vec<u8>),
    /// A link is back, and what waited comes through.
    Flush(usize, u32),
    /// The broker sees that the device has closed.
    BrokerSees(ConnId),
    /// The device sees that the broker has closed, or hears nothing of it.
    DeviceSees(ConnId),
    /// Nobody has answered for the time of the keep-alive since this cut.
    KeepAlive(ConnId, u32, End),
    /// A message of a device arrives at the hub; over that connection of the hub.
    AtHub(u32, usize, Channel, Vec<u8>),
    /// A message of the hub arrives at the broker; none: nothing is to be kept.
    FromHub(u32, usize, Channel, Option<Vec<u8>>),
    /// The hub tries to reach the broker; of that run.
    HubConnect(u32),
    /// The hub has noticed that the broker does not answer; of that connection.
    HubMisses(u32),
    /// The core's next moment; of that run.
    HubTick(u32, Time),
    /// The hub's store has written a batch; of that run.
    HubSaved(u32, BatchId),
    /// The hub believes that a batch is written; of that run.
    HubTold(u32, BatchId),
    /// The hub starts.
    HubStarts,
    /// A paused hub goes on; of that run.
    HubResumes(u32),
    /// The broker starts.
    BrokerStarts,
    /// The agent's file is written; of that run.
    FileWritten(usize, u32, u64),
    /// A step of an engine is due; of that run of the engine and of the agent.
    Engine(usize, u32, u32, Op),
    /// An engine's answer arrives; of that run of the agent.
    Answer(usize, u32, ActionId, Box<Outcome>),
    /// An engine's word arrives; of that run of the agent.
    Word(usize, u32, Box<outrigger_agent::engine::EngineEvent>),
    /// A fault begins.
    Begin(Fault),
    /// It ends.
    Finish(Fault),
    /// The operator does what comes next.
    Operate,
    /// A wish is sent (again).
    Wish(u64, Box<Wish>),
    /// Devices sample their load.
    Sample,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The device's.
    Device,
    /// The broker's.
    Broker,
}

/// Draws for each purpose, so that one more draw for one leaves the others as they are.
#[derive(Debug)]
pub struct Chance {
    /// The network.
    pub net: Rng,
    /// Disks, boots and other machinery.
    pub machine: Rng,
    /// The hub's surroundings.
    pub hub: Rng,
    /// Faults.
    pub fault: Rng,
    /// The operator.
    pub operator: Rng,
    /// Rare faults.
    pub rare: Rng,
}

/// The whole fleet.
#[derive(Debug)]
pub struct World {
    /// True time.
    pub now: Time,
    /// What is still to happen.
    pub queue: Queue<Event>,
    /// Draws.
    pub chance: Chance,
    /// The devices.
    pub devices: Vec<Device>,
    /// The broker.
    pub broker: Broker,
    /// The hub.
    pub hub: Hub,
    /// The operator.
    pub operator: Operator,
    /// Watches over what must hold.
    pub check: Checker,
    /// Counts what was reached.
    pub sometimes: Sometimes,
    /// What happened.
    pub trace: Trace,
    /// The planted bug's memory.
    pub bug: BugState,
    /// Faults that have begun and not ended.
    pub ongoing: Vec<Fault>,
}

impl World {
    /// A fleet of so many devices, all of them off.
    #[must_use]
    pub fn new(setup: Setup, devices: usize, hub: Hub, link: &Link, manners: &Manners) -> Self {
        let root = Rng::new(setup.seed);
        let mut making = root.fork(1);
        let mut devices: Vec<Device> =
            (0..devices).map(|index| Device::new(index, manners.clone(), link.clone(), &mut making)).collect();
        for device in &mut devices {
            device.wall_ms += setup.wall_shift_ms;
            device.rate = BugState::new(setup.bug).rate(device.rate);
        }
        let chance = Chance {
            net: root.fork(2),
            machine: root.fork(3),
            hub: root.fork(4),
            fault: root.fork(5),
            operator: root.fork(6),
            rare: root.fork(7),
        };
        Self {
            now: 0,
            queue: Queue::default(),
            chance,
            check: Checker::new(devices.len()),
            devices,
            broker: Broker::default(),
            hub,
            operator: Operator::default(),
            sometimes: Sometimes::default(),
            trace: Trace::new(setup.detail),
            bug: BugState::new(setup.bug),
            ongoing: Vec::new(),
        }
    }

    /// Lets something happen after so long.
    pub fn after(&mut self, delay: Time, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// A line of the trace.
    pub fn line(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// Lets time pass until that moment, or until something is broken.
    pub fn run_until(&mut self, end: Time) {
        while self.check.broken.is_none() && self.queue.next_at().is_some_and(|at| at <= end) {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.happen(event);
        }
        if self.check.broken.is_none() {
            self.now = self.now.max(end);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Booted(device, boot) => self.booted(device, boot),
            Event::AgentStarts(device, life) => self.agent_starts(device, life),
            Event::AgentTick(device, life, at) => self.agent_tick(device, life, at),
            Event::Thaw(device, until) => self.thaw(device, until),
            Event::Connect(device, life) => self.connect(device, life),
            Event::Connected(device, life, conn) => self.connected(device, life, conn),
            Event::AtBroker(conn, channel, bytes) => self.at_broker(conn, channel, bytes),
            Event::AtDevice(conn, channel, bytes) => self.at_device(conn, channel, bytes),
            Event::Flush(device, cuts) => self.flush(device, cuts),
            Event::BrokerSees(conn) => self.broker_sees(conn),
            Event::DeviceSees(conn) => self.device_sees(conn),
            Event::KeepAlive(conn, cuts, end) => self.keep_alive(conn, cuts, end),
            Event::AtHub(conn, device, channel, bytes) => self.at_hub(conn, device, channel, &bytes),
            Event::FromHub(conn, device, channel, bytes) => self.leave_hub(conn, device, channel, bytes),
            Event::HubConnect(life) => self.hub_connect(life),
            Event::HubMisses(conn) => self.hub_misses(conn),
            Event::HubTick(life, at) => self.hub_tick(life, at),
            Event::HubSaved(life, batch) => self.hub_saved(life, batch),
            Event::HubTold(life, batch) => self.hub_told(life, batch),
            Event::HubStarts => self.hub_starts(),
            Event::HubResumes(life) => self.hub_resumes(life),
            Event::BrokerStarts => self.broker_starts(),
            Event::FileWritten(device, life, number) => self.file_written(device, life, number),
            Event::Engine(device, engine, life, op) => self.engine_step(device, engine, life, op),
            Event::Answer(device, life, id, outcome) => self.engine_answer(device, life, id, *outcome),
            Event::Word(device, life, word) => self.engine_word(device, life, *word),
            Event::Begin(fault) => self.begin(fault),
            Event::Finish(fault) => self.finish(&fault),
            Event::Operate => self.operate(),
            Event::Wish(number, wish) => self.send_wish(number, *wish),
            Event::Sample => self.sample(),
        }
    }
}
