//! The only room that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 on a clock that stands before that.
pub fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells when a time limit is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now; a limit too long to count is none.
    pub fn after(limit: Duration) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
        Self(Instant::now().checked_add(limit))
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
        self.0.is_some_and(|at| Instant::now() >= at)
    }
}
