//! How long this device may run exclusive replicas without hearing the hub.
//!
//! The time counts from when the report that the hub answered was *sent*; the hub counts from when it answered, which is
//! later. So what ends here has ended before the hub may start another, whatever the network does, as long as both clocks
//! run at about the same rate. Only elapsed time counts, and it includes suspended time.

use std::collections::VecDeque;
use std::time::Duration;

use outrigger_protocol::{Epoch, Lease, Moment, SessionNumber};

/// Reports remembered; an answer that comes later than so many heartbeats renews nothing.
const REMEMBERED: usize = 64;
/// Time that the engine is given to kill what did not end by itself.
const KILL_TIME: Duration = Duration::from_secs(1);

/// What is known about the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseKeeper {
    session: Option<SessionNumber>,
    sent: VecDeque<(u32, Moment)>,
    renewed_at: Option<Moment>,
}

impl LeaseKeeper {
    /// A connection has begun: only its own reports count from now on. What has been renewed goes on.
    pub fn begin(&mut self, session: SessionNumber) {
        self.session = Some(session);
        self.sent.clear();
    }

    /// Goes on where the agent before has left off.
    pub fn resume(&mut self, renewed_at: Option<Moment>) {
        self.renewed_at = renewed_at;
    }

    /// A report goes out.
    pub fn report_sent(&mut self, sequence: u32, now: Moment) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((sequence, now));
    }

    /// The hub has answered a report; returns whether that renews anything.
    pub fn renew(&mut self, lease: Lease, highest: Epoch) -> bool {
        if Some(lease.session) != self.session || lease.epoch < highest {
            return false;
        }
        let Some(&(_, sent_at)) = self.sent.iter().find(|(sequence, _)| *sequence == lease.sequence) else {
            return false;
        };
        let is_later = self.renewed_at.is_none_or(|earlier| sent_at > earlier);
        if is_later {
            self.renewed_at = Some(sent_at);
        }
        is_later
    }

    /// When the last answered report was sent.
    #[must_use]
    pub fn renewed_at(&self) -> Option<Moment> {
        self.renewed_at
    }
}

/// The moments of one exclusive replica's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Not started from here on: it could not be stopped in time.
    pub start_until: Moment,
    /// It is asked to stop from here on.
    pub stop_at: Moment,
    /// It is killed from here on.
    pub kill_at: Moment,
    /// It runs no more.
    pub end: Moment,
}

impl Term {
    /// The term of a replica with this lease and this time to stop, renewed at this moment. A time to stop longer than
    /// half the lease is cut to that: otherwise it would be stopped between two renewals.
    #[must_use]
    pub fn new(renewed_at: Moment, lease: Duration, grace: Duration) -> Self {
        let kill_time = KILL_TIME.min(lease / 4);
        let end = renewed_at + lease;
        let stop_at = end - grace.saturating_add(kill_time).min(lease / 2);
        Self { start_until: stop_at - kill_time, stop_at, kill_at: end - kill_time, end }
    }

    /// The time between asking and killing, for a stop that begins now.
    #[must_use]
    pub fn grace(&self, now: Moment, wished: Duration) -> Duration {
        self.kill_at.since(now).min(wished)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: Epoch = Epoch(1);

    fn answer(session: u64, sequence: u32) -> Lease {
        Lease { epoch: EPOCH, session: SessionNumber(session), sequence }
    }

    #[test]
    fn only_an_answer_of_this_connection_and_epoch_renews() {
        let mut keeper = LeaseKeeper::default();
        keeper.begin(SessionNumber(1));
        keeper.report_sent(0, Moment(5));
        assert!(!keeper.renew(answer(2, 0), EPOCH));
        assert!(!keeper.renew(answer(1, 1), EPOCH));
        assert!(!keeper.renew(answer(1, 0), Epoch(2)));
        assert!(keeper.renew(answer(1, 0), EPOCH));
        assert_eq!(keeper.renewed_at(), Some(Moment(5)));
        keeper.begin(SessionNumber(2));
        assert!(!keeper.renew(answer(2, 0), EPOCH), "sequence 0 of the earlier connection");
    }

    #[test]
    fn a_late_answer_never_shortens_a_lease() {
        let mut keeper = LeaseKeeper::default();
        keeper.begin(SessionNumber(1));
        keeper.report_sent(0, Moment(0));
        keeper.report_sent(1, Moment(1000));
        assert!(keeper.renew(answer(1, 1), EPOCH));
        assert!(!keeper.renew(answer(1, 0), EPOCH));
        assert_eq!(keeper.renewed_at(), Some(Moment(1000)));
    }

    proptest! {
        /// The hub waits at least from its answer, which it sent after the report, for the whole lease.
        #[test]
        fn the_device_has_killed_before_the_hub_may_replace(
            sent in 0_u64..1_000_000, delay in 0_u64..60_000, lease_ms in 1_u64..600_000, grace_ms in 0_u64..600_000,
            asked in 0_u64..2_000_000,
        ) {
            let (lease, grace) = (Duration::from_millis(lease_ms), Duration::from_millis(grace_ms));
            let term = Term::new(Moment(sent), lease, grace);
            let hub_may_replace = Moment(sent + delay) + lease;
            prop_assert!(term.start_until <= term.stop_at && term.stop_at <= term.kill_at && term.kill_at <= term.end);
            prop_assert!(term.end <= hub_may_replace);
            let now = Moment(asked).max(term.stop_at);
            prop_assert!(now + term.grace(now, grace) <= term.kill_at.max(now));
        }

        #[test]
        fn a_lease_renewed_each_quarter_of_it_never_stops_anything(lease_ms in 1_000_u64..600_000, grace_ms in 0_u64..600_000) {
            let term = Term::new(Moment(0), Duration::from_millis(lease_ms), Duration::from_millis(grace_ms));
            prop_assert!(term.start_until >= Moment(lease_ms / 4));
        }
    }
}
