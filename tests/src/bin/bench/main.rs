//! `make bench`: the figures of BENCHMARKS.md, each beside its floor: what the Docker Engine alone needs for the same, in
//! the same run. Prints a Markdown table. Needs root and the lab; tests/bench prepares both. `bench loss idle` measures
//! only these parts; `bench swarm` is never measured unasked.

mod figures;
mod idle;
mod loss;
mod memory;
mod starts;
mod swarm;

use anyhow::Result;
use figures::Figures;
use outrigger_tests::real::fleet::Fleet;

/// Runs of each figure; the design asks for the median of at least ten.
const RUNS: usize = 10;

fn main() -> Result<()> {
    let runs = std::env::var("BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|one| one == part);
    if let Some(("swarm", words)) = asked.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return swarm::beside_ours(runs, words);
    }
    let mut figures = Figures::default();
    if is_asked("starts") || is_asked("hundred") || is_asked("loss") {
        let fleet = Fleet::up(4, &["web"])?;
        if is_asked("starts") {
            starts::deploy_to_answer(&fleet, runs, &mut figures)?;
            starts::killed_to_answer(&fleet, runs, &mut figures)?;
        }
        if is_asked("loss") {
            loss::all(&fleet, runs, &mut figures)?;
        }
        if is_asked("hundred") {
            starts::hundred_replicas(&fleet, runs, &mut figures)?;
        }
    }
    if is_asked("idle") {
        idle::agent_and_hub(&mut figures)?;
    }
    figures.print();
    Ok(())
}
