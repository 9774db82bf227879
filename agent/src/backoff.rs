//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Most that the first wait may be: a hub that restarts is back within a second.
const FIRST: Duration = Duration::from_millis(200);
/// Most that any wait may be: less than the time for which a hub that has just started loses nobody (15 s).
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that grow by a third and are drawn anew between nothing and that (full jitter): ten thousand devices that lost the
/// same hub must not come back in the same instant.
#[derive(Debug, Clone)]
pub struct Backoff {
    most: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// With this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { most: FIRST, random: fastrand::Rng::with_seed(seed) }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let most = u64::try_from(self.most.as_millis()).unwrap_or(u64::MAX);
        self.most = (self.most * 4 / 3).min(LONGEST);
        Duration::from_millis(self.random.u64(0..=most))
    }

    /// A connection has held.
    pub fn reset(&mut self) {
        self.most = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_begin_short_grow_and_stay_below_their_limit() {
        for seed in 0..50 {
            let mut backoff = Backoff::new(seed);
            assert!(backoff.wait() <= FIRST);
            let longest = (0..200).map(|_| backoff.wait()).max().unwrap_or_default();
            assert!(longest > LONGEST / 2 && longest <= LONGEST);
            backoff.reset();
            assert!(backoff.wait() <= FIRST);
        }
    }

    #[test]
    fn two_devices_wait_differently() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..10).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
    }
}
