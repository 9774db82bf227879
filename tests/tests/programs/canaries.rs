//! What hub, agent and command line say at the finest level, and as they crash, tells no secret (S47, S50).

use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::small::{Agent, Hub, program};

const SECRET: &str = "canary-of-a-secret";
const CONFIG: &str = "canary-of-a-config";
const VARIABLE: &str = "canary-of-a-variable";
const ENVIRONMENT: &str = "canary-of-an-environment";
const PASSWORD: &str = "canary-of-a-registry";
const USER: &str = "canary-of-a-user";
const OTHER: &str = "canary-of-another-user";

/// Everything that a container can be given that nobody else should see.
const STACK: &str = "services:\n  web:\n    image: hub.lan:5000/web:1\n    network_mode: none\n    \
                     environment: { PASSWORD: canary-of-an-environment }\n    secrets: [by-hand, variable]\n    \
                     configs: [content]\nsecrets:\n  by-hand: { external: true }\n  variable: { environment: V }\n\
                     configs:\n  content: { content: canary-of-a-config }\n";

/// Where any of these stands.
fn found(texts: &[(String, Vec<u8>)], canaries: &[String]) -> Vec<String> {
    let has = |text: &[u8], canary: &str| text.windows(canary.len()).any(|window| window == canary.as_bytes());
    let all = texts.iter().flat_map(|(place, text)| canaries.iter().map(move |canary| (place, text, canary)));
    all.filter(|(_, text, canary)| has(text, canary))
        .map(|(place, _, canary)| format!("{canary} is in {place}"))
        .collect()
}

fn said(place: &str, output: Output) -> (String, Vec<u8>) {
    (place.to_owned(), [output.stdout, output.stderr].concat())
}

/// The part of a token that nobody may know.
fn secret_of(token: &str) -> String {
    token.rsplit('.').next().unwrap_or_default().to_owned()
}

fn command_line(hub: &Hub, token: &str, words: &[&str]) -> Result<Output> {
    let mut command = program("outrigger")?;
    command.args(words).env("OUTRIGGER_HUB", hub.url()).env("OUTRIGGER_TOKEN", token);
    command.output().context("cannot start the command line")
}

/// Nothing in a folder is the memory of a program.
fn has_core(folder: &Path) -> Result<bool> {
    let entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    Ok(entries.iter().any(|entry| entry.file_name().to_string_lossy().starts_with("core")))
}

#[test]
fn no_log_and_no_crash_of_the_programs_tells_a_secret() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut hub = Hub::start(&folder.path().join("hub"))?;
    let (admin, viewer) = (hub.token("admin")?, hub.token("viewer")?);
    let invited = hub.invite("pi-1")?.token.0;
    let mut agent = Agent::new(folder.path(), "pi-1")?;
    // A line that was pasted badly, once to no avail, and well.
    let mut texts = vec![
        said("a join with half a token", agent.join(&hub, &invited[..invited.len() - 3], &[])?),
        said("a join with the token of a person", agent.join(&hub, &viewer, &[])?),
        said("a join", agent.join(&hub, &invited, &[])?),
        said("a second join", agent.join(&hub, &invited, &["--again"])?),
    ];
    agent.start()?;
    hub.eventually_online(&["pi-1"])?;

    let by_hand = serde_json::json!({ "content": STANDARD.encode(SECRET) }).to_string();
    hub.ask("PUT /v1/secrets/by-hand", &by_hand)?;
    let login = serde_json::json!({ "username": "ann", "password": PASSWORD }).to_string();
    hub.ask("PUT /v1/registries/hub.lan:5000", &login)?;
    let user = serde_json::json!({ "name": "ann", "role": "viewer", "password": USER }).to_string();
    hub.ask("POST /v1/users", &user)?;
    hub.ask("PUT /v1/users/ann/password", &serde_json::json!({ "password": OTHER }).to_string())?;
    ensure!(hub.ask("POST /v1/users", &user).is_err(), "there is one");
    ensure!(hub.ask("PUT /v1/secrets/BY-HAND", &by_hand).is_err(), "a twin");
    hub.apply("shop", STACK, &[("V", VARIABLE)])?;
    hub.eventually_running(1)?;
    for words in [&["ps"][..], &["why", "shop/web.1"], &["secret", "ls"], &["registry", "ls"], &["stack", "ls"]] {
        texts.push(said(&words.join(" "), command_line(&hub, &admin, words)?));
    }
    texts.push(said("a refusal", command_line(&hub, &viewer, &["secret", "rm", "by-hand"])?));
    texts.push(said("doctor", agent.run(&["doctor"])?));
    // Seen again by an agent and a hub that begin anew, and that crash.
    agent.stop()?;
    agent.start()?;
    hub.eventually_running(1)?;
    agent.crash()?;
    hub.crash()?;
    for (place, log) in [("the hub's journal", hub.log()), ("the device's journal", agent.log())] {
        texts.push((place.to_owned(), fs::read(log)?));
    }
    ensure!(!has_core(agent.folder())? && !has_core(folder.path())?, "a memory image was written");

    let tokens = [&admin, &viewer, &invited].map(|token| secret_of(token));
    let plain = [SECRET, CONFIG, VARIABLE, ENVIRONMENT, PASSWORD, USER, OTHER].map(str::to_owned);
    let encoded = [SECRET, CONFIG, VARIABLE].map(|text| STANDARD.encode(text));
    let canaries: Vec<_> = tokens.into_iter().chain(plain).chain(encoded).collect();
    let leaks = found(&texts, &canaries);
    ensure!(leaks.is_empty(), "{}", leaks.join("\n"));
    // The search itself: the logs are fine enough, and what is there is found.
    for (place, text) in texts.iter().rev().take(2) {
        let fine = ["TRACE", "DEBUG"].map(str::to_owned);
        ensure!(!found(&[(place.clone(), text.clone())], &fine).is_empty(), "{place} is too coarse");
        let leak = [text.as_slice(), VARIABLE.as_bytes()].concat();
        ensure!(found(&[(place.clone(), leak)], &canaries).len() == 1, "what is in {place} is not found");
    }
    Ok(())
}
