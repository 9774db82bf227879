//! A device that comes without a pasted line: it finds the hub in its network and shows a code.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::place;

/// The code in what a join has printed.
fn shown(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log)?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("outrigger device approve "));
    Ok(line.with_context(|| format!("no code in {text}"))?.to_owned())
}

#[test]
fn a_device_finds_the_hub_and_joins_by_the_code_that_it_shows() -> Result<()> {
    let fleet = Fleet::up(1, &[])?;
    let device = fleet.lab.device(1);
    let folder = tempfile::tempdir()?;
    let (state, log) = (folder.path().join("state"), folder.path().join("join.log"));
    let agent = place::program("outrigger-agent")?;
    // A second one on the same device: the first has joined by an invite, as every device of the lab.
    let (agent, state_words) = (agent.to_string_lossy(), state.to_string_lossy());
    let words = [&*agent, "--engine", "memory", "--name", "newcomer", "--state-dir", &*state_words, "join"];
    device.spawn(&log.to_string_lossy(), &words)?;

    let (code, _) = eventually("it has found the hub and shows a code", PATIENCE, || shown(&log))?;
    let found = fs::read_to_string(&log)?;
    ensure!(found.contains(&format!("at https://{}", fleet.http())), "{found}");
    let pending = fleet.outrigger(&["device", "pending"])?;
    ensure!(pending.contains("newcomer") && pending.contains(&device.address()?), "{pending}");
    ensure!(!pending.contains(&code), "the list has no codes: {pending}");
    let wrong = code.chars().rev().collect::<String>().replacen('-', "", 1);
    ensure!(fleet.outrigger(&["device", "approve", &wrong]).is_err(), "another code lets nobody in");
    ensure!(!state.join("identity").exists());

    fleet.outrigger(&["device", "approve", &code])?;
    eventually("it is in", PATIENCE, || {
        let text = fs::read_to_string(&log)?;
        ensure!(text.contains("Joined") && state.join("identity/certificate.pem").exists(), "{text}");
        Ok(())
    })?;
    let pending = fleet.outrigger(&["device", "pending"])?;
    ensure!(!pending.contains("newcomer"), "{pending}");
    let audit = fleet.outrigger(&["audit", "-n", "5"])?;
    ensure!(audit.contains("newcomer joined by its code") && !audit.contains(&code), "{audit}");
    Ok(())
}
