//! How large the programs are, on the disk and in memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use outrigger_tests::clock::{eventually, rest};
use outrigger_tests::real::fleet::{Fleet, PATIENCE};
use outrigger_tests::real::process::Process;
use outrigger_tests::real::{http, place};

use super::figures::Figures;

/// Time in which a program settles before it is measured.
pub const SETTLE: Duration = Duration::from_secs(20);

/// The programs as files.
pub fn sizes(figures: &mut Figures) -> Result<()> {
    let programs =
        [("outrigger-agent", "≤ 4 MB"), ("outrigger-proxy", ""), ("outrigger-hub", "≤ 16 MB"), ("outrigger", "≤ 5 MB")];
    for (program, budget) in programs {
        let bytes = fs::metadata(place::program(program)?)?.len();
        figures.other(&format!("{program}, size"), budget, format!("{:.2} MB", bytes as f64 / 1e6));
    }
    Ok(())
}

/// A hub that no device knows.
pub fn empty_hub(figures: &mut Figures) -> Result<()> {
    let work = tempfile::tempdir()?;
    let state = work.path().join("hub");
    let socket = state.join("hub.sock");
    let words =
        ["--state-dir", &state.to_string_lossy(), "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"];
    let log = work.path().join("log");
    let hub = Process::start(&place::program("outrigger-hub")?, words, &log)?;
    eventually("the hub is ready", PATIENCE, || http::ask_hub(&socket, "GET /readyz", ""))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    rest(SETTLE);
    figures.other("hub, empty, RSS (PSS)", "RSS ≤ 20 MiB", Memory::of(hub.pid())?.shown());
    hub.stop()
}

/// The hub of a device that runs a container.
pub fn hub(fleet: &Fleet, figures: &mut Figures) -> Result<()> {
    figures.other("hub, one device, RSS (PSS)", "RSS ≤ 20 MiB", Memory::of(fleet.hub_pid()?)?.shown());
    Ok(())
}

/// The programs of a device that has run one container for a while. The container's stack has a network, as Compose has it,
/// so the proxy runs.
pub fn device(fleet: &Fleet, figures: &mut Figures) -> Result<()> {
    let device = fleet.lab.device(1);
    let pid = fleet.agent_pid(device)?;
    let is_static = !fs::read_to_string(format!("/proc/{pid}/maps"))?.contains("/libc.so");
    let (kind, budget) = if is_static { ("static", "RSS ≤ 3.5 MiB") } else { ("glibc", "RSS ≤ 5 MiB") };
    let agent = Memory::of(pid)?;
    figures.other(&format!("agent, {kind}, one container, RSS (PSS)"), budget, agent.shown());
    let Some(pid) = fleet.proxy_pid(device)? else { return Ok(()) };
    let proxy = Memory::of(pid)?;
    figures.other(&format!("proxy, {kind}, one network, RSS (PSS)"), "0 without a network", proxy.shown());
    let both = Memory { rss: agent.rss + proxy.rss, pss: agent.pss + proxy.pss };
    figures.other("agent and proxy together, RSS (PSS)", "", both.shown());
    Ok(())
}

/// What a process has in memory, in kB.
struct Memory {
    /// All that it sees there.
    rss: u64,
    /// The same, with what several processes see divided among them.
    pss: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let value = |key: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self { rss: value("Rss:")?, pss: value("Pss:")? })
    }

    fn shown(&self) -> String {
        let mebibytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
        format!("{:.2} MiB ({:.2})", mebibytes(self.rss), mebibytes(self.pss))
    }
}
