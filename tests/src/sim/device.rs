//! One device: a machine with power and clocks, an engine, a disk, a link, and the agent's core.

use std::time::Duration;

use outrigger_agent::core::{Core, Input};
use outrigger_protocol::{
    Arch, Assignment, BootId, Bytes, CgroupVersion, DeviceName, Engine as EngineFacts, EngineKind, Facts,
    GenericResource, MemoryLimits, MilliCpu, Moment, Routes, SessionNumber,
};

use super::disk::AssignmentFile;
use super::engine::{Engine, Manners};
use super::net::{ConnId, Link};
use super::queue::Time;
use super::rng::Rng;

/// Time of day at the begin of each run, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// One device.
#[derive(Debug)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// What it says of itself.
    pub facts: Facts,
    /// Whether it has power.
    pub is_on: bool,
    /// Counts its boots.
    pub boots: u32,
    /// Random once per installation.
    pub machine: u128,
    /// When it booted, in true time.
    pub booted_at: Time,
    /// Milliseconds that its clock counts in a thousand seconds of true time.
    pub rate: u64,
    /// How wrong its time of day is.
    pub wall_ms: i64,
    /// Its agent; none while it does not run.
    pub agent: Option<Agent>,
    /// The lease that its agent had last, where a file in memory keeps it for the next agent of the same boot.
    pub lease: Option<Moment>,
    /// Counts the runs of its agent, so that what was meant for an earlier one is void.
    pub life: u32,
    /// Inputs that wait for an agent that is held up, and until when it is.
    pub held_up: Option<(Time, Vec<Input>)>,
    /// Its engine.
    pub engine: Engine,
    /// When the engine's last word arrives; its words arrive in order.
    pub told_until: Time,
    /// The agent's file.
    pub file: AssignmentFile,
    /// Its link.
    pub link: Link,
    /// Its connection, as far as it knows.
    pub conn: Option<ConnId>,
    /// Attempts to connect since the last success.
    pub attempts: u32,
    /// The session number given last.
    pub session: SessionNumber,
    /// Reports sent on this connection, newest last: sequence and true time.
    pub sent_sequence: u32,
    /// When its agent was killed last.
    pub killed_at: Time,
    /// What the checker knows of its obedience.
    pub duty: Duty,
    /// Time between its agent's heartbeats.
    pub heartbeat: Duration,
    /// The routes that its proxy took last.
    pub routes: Option<Routes>,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Agent {
    /// Its core.
    pub core: Core,
    /// When the next tick is due, in true time.
    pub tick_at: Time,
}

/// What a device is bound to, as the checker sees it from outside.
#[derive(Debug, Default)]
pub struct Duty {
    /// The newest assignment that was saved and acknowledged.
    pub newest: Option<Assignment>,
    /// Before the newest, for a disk that lies.
    pub earlier: Option<Assignment>,
    /// Messages sent since somebody last looked, by kind.
    pub sent: [u32; 12],
    /// Steps since somebody last looked.
    pub steps: u32,
}

impl Device {
    /// A device of the fleet, off.
    #[must_use]
    pub fn new(index: usize, manners: Manners, link: Link, rng: &mut Rng) -> Self {
        let name: DeviceName = format!("d{index}").parse().expect("a letter and a number are a name");
        let mut own = rng.fork(index as u64 + 1);
        let facts = facts(index, &mut own);
        Self {
            facts,
            is_on: false,
            boots: 0,
            machine: u128::from(own.draw()),
            booted_at: 0,
            // Quartz is good to 0.01 %; ten times that shows what the margin of a lease is for.
            rate: 1_000_000 + own.range(0, 2000) - 1000,
            wall_ms: 0,
            agent: None,
            lease: None,
            life: 0,
            held_up: None,
            engine: Engine::new(&format!("{name}c"), manners, own.fork(7)),
            told_until: 0,
            file: AssignmentFile::default(),
            link,
            conn: None,
            attempts: 0,
            session: SessionNumber(0),
            sent_sequence: 0,
            killed_at: 0,
            duty: Duty::default(),
            heartbeat: HEARTBEAT,
            routes: None,
            name,
        }
    }

    /// Its clock, which counts from its boot.
    #[must_use]
    pub fn clock(&self, now: Time) -> Moment {
        Moment((now - self.booted_at) * self.rate / 1_000_000)
    }

    /// When its clock shows that moment, in true time.
    #[must_use]
    pub fn true_time(&self, moment: Moment) -> Time {
        let exact = u128::from(moment.0) * 1_000_000 / u128::from(self.rate);
        let mut at = self.booted_at.saturating_add(u64::try_from(exact).unwrap_or(u64::MAX));
        while at < u64::MAX && self.clock(at) < moment {
            at += 1;
        }
        at
    }

    /// Its time of day.
    #[must_use]
    pub fn wall(&self, now: Time) -> u64 {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        u64::try_from(EPOCH_MS + now + self.wall_ms).unwrap_or(0)
    }

    /// The kernel's name for this boot.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        BootId((self.machine << 32) | u128::from(self.boots))
    }

    /// A number for a new connection: never one that was given before in this boot.
    pub fn next_session(&mut self, now: Time) -> SessionNumber {
        self.session = SessionNumber(self.clock(now).0.max(self.session.0 + 1));
        self.session
    }
}

fn facts(index: usize, rng: &mut Rng) -> Facts {
    let arch = [Arch::Amd64, Arch::Arm64, Arch::Arm64, Arch::ArmV7][rng.index(4)];
    Facts {
        agent: "0.1.0".to_owned(),
        arch,
        also_runs: vec![],
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: "6.12".to_owned(),
        board: None,
        cpu: MilliCpu(u32::try_from(rng.range(2, 4) * 1000).unwrap_or(1000)),
        memory: Bytes(rng.range(4, 16) * (256 << 20)),
        engine: Some(EngineFacts { kind: EngineKind::Memory, version: "1".to_owned() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![("rack".to_owned(), format!("r{}", index % 2))],
        generic: generic(&mut rng.fork(9)),
        devices: vec![],
        root_on_flash: true,
        address: Some(std::net::IpAddr::from([10, 0, 0, u8::try_from(index).unwrap_or(u8::MAX)])),
        // One of five has no proxy: it takes no part in the service network.
        mesh_port: (index % 5 != 4).then_some(7946),
        policy: 0,
    }
}

/// Every second device has one or two of what can be counted.
fn generic(rng: &mut Rng) -> Vec<GenericResource> {
    let count = u32::try_from(rng.range(1, 2)).unwrap_or(1);
    if rng.chance(500) { vec![GenericResource { kind: GENERIC.to_owned(), count }] } else { vec![] }
}

/// What some devices have and some services want.
pub const GENERIC: &str = "npu";

/// Time between heartbeats, where a device has no other.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
