//! `outrigger secret` and `outrigger registry` against a real hub: by a file, a pipe and a keyboard, as each role (S49).

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use outrigger_tests::clock::eventually;

use super::small::{Hub, program};

const PATIENCE: Duration = Duration::from_secs(20);

const CANARY: &str = "canary-at-the-keyboard";

struct User<'a> {
    hub: &'a Hub,
    token: String,
}

impl User<'_> {
    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = program("outrigger")?;
        command.args(words).env("OUTRIGGER_HUB", self.hub.url()).env("OUTRIGGER_TOKEN", &self.token);
        Ok(command)
    }

    /// With this on standard input.
    fn piped(&self, words: &[&str], input: &[u8]) -> Result<(i32, String, String)> {
        run(self.command(words)?, input)
    }

    fn run(&self, words: &[&str]) -> Result<(i32, String, String)> {
        self.piped(words, b"")
    }

    /// At a terminal, where this is typed once it no longer shows what is. Everything that the terminal shows.
    fn typed(&self, words: &[&str], keys: &str) -> Result<(i32, String)> {
        let OpenptyResult { master, slave } = openpty(None, None)?;
        let mut command = self.command(words)?;
        command.env("NO_COLOR", "1");
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
        let mut child = command.spawn()?;
        eventually("the terminal shows no keys", PATIENCE, || {
            let shows = tcgetattr(&slave)?.local_flags.contains(LocalFlags::ECHO);
            ensure!(!shows, "it does");
            Ok(())
        })?;
        drop((command, slave));
        let mut terminal = fs::File::from(master);
        terminal.write_all(keys.as_bytes())?;
        let mut shown = vec![];
        // Once nobody has the terminal any more, reading is an error.
        let _ = terminal.read_to_end(&mut shown);
        Ok((child.wait()?.code().context("a signal")?, String::from_utf8(shown)?))
    }
}

fn run(mut command: Command, input: &[u8]) -> Result<(i32, String, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Who refuses what is too long does not read it to its end.
    let written = child.stdin.take().context("no input")?.write_all(input);
    ensure!(
        written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) || written.is_ok(),
        "{written:?}"
    );
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    Ok((status.code().context("a signal")?, String::from_utf8(stdout)?, String::from_utf8(stderr)?))
}

#[test]
fn secrets_are_set_listed_and_removed_and_never_shown() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&folder.path().join("hub"))?;
    let ann = User { hub: &hub, token: hub.token("operator")? };
    let file = folder.path().join("tls.pem");
    fs::write(&file, CANARY)?;
    let (code, said, _) = ann.run(&["secret", "set", "tls", "-f", &file.to_string_lossy()])?;
    ensure!(code == 0 && said.contains("tls is set; nothing uses it yet"), "{said}");
    let (code, said, _) = ann.piped(&["secret", "set", "db"], CANARY.as_bytes())?;
    ensure!(code == 0 && said.contains("db is set"), "{said}");
    let (code, shown) = ann.typed(&["secret", "set", "typed"], &format!("{CANARY}\n"))?;
    ensure!(code == 0 && shown.contains("it is not shown") && !shown.contains(CANARY), "{shown}");

    let compose = "services:\n  web: { image: 'web:1', network_mode: none, secrets: [db] }\nsecrets: { db: { external: true } }\n";
    hub.apply("shop", compose, &[])?;
    let (_, list, _) = ann.run(&["secret", "ls"])?;
    let row = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    ensure!(
        row("db").contains("a-operator") && row("db").contains("shop/web") && !row("tls").contains("shop"),
        "{list}"
    );
    ensure!(row("typed").contains("ago") && !list.contains(CANARY), "{list}");
    let (_, names, _) = ann.run(&["secret", "ls", "-q"])?;
    ensure!(names == "db\ntls\ntyped\n", "{names:?}");
    let (_, json, _) = ann.run(&["secret", "ls", "-o", "json"])?;
    ensure!(serde_json::from_str::<serde_json::Value>(&json)?["files"].as_array().is_some_and(|all| all.len() == 3));

    let (code, _, told) = ann.run(&["secret", "rm", "db"])?;
    ensure!(code != 0 && told.contains("shop/web"), "what is in use stays: {told}");
    let (code, said, _) = ann.run(&["secret", "rm", "tls", "typed"])?;
    ensure!(code == 0 && said.contains("tls is gone") && said.contains("typed is gone"), "{said}");
    ensure!(ann.run(&["secret", "ls", "-q"])?.1 == "db\n");
    Ok(())
}

#[test]
fn what_cannot_be_kept_says_why_and_who_may_not_hears_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&folder.path().join("hub"))?;
    let ann = User { hub: &hub, token: hub.token("operator")? };
    let eve = User { hub: &hub, token: hub.token("viewer")? };
    let refused = |(code, said, told): (i32, String, String), expected: i32, words: &str| {
        ensure!(code == expected && said.is_empty() && told.contains(words), "{code} instead of {expected}: {told}");
        ensure!(!told.contains(CANARY), "{told}");
        Ok(())
    };
    refused(ann.run(&["secret", "set", "db", "-f", "/nowhere/file"])?, 1, "/nowhere/file")?;
    refused(ann.piped(&["secret", "set", "db"], &vec![b'x'; 600 * 1024])?, 1, "larger than 500 KiB")?;
    refused(ann.piped(&["secret", "set", "../db"], CANARY.as_bytes())?, 1, "../db")?;
    refused(ann.run(&["secret", "rm", "db"])?, 4, "db")?;
    refused(ann.run(&["registry", "login", "hub.lan", "--username", "ann"])?, 2, "--password-stdin")?;
    refused(
        ann.piped(&["registry", "login", "nohost", "--username", "ann", "--password-stdin"], CANARY.as_bytes())?,
        1,
        "nohost",
    )?;
    refused(ann.run(&["registry", "logout", "hub.lan"])?, 4, "hub.lan")?;
    // A viewer sees names, and changes nothing.
    refused(eve.piped(&["secret", "set", "db"], CANARY.as_bytes())?, 7, "viewer")?;
    refused(eve.run(&["secret", "rm", "db"])?, 7, "viewer")?;
    ann.piped(&["secret", "set", "db"], CANARY.as_bytes())?;
    let (code, list, _) = eve.run(&["secret", "ls", "-q"])?;
    ensure!(code == 0 && list == "db\n", "{list}");
    // A token that counts no longer.
    let gone = User { hub: &hub, token: hub.token("admin")? };
    let listed: serde_json::Value = serde_json::from_str(&hub.ask("GET /v1/tokens", "")?)?;
    let all = listed["tokens"].as_array().context("no list")?;
    let id = all.iter().find(|one| one["name"] == "a-admin").and_then(|one| one["id"].as_str()).context("no id")?;
    hub.ask(&format!("DELETE /v1/tokens/{id}"), "")?;
    refused(gone.run(&["secret", "ls"])?, 7, "token")
}

#[test]
fn logins_of_registries_are_set_listed_and_forgotten_and_never_shown() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::start(&folder.path().join("hub"))?;
    let root = User { hub: &hub, token: hub.token("admin")? };
    let words = ["registry", "login", "hub.lan:5000", "--username", "ann", "--password-stdin"];
    let (code, said, told) = root.piped(&words, format!("{CANARY}\r\n").as_bytes())?;
    ensure!(code == 0 && said.contains("devices pull from hub.lan:5000 as ann"), "{said} {told}");
    let (code, shown) = root.typed(&["registry", "login", "ghcr.io", "--username", "bob"], &format!("{CANARY}\n"))?;
    ensure!(code == 0 && shown.contains("it is not shown") && !shown.contains(CANARY), "{shown}");
    let (_, list, _) = root.run(&["registry", "ls"])?;
    ensure!(list.contains("hub.lan:5000") && list.contains("bob") && !list.contains(CANARY), "{list}");
    let (code, said, _) = root.run(&["registry", "logout", "ghcr.io"])?;
    ensure!(code == 0 && said.contains("is forgotten"), "{said}");
    ensure!(root.run(&["registry", "ls", "-q"])?.1 == "hub.lan:5000\n");
    Ok(())
}
