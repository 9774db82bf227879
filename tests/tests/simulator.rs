//! The fleet under faults, from seeds. `OUTRIGGER_SEEDS=N` runs more of them, `OUTRIGGER_SEED=0x…` replays one and prints it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use outrigger_tests::sim::{ALL_BUGS, Bug, Detail, Failure, Setup, campaign, report, run};

/// Seeds in an ordinary test run; a nightly one takes more.
const SEEDS: u64 = 300;
/// Seeds beyond the first [`SEEDS`] that once broke something.
const PINNED: [u64; 1] = [0x340];
/// Within so many seeds each planted bug is found.
const SEEDS_PER_BUG: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    Some(parsed.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn setup(seed: u64) -> Setup {
    Setup { seed, bug: None, wall_shift_ms: 0, detail: Detail::Hash }
}

#[test]
fn the_fleet_keeps_its_promises_under_random_faults() {
    if let Some(seed) = setting("OUTRIGGER_SEED") {
        let outcome = run(Setup { detail: Detail::All, ..setup(seed) });
        outcome.lines.iter().for_each(|line| println!("{line}"));
        assert!(outcome.broken.is_none(), "{}", report(&Failure { seed, outcome }));
        return;
    }
    let seeds = setting("OUTRIGGER_SEEDS").unwrap_or(SEEDS);
    let found = campaign(0..seeds, None, threads(), 3);
    let texts: Vec<String> = found.failures.iter().map(report).collect();
    assert!(texts.is_empty(), "{} seeds broke something:\n{}", texts.len(), texts.join("\n"));
    if seeds >= SEEDS {
        let missing = found.sometimes.missing();
        assert!(missing.is_empty(), "these never happened, so nothing is shown about them: {missing:?}");
    }
}

#[test]
fn seeds_that_once_broke_something_hold() {
    for seed in PINNED {
        let outcome = run(setup(seed));
        assert!(outcome.broken.is_none(), "{}", report(&Failure { seed, outcome }));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1000..1012 {
        assert_eq!(run(setup(seed)).hash, run(setup(seed)).hash, "seed {seed:#x}");
    }
}

#[test]
fn the_time_of_day_decides_nothing() {
    for seed in 1000..1012 {
        let ten_years = Setup { wall_shift_ms: 315_360_000_000, ..setup(seed) };
        assert_eq!(run(setup(seed)).hash, run(ten_years).hash, "seed {seed:#x}");
    }
}

/// The seed that shows a planted bug.
fn seed_that_shows(bug: Bug) -> Option<u64> {
    (0..SEEDS_PER_BUG).find(|&seed| {
        let planted = Setup { bug: Some(bug), ..setup(seed) };
        let outcome = run(planted);
        match outcome.broken {
            Some(broken) => bug.breaks().contains(&broken.invariant),
            None => bug == Bug::Chance && run(planted).hash != outcome.hash,
        }
    })
}

#[test]
fn planted_bugs_are_found() {
    let missed = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(&bug) = ALL_BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match seed_that_shows(bug) {
                        Some(seed) => {
                            println!("{bug:?}: seed {seed:#x} shows that it is not so that {:?}", bug.breaks())
                        }
                        None => missed.lock().unwrap().push(bug),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found within {SEEDS_PER_BUG} seeds: {missed:?}");
}
