//! The hub's process: its devices let in beforehand, started, restarted, asked, and measured from outside.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outrigger_agent::config::HubAddress;
use outrigger_agent::identity::{HubFile, IdentityDir, Joined};
use outrigger_api::Fleet;
use outrigger_hub::pki::{Newcomer, Pki, Wanted};
use outrigger_hub::store::{Store, Writer};
use outrigger_tests::clock::{eventually, monotonic};
use outrigger_tests::real::{command, http, place, process::Process};

use super::crowd::name;

/// A hub with all its devices may take a while to read them.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// Devices that come in by one invite. The invite remembers each of them, so a long list costs each newcomer more.
const USES: u32 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// The hub.
pub struct Hub {
    process: Option<Process>,
    state: PathBuf,
    log: PathBuf,
    mqtt: u16,
    http: u16,
    heartbeat: Duration,
}

/// What the process has taken.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// VmRSS in bytes.
    pub rss: u64,
    /// Processor time in seconds.
    pub cpu: f64,
    /// Bytes that it had written to disks.
    pub written: u64,
    at: Instant,
}

impl Hub {
    /// Prepares a hub in `folder` with `count` devices that have joined, and says how long each join took. The identities
    /// are put below `states`. Joining is done by the hub's own code in this process, with its store in memory: a disk
    /// confirms each newcomer, which with thousands takes minutes and is not what is measured here.
    pub fn prepare(folder: &Path, states: &Path, count: usize, heartbeat: Duration) -> Result<(Self, Duration)> {
        let (mqtt, http) = (free_port()?, free_port()?);
        let state = folder.join("hub");
        let fast = tempfile::tempdir_in("/dev/shm").context("no folder in memory")?;
        let begin = monotonic();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(join_all(fast.path(), states, count, mqtt, http))?;
        let took = begin.elapsed();
        command::run("cp", [Path::new("-a"), fast.path(), &state])?;
        let hub = Self { process: None, log: folder.join("hub.log"), state, mqtt, http, heartbeat };
        Ok((hub, took / u32::try_from(count.max(1))?))
    }

    /// Starts it, and waits until it answers; how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let beat = self.heartbeat.as_secs().max(1);
        let seconds = |factor: u64| format!("{}s", beat * factor);
        let words = [
            "--state-dir".to_owned(),
            self.state.display().to_string(),
            "--mqtt-listen".to_owned(),
            format!("127.0.0.1:{}", self.mqtt),
            "--http-listen".to_owned(),
            format!("127.0.0.1:{}", self.http),
            "--relay-port".to_owned(),
            "off".to_owned(),
            "--heartbeat".to_owned(),
            seconds(1),
            "--suspect-after".to_owned(),
            seconds(3),
            "--lost-after".to_owned(),
            seconds(4),
        ];
        let begin = monotonic();
        let mut process = Process::start(&place::program("outrigger-hub")?, words, &self.log)?;
        let (_, took) = eventually("the hub answers", STARTS_WITHIN, || {
            ensure!(process.is_running(), "it has ended: {}", fs::read_to_string(&self.log).unwrap_or_default());
            self.ask("GET /v1/fleet", "")
        })?;
        debug_assert!(took <= begin.elapsed());
        self.process = Some(process);
        Ok(took)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("no hub runs")?.stop()
    }

    /// Asks it through its socket.
    pub fn ask(&self, request: &str, json: &str) -> Result<String> {
        Ok(http::ask_hub(&self.state.join("hub.sock"), request, json)?.body)
    }

    /// The fleet in numbers.
    pub fn fleet(&self) -> Result<Fleet> {
        Ok(serde_json::from_str(&self.ask("GET /v1/fleet", "")?)?)
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Result<Taken> {
        taken(self.process.as_ref().context("no hub runs")?.pid())
    }

    /// Size of the store's file.
    pub fn store_bytes(&self) -> Result<u64> {
        Ok(fs::metadata(self.state.join(outrigger_hub::store::FILE))?.len())
    }

    /// Lines of its log that are no information: they belong into the report.
    pub fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).map(str::to_owned).collect()
    }
}

impl Taken {
    /// Hundredths of a core between two looks.
    pub fn cpu_since(&self, before: &Self) -> f64 {
        (self.cpu - before.cpu) / self.at.duration_since(before.at).as_secs_f64() * 100.0
    }
}

/// What a process has taken so far.
pub fn taken(pid: u32) -> Result<Taken> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields from the third on stand behind the name, which may hold anything but is in parentheses.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<u64> = fields.split_whitespace().map(|text| text.parse().unwrap_or_default()).collect();
    let ticks: u64 = fields.get(11..13).context("stat is too short")?.iter().sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    let per_second: f64 = command::run("getconf", ["CLK_TCK"])?.parse()?;
    Ok(Taken {
        rss: rss.trim().trim_end_matches(" kB").parse::<u64>()? * 1024,
        cpu: ticks as f64 / per_second,
        written: written.trim().parse()?,
        at: monotonic(),
    })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn join_all(folder: &Path, states: &Path, count: usize, mqtt: u16, http: u16) -> Result<()> {
    let mut store = Store::open(folder)?;
    let loaded = store.load()?;
    let (writer, _written) = Writer::start(store)?;
    let pki = Pki::open(folder, &[], &loaded.side, writer.side()).await?;
    let mut token = String::new();
    for number in 0..count {
        if number % usize::try_from(USES)? == 0 {
            let wanted = Wanted { uses: USES, ttl: HOUR, name: None, labels: Default::default() };
            let (made, _) = pki.invites().make(wanted, pki.pin(), "bench", outrigger_hub::clock::unix_ms()).await?;
            token = made.reveal().to_string();
        }
        let device = name(number)?;
        let identity = IdentityDir::of(&states.join(device.as_str()));
        let key = identity.key_for_join()?;
        let csr = key.request(device.as_str())?;
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let joined = pki.join(Newcomer { token: &token, name: device, csr: &csr, from }).await?;
        let hub = HubFile {
            url: format!("https://127.0.0.1:{http}"),
            mqtt: vec![HubAddress { host: "127.0.0.1".into(), port: mqtt }],
            fleet: None,
        };
        identity.put(&Joined::new(joined.chain, joined.authorities, key, hub)?)?;
    }
    drop(pki);
    writer.finish().await;
    Ok(())
}
