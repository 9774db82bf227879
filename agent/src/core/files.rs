//! What is known of the secrets and configs of copies: whether they are where their containers find them.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{Moment, PlacementId, ReplicaName};

use super::action::{Action, Outcome};
use super::message::Remark;
use super::observed::Observed;
use super::track::pause;
use super::wanted::Wanted;
use crate::engine::EngineError;

/// First pause after the hub has not given them: it may be starting, or be about to learn that they are needed here.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause: whoever sets a secret that was missing waits no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The files of one copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesTrack {
    /// All of them are there. If not, some may be.
    pub are_laid: bool,
    /// Attempts in a row that have failed.
    pub failures: u32,
    /// Not tried again before this.
    pub retry_at: Moment,
    /// Why the last attempt failed.
    pub lack: Option<Lack>,
}

/// Why files are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The hub is not heard. It is nobody's fault, and will pass.
    Unheard(String),
    /// The hub does not give them, or they cannot be put there.
    Refused(String),
}

impl Lack {
    /// In words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unheard(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl Observed {
    /// What an agent before this one has left in this boot.
    pub(super) fn found_files(&mut self, laid: BTreeSet<PlacementId>) {
        let there = FilesTrack { are_laid: true, ..FilesTrack::default() };
        self.files.extend(laid.into_iter().map(|placement| (placement, there.clone())));
    }

    /// An action has begun that may leave something behind wherever it breaks off.
    pub(super) fn files_begun(&mut self, action: &Action) {
        if let Action::Lay(placement, _) = action {
            self.files.entry(*placement).or_default().are_laid = false;
        }
    }

    /// The hub is heard again: what waited for it waits no longer.
    pub(super) fn files_wait_no_longer(&mut self, now: Moment) {
        for track in self.files.values_mut().filter(|track| track.lack.is_some()) {
            track.retry_at = now;
        }
    }

    pub(super) fn files_done(&mut self, action: &Action, outcome: &Outcome, now: Moment) {
        match (action, outcome) {
            (Action::Clear(placement), Ok(_)) => drop(self.files.remove(placement)),
            (Action::Clear(placement), Err(_)) => {
                self.files.entry(*placement).or_default().retry_at = now + FIRST_PAUSE;
            }
            (Action::Lay(placement, _), Ok(_)) => {
                self.files.insert(*placement, FilesTrack { are_laid: true, ..FilesTrack::default() });
            }
            (Action::Lay(placement, _), Err(error)) => {
                let track = self.files.entry(*placement).or_default();
                track.failures = track.failures.saturating_add(1);
                track.retry_at = now + pause(track.failures, Some(FIRST_PAUSE)).min(LONGEST_PAUSE);
                track.lack = Some(match error {
                    EngineError::Unreachable { reason } => Lack::Unheard(reason.clone()),
                    other => Lack::Refused(other.to_string()),
                });
            }
            _ => (),
        }
    }

    /// What is to be said of an attempt that has failed: each reason once.
    pub(super) fn files_remark(&self, action: &Action, outcome: &Outcome, wanted: &Wanted) -> Option<Remark> {
        let (Action::Lay(placement, _), Err(error)) = (action, outcome) else { return None };
        let replica: ReplicaName = wanted.replicas.get(placement)?.replica.clone();
        let reason = match error {
            EngineError::Unreachable { reason } => reason.clone(),
            other => other.to_string(),
        };
        let before = self.files.get(placement).and_then(|track| track.lack.as_ref()).map(Lack::reason);
        (before != Some(reason.as_str())).then_some(Remark::NoFiles(replica, reason))
    }
}
