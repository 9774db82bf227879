//! Real devices with real Docker Engines, which lose power, cables and engines. Needs root: `tests/run lab`.

mod lab {
    mod clients;
    mod containers;
    mod loss;
    mod network;
    mod newcomers;
    mod ports;
    mod relay;
    mod restarts;
    mod shop;
}

use std::time::Duration;

use anyhow::{Result, ensure};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::{http, lab::Lab};

const PATIENCE: Duration = Duration::from_secs(20);

/// The lab itself: if this fails, no other test here says anything about Outrigger.
#[test]
fn a_device_without_power_is_silent_and_comes_back_with_its_disk() -> Result<()> {
    let lab = Lab::up(2, &["web"])?;
    let (victim, other) = (lab.device(1), lab.device(2));
    for device in lab.devices() {
        device.docker(&["run", "-d", "--restart=always", "--publish=8080:8080", "--name=web", "outrigger-web:1"])?;
    }
    let (victims, others) = (format!("{}:8080", victim.address()?), format!("{}:8080", other.address()?));
    eventually("the victim answers", PATIENCE, || http::fetch(&victims, "/"))?;
    eventually("the other answers", PATIENCE, || http::fetch(&others, "/"))?;

    victim.cut_power()?;
    ensure!(http::get(&victims, "/").is_err(), "a device without power answers");
    http::fetch(&others, "/")?;

    victim.revive()?;
    eventually("its engine starts the container again", PATIENCE, || http::fetch(&victims, "/"))?;
    Ok(())
}
