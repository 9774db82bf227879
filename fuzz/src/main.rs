//! The plain mutator for longer: `cargo run --release -p outrigger-fuzz -- [TARGET] [SECONDS] [SEED]`; without a target all of
//! them. `-- seeds FOLDER` writes what `fuzz/guided` begins with.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use outrigger_fuzz::{TARGETS, run, write_seeds};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, other: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(other);
    let chosen = words.first().map_or("all", String::as_str);
    if chosen == "seeds" {
        let folder = words.get(1).map_or("seeds", String::as_str);
        return match write_seeds(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("outrigger-fuzz: cannot write seeds to {folder}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let time = Duration::from_secs(number(1, 60));
    let mut targets = TARGETS.iter().filter(|target| chosen == "all" || target.name == chosen).peekable();
    if targets.peek().is_none() {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("outrigger-fuzz: no target `{chosen}`; there are {}, all", known.join(", "));
        return ExitCode::FAILURE;
    }
    for target in targets {
        match run(target, time, number(2, 1)) {
            Ok(inputs) => println!("{:<12} {inputs} inputs in {} s, nothing found", target.name, time.as_secs()),
            Err(finding) => {
                eprintln!("{}: {}\n{}", finding.target, finding.what, finding.bytes.escape_ascii());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
