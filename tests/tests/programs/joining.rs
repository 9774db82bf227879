//! Invites, as whoever stands before a device uses them: an attempt that fails costs nothing, and says what to do (S15).

use std::process::Output;

use anyhow::{Result, ensure};

use super::small::{Agent, Hub};

const WEB: &str = "services:\n  web:\n    image: web:1\n    network_mode: none\n";

fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it has joined");
    ensure!(words.iter().all(|word| told.contains(word)), "{told}");
    ensure!(!told.contains("or1.join."), "it repeats the token: {told}");
    Ok(())
}

#[test]
fn a_device_of_another_fleet_is_refused_before_its_invite_is_used_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let first = Hub::start(&folder.path().join("first"))?;
    let second = Hub::start(&folder.path().join("second"))?;
    let mut agent = Agent::joined(&first, folder.path(), "pi-1")?;
    first.eventually_online(&["pi-1"])?;
    first.apply("shop", WEB, &[])?;
    first.eventually_running(1)?;
    let invited = second.invite("pi-1")?.token.0;
    refused(&agent.join(&second, &invited, &["--again"])?, &["another fleet", "outrigger-agent leave", "not used up"])?;
    // Nothing has changed: it is the first one's, with its key and its work.
    first.eventually_online(&["pi-1"])?;
    first.eventually_running(1)?;
    ensure!(second.devices()?.is_empty());

    agent.stop()?;
    let left = agent.run(&["leave", "--yes"])?;
    ensure!(left.status.success(), "{left:?}");
    let joined = agent.join(&second, &invited, &[])?;
    ensure!(joined.status.success(), "the same line does: {joined:?}");
    agent.start()?;
    second.eventually_online(&["pi-1"])
}

#[test]
fn a_failed_join_leaves_the_invite_and_a_used_one_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&folder.path().join("hub"))?;
    let (one, two) = (Agent::new(folder.path(), "pi-1")?, Agent::new(folder.path(), "pi-2")?);
    let invited = hub.invite("pi-1")?.token.0;
    // For another name; half of it; with a hub that it does not pin.
    refused(&two.join(&hub, &invited, &[])?, &["device named `pi-1`", "--name pi-1"])?;
    refused(&one.join(&hub, &invited[..invited.len() - 5], &[])?, &["token"])?;
    let other = Hub::start(&folder.path().join("other"))?;
    refused(&one.join(&other, &invited, &[])?, &["not the hub of this token", "Nothing was sent"])?;
    let joined = one.join(&hub, &invited, &[])?;
    ensure!(joined.status.success(), "{joined:?}");
    // Used up: by the same device under a new key, and by another.
    refused(&one.join(&hub, &invited, &[])?, &["has joined", "--again"])?;
    std::fs::remove_dir_all(one.state())?;
    refused(&one.join(&hub, &invited, &[])?, &["used", "outrigger device invite"])
}
