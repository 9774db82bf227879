//! What this device must do next. Pure: no clock, no engine, no history but what it is given.
//!
//! It looks at the whole of what is wanted and the whole of what is there, never at what has just changed, so a lost or
//! repeated message makes no difference. It does nothing before it has looked at the engine.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{
    ContainerSpec, DeviceName, Goal, LossPolicy, Moment, MountKind, PlacementId, PublishMode, PublishedPort,
    RestartCondition,
};

use super::action::{Action, ImageKey};
use super::hold::{Hold, grace_of, hold_of, is_leased};
use super::observed::{ImageTrack, Link, Observed, Presence};
use super::track::Track;
use super::wanted::{Wanted, WantedReplica};
use crate::engine::{Container, ContainerState, NewContainer};

/// Containers made or started at a time. More only makes each slower, and a board with an SD card unusable.
pub const MAX_STARTS: usize = 8;
/// Containers stopped or removed at a time.
pub const MAX_STOPS: usize = 8;
/// Images pulled at a time: two share the line well, and a third is there for when one waits for its registry.
pub const MAX_PULLS: usize = 3;
/// Images looked up at a time.
pub const MAX_CHECKS: usize = 8;
/// Time within which the engine's own word about a container that it has started or stopped is expected.
pub const UNSEEN_FOR: Duration = Duration::from_secs(2);
/// A container whose healthcheck has failed for so long is restarted. Short enough to heal, long enough for the hub to
/// see it and end a roll-out.
pub const UNHEALTHY_FOR: Duration = Duration::from_secs(5);

mod files;

pub use files::MAX_LAYS;

/// What bounds the decisions besides what is wanted and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The device's name.
    pub device: DeviceName,
    /// On whose word.
    pub authority: Authority,
    /// Nothing is started before this: an agent that has just started waits a little for the hub's word, so that it does
    /// not start what runs elsewhere by now.
    pub starts_from: Moment,
    /// Whether the hub has said on the present connection what is to run. Until then a lease keeps what runs, and starts
    /// nothing: it may answer a device whose assignment is out of date.
    pub is_confirmed: bool,
    /// When the report that the hub answered last was sent; none: there is no lease.
    pub renewed_at: Option<Moment>,
}

/// On whose word the device acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// On nobody's: there is no assignment yet, or the one on the disk cannot be read. Nothing is started, and nothing but
    /// an exclusive replica is stopped.
    Nobody,
    /// On the word of an assignment.
    Assignment,
    /// On the word of an assignment that could not be saved. What it ends is ended, but nothing new is started: after a
    /// power cut nobody would know of it.
    Unsaved,
}

/// What this device must do next.
#[must_use]
pub fn converge(wanted: &Wanted, observed: &Observed, bounds: &Bounds, now: Moment) -> Vec<Action> {
    if observed.engine != Link::Up {
        return Vec::new();
    }
    let mut pass = Pass::new(wanted, observed, bounds, now);
    pass.end_leases();
    if bounds.authority != Authority::Nobody {
        pass.clear_unwanted();
        pass.look_at_unseen();
        pass.look_at_all();
        pass.end_unhealthy();
        pass.move_files();
        if bounds.authority == Authority::Assignment {
            pass.actions.extend(super::networks::tend(wanted, observed, now));
            pass.fetch_images();
        }
        if now >= bounds.starts_from {
            pass.start_wanted();
        }
    }
    pass.actions
}

/// One look at everything; collects actions while it counts what is under way.
struct Pass<'a> {
    wanted: &'a Wanted,
    observed: &'a Observed,
    bounds: &'a Bounds,
    now: Moment,
    containers: std::collections::BTreeMap<PlacementId, &'a Container>,
    busy: BTreeSet<PlacementId>,
    starts: usize,
    stops: usize,
    pulls: usize,
    checks: usize,
    actions: Vec<Action>,
}

impl<'a> Pass<'a> {
    fn new(wanted: &'a Wanted, observed: &'a Observed, bounds: &'a Bounds, now: Moment) -> Self {
        let count = |is: fn(&Action) -> bool| observed.under_way.values().filter(|action| is(action)).count();
        Self {
            wanted,
            observed,
            bounds,
            now,
            containers: observed.by_placement(),
            busy: observed.busy(),
            starts: count(Action::is_start),
            stops: count(|action| matches!(action, Action::Stop(..) | Action::Remove(..))),
            pulls: count(|action| matches!(action, Action::Pull(_))),
            checks: count(|action| matches!(action, Action::Check(_))),
            actions: Vec::new(),
        }
    }

    fn act(&mut self, action: Action) {
        self.busy.extend(action.placement());
        self.actions.push(action);
    }

    fn track(&self, placement: PlacementId) -> Option<&'a Track> {
        self.observed.tracks.get(&placement)
    }

    fn is_due(&self, placement: PlacementId) -> bool {
        self.track(placement).is_none_or(|track| track.retry_at <= self.now)
    }

    fn may_stop(&self, placement: PlacementId) -> bool {
        // What the engine says it has stopped is not stopped again before it has been looked at.
        self.track(placement).is_none_or(|track| track.stop_retry_at <= self.now && track.unseen.is_none())
    }

    /// Stops exclusive replicas in time. Comes before everything, is held back by no limit, and does not wait for a start
    /// that is under way.
    fn end_leases(&mut self) {
        let observed = self.observed;
        for container in observed.containers.values().filter(|container| container.state.is_running()) {
            let placement = container.placement;
            let is_being_stopped = observed
                .under_way
                .values()
                .any(|action| matches!(action, Action::Stop(_, id, _) | Action::Remove(_, id) if *id == container.id));
            if is_being_stopped || !self.may_stop(placement) {
                continue;
            }
            match hold_of(container, self.wanted, self.observed, self.bounds) {
                Hold::Free => continue,
                Hold::Until(term) if self.now < term.stop_at => continue,
                Hold::Until(_) | Hold::Over => {
                    let stop = self.stop_of(container);
                    self.act(stop);
                }
            }
        }
    }

    fn stop_of(&self, container: &Container) -> Action {
        let grace = grace_of(container, self.wanted, self.observed, self.bounds, self.now);
        Action::Stop(container.placement, container.id.clone(), grace)
    }

    /// Stops and removes what is not to run here.
    fn clear_unwanted(&mut self) {
        let observed = self.observed;
        for container in observed.containers.values() {
            let placement = container.placement;
            let is_superfluous = self.containers.get(&placement).is_some_and(|kept| kept.id != container.id);
            if self.wanted.runs(placement) && !is_superfluous {
                continue;
            }
            if self.stops >= MAX_STOPS || self.busy.contains(&placement) || !self.may_stop(placement) {
                continue;
            }
            if self.has_successor_on_the_way(container) {
                continue;
            }
            self.stops += 1;
            if container.state.is_running() {
                let stop = self.stop_of(container);
                self.act(stop);
            } else {
                self.act(Action::Remove(placement, container.id.clone()));
            }
        }
    }

    /// Whether another copy of its replica is to take its place here and still fetches its image. The old one serves until
    /// then; a pull that has failed once holds it no longer, because the hub has told it to end.
    fn has_successor_on_the_way(&self, container: &Container) -> bool {
        if self.bounds.authority != Authority::Assignment || !container.state.is_running() {
            return false;
        }
        self.wanted.replicas.iter().any(|(placement, one)| {
            one.replica == container.replica
                && one.goal == Goal::Run
                && one.refused.is_none()
                && !self.containers.contains_key(placement)
                && self.observed.images.get(&one.image()).is_none_or(|image| image.is_on_the_way())
        })
    }

    /// Looks up and pulls the images that are to be there.
    fn fetch_images(&mut self) {
        for image in self.wanted.images() {
            let default = ImageTrack::default();
            let track = self.observed.images.get(&image).unwrap_or(&default);
            let is_under_way = self
                .observed
                .under_way
                .values()
                .any(|action| matches!(action, Action::Pull(other) | Action::Check(other) if *other == image));
            if is_under_way || track.retry_at > self.now {
                continue;
            }
            match track.presence {
                Presence::Present(_) => (),
                Presence::Missing if self.pulls < MAX_PULLS => {
                    self.pulls += 1;
                    self.act(Action::Pull(image));
                }
                Presence::Unknown if self.checks < MAX_CHECKS && self.must_look_for(&image) => {
                    self.checks += 1;
                    self.act(Action::Check(image));
                }
                Presence::Missing | Presence::Unknown => (),
            }
        }
    }

    /// Whether it has to be known beforehand if the image is there. Where nothing depends on it the start itself finds
    /// out, and saves a call.
    fn must_look_for(&self, image: &ImageKey) -> bool {
        if self.observed.images.get(image).is_some_and(|track| track.failures > 0) {
            return true;
        }
        self.wanted.replicas.iter().filter(|(_, one)| one.image() == *image).any(|(placement, one)| {
            one.goal == Goal::Prepare
                || self.observed.containers.values().any(|other| {
                    other.replica == one.replica && other.placement != *placement && other.state.is_running()
                })
        })
    }

    /// Starts what is to run here and does not.
    fn start_wanted(&mut self) {
        let wanted = self.wanted;
        for (&placement, one) in &wanted.replicas {
            if self.starts >= MAX_STARTS {
                return;
            }
            let is_refused = one.refused.is_some();
            if is_refused || one.goal != Goal::Run || self.busy.contains(&placement) || !self.is_due(placement) {
                continue;
            }
            let waits = |track: &Track| {
                let is_in_doubt = track.in_doubt.is_some_and(|doubt| !doubt.is_listed);
                track.over.is_some() || track.unseen.is_some() || is_in_doubt
            };
            if self.track(placement).is_some_and(waits) || !is_leased(one, self.bounds, self.now) {
                continue;
            }
            if let Some(action) = self.start_of(placement, one) {
                self.starts += usize::from(action.is_start());
                self.act(action);
            }
        }
    }

    fn start_of(&self, placement: PlacementId, one: &WantedReplica) -> Option<Action> {
        let container = self.containers.get(&placement);
        match container.map(|container| (&container.id, container.state)) {
            Some((_, ContainerState::Running { .. })) => None,
            Some((id, ContainerState::Dead)) => Some(Action::Remove(placement, id.clone())),
            Some((id, ContainerState::Exited { .. })) => {
                let must_recreate = self.track(placement).is_some_and(|track| track.must_recreate);
                let id = id.clone();
                if self.is_blocked(placement, one) || !self.has_files(placement, one) {
                    None
                } else if must_recreate {
                    Some(Action::Remove(placement, id))
                } else {
                    Some(Action::Start(placement, id))
                }
            }
            Some((_, ContainerState::Created)) | None => self.creation_of(placement, one),
        }
    }

    fn creation_of(&self, placement: PlacementId, one: &WantedReplica) -> Option<Action> {
        let image = one.image();
        let presence = self.observed.images.get(&image).map_or(&Presence::Unknown, |track| &track.presence);
        let is_known_or_free_to_find_out = match presence {
            Presence::Present(_) => true,
            Presence::Unknown => !self.must_look_for(&image),
            Presence::Missing => false,
        };
        let may_be_new = self.bounds.authority == Authority::Assignment;
        let may_start = self.has_files(placement, one) && !self.is_blocked(placement, one);
        if !may_be_new || !is_known_or_free_to_find_out || !may_start {
            return None;
        }
        let name_servers = self.observed.networks.name_servers(&one.spec.networks)?;
        Some(Action::Create(NewContainer {
            device: self.bounds.device.clone(),
            placement,
            fleet: self.wanted.fleet,
            replica: one.replica.clone(),
            loss: one.loss.into(),
            spec: one.spec.clone(),
            name_servers,
            files: Vec::new(),
        }))
    }

    /// Whether something that is not to run here (any more) holds what this copy needs: a host port, or, where it is an
    /// earlier copy of the same replica, its data. What is just being started counts as running.
    fn is_blocked(&self, placement: PlacementId, one: &WantedReplica) -> bool {
        let clashes =
            |other: &Container| has_port_of(&one.spec, other) || (other.replica == one.replica && holds_data(one));
        let containers = self.observed.containers.values();
        let is_held = containers.filter(|other| other.placement != placement).any(|other| {
            let is_leaving = !self.wanted.runs(other.placement) || self.is_being_stopped(other);
            is_leaving && self.may_run(other) && clashes(other)
        });
        is_held
            || (holds_data(one) && self.has_unknown())
            || self.observed.under_way.values().any(|action| match action {
                Action::Create(new) if new.placement != placement && !self.wanted.runs(new.placement) => {
                    opens_port_of(&one.spec, &new.spec) || (new.replica == one.replica && holds_data(one))
                }
                _ => false,
            })
    }

    /// Whether the engine has made a container that is not wanted any more, and has not told us about it yet: nobody knows
    /// what it holds.
    fn has_unknown(&self) -> bool {
        self.observed.tracks.iter().any(|(placement, track)| {
            let is_unknown = track.unseen.as_ref().is_some_and(|(_, id)| !self.observed.containers.contains_key(id));
            (is_unknown || track.in_doubt.is_some()) && !self.wanted.runs(*placement)
        })
    }

    /// Whether a container runs, or may do so without our having heard of it.
    fn may_run(&self, container: &Container) -> bool {
        let is_being_started = |action: &Action| matches!(action, Action::Start(_, id) if *id == container.id);
        container.state.is_running()
            || self.track(container.placement).is_some_and(|track| track.up_since.is_some() || track.unseen.is_some())
            || self.observed.under_way.values().any(is_being_started)
    }

    fn is_being_stopped(&self, container: &Container) -> bool {
        let is_stop = |action: &Action| matches!(action, Action::Stop(_, id, _) if *id == container.id);
        self.observed.under_way.values().any(is_stop) || self.actions.iter().any(is_stop)
    }

    /// Stops what does not become healthy again; it is started again as after any other failure.
    fn end_unhealthy(&mut self) {
        let wanted = self.wanted;
        for (&placement, one) in wanted.replicas.iter().filter(|(_, one)| one.goal == Goal::Run) {
            let since = self.track(placement).and_then(|track| track.unhealthy_since);
            let is_patient = since.is_none_or(|since| self.now < since + UNHEALTHY_FOR);
            let stays_down = one.spec.restart.condition == RestartCondition::None;
            if is_patient || stays_down || self.busy.contains(&placement) || !self.may_stop(placement) {
                continue;
            }
            if let Some(&container) = self.containers.get(&placement).filter(|container| container.state.is_running()) {
                let stop = self.stop_of(container);
                self.act(stop);
            }
        }
    }

    /// Looks at all containers where a call was not answered in time.
    fn look_at_all(&mut self) {
        let is_due = self.observed.relist_at.is_some_and(|at| at <= self.now);
        if is_due && !self.observed.under_way.values().any(|action| matches!(action, Action::List)) {
            self.act(Action::List);
        }
    }

    /// Asks after containers of which the engine has said nothing since it started or stopped them.
    fn look_at_unseen(&mut self) {
        let observed = self.observed;
        for (&placement, track) in &observed.tracks {
            let Some((since, id)) = &track.unseen else { continue };
            let is_late = self.now >= (*since + UNSEEN_FOR).max(track.stop_retry_at);
            if is_late && !self.busy.contains(&placement) {
                self.act(Action::Inspect(placement, id.clone()));
            }
        }
    }
}

impl ImageTrack {
    /// Whether it is not there yet but can be expected.
    fn is_on_the_way(&self) -> bool {
        !matches!(self.presence, Presence::Present(_)) && self.failures == 0
    }
}

/// The ports that the engine opens: the others are the proxy's, and all copies share them.
fn own_ports(spec: &ContainerSpec) -> impl Iterator<Item = &PublishedPort> {
    spec.ports.iter().filter(|port| port.mode == PublishMode::Host)
}

/// Whether a container holds a host port that this specification opens.
fn has_port_of(spec: &ContainerSpec, other: &Container) -> bool {
    own_ports(spec).any(|port| {
        other.ports.iter().any(|(_, host, protocol)| Some(*host) == port.host && *protocol == port.protocol)
    })
}

/// Whether two specifications open the same host port.
fn opens_port_of(spec: &ContainerSpec, other: &ContainerSpec) -> bool {
    own_ports(spec)
        .any(|port| port.host.is_some() && own_ports(other).any(|o| (o.host, o.protocol) == (port.host, port.protocol)))
}

/// Whether two copies of this replica must not run side by side on one device.
fn holds_data(one: &WantedReplica) -> bool {
    let is_exclusive = matches!(one.loss, LossPolicy::Exclusive { .. });
    let writes = one
        .spec
        .mounts
        .iter()
        .any(|mount| !mount.read_only && matches!(mount.kind, MountKind::Volume { .. } | MountKind::Bind { .. }));
    is_exclusive || writes || !one.spec.devices.is_empty()
}
