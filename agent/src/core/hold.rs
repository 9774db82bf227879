//! What holds a running container on this device: nothing, or a lease.

use std::time::Duration;

use outrigger_protocol::{LossPolicy, Moment, PlacementId};

use super::converge::Bounds;
use super::lease::Term;
use super::observed::Observed;
use super::wanted::{Wanted, WantedReplica};
use crate::engine::{Container, LossLabel};

/// A running copy that becomes exclusive is held so long without a renewal: the hub has only just spoken, and answers the
/// next report. It is no longer than any hub takes to count a device as lost.
const FIRST_LEASE: Duration = Duration::from_secs(3);
/// Time to end for a container whose specification is not known any more. Docker's own.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// What holds a running container on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: it runs until it is not wanted.
    Free,
    /// A lease.
    Until(Term),
    /// It needs a lease, and none is known.
    Over,
}

/// What holds a running container here. One that is not wanted any more is held as its last assignment had it.
#[must_use]
pub fn hold_of(container: &Container, wanted: &Wanted, observed: &Observed, bounds: &Bounds) -> Hold {
    let track = observed.tracks.get(&container.placement);
    let loss = wanted.replicas.get(&container.placement).map(|one| one.loss).or(track.and_then(|track| track.loss));
    let lease = match loss {
        Some(LossPolicy::Available | LossPolicy::Wait) => return Hold::Free,
        Some(LossPolicy::Exclusive { lease }) => lease,
        None if container.loss == LossLabel::Exclusive => return Hold::Over,
        None => return Hold::Free,
    };
    let since = track.and_then(|track| track.exclusive_since);
    let grace = wished_grace(container, wanted, observed);
    match (bounds.renewed_at, since) {
        (Some(renewed_at), None) => Hold::Until(Term::new(renewed_at, lease, grace)),
        (Some(renewed_at), Some(since)) if renewed_at >= since => Hold::Until(Term::new(renewed_at, lease, grace)),
        (_, Some(since)) => Hold::Until(Term::new(since, lease.min(FIRST_LEASE), grace)),
        (None, None) => Hold::Over,
    }
}

fn wished_grace(container: &Container, wanted: &Wanted, observed: &Observed) -> Duration {
    let track = observed.tracks.get(&container.placement);
    let wanted = wanted.replicas.get(&container.placement).map(|one| one.spec.stop_grace);
    wanted.or(track.and_then(|track| track.grace)).unwrap_or(DEFAULT_GRACE)
}

/// Exclusive containers that run: the first process of each, and the moment from which the engine has failed to end it.
/// An engine that hangs or is gone must not keep a second copy alive.
#[must_use]
pub fn overdue(wanted: &Wanted, observed: &Observed, bounds: &Bounds) -> Vec<(PlacementId, u32, Moment)> {
    let running = observed.containers.values().filter(|container| container.state.is_running());
    let due = running.filter_map(|container| {
        let at = match hold_of(container, wanted, observed, bounds) {
            Hold::Free => return None,
            Hold::Until(term) => term.kill_at + term.end.since(term.kill_at) / 2,
            Hold::Over => Moment::ZERO,
        };
        Some((container.placement, container.pid?, at))
    });
    due.collect()
}

/// The time that a container has to end by itself, if it is stopped now.
#[must_use]
pub fn grace_of(container: &Container, wanted: &Wanted, observed: &Observed, bounds: &Bounds, now: Moment) -> Duration {
    let wished = wished_grace(container, wanted, observed);
    match hold_of(container, wanted, observed, bounds) {
        Hold::Free => wished,
        Hold::Until(term) => term.grace(now, wished),
        // The hub may have started another already.
        Hold::Over => Duration::ZERO,
    }
}

/// When the next lease asks for an action.
#[must_use]
pub fn lease_due(wanted: &Wanted, observed: &Observed, bounds: &Bounds, now: Moment) -> Moment {
    let running = observed.containers.values().filter(|container| container.state.is_running());
    let due = running.filter_map(|container| match hold_of(container, wanted, observed, bounds) {
        Hold::Until(term) => Some(term.stop_at),
        Hold::Free | Hold::Over => None,
    });
    due.filter(|at| *at > now).min().unwrap_or(Moment::NEVER)
}

/// Whether this replica may be started now, as far as its lease is concerned.
#[must_use]
pub fn is_leased(one: &WantedReplica, bounds: &Bounds, now: Moment) -> bool {
    match (one.loss, bounds.renewed_at) {
        (LossPolicy::Available | LossPolicy::Wait, _) => true,
        (LossPolicy::Exclusive { .. }, None) => false,
        (LossPolicy::Exclusive { lease }, Some(renewed_at)) => {
            bounds.is_confirmed && now < Term::new(renewed_at, lease, one.spec.stop_grace).start_until
        }
    }
}
