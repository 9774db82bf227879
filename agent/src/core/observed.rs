//! What the core knows of the engine: containers, images, actions under way. Changed by what the engine says, and by
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_protocol::{ExitCause, Moment, PlacementId, ReplicaName, RestartPolicy};

use super::action::{Action, ActionId, ImageKey, Outcome, Success};
use super::files::FilesTrack;
use super::networks::KnownNetworks;
use super::track::{Doubt, Track, pause};
use super::wanted::Wanted;
use crate::engine::{Container, ContainerId, ContainerState, EngineError, EngineEvent, Health, PullProgress};

/// First pause after a failed pull: registries count requests, and a name that is not there seldom appears at once.
const FIRST_PULL_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a call that the engine did not answer: what it says next decides.
const ENGINE_PAUSE: Duration = Duration::from_secs(1);
/// A start that was not answered in time may still take effect for so long. Until then the hub is told that it runs in a
/// moment: it must not start an exclusive copy elsewhere.
pub const DOUBT_FOR: Duration = Duration::from_secs(60);
/// Pause between two looks at all containers while there is doubt.
const RELIST_PAUSE: Duration = Duration::from_secs(5);

/// The engine as far as the core knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether it answers.
    pub engine: Link,
    /// It has been looked at since the start.
    pub has_listed: bool,
    /// All containers of our scope.
    pub containers: BTreeMap<ContainerId, Container>,
    /// The history of each copy that is wanted or has a container.
    pub tracks: BTreeMap<PlacementId, Track>,
    /// The images of the assignment.
    pub images: BTreeMap<ImageKey, ImageTrack>,
    /// The networks of our scope.
    pub networks: KnownNetworks,
    /// The secrets and configs of copies, where there may be any.
    pub files: BTreeMap<PlacementId, FilesTrack>,
    /// What the engine has been told to do and has not done yet.
    pub under_way: BTreeMap<ActionId, Action>,
    /// The engine's disk is full; its words.
    pub full: Option<String>,
    /// When all containers are to be looked at again; none: the engine tells by itself.
    pub relist_at: Option<Moment>,
    changed: BTreeMap<ContainerId, u64>,
    issued: BTreeMap<ActionId, u64>,
    serial: u64,
    /// When something was removed last.
    gone_at: u64,
}

/// Whether the engine answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Link {
    /// It has not been heard since the start.
    #[default]
    Unknown,
    /// It does, and its containers are known.
    Up,
    /// It does not; what it said last.
    Down(String),
}

/// What is known of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageTrack {
    /// Whether it is there.
    pub presence: Presence,
    /// Failed pulls in a row.
    pub failures: u32,
    /// Not tried again before this.
    pub retry_at: Moment,
    /// Why the last pull failed, in the engine's words.
    pub reason: Option<String>,
    /// How far the present pull is.
    pub progress: PullProgress,
}

/// Whether an image is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// It is not.
    Missing,
    /// It is; its digest, empty where not known.
    Present(String),
}

impl Observed {
    /// The container of each copy; where there are several of one, the one that runs.
    #[must_use]
    pub fn by_placement(&self) -> BTreeMap<PlacementId, &Container> {
        let mut index = BTreeMap::new();
        for container in self.containers.values() {
            let place = index.entry(container.placement).or_insert(container);
            if container.state.is_running() && !place.state.is_running() {
                *place = container;
            }
        }
        index
    }

    /// The copies for which something is under way.
    #[must_use]
    pub fn busy(&self) -> BTreeSet<PlacementId> {
        self.under_way.values().filter_map(Action::placement).collect()
    }

    /// Copies that the engine is just starting, or has started without having said so itself: whatever is wanted by now,
    /// they run in a moment.
    pub fn starting(&self) -> impl Iterator<Item = (PlacementId, &ReplicaName)> {
        let under_way = self.under_way.values().filter_map(|action| match action {
            Action::Create(new) => Some((new.placement, &new.replica)),
            Action::Start(placement, id) => Some((*placement, &self.containers.get(id)?.replica)),
            Action::Check(_)
            | Action::Pull(_)
            | Action::Stop(..)
            | Action::Remove(..)
            | Action::List
            | Action::Inspect(..)
            | Action::Lay(..)
            | Action::Clear(_)
            | Action::MakeNetwork(..)
            | Action::RemoveNetwork(..)
            | Action::ListNetworks => None,
        });
        let doubtful =
            self.tracks.iter().filter(|(_, track)| track.in_doubt.is_some()).filter_map(|(placement, track)| {
                let container = self.containers.values().find(|container| container.placement == *placement);
                Some((*placement, container.map(|container| &container.replica).or(track.replica.as_ref())?))
            });
        let unseen = self.tracks.iter().filter_map(|(placement, track)| {
            let (_, id) = track.unseen.as_ref().filter(|_| track.up_since.is_some())?;
            let container = self.containers.get(id).map(|container| &container.replica);
            Some((*placement, container.or(track.replica.as_ref())?))
        });
        under_way.chain(unseen).chain(doubtful)
    }

    /// An action begins.
    pub fn issue(&mut self, id: ActionId, action: Action, wanted: &Wanted, now: Moment) {
        if let Some(placement) = action.placement() {
            let track = self.tracks.entry(placement).or_default();
            if let Action::Create(new) = &action {
                track.replica = Some(new.replica.clone());
            }
            match &action {
                Action::Start(..) => track.begin(),
                Action::Create(_) if track.last_exit.is_some() => track.begin(),
                Action::Stop(..) => track.stop(wanted.runs(placement)),
                Action::Inspect(_, id) => track.unseen = Some((now, id.clone())),
                Action::Create(_)
                | Action::Check(_)
                | Action::Pull(_)
                | Action::Remove(..)
                | Action::List
                | Action::Lay(..)
                | Action::Clear(_) => (),
                Action::MakeNetwork(..) | Action::RemoveNetwork(..) | Action::ListNetworks => (),
            }
        }
        self.files_begun(&action);
        if let Action::Pull(image) = &action {
            self.images.entry(image.clone()).or_default().progress = PullProgress::default();
        }
        self.issued.insert(id, self.serial);
        self.under_way.insert(id, action);
    }

    /// An action is given up.
    pub fn abort(&mut self, id: ActionId) {
        self.under_way.remove(&id);
        self.issued.remove(&id);
    }

    /// The assignment has changed: what belongs to nothing is forgotten.
    pub fn forget_all_but(&mut self, wanted: &Wanted, now: Moment) {
        // Nobody may ever try again what found the disk full; what is tried will say so anew.
        self.full = None;
        let images = wanted.images();
        self.images.retain(|image, _| images.contains(image));
        for image in images {
            self.images.entry(image).or_default();
        }
        let kept: BTreeSet<PlacementId> = self.containers.values().map(|container| container.placement).collect();
        self.tracks.retain(|placement, track| {
            wanted.replicas.contains_key(placement)
                || kept.contains(placement)
                || track.unseen.is_some()
                || track.in_doubt.is_some()
        });
        for (placement, one) in &wanted.replicas {
            if let Some(track) = self.tracks.get_mut(placement) {
                track.assigned(now, one.spec.stop_grace, one.loss);
            }
        }
    }

    /// The engine has said something.
    pub fn hear(&mut self, event: EngineEvent, wanted: &Wanted, now: Moment, unix_s: i64) {
        self.serial += 1;
        match event {
            EngineEvent::Networks(networks) => self.networks.listed(networks),
            EngineEvent::Listed(containers) => self.listed(containers, wanted, now, unix_s),
            EngineEvent::Changed(container) => self.see(container, wanted, now, unix_s),
            EngineEvent::Gone(id) => self.gone(&id, wanted, now),
            EngineEvent::Lost(reason) => self.engine = Link::Down(reason),
        }
    }

    fn listed(&mut self, containers: Vec<Container>, wanted: &Wanted, now: Moment, unix_s: i64) {
        let here: BTreeSet<ContainerId> = containers.iter().map(|container| container.id.clone()).collect();
        let gone: Vec<ContainerId> = self.containers.keys().filter(|id| !here.contains(*id)).cloned().collect();
        for id in gone {
            self.gone(&id, wanted, now);
        }
        for container in containers {
            self.see(container, wanted, now, unix_s);
        }
        self.engine = Link::Up;
        self.has_listed = true;
        self.end_doubts(wanted, now);
    }

    /// All containers as they were at some moment since `issued`. What the engine has said since is newer.
    fn relisted(&mut self, containers: Vec<Container>, issued: u64, wanted: &Wanted, now: Moment, unix_s: i64) {
        if self.gone_at > issued {
            // One of these may be gone by now, and nobody would say so again.
            self.relist_at = Some(now);
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let is_newer = |id: &ContainerId| changed.get(id).is_some_and(|at| *at > issued);
        let newer: Vec<Container> = self.containers.values().filter(|one| is_newer(&one.id)).cloned().collect();
        let older = containers.into_iter().filter(|one| !is_newer(&one.id));
        let all: Vec<Container> = older.chain(newer).collect();
        self.changed = changed;
        self.serial += 1;
        self.listed(all, wanted, now, unix_s);
    }

    /// All containers have been looked at: what was in doubt is so no longer after a while.
    fn end_doubts(&mut self, wanted: &Wanted, now: Moment) {
        let kept: BTreeSet<PlacementId> = self.containers.values().map(|container| container.placement).collect();
        self.relist_at = None;
        self.tracks.retain(|placement, track| {
            let Some(doubt) = &mut track.in_doubt else { return true };
            doubt.is_listed = true;
            if now < doubt.since + DOUBT_FOR {
                self.relist_at = Some(now + RELIST_PAUSE);
                return true;
            }
            track.in_doubt = None;
            wanted.replicas.contains_key(placement) || kept.contains(placement) || track.unseen.is_some()
        });
    }

    fn see(&mut self, container: Container, wanted: &Wanted, now: Moment, unix_s: i64) {
        let placement = container.placement;
        let policy = policy_of(wanted, placement);
        let is_being_started =
            self.under_way.values().any(|action| action.is_start() && action.placement() == Some(placement));
        let is_first = !self.containers.contains_key(&container.id) && !self.tracks.contains_key(&placement);
        let track = self.tracks.entry(placement).or_default();
        if let Some(one) = wanted.replicas.get(&placement) {
            track.assigned(now, one.spec.stop_grace, one.loss);
        }
        match container.state {
            ContainerState::Running { health } => {
                let is_unhealthy = health == Health::Unhealthy;
                track.unhealthy_since = track.unhealthy_since.or(Some(now)).filter(|_| is_unhealthy);
                let ran = container.since_unix.map_or(0, |since| unix_s.saturating_sub(since).max(0));
                let since = if is_first { now - Duration::from_secs(ran.unsigned_abs()) } else { now };
                track.runs(since);
            }
            ContainerState::Exited { code, out_of_memory } => {
                let cause = if out_of_memory { ExitCause::OutOfMemory } else { ExitCause::Exited(code) };
                if is_first {
                    track.found_ended(now, cause, policy);
                } else if track.up_since.is_some() && !is_being_started {
                    track.ended(now, cause, policy);
                }
            }
            ContainerState::Created | ContainerState::Dead => (),
        }
        if let Some(one) = wanted.replicas.get(&placement).filter(|_| container.state.is_running()) {
            self.images.entry(one.image()).or_default().presence = Presence::Present(container.digest.clone());
        }
        self.changed.insert(container.id.clone(), self.serial);
        self.containers.insert(container.id.clone(), container);
    }

    fn gone(&mut self, id: &ContainerId, wanted: &Wanted, now: Moment) {
        self.changed.remove(id);
        self.gone_at = self.serial;
        let Some(container) = self.containers.remove(id) else { return };
        let placement = container.placement;
        if !wanted.replicas.contains_key(&placement) {
            self.tracks.remove(&placement);
            return;
        }
        self.end_of(placement, wanted, now);
    }

    /// A container that the engine is said to have started is not there.
    fn vanished(&mut self, placement: PlacementId, id: &ContainerId, wanted: &Wanted, now: Moment) {
        if self.containers.contains_key(id) {
            self.gone(id, wanted, now);
        } else if wanted.replicas.contains_key(&placement) {
            self.end_of(placement, wanted, now);
        } else {
            self.tracks.remove(&placement);
        }
    }

    fn end_of(&mut self, placement: PlacementId, wanted: &Wanted, now: Moment) {
        if let Some(track) = self.tracks.get_mut(&placement).filter(|track| track.up_since.is_some()) {
            let cause = ExitCause::NotStarted("the container was removed by somebody else".into());
            track.ended(now, cause, policy_of(wanted, placement));
        }
    }

    /// An action has ended.
    pub fn done(&mut self, id: ActionId, outcome: Outcome, wanted: &Wanted, now: Moment, unix_s: i64) {
        let Some(action) = self.under_way.remove(&id) else { return };
        let issued = self.issued.remove(&id).unwrap_or_default();
        if self.networks.done(&action, &outcome, now) {
            return;
        }
        self.files_done(&action, &outcome, now);
        match (action, outcome) {
            (Action::Lay(..) | Action::Clear(_), _) => (),
            (Action::Check(image) | Action::Pull(image), outcome) => self.image_done(image, outcome, now),
            (Action::Create(new), Ok(Success::Created(container))) => {
                self.full = None;
                self.started(new.placement, &container, issued, wanted, now);
            }
            (Action::Start(placement, container), Ok(_)) => {
                self.started(placement, &container, issued, wanted, now);
            }
            (Action::Remove(_, container), Ok(_)) => self.gone(&container, wanted, now),
            (Action::Inspect(placement, container), Ok(Success::Inspected(seen))) => {
                self.serial += 1;
                self.tracks.entry(placement).or_default().unseen = None;
                match seen {
                    Some(container) => self.see(container, wanted, now, unix_s),
                    None => self.vanished(placement, &container, wanted, now),
                }
            }
            (Action::Stop(placement, container, _), Ok(_)) => {
                if self.containers.get(&container).is_some_and(|one| one.state.is_running()) {
                    self.tracks.entry(placement).or_default().unseen = Some((now, container));
                }
            }
            (Action::List, Ok(Success::Listed(containers))) => {
                self.relisted(containers, issued, wanted, now, unix_s);
            }
            (Action::Create(_) | Action::Inspect(..) | Action::List, Ok(_)) => (),
            (Action::MakeNetwork(..) | Action::RemoveNetwork(..) | Action::ListNetworks, Ok(_)) => (),
            (action, Err(error)) => self.failed(&action, error, wanted, now),
        }
    }

    /// The engine has started it. Its word about the container may have come before this or is still to come.
    fn started(&mut self, placement: PlacementId, id: &ContainerId, issued: u64, wanted: &Wanted, now: Moment) {
        if let Some(one) = wanted.replicas.get(&placement) {
            let image = self.images.entry(one.image()).or_default();
            if image.presence == Presence::Unknown || image.presence == Presence::Missing {
                image.presence = Presence::Present(String::new());
            }
        }
        let policy = policy_of(wanted, placement);
        let is_heard = self.changed.get(id).is_some_and(|at| *at > issued);
        let state = self.containers.get(id).map(|container| container.state);
        let track = self.tracks.entry(placement).or_default();
        track.runs(now);
        match state {
            Some(ContainerState::Exited { code, out_of_memory }) if is_heard => {
                let cause = if out_of_memory { ExitCause::OutOfMemory } else { ExitCause::Exited(code) };
                track.ended(now, cause, policy);
            }
            Some(ContainerState::Running { .. }) if is_heard => (),
            Some(_) | None => track.unseen = Some((now, id.clone())),
        }
    }

    fn failed(&mut self, action: &Action, error: EngineError, wanted: &Wanted, now: Moment) {
        if matches!(action, Action::List) {
            self.relist_at = Some(now + ENGINE_PAUSE);
        }
        let Some(placement) = action.placement() else { return };
        let policy = policy_of(wanted, placement);
        let image = wanted.replicas.get(&placement).map(super::wanted::WantedReplica::image);
        let track = self.tracks.entry(placement).or_default();
        let pause = if action.is_start() { &mut track.retry_at } else { &mut track.stop_retry_at };
        *pause = now + ENGINE_PAUSE;
        match (action, error) {
            // The engine itself is the trouble: it says more about that by itself, and nobody has failed.
            (_, EngineError::Unreachable { .. }) => (),
            // Whatever it was asked, it may do it all the same, and its word of that may be lost.
            (action, EngineError::TimedOut { .. }) => {
                if action.is_start() {
                    track.in_doubt = Some(Doubt { since: now, is_listed: false });
                }
                self.relist_at = Some(now);
            }
            (Action::Create(_), EngineError::ImageNotFound { .. }) => {
                track.retry_at = now;
                if let Some(image) = image {
                    self.images.entry(image).or_default().presence = Presence::Missing;
                }
            }
            (Action::Create(_) | Action::Start(..), EngineError::NotAllowed { reason }) => track.forbidden(reason),
            (Action::Create(_), EngineError::NetworkNotFound { .. }) => {
                track.retry_at = now;
                self.networks.are_in_doubt(now);
            }
            (Action::Create(_), error) => {
                self.full = matches!(error, EngineError::NoSpace { .. }).then(|| error.to_string());
                track.not_started(now, error.to_string(), policy);
            }
            (Action::Start(_, container), EngineError::NoSuchContainer { .. }) => {
                let container = container.clone();
                track.retry_at = now;
                self.gone(&container, wanted, now);
            }
            (Action::Start(..), error) => {
                track.must_recreate = track.failures > 0;
                track.not_started(now, error.to_string(), policy);
            }
            (Action::Stop(_, container, _) | Action::Remove(_, container), EngineError::NoSuchContainer { .. }) => {
                let container = container.clone();
                self.gone(&container, wanted, now);
            }
            (Action::Stop(..), _) => track.is_stopped_by_us = false,
            (
                Action::Remove(..)
                | Action::Inspect(..)
                | Action::Check(_)
                | Action::Pull(_)
                | Action::List
                | Action::Lay(..)
                | Action::Clear(_),
                _,
            ) => (),
            (Action::MakeNetwork(..) | Action::RemoveNetwork(..) | Action::ListNetworks, _) => (),
        }
    }

    fn image_done(&mut self, image: ImageKey, outcome: Outcome, now: Moment) {
        let Some(track) = self.images.get_mut(&image) else { return };
        match outcome {
            Ok(Success::Checked(None)) => track.presence = Presence::Missing,
            Ok(Success::Checked(Some(digest)) | Success::Pulled(digest)) => {
                self.full = None;
                *track = ImageTrack { presence: Presence::Present(digest), ..ImageTrack::default() };
            }
            Ok(Success::Created(_) | Success::Done | Success::Listed(_) | Success::Inspected(_)) => (),
            Ok(Success::Made(_) | Success::Networks(_)) => (),
            Err(error) => {
                self.full = matches!(error, EngineError::NoSpace { .. }).then(|| error.to_string());
                // It may be there when it is tried again: imported by hand, say.
                track.presence = Presence::Unknown;
                track.failures = track.failures.saturating_add(1);
                track.retry_at = now + pause(track.failures, Some(FIRST_PULL_PAUSE));
                track.reason = Some(error.to_string());
            }
        }
    }

    /// A pull goes on.
    pub fn pulling(&mut self, id: ActionId, progress: PullProgress) {
        if let Some(Action::Pull(image)) = self.under_way.get(&id)
            && let Some(track) = self.images.get_mut(image)
        {
            track.progress = progress;
        }
    }

    /// Whether this image is being pulled.
    #[must_use]
    pub fn is_pulling(&self, image: &ImageKey) -> bool {
        self.under_way.values().any(|action| matches!(action, Action::Pull(pulled) if pulled == image))
    }
}

fn policy_of(wanted: &Wanted, placement: PlacementId) -> RestartPolicy {
    wanted.replicas.get(&placement).map_or_else(RestartPolicy::default, |one| one.spec.restart)
}
