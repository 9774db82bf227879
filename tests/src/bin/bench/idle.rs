//! What agent and hub take while nothing happens: memory, processor time, traffic, writes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use outrigger_tests::clock::{monotonic, rest};
use outrigger_tests::real::fleet::Fleet;

use super::figures::Figures;

/// Time in which the agent settles before it is measured.
const SETTLE: Duration = Duration::from_secs(20);
/// How long it is measured; `BENCH_IDLE` has another number of seconds.
const IDLE: Duration = Duration::from_secs(600);

/// One device with one container, alone on its box.
pub fn agent_and_hub(figures: &mut Figures) -> Result<()> {
    let idle = std::env::var("BENCH_IDLE").ok().and_then(|text| text.parse().ok()).map_or(IDLE, Duration::from_secs);
    let fleet = Fleet::up(1, &["web"])?;
    figures.other("hub, RSS, empty (one device)", "≤ 20 MiB", mebibytes(rss(fleet.hub_pid()?)?));
    fleet.deploy("bench", "services: { web: { image: 'outrigger-web:1' } }")?;
    fleet.eventually_settled("bench/web", 1)?;
    rest(SETTLE);
    let device = fleet.lab.device(1);
    let agent = fleet.agent_pid(device)?;
    let before = Sample::take(agent, &device.run(&["cat", "/proc/net/dev"])?)?;
    let begin = monotonic();
    rest(idle);
    let took = begin.elapsed().as_secs_f64();
    let after = Sample::take(agent, &device.run(&["cat", "/proc/net/dev"])?)?;
    let per_second = |now: u64, then: u64| (now.saturating_sub(then)) as f64 / took;
    let cpu = per_second(after.cpu_ticks, before.cpu_ticks) / ticks_per_second()? * 100.0;
    figures.other("agent, RSS, idle, one container", "≤ 5 MiB (glibc)", mebibytes(after.rss));
    figures.other("agent, CPU, children included", "≤ 0.1 % of a core", format!("{cpu:.3} % over {took:.0} s"));
    let (up, down) = (per_second(after.sent, before.sent), per_second(after.received, before.received));
    figures.other("idle device, bytes sent, with all headers", "≤ 150 B/s", format!("{up:.0} B/s"));
    figures.other("idle device, bytes received", "≤ 150 B/s", format!("{down:.0} B/s"));
    let wrote = after.written.saturating_sub(before.written);
    figures.other("agent, bytes written to disk", "0", format!("{wrote} in {took:.0} s"));
    Ok(())
}

struct Sample {
    rss: u64,
    cpu_ticks: u64,
    written: u64,
    sent: u64,
    received: u64,
}

impl Sample {
    fn take(pid: u32, interfaces: &str) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields from the third on stand behind the name, which may hold anything but is in parentheses.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
        let eth0 = interfaces.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
        let eth0: Vec<u64> = eth0.split_whitespace().filter_map(|text| text.parse().ok()).collect();
        Ok(Self {
            rss: rss(pid)?,
            // utime, stime, and the same of children that have ended.
            cpu_ticks: [11, 12, 13, 14].into_iter().map(ticks).sum(),
            written: written.trim().parse()?,
            received: eth0.first().copied().context("no bytes received")?,
            sent: eth0.get(8).copied().context("no bytes sent")?,
        })
    }
}

fn rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn ticks_per_second() -> Result<f64> {
    Ok(outrigger_tests::real::command::run("getconf", ["CLK_TCK"])?.parse()?)
}
