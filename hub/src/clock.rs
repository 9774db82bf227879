//! The only room that reads clocks. Everything that decides by time gets it as an argument.

use std::time::Duration;

use outrigger_protocol::Moment;

/// Now, on the clock that counts suspended time (`CLOCK_BOOTTIME`): a hub that was paused notices the gap.
#[must_use]
pub fn now() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    Moment(seconds * 1000 + millis)
}

/// Milliseconds since 1970, for people to read. Nothing is decided by it.
#[must_use]
pub fn unix_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Now as tokio's timers count it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the room that reads clocks")]
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Waits until `moment` on the clock of [`now`]. A suspended machine wakes late, never early.
pub async fn sleep_until(moment: Moment) {
    while let Some(left) = moment.0.checked_sub(now().0).filter(|left| *left > 0) {
        // In pieces, because tokio's timers stand still while the machine sleeps and this clock does not.
        tokio::time::sleep(Duration::from_millis(left.min(1000))).await;
    }
}
