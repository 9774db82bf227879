//! Runs seeds of the simulator: one with its trace, or many.
//!
//! `sim --seed 0x2a --trace` prints all of one run; `sim --seeds 10000` runs many; `--from N` begins there;
//! `--bug NAME` plants a bug; `--threads N` takes so many cores.

use std::process::ExitCode;

use outrigger_tests::sim::{ALL_BUGS, Bug, Campaign, Detail, Failure, Setup, campaign, report, run};

/// What was asked for.
#[derive(Debug, Default)]
struct Wish {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    threads: usize,
    is_traced: bool,
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let wish = match read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(reason) => {
            eprintln!("sim: {reason}");
            return ExitCode::from(2);
        }
    };
    match wish.seed {
        Some(seed) => one(seed, &wish),
        None => many(&wish),
    }
}

fn one(seed: u64, wish: &Wish) -> ExitCode {
    let detail = if wish.is_traced { Detail::All } else { Detail::Last };
    let outcome = run(Setup { seed, bug: wish.bug, wall_shift_ms: 0, detail });
    let is_broken = outcome.broken.is_some();
    let lines = outcome.lines.clone();
    if is_broken {
        print!("{}", report(&Failure { seed, outcome }));
        return ExitCode::FAILURE;
    }
    if wish.is_traced {
        lines.iter().for_each(|line| println!("{line}"));
    }
    println!(
        "seed {seed:#x} ({:?}): all holds, {} s of virtual time, trace {:016x}",
        outcome.profile,
        outcome.at / 1000,
        outcome.hash
    );
    ExitCode::SUCCESS
}

fn many(wish: &Wish) -> ExitCode {
    let found = campaign(wish.from..wish.from + wish.seeds, wish.bug, wish.threads, 10);
    for failure in &found.failures {
        println!("{}", report(failure));
    }
    summary(&found);
    if found.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(found: &Campaign) {
    for (what, count) in found.sometimes.counts() {
        println!("{count:>8}  {what}");
    }
    for what in found.sometimes.missing() {
        println!("   never  {what}");
    }
    for failure in &found.failures {
        let broken = failure.outcome.broken.as_ref();
        let text = broken.map(|broken| format!("{}: {}", broken.invariant, broken.seen)).unwrap_or_default();
        println!("{:#x} {:?}: {text}", failure.seed, failure.outcome.profile);
    }
    println!("{} seeds, {} broke something", found.seeds, found.failures.len());
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish { seeds: 300, threads: 2, ..Wish::default() };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--trace" => wish.is_traced = true,
            "--seed" => wish.seed = Some(number(&value()?)?),
            "--seeds" => wish.seeds = number(&value()?)?,
            "--from" => wish.from = number(&value()?)?,
            "--threads" => wish.threads = usize::try_from(number(&value()?)?).map_err(|error| error.to_string())?,
            "--bug" => wish.bug = Some(bug(&value()?)?),
            _ => return Err(format!("`{word}` is not known")),
        }
    }
    Ok(wish)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    parsed.map_err(|error| format!("`{text}`: {error}"))
}

fn bug(text: &str) -> Result<Bug, String> {
    let known = || ALL_BUGS.map(|bug| format!("{bug:?}")).join(", ");
    ALL_BUGS
        .into_iter()
        .find(|bug| format!("{bug:?}") == text)
        .ok_or_else(|| format!("`{text}` is none of {}", known()))
}
