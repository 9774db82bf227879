//! The only place of the harness that reads a clock, and the only one that waits.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

/// Often enough that a measured time is good to a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `look` gives something, and returns it with the time that it took. Fails after `within`
/// with `what` and the last thing that `look` had to say.
pub fn eventually<T, E: Debug>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<(T, Duration)> {
    let begin = monotonic();
    loop {
        match look() {
            Ok(found) => return Ok((found, begin.elapsed())),
            Err(reason) if begin.elapsed() > within => {
                bail!("not within {} s: {what}; the last look gave: {reason:?}", within.as_secs_f64())
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Looks again and again for all of `span`, and fails as soon as `look` does: for what must *not* happen.
pub fn throughout<E: Debug>(what: &str, span: Duration, mut look: impl FnMut() -> Result<(), E>) -> Result<()> {
    let begin = monotonic();
    while begin.elapsed() < span {
        if let Err(reason) = look() {
            bail!("no longer true after {:.3} s: {what}: {reason:?}", begin.elapsed().as_secs_f64());
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Lets time pass: for what measures over a span, such as a benchmark or a load of so many requests a second. Whatever waits
/// for something to come about uses [`eventually`].
pub fn rest(span: Duration) {
    thread::sleep(span);
}

/// Now, for measuring spans.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the harness")]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now, since the epoch: comparable with the times that the lab prints.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the harness")]
#[must_use]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{eventually, throughout};

    #[test]
    fn eventually_waits_for_the_first_success() {
        let mut looks = 0;
        let (found, _) = eventually("three looks", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("too early") }
        })
        .unwrap();
        assert_eq!(found, 3);
    }

    #[test]
    fn eventually_gives_up_and_says_what_it_saw() {
        let error = eventually("pigs fly", Duration::from_millis(20), || Err::<(), _>("they walk")).unwrap_err();
        assert!(error.to_string().contains("pigs fly") && error.to_string().contains("they walk"), "{error}");
    }

    #[test]
    fn throughout_fails_at_the_first_lapse() {
        assert!(throughout("fine", Duration::from_millis(20), || Err::<(), _>("not fine")).is_err());
        assert!(throughout("fine", Duration::from_millis(20), || Ok::<(), ()>(())).is_ok());
    }
}
