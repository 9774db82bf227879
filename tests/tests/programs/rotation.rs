//! A new authority, with everybody as the program that he is in life: one device is away all the time, nobody is lost, and
//! in the end the old authority counts no more (S19).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use outrigger_hub::pki::{Authority, Old};
use outrigger_tests::clock::eventually;
use outrigger_trust::{Pin, read_certificates};

use super::small::{Agent, Hub, PATIENCE, program};

/// One copy on each device, so that a device that is away keeps its own.
const EVERYWHERE: &str = "services:\n  web:\n    image: web:1\n    network_mode: none\n    deploy: { mode: global }\n";
const NAMES: [&str; 4] = ["pi-1", "pi-2", "pi-3", "pi-4"];

/// The authority that has signed the certificate in a device's folder.
fn signer(agent: &Agent) -> Result<Pin> {
    let chain = read_certificates(&agent.state().join("identity/certificate.pem"))?;
    Ok(Pin::of(chain.last().expect("a chain is not empty")))
}

fn eventually_signed(agents: &[&Agent], by: Pin) -> Result<()> {
    let look = || {
        for agent in agents {
            ensure!(signer(agent)? == by, "{} has another certificate", agent.name);
        }
        Ok(())
    };
    eventually("the devices have certificates of the new authority", PATIENCE, look).map(drop)
}

fn authorities(hub: &Hub) -> Result<usize> {
    Ok(fs::read_to_string(hub.state().join("pki/authority.pem"))?.matches("BEGIN CERTIFICATE").count())
}

/// By the program, while hub and agents run.
fn rotate(hub: &Hub) -> Result<Pin> {
    let output = program("outrigger-hub")?.arg("rotate-ca").arg("--state-dir").arg(hub.state()).output()?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout)?;
    let pin = said.split_whitespace().find_map(|word| word.parse().ok());
    pin.with_context(|| format!("no fingerprint in {said:?}"))
}

#[test]
fn a_new_authority_loses_nobody_and_the_old_one_is_forgotten_when_the_last_has_come_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut hub = Hub::start(&folder.path().join("hub"))?;
    let agents = NAMES.map(|name| Agent::joined(&hub, folder.path(), name));
    let agents = agents.into_iter().collect::<Result<Vec<_>>>()?;
    let [here @ .., away] = &agents[..] else { unreachable!() };
    let here: Vec<_> = here.iter().collect();
    let all: Vec<_> = agents.iter().collect();
    hub.eventually_online(&NAMES)?;
    hub.apply("shop", EVERYWHERE, &[])?;
    let copies = hub.eventually_running(NAMES.len())?;
    let before = signer(away)?;

    away.signal(Signal::SIGSTOP)?;
    hub.eventually_online(&NAMES[..3])?;
    let new = rotate(&hub)?;
    ensure!(new != before);
    eventually_signed(&here, new)?;
    ensure!(signer(away)? == before && authorities(&hub)? == 3);
    // The hub itself begins anew in the middle of it, so that everybody has to come in again.
    hub.stop()?;
    hub.start_again()?;
    hub.eventually_online(&NAMES[..3])?;
    away.signal(Signal::SIGCONT)?;
    hub.eventually_online(&NAMES)?;
    eventually_signed(&all, new)?;
    ensure!(hub.eventually_running(NAMES.len())? == copies, "no container was touched");

    // Once more, a month ago as it were: replaced authorities are kept for that long, and for as long as somebody needs them.
    away.signal(Signal::SIGSTOP)?;
    hub.eventually_online(&NAMES[..3])?;
    let long_ago = outrigger_hub::clock::unix_ms() / 1000 - 31 * 86_400;
    let newest = Authority::rotate(&hub.state(), Old::Keep, long_ago)?.pin();
    eventually_signed(&here, newest)?;
    let kept = || if authorities(&hub).is_ok_and(|count| count == 5) { Ok(()) } else { Err("it was forgotten") };
    // Twice the time between two looks of the hub.
    outrigger_tests::clock::throughout("the device that is away is waited for", Duration::from_secs(7), kept)?;
    away.signal(Signal::SIGCONT)?;
    eventually_signed(&all, newest)?;
    let alone = || if authorities(&hub)? == 1 { Ok(()) } else { Err(anyhow::anyhow!("older ones are still there")) };
    eventually("the replaced authorities are forgotten", PATIENCE, alone)?;

    hub.stop()?;
    hub.start_again()?;
    hub.eventually_online(&NAMES)?;
    ensure!(hub.eventually_running(NAMES.len())? == copies, "no container was touched");
    for agent in &agents {
        ensure!(agent.is_running(), "{} has ended", agent.name);
    }
    Ok(())
}
