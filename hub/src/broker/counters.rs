//! What the broker's side counts, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, shared by all connections.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) heartbeats_shed: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) publishes_refused: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) too_large: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Devices connected now; 0 where the broker is external, which does not say.
    pub connected: u64,
    /// Messages from devices that could be read.
    pub received: u64,
    /// Heartbeats dropped because the control loop was behind. They are the first to go.
    pub heartbeats_shed: u64,
    /// Messages that could not be read, or were on a topic of nobody.
    pub malformed: u64,
    /// Connections refused: too many, no device's name, a will that is not the device's own.
    pub connections_refused: u64,
    /// Publishes and subscriptions refused: not below the device's own name.
    pub publishes_refused: u64,
    /// Messages sent to devices.
    pub sent: u64,
    /// Messages to devices that were too large to send.
    pub too_large: u64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            connected: read(&self.connected),
            received: read(&self.received),
            heartbeats_shed: read(&self.heartbeats_shed),
            malformed: read(&self.malformed),
            connections_refused: read(&self.connections_refused),
            publishes_refused: read(&self.publishes_refused),
            sent: read(&self.sent),
            too_large: read(&self.too_large),
        }
    }
}
