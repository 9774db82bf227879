//! Tells systemd that the agent is up, and that it lives.

use std::cell::Cell;
use std::time::Duration;

use outrigger_protocol::Moment;
use sd_notify::NotifyState;
use tracing::debug;

/// Feeds systemd's watchdog, where there is one. It is fed from the loop that owns the core: if that loop is stuck, the
/// watchdog bites. A container engine that does not answer is no reason: a new agent would not help it.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    fed_at: Cell<Moment>,
}

impl Watchdog {
    /// The agent is up.
    #[must_use]
    pub fn begin() -> Self {
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            debug!(%error, "systemd cannot be told that the agent is up");
        }
        // Twice within its time, as systemd advises.
        Self { every: sd_notify::watchdog_enabled().map(|time| time / 2), fed_at: Cell::new(Moment::ZERO) }
    }

    /// The loop goes round.
    pub fn feed(&self, now: Moment) {
        let Some(every) = self.every else { return };
        if now.since(self.fed_at.get()) >= every.min(Duration::from_secs(1)) {
            self.fed_at.set(now);
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
