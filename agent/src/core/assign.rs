//! Taking an assignment: whether it counts, on the disk first, and what follows from a disk that refuses.

use std::time::Duration;

use outrigger_protocol::{Assignment, FleetId, Moment, Stamp};

use super::fleet::{Loyalty, loyalty};
use super::{Authority, Core, Effect, Remark, Unsaved, Wanted};

/// Time until a failed save is tried again; it doubles with each further failure. A disk that was full for a moment is to be
/// found free at once: until then a power cut takes the assignment, which is in memory only.
const SAVE_AGAIN: Duration = Duration::from_millis(250);
/// The longest such time: a disk that stays full or is broken is not worn out by attempts.
const SAVE_AGAIN_AT_MOST: Duration = Duration::from_secs(8);

impl Core {
    /// The fleet of the assignment that is held, or about to be.
    pub(super) fn held_fleet(&self) -> Option<FleetId> {
        let saving = self.saving.as_ref().map(|saving| saving.fleet);
        saving.or(self.held.map(|_| self.wanted.fleet))
    }

    /// Whose word is not obeyed is told so, and who reads the log; once, for it will say the same again and again.
    fn refuse(&mut self, own: FleetId, asking: FleetId, now: Moment, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.is_refusal_told, true) {
            self.remark(Remark::OtherFleet(own, asking));
            self.hello(now, effects);
        }
    }

    pub(super) fn want(&mut self, assignment: Assignment, now: Moment, effects: &mut Vec<Effect>) {
        match loyalty(self.held_fleet(), &self.observed, assignment.fleet) {
            Loyalty::Obeys => (),
            Loyalty::BelongsTo(own) => return self.refuse(own, assignment.fleet, now, effects),
            Loyalty::Unknown => {
                self.early = Some(Box::new(assignment));
                return;
            }
        }
        let stamp = assignment.stamp;
        let saving = self.saving.as_ref().map(|saving| saving.stamp);
        if stamp.epoch < self.highest_epoch || self.held.max(saving).is_some_and(|newest| stamp < newest) {
            self.remark(Remark::Older(stamp));
            return;
        }
        if self.held == Some(stamp) {
            self.confirmed();
            return;
        }
        if saving == Some(stamp) {
            return;
        }
        self.highest_epoch = stamp.epoch;
        self.save(assignment.into(), effects);
        self.heartbeat.hurry(now);
    }

    /// The hub has said what is to run, and it is held.
    pub(super) fn confirmed(&mut self) {
        self.bounds.starts_from = Moment::ZERO;
        self.bounds.is_confirmed = self.session.is_some();
    }

    fn save(&mut self, assignment: Box<Assignment>, effects: &mut Vec<Effect>) {
        // The disk is not thought well again because something is tried.
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.retry_at = Moment::NEVER;
        }
        effects.push(Effect::Save(assignment.clone()));
        self.saving = Some(assignment);
    }

    pub(super) fn save_again(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let due = self.unsaved.as_ref().filter(|unsaved| unsaved.retry_at <= now);
        if let Some(assignment) = due.map(|unsaved| unsaved.assignment.clone()) {
            self.save(assignment, effects);
        }
    }

    pub(super) fn saved(&mut self, stamp: Stamp, result: Result<(), String>, now: Moment) {
        let Some(assignment) = self.saving.take_if(|saving| saving.stamp == stamp) else { return };
        self.confirmed();
        let before = self.unsaved.take();
        let Err(reason) = result else { return self.adopt(&assignment, Authority::Assignment, now) };
        if before.as_ref().is_none_or(|before| before.assignment.stamp != stamp) {
            self.remark(Remark::Unsaved(stamp, reason.clone()));
            self.adopt(&assignment, Authority::Unsaved, now);
        }
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        self.unsaved = Some(Unsaved { assignment, reason, failures, retry_at: now + save_pause(failures) });
    }

    /// Works towards this assignment from now on.
    pub(super) fn adopt(&mut self, assignment: &Assignment, authority: Authority, now: Moment) {
        let (wanted, skipped) = Wanted::of(assignment, &self.settings.policy);
        for placement in skipped {
            self.remark(Remark::Skipped(placement));
        }
        for (replica, reason) in wanted.refused_since(&self.wanted) {
            self.remark(Remark::Refused(replica, reason));
        }
        self.remark(Remark::Adopted(wanted.stamp, wanted.replicas.len()));
        self.held = Some(wanted.stamp);
        self.wanted = wanted;
        self.bounds.authority = authority;
        self.observed.forget_all_but(&self.wanted, now);
    }
}

/// The time before the next attempt to save, after so many failures in a row.
fn save_pause(failures: u32) -> Duration {
    let doubled = SAVE_AGAIN.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(SAVE_AGAIN_AT_MOST)
}
