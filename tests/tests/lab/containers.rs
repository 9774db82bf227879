//! A container ends: killed, out of memory, or changed by the user.

use anyhow::{Context, Result, ensure};
use outrigger_api::{ExitKind, ReplicaState};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::http;

use super::shop::{fleet_with_web, running, web};

#[test]
fn a_killed_container_runs_again_on_its_device() -> Result<()> {
    let fleet = fleet_with_web(3, 3)?;
    let device = fleet.device_of("shop/web.2")?;
    let (_, container) = fleet.running_on(device)?.into_iter().next().context("it runs there")?;
    let address = format!("{}:8080", device.address()?);
    http::fetch(&address, "/")?;
    device.docker(&["kill", &container])?;
    eventually("it answers again", PATIENCE, || http::fetch(&address, "/"))?;
    fleet.eventually_settled("shop/web", 3)?;
    ensure!(fleet.device_of("shop/web.2")?.number() == device.number(), "it stays where it was");
    Ok(())
}

#[test]
fn a_container_that_the_kernel_killed_for_memory_is_told_apart_and_runs_again() -> Result<()> {
    let fleet = Fleet::up(2, &["web"])?;
    let limited = web(1).replace("    deploy:\n", "    mem_limit: 24m\n    deploy:\n");
    fleet.deploy("shop", &limited)?;
    fleet.eventually_settled("shop/web", 1)?;
    let device = fleet.device_of("shop/web.1")?;
    let address = format!("{}:8080", device.address()?);
    eventually("it answers", PATIENCE, || http::fetch(&address, "/"))?;
    // The request dies with its server.
    let _ = http::get(&address, "/eat?mib=64");
    eventually("the hub says that it was out of memory", PATIENCE, || {
        let replicas = fleet.replicas()?;
        let copy = replicas.first().and_then(|one| one.copy.as_ref()).context("it is placed")?;
        let kind = copy.last_exit.as_ref().map(|exit| exit.kind);
        ensure!(kind == Some(ExitKind::OutOfMemory), "{kind:?}");
        Ok(())
    })?;
    eventually("it answers again", PATIENCE, || http::fetch(&address, "/"))?;
    Ok(())
}

#[test]
fn a_changed_service_is_rolled_one_copy_at_a_time_and_never_all_gone() -> Result<()> {
    let fleet = fleet_with_web(3, 3)?;
    let addresses: Vec<_> =
        fleet.lab.devices().map(|device| Ok(format!("{}:8080", device.address()?))).collect::<Result<_>>()?;
    fleet.deploy("shop", &web(3).replace("outrigger-web:1", "outrigger-web:2"))?;
    let mut fewest = addresses.len();
    eventually("all answer with version 2", PATIENCE, || {
        let bodies: Vec<_> = addresses.iter().filter_map(|address| http::fetch(address, "/").ok()).collect();
        fewest = fewest.min(bodies.len());
        let new = bodies.iter().filter(|body| body.contains("version: 2")).count();
        ensure!(new == 3, "{new} of 3 are new");
        Ok(())
    })?;
    ensure!(fewest >= 2, "only {fewest} of 3 answered at one time");
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

#[test]
fn a_change_that_does_not_become_healthy_stops_the_roll_and_leaves_the_others() -> Result<()> {
    let fleet = fleet_with_web(3, 3)?;
    let broken = web(3).replace("    ports:", "    environment: { UNHEALTHY: \"1\" }\n    ports:");
    fleet.deploy("shop", &broken)?;
    eventually("one copy is unhealthy and the roll stands", PATIENCE, || {
        let replicas = fleet.replicas()?;
        let bad = replicas.iter().filter(|one| one.state != ReplicaState::Running).count();
        ensure!(bad == 1, "{bad} are not running");
        let events = fleet.outrigger(&["events"])?;
        ensure!(events.contains("the change of shop/web stops"), "no event says that the roll stands:\n{events}");
        Ok(())
    })?;
    let good = fleet.replicas()?.iter().filter(|one| one.state == ReplicaState::Running).count();
    ensure!(good == 2, "{good} of the old copies run");
    Ok(())
}

#[test]
fn scaling_and_removing_have_their_effect_on_the_engines() -> Result<()> {
    let fleet = fleet_with_web(3, 2)?;
    fleet.outrigger(&["scale", "shop/web=3"])?;
    fleet.eventually_settled("shop/web", 3)?;
    ensure!(running(&fleet)?.len() == 3);
    fleet.outrigger(&["scale", "shop/web=1"])?;
    eventually("one is left", PATIENCE, || {
        let running = running(&fleet)?;
        ensure!(running.len() == 1 && running[0].1 == "shop/web.1", "{running:?}");
        Ok(())
    })?;
    fleet.outrigger(&["rm", "shop"])?;
    eventually("nothing is left, stopped or running", PATIENCE, || {
        for device in fleet.lab.devices() {
            let left = device.docker(&["ps", "-aq", "--filter", "label=outrigger.scope"])?;
            ensure!(left.is_empty(), "on {}: {left}", device.name());
        }
        Ok(())
    })?;
    Ok(())
}
