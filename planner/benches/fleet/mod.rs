//! Fleets and stacks for measurements.

#![allow(dead_code, reason = "each benchmark uses a part")]

use outrigger_planner::{Fleet, Heard, Policy, Wish};
use outrigger_protocol::{
    BootId, Bytes, CgroupVersion, ContainerSpec, DeviceName, Engine, EngineKind, Epoch, Facts, FleetId, Hello,
    LossPolicy, MemoryLimits, MilliCpu, Mode, Moment, Reservation, ServiceSpec, SessionNumber, StackSpec, Traffic,
    UpdateConfig, VolumeMove,
};

/// When everything happens.
pub const NOW: Moment = Moment(1_000_000);

/// Processors and memory of the boards of a fleet.
pub type Boards = &'static [(u32, u64)];
pub const MIXED: Boards = &[(4, 2), (4, 4), (4, 8), (16, 64)];
pub const EQUAL: Boards = &[(4, 8)];

fn facts(number: usize, boards: Boards) -> Facts {
    let (cpu, gib) = boards[number % boards.len()];
    Facts {
        agent: "1".into(),
        arch: if cpu > 4 { outrigger_protocol::Arch::Amd64 } else { outrigger_protocol::Arch::Arm64 },
        also_runs: vec![],
        os: "Debian".into(),
        kernel: "6".into(),
        board: None,
        cpu: MilliCpu(cpu * 1000),
        memory: Bytes(gib << 30),
        engine: Some(Engine { kind: EngineKind::Memory, version: "1".into() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![],
        devices: vec![],
        root_on_flash: false,
        address: Some([10, (number >> 16) as u8, (number >> 8) as u8, number as u8].into()),
        mesh_port: Some(7946),
        policy: 0,
    }
}

pub fn name(number: usize) -> DeviceName {
    format!("device-{number:05}").parse().expect("it is a name")
}

pub fn fleet(devices: usize, boards: Boards) -> Fleet {
    let mut fleet = Fleet::new(Policy::default(), FleetId(1), Epoch(1));
    for number in 0..devices {
        let hello = Hello {
            boot: BootId(number as u128),
            session: SessionNumber(1),
            machine: number as u128,
            fleet: None,
            held: None,
            unix_ms: 0,
            heartbeat_ms: 1000,
            facts: facts(number, boards),
        };
        fleet.hear(&name(number), Heard::Hello(hello), NOW);
    }
    fleet.settle(NOW);
    fleet
}

pub fn stack(services: usize, replicas: usize, cpu: u32, memory: u64) -> StackSpec {
    let service = |number: usize| ServiceSpec {
        name: format!("s{number:05}").parse().expect("it is a name"),
        container: ContainerSpec { image: format!("image-{number}"), ..ContainerSpec::default() },
        mode: Mode::Replicated(u32::try_from(replicas).unwrap_or(0)),
        reservation: Reservation { cpu: MilliCpu(cpu), memory: Bytes(memory), generic: vec![] },
        constraints: vec![],
        spread: vec![],
        max_per_device: None,
        platforms: None,
        loss: LossPolicy::Available,
        lost_after: None,
        volume_move: VolumeMove::Stay,
        update: UpdateConfig::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Traffic::default(),
    };
    StackSpec {
        name: "bench".parse().expect("it is a name"),
        services: (0..services).map(service).collect(),
        networks: vec![],
    }
}

pub fn apply(fleet: &mut Fleet, stack: StackSpec) {
    let wish = Wish::Apply { stack, applied_unix_ms: None };
    fleet.wish(wish, NOW).map(drop).expect("the stack makes sense");
}
