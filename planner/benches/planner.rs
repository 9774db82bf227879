//! Placements per second, the time to plan around a lost device, and a million replicas. Prints one line for each.
//!
//! `cargo bench -p outrigger-planner`; decisions only unless a line says otherwise, on one core.

#![allow(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

mod fleet;

use fleet::{EQUAL, MIXED, NOW, apply, fleet, name, stack};
use outrigger_planner::{Change, Heard, Wish, reconcile};
use outrigger_protocol::{ConstraintKey, SessionNumber, StackSpec};

const RUNS: usize = 5;

fn main() {
    // `cargo test --benches` runs this too; once and small is enough then.
    let small = !std::env::args().any(|argument| argument == "--bench");
    let scale = if small { 100 } else { 1 };
    let devices = 10_000 / scale;
    placements("one service", devices, 1, 100_000 / scale);
    placements("services of 100 replicas", devices, 1_000 / scale, 100);
    placements("services of 1 replica", devices, 20_000 / scale, 1);
    lost_device("of 10 000 services of 100", devices, stack(10_000 / scale, 100, 1, 1 << 20));
    lost_device("of 100 services on half of the devices", devices, stack(100 / scale.min(10), devices / 2, 1, 1 << 20));
    let mut zoned = stack(10_000 / scale, 100, 1, 1 << 20);
    for service in &mut zoned.services {
        service.spread = vec![ConstraintKey::NodeLabel("zone".into())];
    }
    lost_device("of 10 000 services of 100, spread over zones", devices, zoned);
    copied(devices, stack(1_000 / scale, 100, 10, 8 << 20));
    million(5_000 / scale, 1_000 / scale, 1_000);
}

/// What a dry run takes from the task that owns the fleet: the copy that it plans on.
fn copied(devices: usize, stack: StackSpec) {
    let mut fleet = fleet(devices, MIXED);
    apply(&mut fleet, stack);
    fleet.settle(NOW);
    let replicas = fleet.totals().wanted;
    let times = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            let copy = fleet.clone();
            let took = begun.elapsed();
            drop(copy);
            took
        })
        .collect();
    println!("a fleet of {devices} devices and {replicas} replicas copied for a dry run: {:.1?}", median(times));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn placements(what: &str, devices: usize, services: usize, replicas: usize) {
    let mut fleet = fleet(devices, MIXED);
    apply(&mut fleet, stack(services, replicas, 10, 8 << 20));
    let mut placed = 0;
    let times = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            let plan = reconcile(&fleet, NOW);
            let took = begun.elapsed();
            placed = plan.changes.iter().filter(|change| matches!(change, Change::Place { .. })).count();
            took
        })
        .collect();
    assert_eq!(placed, services * replicas, "not all were placed");
    let took = median(times);
    let rate = placed as f64 / took.as_secs_f64();
    println!("{placed} placements ({what}) on {devices} devices: {took:.1?}, {rate:.0} placements/s");
}

fn lost_device(what: &str, devices: usize, stack: StackSpec) {
    let mut fleet = fleet(devices, if stack.services.len() < 1000 { MIXED } else { EQUAL });
    for number in 0..devices {
        let value = Some(format!("zone-{}", number % 4));
        let wish = Wish::Label { device: name(number), key: "zone".into(), value };
        fleet.wish(wish, NOW).map(drop).expect("the device is there");
    }
    apply(&mut fleet, stack);
    fleet.settle(NOW);
    // The one whose number of copies is nearest to a hundred.
    let victim = fleet.devices().min_by_key(|device| device.replicas.abs_diff(100)).map(|device| device.name.clone());
    let victim = victim.expect("there are devices");
    let on_it = fleet.device(&victim).map_or(0, |device| device.replicas);
    let mut later = NOW;
    for second in 1..=4 {
        later = NOW + Duration::from_secs(second);
        for number in 0..devices {
            let name = name(number);
            if name != victim {
                let report = outrigger_protocol::Report {
                    session: SessionNumber(1),
                    sequence: u32::try_from(second).unwrap_or(0),
                    statuses: 0,
                    held: None,
                    load: None,
                    usage: vec![],
                };
                fleet.hear(&name, Heard::Report(report), later);
            }
        }
        if second < 4 {
            fleet.settle(later);
        }
    }
    let begun = Instant::now();
    let mut moved = 0;
    loop {
        let plan = reconcile(&fleet, later);
        let done = plan.is_empty();
        moved += plan.changes.iter().filter(|change| matches!(change, Change::Place { .. })).count();
        fleet.commit(&plan);
        if done {
            break;
        }
    }
    let took = begun.elapsed();
    println!(
        "one of {devices} devices lost with {on_it} replicas {what}: {moved} moved in {took:.2?} (judged, planned, committed)"
    );
}

fn million(devices: usize, services: usize, replicas: usize) {
    let mut fleet = fleet(devices, MIXED);
    apply(&mut fleet, stack(services, replicas, 1, 1 << 20));
    let begun = Instant::now();
    let plan = reconcile(&fleet, NOW);
    let planned = begun.elapsed();
    let placed = plan.changes.iter().filter(|change| matches!(change, Change::Place { .. })).count();
    let begun = Instant::now();
    let committed = fleet.commit(&plan);
    let took = begun.elapsed();
    let rate = placed as f64 / planned.as_secs_f64();
    println!(
        "{placed} replicas of {services} services on {devices} devices: planned in {planned:.1?} ({rate:.0} placements/s), \
         committed in {took:.1?} with {} records for {} devices",
        committed.records.len(),
        committed.devices.len()
    );
    assert_eq!(placed, services * replicas, "not all were placed");
}
