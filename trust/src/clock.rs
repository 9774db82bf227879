//! The only reader of clocks in this crate.

use std::time::Instant;

/// A point in time that only counts up.
pub(crate) fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the file that reads clocks")]
    Instant::now()
}
