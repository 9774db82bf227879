//! How soon every device knows that a copy has become healthy.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use outrigger_agent::engine::Health;
use outrigger_api::ReplicaList;
use outrigger_protocol::PlacementId;
use outrigger_tests::clock::{eventually, monotonic, rest};

use super::Table;
use super::device::Order;
use super::scenes::{Stage, millis};

/// Longest that one change may take to come everywhere.
const WITHIN: Duration = Duration::from_secs(20);
/// Between two changes, so that each is measured from rest: a device is told at most every 50 ms.
const PAUSE: Duration = Duration::from_millis(120);

const LB: &str = "
services:
  lb:
    image: web:1
    ports: ['8080:80']
    healthcheck: { test: [CMD, check], interval: 1s }
    deploy: { replicas: 3 }
";

/// A copy fails its healthcheck and passes it again, many times; each device tells when its routes say so.
pub fn converge(stage: &mut Stage, table: &mut Table) -> Result<()> {
    let before = stage.hub.taken()?;
    stage.deploy("lb", LB, 3, table)?;
    let copies = copies(stage)?;
    stage.crowd.shared.is_watching.store(true, Ordering::Relaxed);
    let (mut last, mut single, mut away) = (Vec::new(), Vec::new(), Vec::new());
    for flip in 0..stage.scale.flips {
        let (placement, device) = *copies.get(flip % copies.len()).context("no copy runs")?;
        let all = turn(stage, placement, device, Health::Unhealthy)?;
        away.extend(all.iter().max());
        rest(PAUSE);
        let all = turn(stage, placement, device, Health::Healthy)?;
        last.extend(all.iter().max());
        single.extend(all);
        rest(PAUSE);
    }
    stage.crowd.shared.is_watching.store(false, Ordering::Relaxed);
    let cpu = (stage.hub.taken()?.cpu - before.cpu) / (2 * stage.scale.flips) as f64;
    table.row("copy healthy → in one device's routes, median, p99", both(&mut single), "");
    table.row("copy healthy → in every device's routes, median, p99", both(&mut last), "p99 ≤ 250 ms at 100");
    table.row("copy unhealthy → out of every device's routes, median, p99", both(&mut away), "");
    table.row("… hub, processor time for each change, with heartbeats", millis(Duration::from_secs_f64(cpu)), "");
    Ok(())
}

fn copies(stage: &Stage) -> Result<Vec<(PlacementId, usize)>> {
    let list: ReplicaList = serde_json::from_str(&stage.hub.ask("GET /v1/replicas?stack=lb", "")?)?;
    let copies = list.replicas.into_iter().filter_map(|one| one.copy).map(|copy| {
        let number = copy.device.strip_prefix("device-").context("a device of the crowd")?.parse()?;
        Ok((PlacementId(u64::from_str_radix(&copy.placement, 16)?), number))
    });
    copies.collect()
}

/// Turns the health of a copy; how long after that each device had it, or no longer had it.
fn turn(stage: &mut Stage, placement: PlacementId, device: usize, health: Health) -> Result<Vec<Duration>> {
    let wants = health == Health::Healthy;
    while stage.crowd.seen.try_recv().is_ok() {}
    let begin = monotonic();
    stage.crowd.order(device, Order::Health(placement, health))?;
    let mut when: BTreeMap<usize, Instant> = BTreeMap::new();
    let seen = &mut stage.crowd.seen;
    let all = stage.scale.devices;
    eventually("every device has heard", WITHIN, || {
        while let Ok(one) = seen.try_recv() {
            if one.ready.contains(&placement) == wants {
                when.entry(one.device).or_insert(one.at);
            } else {
                when.remove(&one.device);
            }
        }
        ensure!(when.len() == all, "{} of {all} have", when.len());
        Ok(())
    })?;
    if when.values().any(|at| *at < begin) {
        bail!("a device knew before it happened");
    }
    Ok(when.into_values().map(|at| at.duration_since(begin)).collect())
}

fn both(times: &mut [Duration]) -> String {
    times.sort();
    let at = |permille: usize| {
        let index = (times.len() * permille).div_ceil(1000).clamp(1, times.len().max(1)) - 1;
        millis(times.get(index).copied().unwrap_or_default())
    };
    format!("{}, {} (n={})", at(500), at(990), times.len())
}
