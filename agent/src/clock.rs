//! The only reader of clocks. Decisions count elapsed time; the time of day is shown and nothing else.

use std::time::Duration;

use outrigger_protocol::{Moment, SessionNumber};
use rustix::time::{ClockId, clock_gettime};

/// Longest sleep in one piece: tokio's timers stand still while the device is suspended, and a lease does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The device's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Time since boot, suspended time included.
    #[must_use]
    pub fn now(self) -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let ms = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
        Moment(u64::try_from(ms).unwrap_or_default())
    }

    /// The number of a connection that begins now.
    #[must_use]
    pub fn session(self) -> SessionNumber {
        SessionNumber(self.now().0)
    }

    /// The time of day in milliseconds since 1970; zero on a clock before that.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Sleeps until a moment, or for a second, whichever is sooner.
    pub async fn doze_until(self, moment: Moment) {
        tokio::time::sleep(moment.since(self.now()).min(LONGEST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_backwards_and_is_not_zero() {
        let first = Clock.now();
        assert!(first > Moment::ZERO && Clock.now() >= first && Clock.unix_ms() > 0);
    }
}
