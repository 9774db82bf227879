//! The only place of the benchmark that reads a clock, and the only one that waits.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

pub fn rest(span: Duration) {
    std::thread::sleep(span);
}

/// Looks again and again until there is something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Ok(found);
        }
        rest(Duration::from_millis(10));
    }
    bail!("not within {} s: {what}", PATIENCE.as_secs())
}
