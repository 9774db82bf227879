//! Many seeds, one after the other on each core.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::bug::Bug;
use super::run::{Outcome, run};
use super::sometimes::Sometimes;
use super::trace::Detail;
use super::world::Setup;

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Seeds that broke something, the smallest first.
    pub failures: Vec<Failure>,
    /// What was reached.
    pub sometimes: Sometimes,
    /// How many seeds were run.
    pub seeds: u64,
}

/// A seed that broke something.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What came of it, with the last lines of its trace.
    pub outcome: Outcome,
}

/// Runs these seeds on so many threads; each run is single-threaded. Ends early after so many failures.
#[must_use]
pub fn campaign(seeds: std::ops::Range<u64>, bug: Option<Bug>, threads: usize, most_failures: usize) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Campaign::default());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let is_enough = all.lock().unwrap_or_else(PoisonError::into_inner).failures.len() >= most_failures;
        if seed >= seeds.end || is_enough {
            return;
        }
        let mut outcome = run(setup(seed, bug, Detail::Hash));
        if outcome.broken.is_some() {
            outcome = run(setup(seed, bug, Detail::Last));
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.seeds += 1;
        all.sometimes.add(&outcome.sometimes);
        if outcome.broken.is_some() {
            all.failures.push(Failure { seed, outcome });
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut campaign = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    campaign.failures.sort_by_key(|failure| failure.seed);
    campaign
}

fn setup(seed: u64, bug: Option<Bug>, detail: Detail) -> Setup {
    Setup { seed, bug, wall_shift_ms: 0, detail }
}

/// A failure as people need it: what broke, what happened last, and how to see it again.
#[must_use]
pub fn report(failure: &Failure) -> String {
    let mut text = String::new();
    let Some(broken) = &failure.outcome.broken else { return text };
    for line in &failure.outcome.lines {
        let _ = writeln!(text, "  {line}");
    }
    let _ =
        writeln!(text, "seed {:#x} ({:?}) broke at {} ms:", failure.seed, failure.outcome.profile, failure.outcome.at);
    let _ = writeln!(text, "  it should be that {}", broken.invariant);
    let _ = writeln!(text, "  but {}", broken.seen);
    let _ = writeln!(text, "again: cargo run -p outrigger-tests --bin sim -- --seed {:#x} --trace", failure.seed);
    text
}
