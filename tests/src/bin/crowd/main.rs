//! `tests/bench crowd`: one hub and many devices on this machine, each with its own certificate and its own connection, all
//! over loopback. Prints a Markdown table of what the hub takes and how long things take.
//!
//!   crowd DEVICES [idle|deploy|api|restart|network|routes ...]
//!   crowd million                     a million replicas planned, saved and published, without devices
//!
//! `CROWD_HEARTBEAT` (seconds, 1), `CROWD_REPLICAS` (for each device, 2), `CROWD_IDLE` (seconds, 30), `CROWD_FLIPS` (60).

mod api;
mod crowd;
mod device;
mod hub;
mod million;
mod routes;
mod scenes;

use std::time::Duration;

use anyhow::{Context, Result};

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Devices.
    pub devices: usize,
    /// Replicas for each.
    pub replicas: usize,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long the fleet at rest is measured.
    pub idle: Duration,
    /// How often a copy becomes healthy.
    pub flips: usize,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(String, String, &'static str)>,
}

impl Table {
    /// One more line; the budget may be empty.
    pub fn row(&mut self, what: impl Into<String>, value: impl Into<String>, budget: &'static str) {
        let (what, value) = (what.into(), value.into());
        eprintln!("  {what}: {value}");
        self.rows.push((what, value, budget));
    }

    fn print(&self, title: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(2).collect::<Vec<_>>().join(", ");
        println!("\n### {title}; load of the machine {load}\n");
        println!("| what | measured | budget |\n| --- | --- | --- |");
        for (what, value, budget) in &self.rows {
            println!("| {what} | {value} | {budget} |");
        }
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let devices = words.next().context("how many devices? crowd DEVICES [PART ...]")?;
    if devices == "million" {
        let mut table = Table::default();
        let done = million::measure(5_000, 1_000, 1_000, &mut table);
        table.print("A million replicas");
        return done;
    }
    let devices = devices.parse().with_context(|| format!("`{devices}` is no number of devices"))?;
    let asked: Vec<String> = words.collect();
    let number = |name: &str, usual: u64| {
        std::env::var(name).ok().map_or(Ok(usual), |text| text.parse().with_context(|| format!("{name}={text}")))
    };
    let scale = Scale {
        devices,
        replicas: usize::try_from(number("CROWD_REPLICAS", 2)?)?,
        heartbeat: Duration::from_secs(number("CROWD_HEARTBEAT", 1)?),
        idle: Duration::from_secs(number("CROWD_IDLE", 30)?),
        flips: usize::try_from(number("CROWD_FLIPS", 60)?)?,
    };
    let mut table = Table::default();
    let done = scenes::all(&scale, &asked, &mut table);
    // What was measured before something failed is worth seeing, too.
    table.print(&format!(
        "{} devices, a heartbeat each {} s, {} replicas for each",
        scale.devices,
        scale.heartbeat.as_secs_f64(),
        scale.replicas
    ));
    done
}
