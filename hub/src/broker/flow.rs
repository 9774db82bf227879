//! How much one connection may send: so much at once, so much in the long run. Who sends more is slowed down, which stops
//! its socket and nobody else's; who is slowed down for long is cut off.

use std::time::Duration;

use outrigger_protocol::Moment;

/// Messages at once: all parts of several answers.
const BURST: u64 = 600;
/// Messages in a second in the long run, to which only logs come near.
const PER_SECOND: u64 = 100;
/// A device that has been slowed down for so long within [`MINUTE`] is cut off.
const PATIENCE: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);
/// A thousandth of a message: the bucket is filled by the millisecond.
const MILLI: u64 = 1000;

/// What one connection has left.
#[derive(Debug)]
pub(super) struct Flow {
    milli: u64,
    filled_at: Moment,
    slowed: Duration,
    since: Moment,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is taken.
    Go,
    /// It is taken after this time, in which nothing else is read.
    Wait(Duration),
    /// That is enough.
    Cut,
}

impl Flow {
    pub(super) fn new(now: Moment) -> Self {
        Self { milli: BURST * MILLI, filled_at: now, slowed: Duration::ZERO, since: now }
    }

    /// A message has come.
    pub(super) fn pace(&mut self, now: Moment) -> Pace {
        let passed = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(0);
        self.milli = self.milli.saturating_add(passed.saturating_mul(PER_SECOND)).min(BURST * MILLI);
        self.filled_at = now;
        if now.since(self.since) >= MINUTE {
            (self.since, self.slowed) = (now, Duration::ZERO);
        }
        if let Some(left) = self.milli.checked_sub(MILLI) {
            self.milli = left;
            return Pace::Go;
        }
        // Half a second for fifty messages rather than ten milliseconds for each: fewer wakes.
        let pause = Duration::from_millis(500);
        self.slowed += pause;
        if self.slowed >= PATIENCE { Pace::Cut } else { Pace::Wait(pause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at this rate for so many seconds: how many were taken, and when it was cut off.
    fn send(per_ms: u64, seconds: u64) -> (u64, Option<u64>) {
        let mut now = Moment(1_000_000);
        let end = now + Duration::from_secs(seconds);
        let (mut flow, mut taken) = (Flow::new(now), 0);
        while now < end {
            for _ in 0..per_ms {
                match flow.pace(now) {
                    Pace::Go => taken += 1,
                    Pace::Wait(pause) => now = now + pause,
                    Pace::Cut => return (taken, Some(now.0 - 1_000_000)),
                }
            }
            now = now + Duration::from_millis(1);
        }
        (taken, None)
    }

    #[test]
    fn a_flood_is_slowed_down_and_then_cut_off() {
        let (taken, cut_at) = send(100, 120);
        assert!(cut_at.is_some_and(|ms| (15_000..40_000).contains(&ms)), "{cut_at:?}");
        assert!(taken < 5_000, "{taken} of a hundred thousand each second");
    }

    #[test]
    fn a_device_that_sends_a_hundred_messages_in_a_second_is_never_slowed_down() {
        let mut now = Moment(1_000_000);
        let mut flow = Flow::new(now);
        for _ in 0..100_000 {
            assert_eq!(flow.pace(now), Pace::Go);
            now = now + Duration::from_millis(10);
        }
    }
}
