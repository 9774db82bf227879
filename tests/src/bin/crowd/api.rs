//! How long the API takes with the whole crowd in it.

use std::time::Duration;

use anyhow::Result;
use outrigger_tests::clock::monotonic;

use super::Table;
use super::scenes::{Stage, millis};

/// Times that each question is asked; the middle one counts.
const RUNS: usize = 9;

/// Asks each question a few times.
pub fn times(stage: &Stage, table: &mut Table) -> Result<()> {
    let questions = [
        "/v1/fleet",
        "/v1/devices",
        "/v1/devices/device-00001",
        "/v1/services",
        "/v1/replicas",
        "/v1/replicas?service=bench/s0",
        "/v1/replicas?device=device-00001",
        "/v1/events",
        "/metrics",
    ];
    for question in questions {
        let mut times: Vec<Duration> = Vec::with_capacity(RUNS);
        let mut bytes = 0;
        for _ in 0..RUNS {
            let begin = monotonic();
            bytes = stage.hub.ask(&format!("GET {question}"), "")?.len();
            times.push(begin.elapsed());
        }
        times.sort();
        let (middle, worst) = (times.get(RUNS / 2).copied(), times.last().copied());
        let shown = |time: Option<Duration>| millis(time.unwrap_or_default());
        let text = format!("{} (worst {}), {} kB", shown(middle), shown(worst), bytes / 1000);
        table.row(format!("GET {question}"), text, "");
    }
    Ok(())
}
