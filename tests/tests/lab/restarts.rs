//! Parts of Outrigger end and begin again: what runs goes on.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outrigger_api::DeviceState;
use outrigger_tests::clock::{eventually, throughout};
use outrigger_tests::real::fleet::PATIENCE;
use std::time::Duration;

use super::shop::{fleet_with_web, running};

#[test]
fn an_agent_that_is_killed_and_comes_back_adopts_its_containers() -> Result<()> {
    let fleet = fleet_with_web(3, 3)?;
    let device = fleet.lab.device(1);
    let before = running(&fleet)?;
    kill(Pid::from_raw(i32::try_from(fleet.agent_pid(device)?)?), Signal::SIGKILL)?;
    fleet.start_agent(device)?;
    throughout("the same containers run", Duration::from_secs(6), || {
        ensure!(running(&fleet)? == before, "{:?}", running(&fleet)?);
        Ok::<_, anyhow::Error>(())
    })?;
    eventually("it is online", PATIENCE, || online(&fleet, device))?;
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

#[test]
fn an_agent_and_its_connection_that_die_are_replaced_and_its_leftovers_end_on_its_return() -> Result<()> {
    let fleet = fleet_with_web(4, 3)?;
    let device = fleet.device_of("shop/web.1")?;
    kill(Pid::from_raw(i32::try_from(fleet.agent_pid(device)?)?), Signal::SIGKILL)?;
    eventually("web.1 runs elsewhere too", PATIENCE, || {
        let running = running(&fleet)?;
        ensure!(running.len() == 4, "{running:?}");
        Ok(())
    })?;
    fleet.start_agent(device)?;
    eventually("three are left", PATIENCE, || {
        let running = running(&fleet)?;
        ensure!(running.len() == 3, "{running:?}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_hub_that_is_killed_and_restarted_stops_and_moves_nothing() -> Result<()> {
    let mut fleet = fleet_with_web(3, 3)?;
    let before = running(&fleet)?;
    fleet.kill_hub()?;
    throughout("the same containers run", Duration::from_secs(2), || same(&before, &running(&fleet)?))?;
    fleet.start_hub()?;
    fleet.eventually_online(3)?;
    throughout("the same containers run", Duration::from_secs(8), || same(&before, &running(&fleet)?))?;
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

#[test]
fn a_device_that_boots_while_the_hub_is_away_starts_what_it_ran() -> Result<()> {
    let mut fleet = fleet_with_web(3, 3)?;
    let had: Vec<_> = fleet.running_on(fleet.lab.device(2))?.into_iter().map(|(replica, _)| replica).collect();
    ensure!(had.len() == 1, "one copy on each: {had:?}");
    fleet.kill_hub()?;
    fleet.lab.device(2).cut_power()?;
    fleet.lab.device(2).revive()?;
    eventually("its copy runs again, without the hub", PATIENCE, || {
        let has: Vec<_> = fleet.running_on(fleet.lab.device(2))?.into_iter().map(|(replica, _)| replica).collect();
        ensure!(has == had, "{has:?}");
        Ok(())
    })?;
    let alone = running(&fleet)?;
    fleet.start_hub()?;
    fleet.eventually_online(3)?;
    throughout("the hub agrees", Duration::from_secs(5), || same(&alone, &running(&fleet)?))?;
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

#[test]
fn an_engine_that_is_restarted_is_said_to_be_down_and_gets_its_containers_back() -> Result<()> {
    let fleet = fleet_with_web(3, 3)?;
    let device = fleet.lab.device(3);
    device.stop_engine()?;
    eventually("the hub knows", PATIENCE, || {
        let devices = fleet.devices()?;
        let engine = devices.into_iter().find(|view| view.name == device.name()).and_then(|view| view.engine);
        ensure!(engine.as_ref().is_some_and(|engine| !engine.up), "{engine:?}");
        Ok(())
    })?;
    device.start_engine()?;
    eventually("a copy runs there again, or elsewhere", PATIENCE, || {
        let running = running(&fleet)?;
        ensure!(running.len() == 3, "{running:?}");
        Ok(())
    })?;
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

fn online(fleet: &outrigger_tests::real::fleet::Fleet, device: outrigger_tests::real::lab::Device<'_>) -> Result<()> {
    let state = fleet.state_of(device)?;
    ensure!(state == DeviceState::Online, "{state:?}");
    Ok(())
}

fn same(before: &[(u8, String, String)], after: &[(u8, String, String)]) -> Result<()> {
    ensure!(before == after, "before {before:?}, after {after:?}");
    Ok(())
}
