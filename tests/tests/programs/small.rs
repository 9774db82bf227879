//! A small fleet: one hub and a few agents, everything by TLS, joined by invites.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_api::{Device, DeviceList, DeviceState, InviteCreated, Replica, ReplicaList, ReplicaState, TokenCreated};
use outrigger_tests::clock::eventually;
use outrigger_tests::real::process::Process;
use outrigger_tests::real::{http, place};
use tempfile::TempDir;

/// Longest that anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A hub's program with its folder.
pub struct Hub {
    process: Option<Process>,
    http: String,
    mqtt: String,
    folder: PathBuf,
}

/// An agent's program with its folder.
pub struct Agent {
    pub name: String,
    process: Option<Process>,
    folder: PathBuf,
    /// What is gone with the power.
    memory: TempDir,
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// One of our programs, which says everything that it can say.
pub fn program(name: &str) -> Result<Command> {
    let mut command = Command::new(place::program(name)?);
    command.env("OUTRIGGER_LOG", "trace").env("RUST_BACKTRACE", "full").env("NO_COLOR", "1");
    Ok(command)
}

/// What it says as it is told to end in the way of a crash.
pub fn crash(process: &mut Option<Process>) -> Result<()> {
    let process = process.take().context("it does not run")?;
    process.signal(nix::sys::signal::Signal::SIGABRT)?;
    let status = process.wait()?;
    ensure!(status.signal() == Some(6) && !status.core_dumped(), "it ended with {status:?}");
    Ok(())
}

impl Hub {
    pub fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (http, mqtt) = (free_address()?, free_address()?);
        let mut hub = Self { process: None, http, mqtt, folder: folder.to_owned() };
        hub.start_again()?;
        Ok(hub)
    }

    /// With the state that it left.
    pub fn start_again(&mut self) -> Result<()> {
        let settings = self.folder.join("hub.toml");
        let Self { http, mqtt, .. } = &*self;
        let text =
            format!("http_listen = \"{http}\"\nmqtt_listen = \"{mqtt}\"\nrelay_port = \"off\"\nmdns = \"false\"\n");
        fs::write(&settings, text)?;
        let mut command = program("outrigger-hub")?;
        command.arg("--config").arg(settings).arg("--state-dir").arg(self.state());
        self.process = Some(Process::spawn(command, &self.log())?);
        eventually("the hub is ready", PATIENCE, || self.ask("GET /readyz", ""))
            .with_context(|| fs::read_to_string(self.log()).unwrap_or_default())?;
        Ok(())
    }

    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the hub does not run")?.stop()
    }

    pub fn crash(&mut self) -> Result<()> {
        crash(&mut self.process)
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.http)
    }

    /// Asks through the socket in its state folder.
    pub fn ask(&self, request: &str, json: &str) -> Result<String> {
        Ok(http::ask_hub(&self.state().join("hub.sock"), request, json)?.body)
    }

    pub fn invite(&self, name: &str) -> Result<InviteCreated> {
        Ok(serde_json::from_str(&self.ask("POST /v1/invites", &format!(r#"{{"name":"{name}"}}"#))?)?)
    }

    pub fn token(&self, role: &str) -> Result<String> {
        let asked = format!(r#"{{"name":"a-{role}","role":"{role}"}}"#);
        let made: TokenCreated = serde_json::from_str(&self.ask("POST /v1/tokens", &asked)?)?;
        Ok(made.secret.0)
    }

    pub fn devices(&self) -> Result<Vec<Device>> {
        let list: DeviceList = serde_json::from_str(&self.ask("GET /v1/devices", "")?)?;
        Ok(list.devices)
    }

    pub fn replicas(&self) -> Result<Vec<Replica>> {
        let list: ReplicaList = serde_json::from_str(&self.ask("GET /v1/replicas", "")?)?;
        Ok(list.replicas)
    }

    pub fn apply(&self, stack: &str, compose: &str, variables: &[(&str, &str)]) -> Result<()> {
        let variables: serde_json::Map<_, _> =
            variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let body = serde_json::json!({ "main": "c.yaml", "files": { "c.yaml": compose }, "variables": variables });
        self.ask(&format!("PUT /v1/stacks/{stack}"), &body.to_string()).map(drop)
    }

    pub fn eventually_online(&self, names: &[&str]) -> Result<()> {
        let look = || {
            let devices = self.devices()?;
            let online = devices.iter().filter(|device| device.state == DeviceState::Online);
            let mut online: Vec<_> = online.map(|device| device.name.as_str()).collect();
            online.sort_unstable();
            ensure!(online == names, "online: {online:?}");
            Ok(())
        };
        eventually("the devices are online", PATIENCE, look).map(drop)
    }

    /// Each copy that runs. Waits until there are so many, and nothing else.
    pub fn eventually_running(&self, count: usize) -> Result<Vec<Running>> {
        let look = || {
            let replicas = self.replicas()?;
            let all = replicas.iter().all(|one| one.state == ReplicaState::Running && one.others.is_empty());
            let copies = replicas.iter().filter_map(|one| one.copy.as_ref());
            let copies =
                copies.map(|one| (one.placement.clone(), one.device.clone(), one.container.clone(), one.restarts));
            let mut copies: Vec<_> = copies.collect();
            copies.sort();
            ensure!(all && copies.len() == count, "{replicas:?}");
            Ok(copies)
        };
        Ok(eventually("the copies run", PATIENCE, look)?.0)
    }
}

/// A copy: its number, its device, its container, and how often that was started again.
pub type Running = (String, String, Option<String>, u32);

impl Agent {
    /// A device that has not joined yet.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let memory = tempfile::tempdir_in("/dev/shm")?;
        Ok(Self { name: name.to_owned(), process: None, folder, memory })
    }

    /// One that has, and runs.
    pub fn joined(hub: &Hub, folder: &Path, name: &str) -> Result<Self> {
        let mut agent = Self::new(folder, name)?;
        let invited = hub.invite(name)?;
        let output = agent.join(hub, &invited.token.0, &[])?;
        ensure!(output.status.success(), "{output:?}");
        agent.start()?;
        Ok(agent)
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = program("outrigger-agent")?;
        command.args(["--name", &self.name, "--engine", "memory", "--network-port", "0"]);
        command.args(["--policy", "/nowhere/policy.toml", "--config"]).arg(self.config()?);
        command.arg("--state-dir").arg(self.state()).args(words);
        command.env("RUNTIME_DIRECTORY", self.memory.path());
        Ok(command)
    }

    /// Its settings are empty, not those of the machine that the test runs on.
    fn config(&self) -> Result<PathBuf> {
        let path = self.folder.join("agent.toml");
        fs::write(&path, "")?;
        Ok(path)
    }

    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?.output().context("cannot start the agent")
    }

    pub fn join(&self, hub: &Hub, token: &str, more: &[&str]) -> Result<Output> {
        self.run(&[&["join", &hub.url(), "--token", token], more].concat())
    }

    pub fn start(&mut self) -> Result<()> {
        self.process = Some(Process::spawn(self.command(&[])?, &self.log())?);
        Ok(())
    }

    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the agent does not run")?.stop()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.process.as_ref().context("the agent does not run")?.signal(signal)
    }

    pub fn is_running(&self) -> bool {
        self.signal(nix::sys::signal::Signal::SIGCONT).is_ok()
    }

    pub fn crash(&mut self) -> Result<()> {
        crash(&mut self.process)
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
