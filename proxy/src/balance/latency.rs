//! What is learnt of how fast copies are.

use std::time::Duration;

use outrigger_protocol::Moment;

/// After this time without a request half of what tells a copy from the best one is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// After this time without a request nothing is known of a copy any more, so that one which was slow once is tried again.
const KNOWN: Duration = Duration::from_secs(30);
/// How much a new sample counts: one part in this many, and more if the last one was long ago.
const SHARE: u64 = 8;
/// A sample counts as at most this many times the mean. One request that took long for reasons of its own doubles the mean
/// at most; without this limit, nobody would choose the copy for a minute. Many in a row raise it as far as it takes.
const OUTLIER: u64 = 8;
/// Of so many samples the smallest counts: the first ones pay for handshakes and cold caches.
const FIRST: u8 = 3;
/// Less than this is not told apart.
pub(super) const NOISE_MICROS: u64 = 100;
/// How long a copy that was late once is passed over where another one is quick.
const SETBACK: Duration = Duration::from_secs(1);
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
    /// Samples, as far as they are counted.
    count: u8,
}

impl Mean {
    pub(super) fn add(&mut self, took: Duration, now: Moment) {
        let sample = micros(took);
        if now.since(self.at) >= KNOWN {
            self.count = 0;
        }
        let limited = sample.min(self.micros.max(NOISE_MICROS).saturating_mul(OUTLIER));
        self.micros = match (self.count, self.halves(now)) {
            (0, _) => sample,
            (1..FIRST, _) => self.micros.min(sample),
            (FIRST.., 0) => self.micros - self.micros / SHARE + limited / SHARE,
            // What was forgotten of the mean, the sample makes up for.
            (FIRST.., _) => self.left(self.micros, now) + limited - self.left(limited, now),
        };
        self.count = self.count.saturating_add(1).min(FIRST);
        self.at = now;
    }

    /// Whether so much is known that it is more than chance.
    pub(super) fn is_settled(&self, now: Moment) -> bool {
        self.count >= FIRST && now.since(self.at) < KNOWN
    }

    /// None: nothing is known, or it was too long ago.
    pub(super) fn micros(&self, now: Moment) -> Option<u64> {
        (self.count > 0 && now.since(self.at) < KNOWN).then_some(self.micros)
    }

    /// What is left of a value after the time since the last sample.
    pub(super) fn left(&self, value: u64, now: Moment) -> u64 {
        value.checked_shr(self.halves(now)).unwrap_or(0)
    }

    /// Of both the one with the newer sample.
    pub(super) fn newer<'a>(&'a self, other: &'a Self) -> &'a Self {
        if other.at > self.at { other } else { self }
    }

    fn halves(&self, now: Moment) -> u32 {
        u32::try_from(now.since(self.at).as_millis() / HALF_LIFE.as_millis()).unwrap_or(u32::MAX)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A copy was waited for in vain. It costs as much as was waited, for a short while: that it was late once says little of
/// how fast it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setback {
    micros: u64,
    until: Moment,
}

impl Setback {
    pub(super) fn of(waited: Duration, now: Moment) -> Self {
        Self { micros: micros(waited), until: now + SETBACK }
    }

    pub(super) fn micros(&self, now: Moment) -> u64 {
        if now < self.until { self.micros } else { 0 }
    }
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
        (0..3).for_each(|_| mean.add(Duration::from_micros(800), Moment(0)));
        mean.add(Duration::from_micros(1600), Moment(0));
        assert_eq!(mean.micros(Moment(0)), Some(900));
        assert_eq!(mean.left(900, Moment(10_000)), 225);
        assert_eq!((mean.micros(Moment(29_999)), mean.micros(Moment(30_000))), (Some(900), None));
    }

    #[test]
    fn one_outlier_hardly_counts_and_a_copy_that_has_become_slow_is_found_out() {
        let mut mean = Mean::default();
        for slow_start in [900, 1, 40] {
            assert!(!mean.is_settled(Moment(0)));
            mean.add(Duration::from_millis(slow_start), Moment(0));
        }
        assert_eq!(mean.micros(Moment(0)), Some(1000));
        mean.add(Duration::from_secs(10), Moment(0));
        assert!(mean.micros(Moment(0)).unwrap() < 2000, "{mean:?}");
        (0..20).for_each(|_| mean.add(Duration::from_millis(500), Moment(0)));
        assert!(mean.micros(Moment(0)).unwrap() > 400_000, "{mean:?}");
    }

    #[test]
    fn a_sample_after_a_long_silence_counts_for_what_was_forgotten() {
        let mut mean = Mean::default();
        (0..3).for_each(|_| mean.add(Duration::from_micros(800), Moment(0)));
        mean.add(Duration::from_micros(400), Moment(10_000));
        assert_eq!(mean.micros(Moment(10_000)), Some(500), "a quarter of the one, three of the other");
    }

    #[test]
    fn being_late_counts_for_a_second() {
        let setback = Setback::of(Duration::from_millis(100), Moment(5000));
        assert_eq!((setback.micros(Moment(5999)), setback.micros(Moment(6000))), (100_000, 0));
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
