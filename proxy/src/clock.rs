//! The only reader of clocks. Decisions count elapsed time and get it as an argument.

use outrigger_protocol::Moment;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Time since boot, suspended time included.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let ms = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    Moment(u64::try_from(ms).unwrap_or_default())
}

/// For durations, finer than [`now`], as tokio's timers count.
pub(crate) fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
    Instant::now()
}
