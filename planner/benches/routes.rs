//! What the service network costs the planner in a large fleet: a service with a copy on each device, in a network of its
//! own. Prints how long it takes to work out who is told what, and how much that is. `cargo bench -p outrigger-planner`.

#![allow(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod fleet;

use std::time::Instant;

use fleet::{EQUAL, NOW, apply, fleet, name, stack};
use outrigger_planner::{Fleet, Heard};
use outrigger_protocol::{
    Attachment, DeviceName, DownMessage, EngineState, Mode, NetworkSpec, Observed, Phase, SessionNumber, Status,
    encode_down,
};

fn main() {
    // `cargo test --benches` runs this too; once and small is enough then.
    let small = !std::env::args().any(|argument| argument == "--bench");
    for devices in if small { vec![50] } else { vec![100, 1_000, 5_000, 10_000] } {
        everywhere(devices);
    }
}

fn everywhere(devices: usize) {
    let mut fleet = fleet(devices, EQUAL);
    let mut wanted = stack(1, 1, 1, 1 << 20);
    let network: outrigger_protocol::NetworkName = "bench_default".parse().expect("it is a name");
    wanted.networks = vec![NetworkSpec { name: network.clone(), internal: false, ipv6: false }];
    for service in &mut wanted.services {
        service.mode = Mode::Global;
        service.container.networks = vec![Attachment { network: network.clone(), aliases: vec![] }];
    }
    apply(&mut fleet, wanted);
    let begun = Instant::now();
    fleet.settle(NOW);
    let placed = begun.elapsed();
    for number in 0..devices {
        tell(&mut fleet, &name(number), Phase::Running, 1);
    }
    let begun = Instant::now();
    let changed = fleet.take_changed_routes(NOW);
    let found = begun.elapsed();
    assert_eq!(changed.len(), devices, "not every device is told");
    let begun = Instant::now();
    let (bytes, largest, lost) = encoded(&fleet, &changed);
    let took = begun.elapsed();
    println!(
        "a copy on each of {devices} devices: placed in {placed:.1?}; who is told what in {found:.1?}; {} kB of routes in \
         {took:.1?}, {largest} B the largest, {lost} too large",
        bytes / 1000
    );
    tell(&mut fleet, &name(devices / 2), Phase::Unhealthy, 2);
    let begun = Instant::now();
    let changed = fleet.take_changed_routes(NOW);
    let (bytes, _, _) = encoded(&fleet, &changed);
    println!(
        "one of them fails its healthcheck: {} devices looked at, {} kB of routes, {:.1?}",
        changed.len(),
        bytes / 1000,
        begun.elapsed()
    );
}

/// Bytes of the routes of these devices, the most for one, and how many do not fit into a message.
fn encoded(fleet: &Fleet, devices: &[DeviceName]) -> (usize, usize, usize) {
    let (mut all, mut largest, mut lost) = (0, 0, 0);
    for device in devices {
        let Some(routes) = fleet.routes(device) else { continue };
        match encode_down(&DownMessage::Routes(routes)) {
            Ok(bytes) => {
                all += bytes.len();
                largest = largest.max(bytes.len());
            }
            Err(_) => lost += 1,
        }
    }
    (all, largest, lost)
}

fn tell(fleet: &mut Fleet, device: &DeviceName, phase: Phase, number: u32) {
    let Some(held) = fleet.assignment(device) else { return };
    let replicas = held.replicas.iter().map(|one| Observed {
        placement: one.placement,
        replica: one.replica.clone(),
        phase: phase.clone(),
        restarts: 0,
        since_s: 0,
        last_exit: None,
        container: "c".into(),
        digest: String::new(),
        ports: vec![],
    });
    let status = Status {
        session: SessionNumber(1),
        number,
        held: Some(held.stamp),
        engine: EngineState::Up,
        replicas: replicas.collect(),
        images: vec![],
    };
    fleet.hear(device, Heard::Status(status), NOW);
}
