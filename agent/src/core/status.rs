//! What the hub is told about the replicas: always the whole set.

use std::time::Duration;

use outrigger_protocol::{
    EngineState, ExitCause, Goal, LossPolicy, MAX_DETAIL, MAX_STATUS, Moment, Observed as Told, Phase, PlacementId,
    ReplicaName, SessionNumber, Stamp, Status,
};

use super::action::Action;
use super::converge::{Authority, Bounds};
use super::files::Lack;
use super::hold::is_leased;
use super::observed::{Link, Observed, Presence};
use super::track::{Over, Track};
use super::wanted::{Wanted, WantedReplica};
use crate::engine::{Container, ContainerState, Health};

/// Shortest time between two statuses: what changes at once is told at once, what changes in a row is told together.
const PAUSE: Duration = Duration::from_millis(100);
/// That time grows with the number of replicas, by so much each, so that a full device does not fill its line.
const PAUSE_PER_REPLICA: Duration = Duration::from_micros(500);
/// Time that the engine is given to answer before a new connection hears that it does not: the agent has just started.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// A status that differs only in how far a pull is waits so long.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// When to tell.
#[derive(Debug, Clone, Default)]
pub struct Teller {
    session: Option<SessionNumber>,
    number: u32,
    told: Option<Status>,
    told_at: Moment,
    not_before: Moment,
    unknown_until: Moment,
    phases: std::collections::BTreeMap<PlacementId, (std::mem::Discriminant<Phase>, Moment)>,
}

/// What a status is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The assignment that the device holds.
    pub held: Option<Stamp>,
    /// What it asks for.
    pub wanted: &'a Wanted,
    /// What there is.
    pub observed: &'a Observed,
    /// Lease and authority.
    pub bounds: &'a Bounds,
    /// Why the assignment could not be saved, if so.
    pub unsaved: Option<&'a str>,
}

impl Teller {
    /// A connection has begun, or the hub asks again: the whole set is due.
    pub fn begin(&mut self, session: SessionNumber, now: Moment) {
        if self.session.replace(session) != Some(session) {
            self.number = 0;
        }
        self.told = None;
        self.not_before = Moment::ZERO;
        self.unknown_until = now + FIRST_ANSWER;
    }

    /// Number of the newest status of this connection; 0: there is none yet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The last status was not sent after all: the connection's queue was full.
    pub fn again(&mut self, now: Moment) {
        self.told = None;
        self.not_before = now + PROGRESS_PAUSE;
    }

    /// The connection is gone.
    pub fn end(&mut self) {
        self.session = None;
    }

    /// The status to send now, and when to ask again where one has to wait.
    pub fn tell(&mut self, sources: &Sources<'_>, now: Moment) -> (Option<Status>, Moment) {
        let Some(session) = self.session else { return (None, Moment::NEVER) };
        let is_unknown = sources.observed.engine == Link::Unknown;
        let not_before = if is_unknown { self.not_before.max(self.unknown_until) } else { self.not_before };
        if now < not_before {
            return (None, not_before);
        }
        let mut status = self.status(session, sources, now);
        let pause = match &self.told {
            None => Duration::ZERO,
            Some(told) => match difference(told, &status) {
                Difference::None => return (None, Moment::NEVER),
                Difference::Progress => PROGRESS_PAUSE,
                Difference::State => {
                    let many = u32::try_from(status.replicas.len()).unwrap_or(u32::MAX);
                    PAUSE.max(PAUSE_PER_REPLICA.saturating_mul(many))
                }
            },
        };
        let due_at = self.told_at + pause;
        if self.told.is_some() && now < due_at {
            return (None, due_at);
        }
        self.number = self.number.saturating_add(1);
        status.number = self.number;
        self.told = Some(status.clone());
        self.told_at = now;
        (Some(status), Moment::NEVER)
    }

    fn status(&mut self, session: SessionNumber, sources: &Sources<'_>, now: Moment) -> Status {
        let mut replicas = told_of(sources, now);
        let longest = (MAX_STATUS / 4 / replicas.len().max(1)).min(MAX_DETAIL);
        let mut phases = std::collections::BTreeMap::new();
        for told in &mut replicas {
            let kind = std::mem::discriminant(&told.phase);
            let since = match self.phases.get(&told.placement) {
                Some((before, since)) if *before == kind => *since,
                // What ran before the agent did has been running since then.
                _ => {
                    sources.observed.tracks.get(&told.placement).and_then(|t| t.up_since).map_or(now, |up| up.min(now))
                }
            };
            phases.insert(told.placement, (kind, since));
            told.since_s = u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX);
            shorten(told, longest);
        }
        self.phases = phases;
        let images = sources.observed.images.iter();
        Status {
            session,
            number: 0,
            held: sources.held,
            engine: engine_state(sources),
            replicas,
            images: images
                .filter(|(_, track)| matches!(track.presence, Presence::Present(_)))
                .map(|(key, _)| key.image.clone())
                .collect(),
        }
    }
}

fn engine_state(sources: &Sources<'_>) -> EngineState {
    match &sources.observed.engine {
        Link::Unknown => EngineState::Down("the engine has not answered yet".into()),
        Link::Down(reason) => EngineState::Down(cut(reason, MAX_DETAIL)),
        Link::Up => match sources.unsaved.or(sources.observed.full.as_deref()) {
            Some(reason) => EngineState::StorageFailed(cut(reason, MAX_DETAIL)),
            None => EngineState::Up,
        },
    }
}

fn told_of(sources: &Sources<'_>, now: Moment) -> Vec<Told> {
    let containers = sources.observed.by_placement();
    let default = Track::default();
    let track_of = |placement: &PlacementId| sources.observed.tracks.get(placement).unwrap_or(&default);
    let mut all: Vec<Told> = Vec::with_capacity(sources.wanted.replicas.len());
    for (placement, one) in &sources.wanted.replicas {
        let container = containers.get(placement).copied();
        let track = track_of(placement);
        let phase = phase_of(sources, *placement, one, container, track, now);
        all.push(told(*placement, one.replica.clone(), phase, container, track, digest_of(sources, one)));
    }
    for (placement, container) in &containers {
        if !sources.wanted.replicas.contains_key(placement) {
            let phase = phase_of_unwanted(container, sources.bounds.authority);
            all.push(told(*placement, container.replica.clone(), phase, Some(container), track_of(placement), None));
        }
    }
    // What is about to run has not ended, whatever its container says: the hub must not start another yet.
    for (placement, replica) in sources.observed.starting() {
        if sources.wanted.replicas.contains_key(&placement) {
            continue;
        }
        match all.iter_mut().find(|told| told.placement == placement) {
            Some(told) => told.phase = Phase::Stopping,
            None => all.push(told(placement, replica.clone(), Phase::Stopping, None, track_of(&placement), None)),
        }
    }
    all
}

fn told(
    placement: PlacementId,
    replica: ReplicaName,
    phase: Phase,
    container: Option<&Container>,
    track: &Track,
    digest: Option<String>,
) -> Told {
    let digest = container.map(|container| container.digest.clone()).filter(|text| !text.is_empty()).or(digest);
    Told {
        placement,
        replica,
        phase,
        restarts: track.restarts,
        since_s: 0,
        last_exit: track.last_exit.clone(),
        container: container.map(|container| container.id.short().to_owned()).unwrap_or_default(),
        digest: digest.unwrap_or_default(),
        ports: container.map(|container| container.ports.clone()).unwrap_or_default(),
    }
}

fn digest_of(sources: &Sources<'_>, one: &WantedReplica) -> Option<String> {
    match &sources.observed.images.get(&one.image())?.presence {
        Presence::Present(digest) => Some(digest.clone()),
        Presence::Missing | Presence::Unknown => None,
    }
}

fn phase_of_unwanted(container: &Container, authority: Authority) -> Phase {
    match container.state {
        // Without an assignment nobody has said that it is to end.
        ContainerState::Running { health } if authority == Authority::Nobody => phase_of_health(health),
        ContainerState::Running { .. } => Phase::Stopping,
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Dead => Phase::Completed,
    }
}

fn phase_of(
    sources: &Sources<'_>,
    placement: PlacementId,
    one: &WantedReplica,
    container: Option<&Container>,
    track: &Track,
    now: Moment,
) -> Phase {
    let mut actions = sources.observed.under_way.values().filter(|action| action.placement() == Some(placement));
    let action = actions.next();
    if let Some(Action::Stop(..) | Action::Remove(..)) = action
        && container.is_some_and(|container| container.state.is_running())
    {
        return Phase::Stopping;
    }
    // The engine says that it has stopped; its word about the container is still to come.
    if track.unseen.is_some() && (track.is_stopped_by_us || track.was_unhealthy) {
        return Phase::Stopping;
    }
    if let Some(ContainerState::Running { health }) = container.map(|container| container.state) {
        return phase_of_health(health);
    }
    if let Some(refusal) = &one.refused {
        return Phase::Refused { reason: refusal.reason.clone() };
    }
    match one.goal {
        Goal::Prepare => phase_of_image(sources, one, now).unwrap_or(Phase::Prepared),
        Goal::Run => phase_of_absent(sources, placement, one, action, track, now),
    }
}

fn phase_of_health(health: Health) -> Phase {
    match health {
        Health::None | Health::Healthy => Phase::Running,
        Health::Starting => Phase::Starting,
        Health::Unhealthy => Phase::Unhealthy,
    }
}

/// The phase of a copy that is to run and does not.
fn phase_of_absent(
    sources: &Sources<'_>,
    placement: PlacementId,
    one: &WantedReplica,
    action: Option<&Action>,
    track: &Track,
    now: Moment,
) -> Phase {
    let reason =
        || if track.was_unhealthy { "its healthcheck failed".into() } else { reason_of(track.last_exit.as_ref()) };
    match track.over {
        Some(Over::Completed) => return Phase::Completed,
        Some(Over::GivenUp) => return Phase::Failed { reason: reason() },
        Some(Over::Forbidden) => return Phase::Refused { reason: reason() },
        None => (),
    }
    if action.is_some_and(Action::is_start) || track.unseen.is_some() || track.in_doubt.is_some() {
        return Phase::Starting;
    }
    if !is_leased(one, sources.bounds, now) && matches!(one.loss, LossPolicy::Exclusive { .. }) {
        return if track.is_lease_over { Phase::LeaseOver } else { Phase::Waiting };
    }
    if track.retry_at > now && track.last_exit.is_some() {
        return Phase::BackOff { retry_ms: left_ms(track.retry_at, now), reason: reason() };
    }
    let of_networks = phase_of_networks(sources, one, now);
    let unmet = of_networks.or_else(|| phase_of_files(sources, placement, one, now));
    unmet.or_else(|| phase_of_image(sources, one, now)).unwrap_or(Phase::Waiting)
}

/// The phase of a copy that cannot run because a network of it cannot be made; none where all can.
fn phase_of_networks(sources: &Sources<'_>, one: &WantedReplica, now: Moment) -> Option<Phase> {
    let (retry_at, reason) = sources.observed.networks.trouble(&one.spec.networks)?;
    Some(Phase::BackOff { retry_ms: left_ms(retry_at, now), reason: cut(&reason, MAX_DETAIL) })
}

/// The phase of a copy whose secrets or configs are refused; none where they are there, or on their way.
fn phase_of_files(sources: &Sources<'_>, placement: PlacementId, one: &WantedReplica, now: Moment) -> Option<Phase> {
    let track = sources.observed.files.get(&placement).filter(|_| !one.spec.files.is_empty())?;
    match &track.lack {
        Some(Lack::Refused(reason)) => {
            Some(Phase::BackOff { retry_ms: left_ms(track.retry_at, now), reason: reason.clone() })
        }
        // Whoever reads this is heard again: it is about to be asked.
        Some(Lack::Unheard(_)) | None => None,
    }
}

/// The phase of a copy whose image is not there; none where it is.
fn phase_of_image(sources: &Sources<'_>, one: &WantedReplica, now: Moment) -> Option<Phase> {
    let key = one.image();
    let image = sources.observed.images.get(&key)?;
    match (&image.presence, &image.reason) {
        (Presence::Present(_), _) => None,
        (Presence::Missing | Presence::Unknown, _) if sources.observed.is_pulling(&key) => {
            Some(Phase::Pulling { done: image.progress.done, total: image.progress.total })
        }
        (Presence::Missing | Presence::Unknown, Some(reason)) => {
            Some(Phase::BackOff { retry_ms: left_ms(image.retry_at, now), reason: reason.clone() })
        }
        (Presence::Missing | Presence::Unknown, None) => Some(Phase::Waiting),
    }
}

fn reason_of(exit: Option<&ExitCause>) -> String {
    match exit {
        None => String::new(),
        Some(ExitCause::Exited(code)) => format!("it ended with code {code}"),
        Some(ExitCause::OutOfMemory) => "the kernel killed it: no memory was left".into(),
        Some(ExitCause::NotStarted(reason)) => reason.clone(),
    }
}

fn left_ms(until: Moment, now: Moment) -> u32 {
    u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX)
}

/// How much two statuses differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Only in passing time.
    None,
    /// In how far a pull is.
    Progress,
    /// In a state.
    State,
}

fn difference(told: &Status, status: &Status) -> Difference {
    let is_same = (told.session, told.held) == (status.session, status.held)
        && told.engine == status.engine
        && told.images == status.images
        && told.replicas.len() == status.replicas.len();
    if !is_same {
        return Difference::State;
    }
    told.replicas.iter().zip(&status.replicas).map(|(a, b)| difference_of(a, b)).max().unwrap_or(Difference::None)
}

fn difference_of(a: &Told, b: &Told) -> Difference {
    let is_same = (a.placement, a.restarts, &a.container, &a.digest)
        == (b.placement, b.restarts, &b.container, &b.digest)
        && (&a.replica, &a.last_exit, &a.ports) == (&b.replica, &b.last_exit, &b.ports);
    if !is_same {
        return Difference::State;
    }
    match (&a.phase, &b.phase) {
        (Phase::Pulling { done: a, total: b }, Phase::Pulling { done: c, total: d }) if (a, b) != (c, d) => {
            Difference::Progress
        }
        (Phase::BackOff { reason: a, .. }, Phase::BackOff { reason: b, .. }) if a == b => Difference::None,
        (a, b) if a == b => Difference::None,
        _ => Difference::State,
    }
}

fn shorten(told: &mut Told, longest: usize) {
    if let Phase::BackOff { reason, .. } | Phase::Failed { reason } | Phase::Refused { reason } = &mut told.phase {
        *reason = cut(reason, longest);
    }
    if let Some(ExitCause::NotStarted(reason)) = &mut told.last_exit {
        *reason = cut(reason, longest);
    }
}

/// The text, cut to so many bytes at the border of a character.
#[must_use]
pub fn cut(text: &str, longest: usize) -> String {
    let end = text.floor_char_boundary(longest.min(text.len()));
    text.get(..end).unwrap_or_default().to_owned()
}
