//! What is learnt of how fast copies are.

use std::time::Duration;

use outrigger_protocol::Moment;

/// After this time without a request half of what is known of a copy is forgotten, so that one which was slow once is
/// tried again.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// How much a new sample counts: one part in this many.
const SHARE: u64 = 8;
/// Classes of the histogram: each twice as long as the one before, the first below 2 µs, the last beyond 30 s.
const CLASSES: usize = 26;
/// After this many samples all counts are halved: what was slow an hour ago does not count for ever.
const MEMORY: u32 = 512;
/// Fewer samples say nothing about the hundredth part.
const ENOUGH: u32 = 20;

/// A mean that forgets, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    micros: u64,
    at: Moment,
    known: bool,
}

impl Mean {
    pub(super) fn add(&mut self, took: Duration, now: Moment) {
        let sample = micros(took);
        let before = self.micros(now);
        self.micros = if self.known { before - before / SHARE + sample / SHARE } else { sample };
        (self.at, self.known) = (now, true);
    }

    /// At least this much, because a copy has been waited for that long in vain.
    pub(super) fn raise(&mut self, waited: Duration, now: Moment) {
        self.micros = self.micros(now).max(micros(waited));
        (self.at, self.known) = (now, true);
    }

    pub(super) fn micros(&self, now: Moment) -> u64 {
        let halves = now.since(self.at).as_millis() / HALF_LIFE.as_millis();
        self.micros.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long connecting takes, all copies of a service together.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: [u32; CLASSES],
    total: u32,
}

impl Histogram {
    pub(super) fn add(&mut self, took: Duration) {
        let class = micros(took).checked_ilog2().unwrap_or(0) as usize;
        if let Some(count) = self.counts.get_mut(class.min(CLASSES - 1)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= MEMORY {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
    }

    /// The time within which 99 of 100 were done, rounded up to a power of two; none while too little is known.
    pub(super) fn p99(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut beyond = self.total / 100 + 1;
        for (class, count) in self.counts.iter().enumerate().rev() {
            match beyond.checked_sub(*count) {
                Some(left) if left > 0 => beyond = left,
                _ => return Some(Duration::from_micros(2 << class)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mean_follows_slowly_and_forgets_in_time() {
        let mut mean = Mean::default();
        mean.add(Duration::from_micros(800), Moment(0));
        mean.add(Duration::from_micros(1600), Moment(0));
        assert_eq!(mean.micros(Moment(0)), 900);
        assert_eq!(mean.micros(Moment(10_000)), 450);
        assert_eq!(mean.micros(Moment(u64::MAX)), 0);
    }

    #[test]
    fn the_slowest_of_a_hundred_counts_and_is_forgotten() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.p99(), None);
        (0..99).for_each(|_| histogram.add(Duration::from_micros(100)));
        histogram.add(Duration::from_millis(200));
        assert_eq!(histogram.p99(), Some(Duration::from_micros(128)));
        histogram.add(Duration::from_millis(200));
        histogram.add(Duration::from_millis(200));
        assert_eq!(histogram.p99(), Some(Duration::from_micros(262_144)));
        (0..5000).for_each(|_| histogram.add(Duration::from_micros(100)));
        assert_eq!(histogram.p99(), Some(Duration::from_micros(128)));
    }

    proptest! {
        #[test]
        fn one_in_a_hundred_is_slower_at_most(samples in proptest::collection::vec(1_u64..5_000_000, 20..400)) {
            let mut histogram = Histogram::default();
            samples.iter().for_each(|sample| histogram.add(Duration::from_micros(*sample)));
            let p99 = histogram.p99().unwrap();
            let slower = samples.iter().filter(|sample| Duration::from_micros(**sample) >= p99).count();
            prop_assert!(slower <= samples.len() / 100, "{slower} of {}", samples.len());
        }
    }
}
