//! What agent, proxy and hub take while nothing happens: memory, processor time, traffic, writes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use outrigger_tests::clock::{monotonic, rest};
use outrigger_tests::real::fleet::Fleet;

use super::figures::Figures;
use super::memory::{self, SETTLE};

/// How long it is measured; `BENCH_IDLE` has another number of seconds.
const IDLE: Duration = Duration::from_secs(600);

/// One device with one container, alone on its box.
pub fn agent_and_hub(figures: &mut Figures) -> Result<()> {
    let idle = std::env::var("BENCH_IDLE").ok().and_then(|text| text.parse().ok()).map_or(IDLE, Duration::from_secs);
    memory::sizes(figures)?;
    memory::empty_hub(figures)?;
    let fleet = Fleet::up(1, &["web"])?;
    fleet.deploy("bench", "services: { web: { image: 'outrigger-web:1' } }")?;
    fleet.eventually_settled("bench/web", 1)?;
    rest(SETTLE);
    let device = fleet.lab.device(1);
    let agent = fleet.agent_pid(device)?;
    let proxy = fleet.proxy_pid(device)?;
    let interfaces = || device.run(&["cat", "/proc/net/dev"]);
    let look =
        || Ok::<_, anyhow::Error>((Used::by(agent)?, proxy.map(Used::by).transpose()?, Traffic::read(&interfaces()?)?));
    let before = look()?;
    let begin = monotonic();
    rest(idle);
    let took = begin.elapsed().as_secs_f64();
    let after = look()?;
    memory::device(&fleet, figures)?;
    memory::hub(&fleet, figures)?;
    let ticks = ticks_per_second()?;
    let mut spent = |who: &str, now: &Used, then: &Used| {
        let cpu = now.cpu_ticks.saturating_sub(then.cpu_ticks) as f64 / took / ticks * 100.0;
        figures.other(
            &format!("{who}, CPU, children included"),
            "≤ 0.1 % of a core",
            format!("{cpu:.3} % over {took:.0} s"),
        );
        let wrote = now.written.saturating_sub(then.written);
        figures.other(&format!("{who}, bytes written to disk"), "0", format!("{wrote} in {took:.0} s"));
    };
    spent("agent", &after.0, &before.0);
    if let (Some(now), Some(then)) = (&after.1, &before.1) {
        spent("proxy", now, then);
    }
    let per_second = |now: u64, then: u64| format!("{:.0} B/s", now.saturating_sub(then) as f64 / took);
    let (sent, received) = (after.2.sent, after.2.received);
    figures.other("idle device, bytes sent, with all headers", "≤ 150 B/s", per_second(sent, before.2.sent));
    figures.other("idle device, bytes received", "≤ 150 B/s", per_second(received, before.2.received));
    Ok(())
}

/// What a process has used since its start.
struct Used {
    cpu_ticks: u64,
    written: u64,
}

impl Used {
    fn by(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields from the third on stand behind the name, which may hold anything but is in parentheses.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
        // utime, stime, and the same of children that have ended.
        Ok(Self { cpu_ticks: [11, 12, 13, 14].into_iter().map(ticks).sum(), written: written.trim().parse()? })
    }
}

/// What went through the device's interface.
struct Traffic {
    sent: u64,
    received: u64,
}

impl Traffic {
    fn read(interfaces: &str) -> Result<Self> {
        let eth0 = interfaces.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
        let eth0: Vec<u64> = eth0.split_whitespace().filter_map(|text| text.parse().ok()).collect();
        let field = |index: usize, what: &'static str| eth0.get(index).copied().context(what);
        Ok(Self { received: field(0, "no bytes received")?, sent: field(8, "no bytes sent")? })
    }
}

fn ticks_per_second() -> Result<f64> {
    Ok(outrigger_tests::real::command::run("getconf", ["CLK_TCK"])?.parse()?)
}
