//! The service network: published ports on every device, names, isolation, and what breaks when something drops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outrigger_tests::clock::{eventually, throughout};
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::http;
use outrigger_tests::real::lab::Device;
use outrigger_tests::real::load::{self, Failures, When};

/// `shop`: so many copies of `web` behind port 8080 of every device, and one of `client`, which asks for nothing by itself.
pub fn shop(replicas: u32) -> String {
    format!(
        r#"
services:
  web:
    image: outrigger-web:1
    ports: ["8080:8080"]
    environment: {{ UDP_PORT: "5300" }}
    stop_grace_period: 1s
    healthcheck:
      test: ["CMD", "/web", "check", "http://127.0.0.1:8080/healthz"]
      interval: 1s
      timeout: 1s
      retries: 2
    deploy:
      replicas: {replicas}
      placement: {{ max_replicas_per_node: 1 }}
  client:
    image: outrigger-web:1
    stop_grace_period: 1s
"#
    )
}

pub fn fleet_with_shop(devices: u8, replicas: u32) -> Result<Fleet> {
    let fleet = Fleet::up(devices, &["web"])?;
    fleet.deploy("shop", &shop(replicas))?;
    fleet.eventually_settled("shop/web", usize::try_from(replicas)?)?;
    fleet.eventually_settled("shop/client", 1)?;
    Ok(fleet)
}

/// Runs the sample's client within the container of a replica.
pub fn within(fleet: &Fleet, replica: &str, words: &[&str]) -> Result<String> {
    let container = container(fleet, replica)?;
    fleet.device_of(replica)?.docker(&[&["exec", &container, "/web"], words].concat())
}

/// The container of a replica, on its device.
pub fn container(fleet: &Fleet, replica: &str) -> Result<String> {
    let running = fleet.running_on(fleet.device_of(replica)?)?;
    Ok(running.into_iter().find(|(name, _)| name == replica).context("it runs there")?.1)
}

pub fn port_8080(device: Device<'_>) -> Result<String> {
    Ok(format!("{}:8080", device.address()?))
}

/// What each of `count` requests to a device was answered by: replicas' names.
pub fn answering(address: &str, count: usize) -> Result<Vec<String>> {
    let line = |body: String| {
        let replica = body.lines().find_map(|line| line.strip_prefix("replica: ")).map(str::to_owned);
        replica.with_context(|| format!("no replica in {body:?}"))
    };
    let mut all = (0..count).map(|_| http::fetch(address, "/").and_then(line)).collect::<Result<Vec<_>>>()?;
    all.sort();
    all.dedup();
    Ok(all)
}

pub fn eventually_served(fleet: &Fleet) -> Result<()> {
    for device in fleet.lab.devices() {
        let address = port_8080(device)?;
        eventually(&format!("{} answers at port 8080", device.name()), PATIENCE, || http::fetch(&address, "/"))?;
    }
    Ok(())
}

#[test]
fn a_published_port_is_open_on_every_device_and_leads_to_all_copies() -> Result<()> {
    let fleet = fleet_with_shop(4, 3)?;
    eventually_served(&fleet)?;
    for device in fleet.lab.devices() {
        let address = port_8080(device)?;
        eventually(&format!("{} leads to all three", device.name()), PATIENCE, || {
            let copies = answering(&address, 30)?;
            ensure!(copies == ["shop/web.1", "shop/web.2", "shop/web.3"], "{copies:?}");
            Ok(())
        })?;
        // As a user would.
        let curled = device.run(&["curl", "-fsS", "--max-time", "5", "http://127.0.0.1:8080/"])?;
        ensure!(curled.contains("replica: shop/web."), "{curled}");
    }
    fleet.outrigger(&["rm", "shop"])?;
    for device in fleet.lab.devices() {
        let address = port_8080(device)?;
        eventually("the port is closed again", PATIENCE, || {
            ensure!(TcpStream::connect(&address).is_err(), "{address} is open");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn containers_find_services_by_name_whatever_device_runs_the_copies() -> Result<()> {
    let fleet = fleet_with_shop(3, 2)?;
    for name in ["web", "web.shop", "web.shop.outrigger.internal", "WEB"] {
        let url = format!("http://{name}:8080/");
        eventually(&format!("{url} answers within a container"), PATIENCE, || {
            let body = within(&fleet, "shop/client.1", &["get", &url])?;
            ensure!(body.contains("replica: shop/web."), "{body}");
            Ok(())
        })?;
    }
    let address = within(&fleet, "shop/client.1", &["resolve", "web"])?;
    ensure!(within(&fleet, "shop/client.1", &["resolve", "tasks.web"]).is_ok());
    for _ in 0..20 {
        ensure!(within(&fleet, "shop/client.1", &["resolve", "web"])? == address, "it moves");
    }
    eventually("UDP is led there and back", PATIENCE, || {
        let answer = within(&fleet, "shop/client.1", &["udp", "web:5300", "ping"])?;
        ensure!(answer.starts_with("shop/web.") && answer.ends_with(" ping"), "{answer}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn another_stack_finds_no_name_and_is_refused_at_the_address() -> Result<()> {
    let fleet = fleet_with_shop(2, 2)?;
    fleet.deploy("spy", "services:\n  eye:\n    image: outrigger-web:1\n    stop_grace_period: 1s\n")?;
    fleet.eventually_settled("spy/eye", 1)?;
    let address = eventually("the shop's own client reaches it", PATIENCE, || {
        within(&fleet, "shop/client.1", &["get", "http://web:8080/"])?;
        within(&fleet, "shop/client.1", &["resolve", "web"])
    })?
    .0;
    for name in ["web", "web.shop", "tasks.web"] {
        ensure!(within(&fleet, "spy/eye.1", &["resolve", name]).is_err(), "{name} resolves for another stack");
    }
    for address in address.lines() {
        let url = format!("http://{address}:8080/");
        let answer = within(&fleet, "spy/eye.1", &["get", &url]);
        ensure!(answer.is_err(), "{url} answers to another stack: {answer:?}");
    }
    Ok(())
}

#[test]
fn a_stream_goes_on_when_the_agent_is_killed_or_upgraded_and_another_takes_its_place() -> Result<()> {
    let fleet = fleet_with_shop(3, 2)?;
    eventually_served(&fleet)?;
    // On a device without a copy: one that the hub thinks lost for a moment would lose its copies, and so the stream.
    let device = without_copy(&fleet, 2)?;
    let mut stream = TcpStream::connect(port_8080(device)?)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /drip HTTP/1.1\r\nhost: web\r\n\r\n")?;
    let mut drops = Drops { stream, buffer: String::new() };
    drops.until(3)?;
    // A crash, and an orderly end as at an upgrade.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        kill(Pid::from_raw(i32::try_from(fleet.agent_pid(device)?)?), signal)?;
        eventually("the agent has ended", PATIENCE, || match fleet.agent_pid(device) {
            Ok(pid) => Err(pid),
            Err(_) => Ok(()),
        })?;
        fleet.start_agent(device)?;
        let next = drops.last()? + 20;
        drops.until(next)?;
    }
    http::fetch(&port_8080(device)?, "/")?;
    Ok(())
}

/// An answer that never ends.
struct Drops {
    stream: TcpStream,
    buffer: String,
}

impl Drops {
    fn last(&self) -> Result<u64> {
        let whole = self.buffer.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().rev().find_map(|line| line.strip_prefix("drop "));
        Ok(last.context("no drop has come")?.parse()?)
    }

    fn until(&mut self, number: u64) -> Result<()> {
        let mut bytes = [0; 4096];
        while self.last().unwrap_or_default() < number {
            let length = self.stream.read(&mut bytes).context("the stream is cut")?;
            ensure!(length > 0, "the stream has ended after {:?}", self.last());
            self.buffer.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        Ok(())
    }
}

/// Requests through a device without a copy, while `fault` happens to the others.
fn failures_while(fleet: &Fleet, fault: impl FnOnce() -> Result<When>) -> Result<Failures> {
    load::failures_while(&[port_8080(without_copy(fleet, 3)?)?], "web", fault)
}

/// A device on which none of so many copies of `shop/web` runs.
pub fn without_copy(fleet: &Fleet, replicas: u8) -> Result<Device<'_>> {
    let placed: Vec<u8> =
        (1..=replicas).map(|n| fleet.device_of(&format!("shop/web.{n}")).map(Device::number)).collect::<Result<_>>()?;
    let mut devices = fleet.lab.devices();
    devices.find(|device| !placed.contains(&device.number())).context("a device without a copy")
}

/// Requests that were under way when the power was cut: what was sent to the device in its last moments is lost with it.
const IN_FLIGHT: Duration = Duration::from_millis(50);

#[test]
fn a_device_that_loses_power_or_its_cable_fails_no_request_beyond_those_in_flight_there() -> Result<()> {
    let fleet = fleet_with_shop(4, 3)?;
    eventually_served(&fleet)?;
    let front = without_copy(&fleet, 3)?;
    let address = [port_8080(front)?];
    let [unplugged, dark] = ["shop/web.1", "shop/web.2"].map(|replica| fleet.device_of(replica));
    let (unplugged, dark) = (unplugged?, dark?);
    // The second fault comes when the first has been made good, so that there are three copies each time.
    let cable = load::failures_while(&address, "web", || unplugged.partition())?;
    fleet.eventually_settled("shop/web", 3)?;
    let power = load::failures_while(&address, "web", || dark.cut_power())?;
    for (what, seen) in [("cable cut", cable), ("power cut", power)] {
        let (failed, later) = (seen.failed.len(), seen.beyond(IN_FLIGHT * 3));
        eprintln!("{what}: {failed} of {} failed, of them {} later", seen.count, later.len());
        ensure!(later.is_empty(), "{what}: {later:?}");
        ensure!(failed <= usize::try_from(load::RATE)? / 5, "{what}: {:?}", seen.failed);
    }
    Ok(())
}

#[test]
fn a_killed_container_and_a_rolling_change_fail_no_request() -> Result<()> {
    let fleet = fleet_with_shop(4, 3)?;
    eventually_served(&fleet)?;
    let device = fleet.device_of("shop/web.2")?;
    let container = container(&fleet, "shop/web.2")?;
    let killed = failures_while(&fleet, || When::of(|| device.docker(&["kill", &container]).map(drop)))?;
    eprintln!("container killed: {} of {} failed", killed.failed.len(), killed.count);
    let later = killed.beyond(IN_FLIGHT * 3);
    ensure!(later.is_empty(), "{later:?}");
    fleet.eventually_settled("shop/web", 3)?;

    let rolled = failures_while(&fleet, || {
        When::of(|| {
            fleet.deploy("shop", &shop(3).replace("outrigger-web:1\n    ports", "outrigger-web:2\n    ports"))?;
            fleet.eventually_settled("shop/web", 3).map(drop)
        })
    })?;
    eprintln!("rolled: {} of {} failed: {:?}", rolled.failed.len(), rolled.count, rolled.failed);
    ensure!(rolled.failed.is_empty(), "{:?}", rolled.failed);
    Ok(())
}

#[test]
fn without_the_hub_routes_hold_and_a_device_that_boots_knows_them() -> Result<()> {
    let mut fleet = fleet_with_shop(3, 2)?;
    eventually_served(&fleet)?;
    let other = without_copy(&fleet, 2)?.number();
    fleet.kill_hub()?;
    // Meanwhile endpoints have settled and are on the disks.
    throughout("all devices serve", Duration::from_secs(8), || eventually_served(&fleet))?;
    let other = fleet.lab.device(other);
    other.cut_power()?;
    other.revive()?;
    let address = port_8080(other)?;
    eventually("it serves from what was on its disk", PATIENCE, || http::fetch(&address, "/"))?;
    fleet.start_hub()?;
    fleet.eventually_online(3)?;
    eventually_served(&fleet)
}
