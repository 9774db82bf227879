//! Bytes from outside against every parser that reads them: what devices publish, what users upload, what people paste,
//! what certificates name.
//!
//! A target is a function of bytes that must neither panic nor be slow, and that checks what must hold where the bytes make
//! sense. The mutator is a plain one and needs no special compiler, so the short run is an ordinary test (`tests/short.rs`)
//! and the long one an ordinary program: `cargo run --release -p outrigger-fuzz -- compose 600`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a panic is how a target says that something is wrong")]

mod mutate;
mod seeds;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

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
