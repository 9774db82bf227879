//! A device drops; the time until the replacement answers over HTTP on another one.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outrigger_tests::clock::{eventually, rest, since_epoch};
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::http;
use outrigger_tests::real::lab::{ActedAt, Device};

use super::figures::{Figures, Series};

const WEB: &str = r#"
services:
  web:
    image: outrigger-web:1
    ports: [{ target: 8080, published: 8080, mode: host }]
    stop_grace_period: 1s
    deploy: { replicas: 1 }
"#;

/// A cable that was cut stays cut for longer than the longest gap that the hub learns from (20 s): one that is mended as soon
/// as the replacement answers would be, run after run, a device with a habit of falling silent, which gets a longer limit.
const CABLE_STAYS_CUT: Duration = Duration::from_secs(21);

/// Power cut, cut cable, and an agent that dies with its connection.
pub fn all(fleet: &Fleet, runs: usize, figures: &mut Figures) -> Result<()> {
    fleet.deploy("bench", WEB)?;
    fleet.eventually_settled("bench/web", 1)?;
    let power = series(fleet, runs, |device| device.cut_power(), |device| device.revive().map(drop))?;
    figures.time("power cut → replacement answers", "≤ 5 s", &power, None);
    let mend = |device: Device<'_>| {
        rest(CABLE_STAYS_CUT);
        device.heal().map(drop)
    };
    let cable = series(fleet, runs, |device| device.partition(), mend)?;
    figures.time("cut cable → replacement answers", "≤ 5 s", &cable, None);
    let agent = series(
        fleet,
        runs,
        |device| {
            // The whole device crashes with its network up: its peers are told.
            device.crash()
        },
        |device| device.revive().map(drop),
    )?;
    figures.time("agent, containers and connection die → replacement answers", "≤ 3 s", &agent, None);
    let only_agent =
        series(fleet, runs, |device| kill_agent(fleet, device), |device| fleet.start_agent(device).map(drop))?;
    figures.time("agent alone dies (its container goes on) → replacement answers", "≤ 3 s", &only_agent, None);
    fleet.outrigger(&["rm", "bench"])?;
    Ok(())
}

fn kill_agent(fleet: &Fleet, device: Device<'_>) -> Result<ActedAt> {
    let pid = fleet.agent_pid(device)?;
    let at = since_epoch();
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    Ok(at)
}

fn series(
    fleet: &Fleet,
    runs: usize,
    drop_it: impl Fn(Device<'_>) -> Result<ActedAt>,
    bring_back: impl Fn(Device<'_>) -> Result<()>,
) -> Result<Series> {
    let mut series = Series::default();
    let count = u8::try_from(fleet.lab.devices().count())?;
    for _ in 0..runs {
        let victim = fleet.device_of("bench/web.1")?;
        let others: Vec<String> = fleet
            .lab
            .devices()
            .filter(|device| device.number() != victim.number())
            .map(|device| Ok(format!("{}:8080", device.address()?)))
            .collect::<Result<_>>()?;
        let at = drop_it(victim)?;
        eventually("a replacement answers", PATIENCE, || {
            others.iter().find_map(|address| http::fetch(address, "/").ok()).context("none answers")
        })?;
        series.add(since_epoch().checked_sub(at).unwrap_or(Duration::ZERO));
        bring_back(victim)?;
        fleet.eventually_online(usize::from(count))?;
        fleet.eventually_settled("bench/web", 1)?;
    }
    Ok(series)
}
