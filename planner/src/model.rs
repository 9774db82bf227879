//! The search against a model that looks at every device: the same decisions, whatever the fleet.

use outrigger_protocol::{
    Arch, BootId, Bytes, CgroupVersion, Constraint, ConstraintKey, ContainerSpec, DeviceName, Engine, EngineKind,
    EngineState, Epoch, Facts, FleetId, GenericResource, Hello, Load, LossPolicy, MemoryLimits, MilliCpu, Mode, Moment,
    Permille, Platform, PortProtocol, PublishMode, PublishedPort, Report, Reservation, ServiceRef, ServiceSpec,
    SessionNumber, StackSpec, Status, Throttling, Traffic, UpdateConfig, VolumeMove,
};
use proptest::prelude::*;

use crate::scratch::Scratch;
use crate::search::{self, Avoid, Query};
use crate::table::DeviceIx;
use crate::{Availability, Fleet, Heard, Policy, Wish};

const NOW: Moment = Moment(1_000_000);

/// A device of a random fleet.
#[derive(Debug, Clone)]
struct Board {
    arch: Arch,
    also_v7: bool,
    cpu: u32,
    mib: u64,
    zone: Option<u8>,
    cordoned: bool,
    image: Option<u8>,
    cpu_load: u16,
    hot: bool,
    cameras: u32,
}

/// A service of a random stack.
#[derive(Debug, Clone)]
struct Wanted {
    replicas: u32,
    image: u8,
    cpu: u32,
    mib: u64,
    zone: Option<(u8, bool)>,
    arch: Option<Arch>,
    spread: bool,
    max: Option<u32>,
    port: Option<u16>,
    cameras: u32,
}

fn arch() -> impl Strategy<Value = Arch> {
    prop_oneof![Just(Arch::Arm64), Just(Arch::Amd64), Just(Arch::ArmV7)]
}

fn board() -> impl Strategy<Value = Board> {
    let what = (arch(), prop::bool::weighted(0.1), prop_oneof![Just(1000_u32), Just(4000), 100..9000_u32]);
    let place = (prop::option::of(0..3_u8), prop::bool::weighted(0.1), prop::option::of(0..3_u8));
    let state = (prop_oneof![Just(0_u16), 0..1000_u16], prop::bool::weighted(0.1), 0..2_u32);
    (what, prop_oneof![Just(1024_u64), Just(4096), 100..9000_u64], place, state).prop_map(
        |((arch, also_v7, cpu), mib, (zone, cordoned, image), (cpu_load, hot, cameras))| Board {
            arch,
            also_v7,
            cpu,
            mib,
            zone,
            cordoned,
            image,
            cpu_load,
            hot,
            cameras,
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let size = (1..12_u32, 0..3_u8, prop_oneof![Just(0_u32), 1..2000_u32], prop_oneof![Just(0_u64), 1..2000_u64]);
    let rules = (prop::option::weighted(0.2, (0..3_u8, any::<bool>())), prop::option::weighted(0.2, arch()));
    let more = (
        prop::bool::weighted(0.2),
        prop::option::weighted(0.1, 1..3_u32),
        prop::option::weighted(0.1, 80..82_u16),
        prop_oneof![9 => Just(0_u32), 1 => Just(1_u32)],
    );
    (size, rules, more).prop_map(|((replicas, image, cpu, mib), (zone, arch), (spread, max, port, cameras))| Wanted {
        replicas,
        image,
        cpu,
        mib,
        zone,
        arch,
        spread,
        max,
        port,
        cameras,
    })
}

fn facts(board: &Board) -> Facts {
    Facts {
        agent: "1".into(),
        arch: board.arch,
        also_runs: if board.also_v7 { vec![Arch::ArmV7] } else { vec![] },
        os: "Debian".into(),
        kernel: "6".into(),
        board: None,
        cpu: MilliCpu(board.cpu),
        memory: Bytes(board.mib << 20),
        engine: Some(Engine { kind: EngineKind::Memory, version: "1".into() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![GenericResource { kind: "camera".into(), count: board.cameras }],
        devices: vec![],
        root_on_flash: false,
        address: None,
        mesh_port: None,
        policy: 0,
    }
}

fn join(fleet: &mut Fleet, number: usize, board: &Board) {
    let name: DeviceName = format!("d{number}").parse().unwrap();
    let session = SessionNumber(1);
    let hello = Hello {
        boot: BootId(number as u128),
        session,
        machine: number as u128,
        fleet: None,
        held: None,
        unix_ms: 0,
        heartbeat_ms: 1000,
        facts: facts(board),
    };
    fleet.hear(&name, Heard::Hello(hello), NOW);
    let images = board.image.map(|image| format!("image-{image}")).into_iter().collect();
    let status = Status { session, number: 1, held: None, engine: EngineState::Up, replicas: vec![], images };
    fleet.hear(&name, Heard::Status(status), NOW);
    let throttling = Throttling(if board.hot { Throttling::HOT } else { 0 });
    let load = Some(Load { cpu: Permille::new(board.cpu_load), throttling, ..Load::default() });
    let report = Report { session, sequence: 1, statuses: 1, held: None, load, usage: vec![] };
    fleet.hear(&name, Heard::Report(report), NOW);
    if let Some(zone) = board.zone {
        let (key, value) = ("zone".into(), Some(format!("Z{zone}")));
        fleet.wish(Wish::Label { device: name.clone(), key, value }, NOW).unwrap();
    }
    if board.cordoned {
        fleet.wish(Wish::Availability { device: name, availability: Availability::Cordon }, NOW).unwrap();
    }
}

fn spec(number: usize, wanted: &Wanted) -> ServiceSpec {
    let port = |host: u16| PublishedPort {
        container: 1,
        host: Some(host),
        address: None,
        protocol: PortProtocol::Tcp,
        mode: PublishMode::Host,
    };
    let zone = ConstraintKey::NodeLabel("zone".into());
    let constraint =
        |(zone_number, equal): (u8, bool)| Constraint { key: zone.clone(), equal, value: format!("z{zone_number}") };
    let cameras = GenericResource { kind: "camera".into(), count: wanted.cameras };
    ServiceSpec {
        name: format!("s{number}").parse().unwrap(),
        container: ContainerSpec {
            image: format!("image-{}", wanted.image),
            ports: wanted.port.map(port).into_iter().collect(),
            ..ContainerSpec::default()
        },
        mode: Mode::Replicated(wanted.replicas),
        reservation: Reservation {
            cpu: MilliCpu(wanted.cpu),
            memory: Bytes(wanted.mib << 20),
            generic: Some(cameras).filter(|cameras| cameras.count > 0).into_iter().collect(),
        },
        constraints: wanted.zone.map(constraint).into_iter().collect(),
        spread: if wanted.spread { vec![zone] } else { vec![] },
        max_per_device: wanted.max,
        platforms: wanted.arch.map(|arch| vec![Platform { arch }]),
        loss: LossPolicy::Available,
        lost_after: None,
        volume_move: VolumeMove::Stay,
        update: UpdateConfig::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Traffic::default(),
    }
}

fn fleet_of(boards: &[Board], services: &[Wanted]) -> Fleet {
    fleet_in_order(boards.iter().enumerate(), services)
}

fn fleet_in_order<'a>(boards: impl Iterator<Item = (usize, &'a Board)>, services: &[Wanted]) -> Fleet {
    let mut fleet = Fleet::new(Policy::default(), FleetId(1), Epoch(1));
    for (number, board) in boards {
        join(&mut fleet, number, board);
    }
    let services = services.iter().enumerate().map(|(number, wanted)| spec(number, wanted)).collect();
    let stack = StackSpec { name: "m".parse().unwrap(), services, networks: vec![] };
    fleet.wish(Wish::Apply { stack, applied_unix_ms: None }, NOW).unwrap();
    fleet.settle(NOW);
    fleet
}

/// The best device, found by looking at all of them.
fn by_looking(scratch: &Scratch<'_>, query: &Query<'_>) -> Option<DeviceIx> {
    let all = scratch.fleet.devices.iter();
    all.filter_map(|(ix, _)| Some((search::worth(scratch, query, ix)?, ix))).min().map(|(_, ix)| ix)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_search_decides_as_if_it_had_looked_at_every_device(
        boards in prop::collection::vec(board(), 1..40),
        before in prop::collection::vec(wanted(), 0..6),
        next in wanted(),
        more in 1..40_usize,
    ) {
        let mut services = before;
        services.push(Wanted { replicas: next.replicas % 3, ..next });
        let fleet = fleet_of(&boards, &services);
        let name: ServiceRef = format!("m/s{}", services.len() - 1).parse().unwrap();
        let service = fleet.services.named(&name).unwrap();
        let query = Query {
            service,
            content: &service.content,
            platforms: fleet.platforms_of(&service.content.spec),
            barred: &[],
            home: None,
            together: None,
            avoid: Avoid::IfPossible,
            now: NOW,
        };
        let mut looked = Scratch::new(&fleet);
        looked.turn_to(service);
        let mut searched = Scratch::new(&fleet);
        searched.turn_to(service);
        let mut expected = vec![];
        for _ in 0..more {
            let best = search::best(&searched, &query).map(|(ix, _)| ix);
            prop_assert_eq!(best, by_looking(&looked, &query));
            let Some(ix) = best else { break };
            looked.give(&service.content, ix);
            searched.give(&service.content, ix);
            expected.push(ix);
        }
        let mut at_once = Scratch::new(&fleet);
        at_once.turn_to(service);
        let found = search::best_many(&mut at_once, &query, more);
        prop_assert_eq!(found.into_iter().map(|(ix, _)| ix).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_order_in_which_devices_came_decides_nothing(
        boards in prop::collection::vec(board(), 1..20),
        services in prop::collection::vec(wanted(), 1..6),
        first in 0..20_usize,
    ) {
        let forwards = fleet_of(&boards, &services);
        let mut order: Vec<(usize, &Board)> = boards.iter().enumerate().collect();
        order.reverse();
        order.rotate_left(first % boards.len());
        let otherwise = fleet_in_order(order.into_iter(), &services);
        for view in forwards.devices() {
            let there = otherwise.assignment(view.name);
            prop_assert_eq!(forwards.assignment(view.name).map(|a| a.replicas), there.map(|a| a.replicas));
        }
    }

    #[test]
    fn what_is_counted_on_devices_is_what_is_placed_there(
        boards in prop::collection::vec(board(), 1..20),
        services in prop::collection::vec(wanted(), 1..6),
    ) {
        let fleet = fleet_of(&boards, &services);
        for (_, device) in fleet.devices.iter() {
            let facts = device.facts.as_ref().unwrap();
            let copies = || device.placements.iter().map(|id| fleet.placements.get(id).unwrap());
            let cpu: u64 = copies().map(|copy| u64::from(copy.content.spec.reservation.cpu.0)).sum();
            let memory: u64 = copies().map(|copy| copy.content.spec.reservation.memory.0).sum();
            prop_assert_eq!((device.using.cpu, device.using.memory), (cpu, memory));
            prop_assert!(cpu <= u64::from(facts.cpu.0) && memory <= facts.memory.0);
            let mut ports: Vec<u16> =
                copies().flat_map(|copy| copy.content.spec.container.ports.iter().filter_map(|port| port.host)).collect();
            ports.sort_unstable();
            let all = ports.len();
            ports.dedup();
            prop_assert_eq!(ports.len(), all);
        }
        let sizes: usize = fleet.index.shapes.values().map(std::collections::BTreeSet::len).sum();
        prop_assert_eq!(fleet.index.len, sizes);
    }
}
