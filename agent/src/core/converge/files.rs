//! Secrets and configs: there before anything that needs them starts, and gone as soon as nothing runs with them any more.

use outrigger_protocol::PlacementId;

use super::super::action::Action;
use super::super::wanted::WantedReplica;
use super::{Authority, Pass};

/// Copies whose files are fetched at a time: each waits for the hub.
pub const MAX_LAYS: usize = 8;

impl Pass<'_> {
    /// Fetches what is needed and takes away what is not.
    pub(super) fn move_files(&mut self) {
        if self.bounds.authority == Authority::Assignment {
            self.lay_files();
        }
        self.clear_files();
    }

    fn lay_files(&mut self) {
        let wanted = self.wanted;
        let mut under_way = self.observed.under_way.values().filter(|one| matches!(one, Action::Lay(..))).count();
        for (&placement, one) in &wanted.replicas {
            let needs = !one.spec.files.is_empty() && one.refused.is_none() && wanted.runs(placement);
            if !needs || self.has_files(placement, one) || self.moves_files(placement) || under_way >= MAX_LAYS {
                continue;
            }
            if self.observed.files.get(&placement).is_none_or(|track| track.retry_at <= self.now) {
                under_way += 1;
                self.act(Action::Lay(placement, one.spec.clone()));
            }
        }
    }

    /// What a container sees stays until it has ended, and one that is not wanted any more is about to.
    fn clear_files(&mut self) {
        let observed = self.observed;
        for (&placement, track) in &observed.files {
            let is_due = track.retry_at <= self.now || track.lack.is_some();
            if is_due && !self.wanted.runs(placement) && !self.moves_files(placement) && !self.may_run_with(placement) {
                self.act(Action::Clear(placement));
            }
        }
    }

    /// Whether a copy may start as far as its files go.
    pub(super) fn has_files(&self, placement: PlacementId, one: &WantedReplica) -> bool {
        one.spec.files.is_empty() || self.observed.files.get(&placement).is_some_and(|track| track.are_laid)
    }

    fn moves_files(&self, placement: PlacementId) -> bool {
        self.observed.under_way.values().any(|action| match action {
            Action::Lay(other, _) | Action::Clear(other) => *other == placement,
            _ => false,
        })
    }

    fn may_run_with(&self, placement: PlacementId) -> bool {
        let is_start = |action: &Action| action.is_start() && action.placement() == Some(placement);
        self.observed.under_way.values().any(is_start)
            || self.track(placement).is_some_and(|track| track.in_doubt.is_some() || track.unseen.is_some())
            || self.observed.containers.values().any(|one| one.placement == placement && one.state.is_running())
    }
}
