//! Whether a device is there. Silence on the hub's clock is the truth; will and bye are hints that make it faster.

use std::time::Duration;

use outrigger_protocol::{ByeReason, Moment};

use crate::device::{Device, Hints};
use crate::note::span;
use crate::plan::Liveness;
use crate::policy::Policy;

/// Gaps are remembered for this period and the one before.
const PERIOD: Duration = Duration::from_secs(600);
/// Gaps longer than this are outages, and nothing is learnt from them.
const LONGEST_GAP: Duration = Duration::from_secs(20);
/// Missed heartbeats that make a device suspect and lost, if that is longer than the policy's times.
const SUSPECT_BEATS: u32 = 3;
const LOST_BEATS: u32 = 4;

/// The two longest gaps between two messages of one connection.
///
/// The second longest counts. What happens once is an outage, such as a cable that was pulled for some seconds: if it
/// taught, the device would be declared lost late for the next minutes, just when another outage is most likely. What
/// happens twice is how the device is, such as one on Wi-Fi whose radio sleeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    begun_at: Moment,
    /// Of this period, the longest first.
    longest: [Duration; 2],
    /// Of the one before.
    before: [Duration; 2],
}

/// A judgement and when to judge again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub liveness: Liveness,
    pub why: String,
    pub next: Option<Moment>,
}

impl Gaps {
    /// A message came so long after the one before it.
    pub(crate) fn learn(&mut self, gap: Duration, now: Moment) {
        if now.since(self.begun_at) >= PERIOD {
            let recent = now.since(self.begun_at) < PERIOD * 2;
            self.before = if recent { self.longest } else { Default::default() };
            self.longest = Default::default();
            self.begun_at = now;
        }
        if gap <= LONGEST_GAP {
            let [first, second] = self.longest;
            self.longest = [first.max(gap), first.min(gap).max(second)];
        }
    }

    /// The limit that these gaps call for: half as long again as the second longest.
    fn limit(&self) -> Duration {
        let ([first, second], [other, another]) = (self.longest, self.before);
        let habit = first.min(other).max(second).max(another);
        habit + habit / 2
    }
}

impl Device {
    /// Silence after which it is suspect.
    pub(crate) fn suspect_after(&self, policy: &Policy) -> Duration {
        policy.suspect_after.max(self.heartbeat * SUSPECT_BEATS)
    }

    /// Silence after which it is lost by the settings, before learning.
    pub(crate) fn base_limit(&self, policy: &Policy) -> Duration {
        let rule = policy.lost_after_of.iter().find(|rule| self.labels.get(&rule.key) == Some(&rule.value));
        rule.map_or(policy.lost_after, |rule| rule.lost_after).max(self.heartbeat * LOST_BEATS)
    }

    /// Silence after which it is lost.
    pub(crate) fn lost_after(&self, policy: &Policy) -> Duration {
        let base = self.base_limit(policy);
        base.max(self.gaps.limit().min(policy.longest_learnt))
    }

    /// When it is lost unless it is heard, and by what. Where the hub itself was away, its connection may have broken for
    /// that alone: it gets as long to return as after a start of the hub.
    fn lost_at(&self, policy: &Policy) -> (Moment, &'static str) {
        let (at, by) = self.lost_at_by_itself(policy);
        (at.max(self.grace(policy)), by)
    }

    /// It is not lost before this, because the hub was away.
    pub(crate) fn grace(&self, policy: &Policy) -> Moment {
        let went = matches!(self.hints.bye, Some((ByeReason::Shutdown | ByeReason::Leave, _)));
        self.deaf_until.filter(|_| !went).map_or(Moment::ZERO, |since| since + policy.start_grace)
    }

    fn lost_at_by_itself(&self, policy: &Policy) -> (Moment, &'static str) {
        let limit = self.lost_after(policy);
        let learnt = limit.saturating_sub(self.base_limit(policy));
        match (self.liveness, self.hints) {
            (Liveness::Unheard, _) => {
                (self.heard_at + policy.start_grace.max(limit), "not heard since the hub started")
            }
            (_, Hints { bye: Some((ByeReason::Restart, at)), .. }) => {
                (at + policy.restart_grace.max(limit), "its agent said that it restarts and did not return")
            }
            (_, Hints { bye: Some((ByeReason::Shutdown, at)), .. }) => {
                (at + policy.lost_after_shutdown, "it said that it shuts down")
            }
            (_, Hints { bye: Some((ByeReason::Leave, at)), .. }) => (at, "it left the fleet"),
            (_, Hints { will_at: Some(at), .. }) => {
                let by_will = at + (policy.lost_after_will + learnt);
                let by_silence = self.heard_at + limit;
                (by_will.min(by_silence), "its connection broke and it did not return")
            }
            (_, Hints { bye: Some((ByeReason::Lost, _)) | None, will_at: None }) => {
                (self.heard_at + limit, "not heard")
            }
        }
    }

    /// What it is now. Says nothing about whether its loss is believed: see safe mode.
    pub(crate) fn judge(&self, policy: &Policy, now: Moment) -> Judgement {
        let stays = |next| Judgement { liveness: self.liveness, why: self.why.clone(), next };
        if self.liveness == Liveness::Lost {
            return stays(None);
        }
        let (lost_at, by) = self.lost_at(policy);
        if now >= lost_at || self.confirmed {
            let why = if self.confirmed {
                "the operator says that it is off".to_owned()
            } else {
                format!("{by}; silent for {}", span(now.since(self.heard_at)))
            };
            return Judgement { liveness: Liveness::Lost, why, next: None };
        }
        let suspect_at = self.heard_at + self.suspect_after(policy);
        if self.liveness == Liveness::Up && now >= suspect_at {
            let why = format!("not heard for {}", span(now.since(self.heard_at)));
            return Judgement { liveness: Liveness::Suspect, why, next: Some(lost_at) };
        }
        let settled_at = self.returned_at.min(self.came_at).or(self.came_at).map(|at| at + policy.settle);
        let next = if self.liveness == Liveness::Up { suspect_at.min(lost_at) } else { lost_at };
        stays(Some(settled_at.map_or(next, |at| next.min(at))))
    }

    /// Whether its absence was announced, and so is nobody's fault.
    pub(crate) fn is_absent_on_purpose(&self) -> bool {
        matches!(self.hints.bye, Some((ByeReason::Shutdown | ByeReason::Leave | ByeReason::Restart, _)))
            || self.confirmed
            || self.foreign.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    const fn minute(n: u64) -> Moment {
        Moment(n * 60_000)
    }

    #[test]
    fn longer_gaps_are_remembered_for_a_while_and_then_forgotten() {
        let mut gaps = Gaps::default();
        gaps.learn(seconds(8), minute(1));
        gaps.learn(seconds(6), minute(2));
        assert_eq!(gaps.limit(), seconds(9));
        gaps.learn(seconds(1), minute(11));
        assert_eq!(gaps.limit(), seconds(9));
        gaps.learn(seconds(1), minute(22));
        assert_eq!(gaps.limit(), Duration::from_millis(1500));
    }

    #[test]
    fn a_single_gap_teaches_nothing() {
        let mut gaps = Gaps::default();
        for beat in 0..30 {
            gaps.learn(seconds(1), minute(1) + seconds(beat));
        }
        gaps.learn(seconds(5), minute(2));
        assert_eq!(gaps.limit(), Duration::from_millis(1500));
        gaps.learn(seconds(6), minute(12));
        assert_eq!(gaps.limit(), Duration::from_millis(7500), "one in each of two periods is a habit");
    }

    #[test]
    fn outages_teach_nothing() {
        let mut gaps = Gaps::default();
        gaps.learn(seconds(300), Moment(1));
        gaps.learn(seconds(21), Moment(2));
        assert_eq!(gaps.limit(), Duration::ZERO);
    }
}
