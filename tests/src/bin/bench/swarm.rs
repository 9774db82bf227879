//! Requests that fail while something drops, and the time until three healthy copies run again: ours beside Docker Swarm on
//! the same lab. Swarm's own mesh needs IPVS, which few small boards have, so its ports are those of the devices (`mode: host`),
//! and its clients either know the devices and ask them in turn, or have HAProxy in front.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_tests::clock::{eventually, rest, since_epoch};
use outrigger_tests::real::fleet::Fleet;
use outrigger_tests::real::http;
use outrigger_tests::real::lab::{Device, Lab};
use outrigger_tests::real::load::{Failures, When, failures_while};

const DEVICES: u8 = 4;
const COPIES: usize = 3;
/// Swarm takes its time.
const PATIENCE: Duration = Duration::from_secs(180);
/// Until all have settled after a fault was made good.
const CALM: Duration = Duration::from_secs(8);
const HAPROXY_PORT: u16 = 8090;

const WEB: &str = r#"
services:
  web:
    image: outrigger-web:1
    ports: ["8080:8080"]
    stop_grace_period: 1s
    deploy:
      replicas: 3
      placement: { max_replicas_per_node: 1 }
"#;

/// In TCP mode, as our own balancer works; everything that it has to get away from a dead server is on.
const HAPROXY: &str = "defaults
  mode tcp
  timeout connect 300ms
  timeout client 10s
  timeout server 10s
  retries 3
  option redispatch 1
listen web
  bind :8090
  default-server check inter 500ms fall 2 rise 1
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    PowerCut,
    CutCable,
    ContainerKilled,
    Roll,
}

const FAULTS: [(Fault, &str); 4] = [
    (Fault::PowerCut, "power of a device with a copy is cut"),
    (Fault::CutCable, "cable of a device with a copy is cut"),
    (Fault::ContainerKilled, "a container is killed"),
    (Fault::Roll, "rolling change of all three copies"),
];

/// One fault: who lost how much, and how long it took.
struct Row {
    what: &'static str,
    who: &'static str,
    seen: Failures,
    replaced: Duration,
}

/// Measures both and prints the table. `asked`: words of which the name of a fault has one (`power`, `rolling`), or the name of
/// who is measured (`Outrigger`, `Swarm`); none: all.
pub fn beside_ours(runs: usize, asked: &[String]) -> Result<()> {
    let is_asked = |name: &str| asked.iter().any(|word| name.contains(word.as_str()));
    let mut faults: Vec<_> = FAULTS.into_iter().filter(|(_, what)| is_asked(what)).collect();
    if faults.is_empty() {
        faults = FAULTS.to_vec();
    }
    let (only_us, only_swarm) = (is_asked("Outrigger"), is_asked("Swarm"));
    let mut rows = vec![];
    if only_us || !only_swarm {
        ours(runs, &faults, &mut rows)?;
    }
    if only_swarm || !only_us {
        swarms(runs, &faults, &mut rows)?;
    }
    println!("| what | who | failed | of | until three healthy copies run again |");
    println!("| --- | --- | --- | --- | --- |");
    for (_, what) in FAULTS {
        for Row { what, who, seen, replaced } in rows.iter().filter(|row| row.what == what) {
            println!("| {what} | {who} | {} | {} | {:.1} s |", seen.failed.len(), seen.count, replaced.as_secs_f64());
        }
    }
    Ok(())
}

fn add(rows: &mut Vec<Row>, what: &'static str, who: &'static str, seen: Failures, replaced: Duration) {
    eprintln!("{what}, {who}: {} of {} failed, replaced after {replaced:?}", seen.failed.len(), seen.count);
    for asked in seen.failed.iter().step_by(seen.failed.len().div_ceil(3).max(1)) {
        let after = asked.began.as_secs_f64() - seen.at.from.as_secs_f64();
        eprintln!("  {after:+.3} s: {}", asked.trouble.as_deref().unwrap_or_default());
    }
    rows.push(Row { what, who, seen, replaced });
}

fn ours(runs: usize, faults: &[(Fault, &'static str)], rows: &mut Vec<Row>) -> Result<()> {
    let fleet = Fleet::up(DEVICES, &["web"])?;
    fleet.deploy("shop", WEB)?;
    healthy_again(&fleet.lab, None, "outrigger-web:1")?;
    let mut version = 1;
    for _ in 0..runs {
        for &(fault, what) in faults {
            rest(CALM);
            let front = without_copy(&fleet.lab)?;
            let address = [format!("{}:8080", front.address()?)];
            eventually("it answers", PATIENCE, || http::fetch(&address[0], "/"))?;
            let mut replaced = Duration::ZERO;
            let victim = with_copy(&fleet.lab)?;
            let seen = failures_while(&address, "web", || {
                let at = act(fault, victim, || {
                    version = 3 - version;
                    let changed = WEB.replace("web:1", &format!("web:{version}"));
                    fleet.deploy("shop", &changed).map(drop)
                })?;
                replaced = healthy_again(&fleet.lab, gone(fault, victim), &image(version))?.saturating_sub(at.from);
                Ok(at)
            })?;
            add(rows, what, "Outrigger", seen, replaced);
            make_good(fault, victim)?;
            fleet.eventually_online(usize::from(DEVICES))?;
            fleet.eventually_settled("shop/web", COPIES)?;
        }
    }
    Ok(())
}

fn swarms(runs: usize, faults: &[(Fault, &'static str)], rows: &mut Vec<Row>) -> Result<()> {
    let lab = Lab::up(DEVICES, &["web"])?;
    let manager = lab.device(1);
    form(&lab)?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("haproxy.cfg");
    let mut text = HAPROXY.to_owned();
    for device in lab.devices() {
        writeln!(text, "  server {} {}:8080", device.name(), device.address()?)?;
    }
    fs::write(&config, text)?;
    let log = folder.path().join("haproxy.log");
    manager.spawn(&log.to_string_lossy(), &["haproxy", "-db", "-f", &config.to_string_lossy()])?;
    let front = [format!("{}:{HAPROXY_PORT}", manager.address()?)];
    let mut version = 1;
    for _ in 0..runs {
        for &(fault, what) in faults {
            rest(CALM);
            eventually("HAProxy answers", PATIENCE, || http::fetch(&front[0], "/"))?;
            let devices = copies(&lab)?;
            let devices =
                devices.iter().map(|device| Ok(format!("{}:8080", device.address()?))).collect::<Result<Vec<_>>>()?;
            // The manager is the only one: without it there is no Swarm.
            let victim =
                copies(&lab)?.into_iter().find(|device| device.number() != 1).context("a worker with a copy")?;
            let mut replaced = Duration::ZERO;
            let mut in_turn = None;
            let behind = failures_while(&front, "web", || {
                let seen = failures_while(&devices, "web", || {
                    let at = act(fault, victim, || {
                        version = 3 - version;
                        manager.docker(&["service", "update", "--detach", "--image", &image(version), "web"]).map(drop)
                    })?;
                    replaced = healthy_again(&lab, gone(fault, victim), &image(version))?.saturating_sub(at.from);
                    Ok(at)
                })?;
                let at = seen.at;
                in_turn = Some(seen);
                Ok(at)
            })?;
            add(rows, what, "Swarm, devices asked in turn", in_turn.context("it was measured")?, replaced);
            add(rows, what, "Swarm behind HAProxy", behind, replaced);
            make_good(fault, victim)?;
            eventually("all nodes are ready, and three copies run", PATIENCE, || {
                let nodes = manager.docker(&["node", "ls", "--format", "{{.Status}}"])?;
                let ready = nodes.lines().filter(|status| *status == "Ready").count();
                ensure!(ready == usize::from(DEVICES) && copies(&lab)?.len() == COPIES, "{nodes}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// A Swarm of all devices, led by the first, with a copy on each of the others.
fn form(lab: &Lab) -> Result<()> {
    let manager = lab.device(1);
    let address = manager.address()?;
    manager.docker(&["swarm", "init", "--advertise-addr", &address])?;
    let token = manager.docker(&["swarm", "join-token", "-q", "worker"])?;
    for device in lab.devices().skip(1) {
        device.docker(&["swarm", "join", "--token", &token, &format!("{address}:2377")])?;
    }
    let (first, available) = (manager.name(), "--availability");
    manager.docker(&["node", "update", available, "drain", &first])?;
    let publish = ["--publish", "mode=host,target=8080,published=8080"];
    let options = ["--detach", "--name", "web", "--replicas", "3", "--replicas-max-per-node", "1"];
    let words = [
        &["service", "create", "--no-resolve-image", "--stop-grace-period", "1s"],
        &options[..],
        &publish,
        &["outrigger-web:1"],
    ];
    manager.docker(&words.concat())?;
    healthy_again(lab, None, "outrigger-web:1")?;
    manager.docker(&["node", "update", available, "active", &first])?;
    Ok(())
}

fn image(version: u8) -> String {
    format!("outrigger-web:{version}")
}

fn act(fault: Fault, victim: Device<'_>, roll: impl FnOnce() -> Result<()>) -> Result<When> {
    match fault {
        Fault::PowerCut => victim.cut_power().map(When::from),
        Fault::CutCable => victim.partition().map(When::from),
        Fault::ContainerKilled => {
            let container = victim.docker(&["ps", "-q", "--filter", "health=healthy"])?;
            When::of(|| victim.docker(&["kill", &container]).map(drop))
        }
        Fault::Roll => When::of(roll),
    }
}

/// Whom nobody sees after a fault.
fn gone(fault: Fault, victim: Device<'_>) -> Option<Device<'_>> {
    matches!(fault, Fault::PowerCut | Fault::CutCable).then_some(victim)
}

fn make_good(fault: Fault, victim: Device<'_>) -> Result<()> {
    match fault {
        Fault::PowerCut => victim.revive().map(drop),
        Fault::CutCable => victim.heal().map(drop),
        Fault::ContainerKilled | Fault::Roll => Ok(()),
    }
}

/// When three healthy copies of this image run on the devices that are seen.
fn healthy_again(lab: &Lab, gone: Option<Device<'_>>, image: &str) -> Result<Duration> {
    let ancestor = format!("ancestor={image}");
    let words = ["ps", "-q", "--filter", "health=healthy", "--filter", &ancestor];
    eventually("three healthy copies run", PATIENCE, || {
        let mut count = 0;
        for device in lab.devices().filter(|device| gone.is_none_or(|gone| gone.number() != device.number())) {
            count += device.docker(&words)?.lines().count();
        }
        ensure!(count == COPIES, "{count} run");
        Ok(since_epoch())
    })
    .map(|(at, _)| at)
}

/// Devices with a healthy copy.
fn copies(lab: &Lab) -> Result<Vec<Device<'_>>> {
    let mut found = vec![];
    for device in lab.devices() {
        if !device.docker(&["ps", "-q", "--filter", "health=healthy"])?.is_empty() {
            found.push(device);
        }
    }
    Ok(found)
}

fn with_copy(lab: &Lab) -> Result<Device<'_>> {
    copies(lab)?.into_iter().next().context("a device with a copy")
}

fn without_copy(lab: &Lab) -> Result<Device<'_>> {
    let placed: Vec<u8> = copies(lab)?.into_iter().map(Device::number).collect();
    lab.devices().find(|device| !placed.contains(&device.number())).context("a device without a copy")
}
