//! A fleet on the lab: the hub on this machine, an agent on each device, all of them the real programs, as they are set up
//! by a user: the hub makes its authority, each device joins by an invite, and everything is spoken by TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outrigger_api::{
    Device as DeviceView, DeviceList, DeviceState, InviteCreated, Replica, ReplicaList, ReplicaState, TokenCreated,
};

use super::lab::{Device, Lab};
use super::process::Process;
use super::{command, http, place};
use crate::clock::eventually;

/// How long a test waits for what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Hub, devices and agents. All of it ends with it.
#[derive(Debug)]
pub struct Fleet {
    hub: Option<Process>,
    hub_flags: Vec<String>,
    /// The devices.
    pub lab: Lab,
    host: String,
    work: tempfile::TempDir,
    /// Of an administrator; for the command line.
    token: String,
}

impl Fleet {
    /// A hub and `count` devices with the images of these names, all online.
    pub fn up(count: u8, images: &[&str]) -> Result<Self> {
        Self::up_with(count, images, &[])
    }

    /// The same with further flags for the hub.
    pub fn up_with(count: u8, images: &[&str], hub_flags: &[&str]) -> Result<Self> {
        let lab = Lab::up(count, images)?;
        let host = lab.host_address()?;
        let hub_flags = hub_flags.iter().map(ToString::to_string).collect();
        let work = tempfile::tempdir()?;
        let mut fleet = Self { hub: None, hub_flags, lab, host, work, token: String::new() };
        fleet.start_hub()?;
        fleet.token = fleet.make_token()?;
        for device in fleet.lab.devices() {
            fleet.join(device)?;
            fleet.start_agent_at_boot(device)?;
            fleet.start_agent(device)?;
        }
        fleet.eventually_online(usize::from(count))?;
        Ok(fleet)
    }

    /// Where the API listens, `host:port`.
    #[must_use]
    pub fn http(&self) -> String {
        format!("{}:7640", self.host)
    }

    /// Where the broker listens, `host:port`.
    #[must_use]
    pub fn mqtt(&self) -> String {
        format!("{}:8883", self.host)
    }

    fn hub_state(&self) -> PathBuf {
        self.work.path().join("hub")
    }

    /// Asks the hub through the socket in its state folder.
    pub fn ask(&self, request: &str, json: &str) -> Result<String> {
        Ok(http::ask_hub(&self.hub_state().join("hub.sock"), request, json)?.body)
    }

    fn make_token(&self) -> Result<String> {
        let made: TokenCreated =
            serde_json::from_str(&self.ask("POST /v1/tokens", r#"{"name":"lab","role":"admin"}"#)?)?;
        Ok(made.secret.0)
    }

    /// Lets a device in, with the line that a user would paste there.
    fn join(&self, device: Device<'_>) -> Result<()> {
        let invited = self.ask("POST /v1/invites", &format!(r#"{{"name":"{}"}}"#, device.name()))?;
        let invited: InviteCreated = serde_json::from_str(&invited)?;
        let url = format!("https://{}", self.http());
        let words = self.agent_words(device)?;
        let words: Vec<_> =
            words.iter().map(String::as_str).chain(["join", &url, "--token", &invited.token.0]).collect();
        device.run(&words).map(drop)
    }

    /// Starts the hub with the state that it left, and waits until it answers.
    pub fn start_hub(&mut self) -> Result<()> {
        let (state, log) = (self.hub_state(), self.work.path().join("hub.log"));
        let (http, mqtt) = (self.http(), self.mqtt());
        let state = state.to_string_lossy().into_owned();
        let mut words = vec!["--state-dir", &state, "--http-listen", &http, "--mqtt-listen", &mqtt];
        words.extend(self.hub_flags.iter().map(String::as_str));
        self.hub = Some(Process::start(&place::program("outrigger-hub")?, words, &log)?);
        eventually("the hub is ready", PATIENCE, || self.ask("GET /readyz", ""))
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(())
    }

    /// Ends the hub at once.
    pub fn kill_hub(&mut self) -> Result<()> {
        self.hub.take().context("the hub does not run")?.kill()
    }

    /// Ends the hub in an orderly way.
    pub fn stop_hub(&mut self) -> Result<()> {
        self.hub.take().context("the hub does not run")?.stop()
    }

    /// The hub's process.
    pub fn hub_pid(&self) -> Result<u32> {
        Ok(self.hub.as_ref().context("the hub does not run")?.pid())
    }

    /// Folder of a device's agent; it survives a power cut as a disk does.
    #[must_use]
    pub fn agent_state(&self, device: Device<'_>) -> PathBuf {
        self.work.path().join(device.name())
    }

    fn agent_words(&self, device: Device<'_>) -> Result<Vec<String>> {
        let program = place::program("outrigger-agent")?;
        let state = self.agent_state(device);
        let socket = device.socket()?;
        Ok([
            program.to_string_lossy().as_ref(),
            "--name",
            &device.name(),
            "--state-dir",
            state.to_string_lossy().as_ref(),
            "--engine-socket",
            socket.to_string_lossy().as_ref(),
        ]
        .map(str::to_owned)
        .to_vec())
    }

    /// Starts the agent of a device now; returns its process id as seen from here.
    pub fn start_agent(&self, device: Device<'_>) -> Result<u32> {
        let log = self.agent_log(device);
        let words = self.agent_words(device)?;
        device.spawn(&log.to_string_lossy(), &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The agent starts whenever the device boots, as systemd would have it.
    fn start_agent_at_boot(&self, device: Device<'_>) -> Result<()> {
        let log = self.agent_log(device);
        device.set_boot_command(&format!("exec {} >>{} 2>&1", self.agent_words(device)?.join(" "), log.display()))
    }

    /// Where a device's agent writes what it has to say.
    #[must_use]
    pub fn agent_log(&self, device: Device<'_>) -> PathBuf {
        self.work.path().join(format!("{}.log", device.name()))
    }

    /// The process id of a device's agent, as seen from here.
    pub fn agent_pid(&self, device: Device<'_>) -> Result<u32> {
        let pid = Self::pid_of("outrigger-agent", device)?;
        pid.with_context(|| format!("no agent runs on {}", device.name()))
    }

    /// The process id of a device's proxy, as seen from here, if one runs.
    pub fn proxy_pid(&self, device: Device<'_>) -> Result<Option<u32>> {
        Self::pid_of("outrigger-proxy", device)
    }

    fn pid_of(program: &str, device: Device<'_>) -> Result<Option<u32>> {
        // Not by its words: what started it has them, too, and lives as long.
        let program = place::program(program)?.canonicalize()?;
        let runs = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
        Ok(device.pids()?.into_iter().find(runs))
    }

    /// Runs the command line against this hub.
    pub fn outrigger(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(place::program("outrigger")?);
        let hub = format!("https://{}", self.http());
        command.args(words).env("OUTRIGGER_HUB", hub).env("OUTRIGGER_TOKEN", &self.token).env("NO_COLOR", "1");
        command::output(&mut command)
    }

    /// Hands the hub a Compose file; returns once it is accepted.
    pub fn deploy(&self, stack: &str, compose: &str) -> Result<String> {
        let file = self.work.path().join(format!("{stack}.yaml"));
        fs::write(&file, compose)?;
        self.outrigger(&["deploy", "--name", stack, "-f", &file.to_string_lossy()])
    }

    /// All devices as the hub sees them.
    pub fn devices(&self) -> Result<Vec<DeviceView>> {
        let list: DeviceList = serde_json::from_str(&self.ask("GET /v1/devices", "")?)?;
        Ok(list.devices)
    }

    /// How a device does, in the hub's eyes.
    pub fn state_of(&self, device: Device<'_>) -> Result<DeviceState> {
        let name = device.name();
        let found = self.devices()?.into_iter().find(|view| view.name == name);
        Ok(found.with_context(|| format!("the hub knows no {name}"))?.state)
    }

    /// All replicas as the hub sees them.
    pub fn replicas(&self) -> Result<Vec<Replica>> {
        let list: ReplicaList = serde_json::from_str(&self.ask("GET /v1/replicas", "")?)?;
        Ok(list.replicas)
    }

    /// Waits until so many devices are online.
    pub fn eventually_online(&self, count: usize) -> Result<Duration> {
        let look = || {
            let devices = self.devices()?;
            let online = devices.iter().filter(|device| device.state == DeviceState::Online).count();
            ensure!(online == count, "{online} of {count} are online");
            Ok(())
        };
        Ok(eventually("the devices are online", PATIENCE, look)?.1)
    }

    /// Waits until exactly `count` replicas of a service (`shop/web`) are wanted, run, and have no second copy.
    pub fn eventually_settled(&self, service: &str, count: usize) -> Result<Duration> {
        let look = || {
            let replicas = self.replicas()?;
            let ours: Vec<_> = replicas.iter().filter(|replica| replica.service == service).collect();
            let settled = ours
                .iter()
                .filter(|one| one.state == ReplicaState::Running && one.up_to_date && one.others.is_empty())
                .count();
            ensure!(
                ours.len() == count && settled == count,
                "{settled} of {} run, {count} wanted: {}",
                ours.len(),
                ours.iter()
                    .map(|one| format!("{} {:?} {:?}", one.name, one.state, one.detail))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            Ok(())
        };
        Ok(eventually(&format!("{count} of {service} run"), PATIENCE, look)?.1)
    }

    /// Replicas whose container runs on a device, as its engine has it: `(replica, container id)`, sorted.
    pub fn running_on(&self, device: Device<'_>) -> Result<Vec<(String, String)>> {
        let format = "{{.Label \"outrigger.replica\"}} {{.ID}}";
        let printed = device.docker(&["ps", "--filter", "label=outrigger.scope", "--format", format])?;
        let mut found: Vec<_> = printed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(replica, id)| (replica.to_owned(), id.to_owned()))
            .collect();
        found.sort();
        Ok(found)
    }

    /// The device on which a replica runs, as the hub sees it.
    pub fn device_of(&self, replica: &str) -> Result<Device<'_>> {
        let replicas = self.replicas()?;
        let found = replicas.iter().find(|one| one.name == replica).with_context(|| format!("no {replica}"))?;
        let copy = found.copy.as_ref().with_context(|| format!("{replica} is nowhere: {:?}", found.detail))?;
        self.lab.devices().find(|device| device.name() == copy.device).context("its device is not of this lab")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("OUTRIGGER_SHOW_LOGS").is_some() {
            let logs = std::iter::once(self.work.path().join("hub.log"))
                .chain(self.lab.devices().map(|device| self.agent_log(device)));
            for log in logs {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let last: Vec<_> = text.lines().rev().take(60).collect();
                eprintln!("--- {}", log.display());
                last.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
