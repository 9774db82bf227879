//! Whether a copy is worth a try, as far as this device has seen itself.

use std::time::Duration;

use outrigger_protocol::Moment;

/// A copy that failed gets nothing for this long, twice as long after each further failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time without a try: a copy that comes back gets requests again at most this much later.
const LONGEST: Duration = Duration::from_secs(10);
/// Times in a row that another copy had to step in before one counts as failed.
const LATE: u8 = 2;
/// Connections in a row that a copy ended without a single byte of answer before it counts as failed. Some protocols do so
/// in all innocence (health checks of other balancers), so one or two say nothing.
const MUTE: u8 = 3;

/// What a failure says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Perhaps only about the way to the copy's device: nothing was heard of either.
    Line,
    /// About the copy: it is on this device, or its device says so.
    Copy,
}

/// What is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    failures: u32,
    until: Option<Moment>,
    /// Of the failures since it last did well, the one that says most.
    cause: Option<Cause>,
    /// A try is on its way; others wait for how it ends.
    trying: bool,
    late: u8,
    mute: u8,
}

/// What a copy is good for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Takes requests.
    Good,
    /// Gets one request to see whether it is back.
    OnTrial,
    /// Gets none as long as there are others.
    Ejected,
    /// Its device cannot be reached at present, so there is no use in trying as long as there are others.
    Unreachable,
}

impl Health {
    pub(super) fn standing(&self, now: Moment) -> Standing {
        match self.until {
            None => Standing::Good,
            Some(until) if until <= now && !self.trying => Standing::OnTrial,
            Some(_) => Standing::Ejected,
        }
    }

    /// A request goes there.
    pub(super) fn begin(&mut self) {
        self.trying = self.until.is_some();
    }

    /// It answered.
    pub(super) fn good(&mut self) {
        *self = Self { mute: self.mute, ..Self::default() };
    }

    /// It did not.
    pub(super) fn failed(&mut self, cause: Cause, now: Moment) {
        let ejected = self.until.is_some_and(|until| until > now);
        // Many requests that were on their way together fail together: that is one failure.
        if !ejected {
            self.failures = self.failures.saturating_add(1);
        }
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        self.until = Some(now + doubled.min(LONGEST));
        self.cause = self.cause.max(Some(cause));
        self.trying = false;
        self.late = 0;
        self.mute = 0;
    }

    /// Another copy was faster by far.
    pub(super) fn late(&mut self, cause: Cause, now: Moment) {
        self.late = self.late.saturating_add(1);
        if self.late >= LATE || self.until.is_some() {
            self.failed(cause, now);
        }
    }

    /// The way to its device, which was broken, carries again: failures that may have come from that are forgotten.
    pub(super) fn line_is_back(&mut self) {
        self.late = 0;
        if self.cause != Some(Cause::Copy) {
            *self = Self { mute: self.mute, ..Self::default() };
        }
    }

    /// A try ended without a verdict.
    pub(super) fn undecided(&mut self) {
        self.trying = false;
    }

    /// It answered a request, or ended a connection without having done so.
    pub(super) fn spoke(&mut self) {
        self.mute = 0;
    }

    pub(super) fn stayed_mute(&mut self, cause: Cause, now: Moment) {
        self.mute = self.mute.saturating_add(1);
        if self.mute >= MUTE {
            self.failed(cause, now);
        }
    }

    /// Whether it gets nothing at present; what people are told.
    pub(super) fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// When it will be tried again.
    pub(super) fn until(&self) -> Moment {
        self.until.unwrap_or(Moment::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_eject_for_longer_and_longer_and_one_try_brings_back() {
        let mut health = Health::default();
        let mut now = Moment(0);
        for seconds in [1, 2, 4, 8, 10, 10, 10] {
            health.failed(Cause::Copy, now);
            assert_eq!(health.standing(Moment(now.0 + seconds * 1000 - 1)), Standing::Ejected);
            now = Moment(now.0 + seconds * 1000);
            assert_eq!(health.standing(now), Standing::OnTrial);
            health.begin();
            assert_eq!(health.standing(now), Standing::Ejected, "one try at a time");
        }
        health.good();
        assert_eq!(health.standing(now), Standing::Good);
        health.failed(Cause::Copy, now);
        assert_eq!(health.standing(Moment(now.0 + 1000)), Standing::OnTrial, "it begins anew");
    }

    #[test]
    fn many_that_fail_together_are_one_failure() {
        let mut health = Health::default();
        (0..50).for_each(|_| health.failed(Cause::Line, Moment(0)));
        assert_eq!(health.standing(Moment(1000)), Standing::OnTrial);
    }

    #[test]
    fn being_late_once_is_forgiven_and_twice_is_a_failure() {
        let mut health = Health::default();
        health.late(Cause::Line, Moment(0));
        health.good();
        health.late(Cause::Line, Moment(0));
        assert_eq!(health.standing(Moment(0)), Standing::Good);
        health.late(Cause::Line, Moment(0));
        assert_eq!(health.standing(Moment(0)), Standing::Ejected);
    }

    #[test]
    fn whoever_accepts_and_never_answers_is_ejected_and_connecting_alone_does_not_clear_it() {
        let mut health = Health::default();
        for _ in 0..3 {
            assert_eq!(health.standing(Moment(0)), Standing::Good);
            health.good();
            health.stayed_mute(Cause::Copy, Moment(0));
        }
        assert_eq!(health.standing(Moment(0)), Standing::Ejected);
    }

    #[test]
    fn a_line_that_is_back_ends_what_may_have_come_from_it_and_nothing_else() {
        let mut health = Health::default();
        health.failed(Cause::Line, Moment(0));
        health.line_is_back();
        assert_eq!(health.standing(Moment(0)), Standing::Good);
        health.failed(Cause::Copy, Moment(0));
        health.failed(Cause::Line, Moment(1000));
        health.line_is_back();
        assert_eq!(health.standing(Moment(1000)), Standing::Ejected, "the copy had failed before the line did");
        health.good();
        health.failed(Cause::Line, Moment(2000));
        health.line_is_back();
        assert_eq!(health.standing(Moment(2000)), Standing::Good, "what it failed before it did well is past");
    }
}
