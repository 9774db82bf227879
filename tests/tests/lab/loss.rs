//! A device drops: its copies run elsewhere, and when it is back exactly the wanted ones are left.

use anyhow::{Result, ensure};
use outrigger_api::DeviceState;
use outrigger_tests::clock::{eventually, throughout};
use outrigger_tests::real::fleet::PATIENCE;
use outrigger_tests::real::http;
use std::time::Duration;

use super::shop::{fleet_with_web, running};

#[test]
fn a_power_cut_moves_the_copies_and_the_return_leaves_exactly_the_wanted_ones() -> Result<()> {
    let fleet = fleet_with_web(4, 3)?;
    let victim = fleet.device_of("shop/web.1")?;
    victim.cut_power()?;
    let alive = || -> Result<()> {
        let mut others = fleet.lab.devices().filter(|device| device.number() != victim.number());
        let answering = others.by_ref().map(|device| http::fetch(&format!("{}:8080", device.address()?), "/"));
        let answering = answering.filter(Result::is_ok).count();
        ensure!(answering == 3, "{answering} of 3 answer");
        Ok(())
    };
    eventually("three copies answer on the other devices", PATIENCE, alive)?;
    ensure!(fleet.state_of(victim)? == DeviceState::Lost, "the victim counts as lost");

    victim.revive()?;
    fleet.eventually_online(4)?;
    eventually("exactly three containers run", PATIENCE, || {
        let running = running(&fleet)?;
        ensure!(running.len() == 3, "{running:?}");
        Ok(())
    })?;
    fleet.eventually_settled("shop/web", 3)?;
    Ok(())
}

#[test]
fn a_cut_cable_moves_the_copies_and_the_superseded_one_is_stopped_when_it_is_mended() -> Result<()> {
    let fleet = fleet_with_web(4, 3)?;
    let victim = fleet.device_of("shop/web.1")?;
    let before = fleet.running_on(victim)?;
    victim.partition()?;
    eventually("a copy of web.1 runs elsewhere", PATIENCE, || {
        let running = running(&fleet)?;
        let elsewhere =
            running.iter().any(|(device, replica, _)| *device != victim.number() && replica == "shop/web.1");
        ensure!(elsewhere, "{running:?}");
        Ok(())
    })?;
    ensure!(fleet.running_on(victim)? == before, "an available copy goes on while its device is cut off");

    victim.heal()?;
    eventually("one copy of each is left", PATIENCE, || {
        let running = running(&fleet)?;
        let mut replicas: Vec<_> = running.iter().map(|(_, replica, _)| replica.as_str()).collect();
        replicas.sort_unstable();
        ensure!(replicas == ["shop/web.1", "shop/web.2", "shop/web.3"], "{running:?}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_link_that_flaps_for_less_than_the_limit_moves_nothing() -> Result<()> {
    let fleet = fleet_with_web(4, 3)?;
    let victim = fleet.device_of("shop/web.1")?;
    let before = running(&fleet)?;
    for _ in 0..4 {
        victim.partition()?;
        throughout("nothing moves", Duration::from_millis(1500), || same(&before, &running(&fleet)?))?;
        victim.heal()?;
        throughout("nothing moves", Duration::from_millis(2500), || same(&before, &running(&fleet)?))?;
    }
    fleet.eventually_settled("shop/web", 3)?;
    same(&before, &running(&fleet)?)
}

#[test]
fn most_of_the_fleet_silent_at_once_is_held_for_a_fault_of_the_hub() -> Result<()> {
    let fleet = fleet_with_web(4, 3)?;
    let before = running(&fleet)?;
    for device in fleet.lab.devices().skip(1) {
        device.partition()?;
    }
    throughout("nothing moves", Duration::from_secs(9), || same(&before, &running(&fleet)?))?;
    for device in fleet.lab.devices() {
        device.heal()?;
    }
    fleet.eventually_online(4)?;
    fleet.eventually_settled("shop/web", 3)?;
    same(&before, &running(&fleet)?)
}

fn same(before: &[(u8, String, String)], after: &[(u8, String, String)]) -> Result<()> {
    ensure!(before == after, "before {before:?}, after {after:?}");
    Ok(())
}
