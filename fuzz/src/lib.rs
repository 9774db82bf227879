//! Bytes from outside against every parser that reads them: what devices publish, what users upload, what people paste,
//! what certificates name.
//!
//! A target is a function of bytes that must neither panic nor be slow, and that checks what must hold where the bytes make
//! sense. Two drive them: a plain mutator, which needs nothing and runs for seconds in every test run (`tests/short.rs`), and
//! libFuzzer, which is guided by coverage and runs for as long as wanted (`fuzz/guided TARGET SECONDS`). LLVM's coverage is a
//! code generation option, so the same stable compiler serves.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is how a target says that something is wrong")]

mod mutate;
mod seeds;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

pub use mutate::mutate;
pub use seeds::dictionary;
pub use targets::{TARGETS, Target};

mod clock {
    //! The only reader of clocks in this crate.

    use std::time::Instant;

    pub(crate) fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
        Instant::now()
    }
}

/// Longest that any input may take. A hundredth of it is usual, also without optimisation and on a busy machine.
const SLOW: Duration = Duration::from_secs(5);
/// Inputs that are kept as beginnings of others.
const POOL: usize = 256;

/// What went wrong, and with which bytes.
#[derive(Debug)]
pub struct Finding {
    /// Where.
    pub target: &'static str,
    /// What.
    pub what: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Runs a target with mutations of its seeds for so long, from this seed of randomness; says how many inputs there were.
///
/// # Errors
/// If the target panics, or takes too long.
pub fn run(target: &Target, time: Duration, seed: u64) -> Result<u64, Box<Finding>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pool: Vec<Vec<u8>> = (target.seeds)();
    let words = dictionary();
    let (begin, mut inputs) = (clock::now(), 0);
    for bytes in &pool {
        attempt(target, bytes)?;
        inputs += 1;
    }
    while begin.elapsed() < time {
        let bytes = mutate(&mut random, &pool, &words, target.largest);
        // What is understood is worth more as a beginning than what is not.
        if attempt(target, &bytes)? {
            match pool.len() {
                POOL.. => *random.choice(&mut pool).unwrap() = bytes,
                _ => pool.push(bytes),
            }
        }
        inputs += 1;
    }
    Ok(inputs)
}

/// Runs a target once, for whoever watches for panics and the time by itself.
///
/// # Panics
/// If something is wrong, or there is no such target.
pub fn check(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("each program names a target");
    let _ = (target.check)(bytes);
}

/// Writes each target's seeds to a folder of its name in this one, and the pieces that hurt to `words.dict`, in the form that
/// libFuzzer and AFL read.
///
/// # Errors
/// If they cannot be written.
pub fn write_seeds(folder: &Path) -> io::Result<()> {
    for target in &TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, bytes) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), bytes)?;
        }
    }
    let escaped = |word: &[u8]| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let words: String = dictionary().into_iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    fs::write(folder.join("words.dict"), words)
}

/// Whether the bytes made sense.
fn attempt(target: &Target, bytes: &[u8]) -> Result<bool, Box<Finding>> {
    let finding = |what: String| Box::new(Finding { target: target.name, what, bytes: bytes.to_vec() });
    let begin = clock::now();
    let made_sense = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes)));
    let made_sense = made_sense.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        finding(text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_owned())
    })?;
    let took = begin.elapsed();
    if took > SLOW { Err(finding(format!("it took {took:?}"))) } else { Ok(made_sense) }
}
