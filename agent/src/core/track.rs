//! The history of one copy on this device: how often it ended, and when it is tried again.

use std::time::Duration;

use outrigger_protocol::{ExitCause, LossPolicy, Moment, ReplicaName, RestartCondition, RestartPolicy};

use crate::engine::ContainerId;

/// First pause before a restart where the user names none; Docker's own.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A container that has run so long has its earlier failures forgotten, where the user names no time. Docker's own.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// What is known of one copy besides its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Track {
    /// Failures in a row.
    pub failures: u32,
    /// Restarts so far.
    pub restarts: u32,
    /// Not tried again before this.
    pub retry_at: Moment,
    /// Since when it runs, or is thought to; none once its end has been counted.
    pub up_since: Option<Moment>,
    /// How it ended last.
    pub last_exit: Option<ExitCause>,
    /// It is not started again.
    pub over: Option<Over>,
    /// Its end is our own doing and counts as no failure.
    pub is_stopped_by_us: bool,
    /// Since when its healthcheck fails.
    pub unhealthy_since: Option<Moment>,
    /// It was stopped because its healthcheck failed.
    pub was_unhealthy: bool,
    /// It was stopped because its lease ran out.
    pub is_lease_over: bool,
    /// The engine would not start the container it has: the next attempt makes a new one.
    pub must_recreate: bool,
    /// Its time to end when asked, from the last assignment that had it.
    pub grace: Option<Duration>,
    /// What happens to it when the hub is not heard, from the last assignment that had it.
    pub loss: Option<LossPolicy>,
    /// When an assignment made it exclusive while it ran: the first renewal is still to come.
    pub exclusive_since: Option<Moment>,
    /// Stopping or removing it has failed and is not tried again before this.
    pub stop_retry_at: Moment,
    /// Its name, where a container was made for it here.
    pub replica: Option<ReplicaName>,
    /// A container of which the engine's own word is missing: when we started or stopped it, and which.
    pub unseen: Option<(Moment, ContainerId)>,
    /// Since when the engine owes an answer to a start: it has not answered in time, and may still do it.
    pub in_doubt: Option<Doubt>,
}

/// A start that the engine has not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// When we gave up waiting.
    pub since: Moment,
    /// Whether all containers have been looked at since.
    pub is_listed: bool,
}

/// Why a copy is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It ended as it should.
    Completed,
    /// It failed, and its policy allows no further attempt.
    GivenUp,
    /// The owner of the device does not allow it.
    Forbidden,
}

impl Track {
    /// An assignment says what is to become of it.
    pub fn assigned(&mut self, now: Moment, grace: Duration, loss: LossPolicy) {
        let is_exclusive = matches!(loss, LossPolicy::Exclusive { .. });
        let was_free = matches!(self.loss, Some(LossPolicy::Available | LossPolicy::Wait));
        if is_exclusive && was_free && self.up_since.is_some() {
            self.exclusive_since = Some(now);
        }
        (self.grace, self.loss) = (Some(grace), Some(loss));
    }

    /// It is started again.
    pub fn begin(&mut self) {
        self.restarts = self.restarts.saturating_add(1);
        self.is_stopped_by_us = false;
        self.is_lease_over = false;
        self.was_unhealthy = false;
    }

    /// It is stopped, on our own account.
    pub fn stop(&mut self, is_wanted: bool) {
        // A copy that is to run is stopped for one of two reasons.
        self.was_unhealthy = is_wanted && self.unhealthy_since.is_some();
        self.is_lease_over = is_wanted && !self.was_unhealthy;
        self.is_stopped_by_us = !self.was_unhealthy;
    }

    /// It runs.
    pub fn runs(&mut self, since: Moment) {
        self.up_since.get_or_insert(since);
        self.unseen = None;
        self.in_doubt = None;
        self.over = None;
        self.must_recreate = false;
    }

    /// Its container has ended.
    pub fn ended(&mut self, now: Moment, cause: ExitCause, policy: RestartPolicy) {
        let ran = self.up_since.take().map_or(Duration::ZERO, |since| now.since(since));
        self.unseen = None;
        self.unhealthy_since = None;
        self.exclusive_since = None;
        // What was stopped for its health has failed, whatever its code.
        let over = if self.was_unhealthy { None } else { verdict(policy.condition, &cause) };
        self.last_exit = Some(cause);
        if std::mem::take(&mut self.is_stopped_by_us) {
            self.retry_at = now;
            return;
        }
        self.over = over;
        if over.is_none() {
            self.count_failure(now, ran, policy);
        }
    }

    /// Its container had ended before the agent first looked: the device was off, say. That is nobody's failure.
    pub fn found_ended(&mut self, now: Moment, cause: ExitCause, policy: RestartPolicy) {
        self.over = verdict(policy.condition, &cause);
        self.last_exit = Some(cause);
        self.retry_at = now;
    }

    /// It could not be made or started.
    pub fn not_started(&mut self, now: Moment, reason: String, policy: RestartPolicy) {
        self.up_since = None;
        self.unseen = None;
        self.last_exit = Some(ExitCause::NotStarted(reason));
        self.count_failure(now, Duration::ZERO, policy);
    }

    /// The owner of the device does not let it start: it is not tried again before somebody changes something.
    pub fn forbidden(&mut self, reason: String) {
        self.up_since = None;
        self.unseen = None;
        self.last_exit = Some(ExitCause::NotStarted(reason));
        self.over = Some(Over::Forbidden);
    }

    fn count_failure(&mut self, now: Moment, ran: Duration, policy: RestartPolicy) {
        let has_proved_itself = ran >= policy.window.unwrap_or(DEFAULT_WINDOW);
        if has_proved_itself {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if policy.max_attempts.is_some_and(|most| self.failures > most) {
            self.over = Some(Over::GivenUp);
            return;
        }
        // What ran well and is killed once is back at once: the pause is there for what keeps failing.
        let is_first = has_proved_itself && policy.delay.is_none();
        self.retry_at = if is_first { now } else { now + pause(self.failures, policy.delay) };
    }
}

/// What such an end means for a copy with this policy; none: it is started again.
fn verdict(condition: RestartCondition, cause: &ExitCause) -> Option<Over> {
    let is_success = *cause == ExitCause::Exited(0);
    match condition {
        RestartCondition::Any => None,
        RestartCondition::OnFailure if !is_success => None,
        RestartCondition::OnFailure | RestartCondition::None => {
            Some(if is_success { Over::Completed } else { Over::GivenUp })
        }
    }
}

/// The pause before the next attempt after so many failures in a row: it doubles up to [`LONGEST_PAUSE`], or stays at the
/// user's own where that is longer.
#[must_use]
pub fn pause(failures: u32, first: Option<Duration>) -> Duration {
    let first = first.unwrap_or(FIRST_PAUSE);
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE.max(first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_policy() -> RestartPolicy {
        RestartPolicy::default()
    }

    #[test]
    fn the_pause_doubles_from_a_tenth_of_a_second_to_five_minutes() {
        let pauses: Vec<u128> = (1..=14).map(|failures| pause(failures, None).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[12..], [300_000, 300_000]);
    }

    #[test]
    fn what_ran_long_enough_is_back_at_once_and_its_failures_are_forgotten() {
        let mut track = Track { failures: 9, ..Track::default() };
        track.runs(Moment(0));
        track.ended(Moment(10_000), ExitCause::Exited(137), any_policy());
        assert_eq!((track.failures, track.retry_at), (1, Moment(10_000)));
    }

    #[test]
    fn attempts_that_are_spent_end_it() {
        let policy = RestartPolicy { max_attempts: Some(2), ..any_policy() };
        let mut track = Track::default();
        for attempt in 0..3 {
            assert_eq!(track.over, None, "{attempt}");
            track.runs(Moment(0));
            track.ended(Moment(1), ExitCause::Exited(1), policy);
        }
        assert_eq!(track.over, Some(Over::GivenUp));
    }

    #[test]
    fn what_runs_once_is_completed_by_success_and_given_up_by_failure() {
        for (condition, code, over) in [
            (RestartCondition::None, 0, Some(Over::Completed)),
            (RestartCondition::None, 1, Some(Over::GivenUp)),
            (RestartCondition::OnFailure, 0, Some(Over::Completed)),
            (RestartCondition::OnFailure, 1, None),
            (RestartCondition::Any, 0, None),
        ] {
            let mut track = Track::default();
            track.runs(Moment(0));
            track.ended(Moment(1), ExitCause::Exited(code), RestartPolicy { condition, ..any_policy() });
            assert_eq!(track.over, over, "{condition:?} {code}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_is_shorter_than_the_first_or_longer_than_the_longest(
            failures in 1_u32.., first_ms in proptest::option::of(1_u64..1_000_000),
        ) {
            let first = first_ms.map(Duration::from_millis);
            let pause = pause(failures, first);
            let shortest = first.unwrap_or(FIRST_PAUSE);
            prop_assert!(pause >= shortest && pause <= LONGEST_PAUSE.max(shortest));
        }
    }
}
