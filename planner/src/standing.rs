//! How one copy stands: whether it does its work, may yet do it, must leave, or is gone.

use outrigger_protocol::{Bytes, ExitCause, LossPolicy, Moment, Phase};

use crate::device::Device;
use crate::filter;
use crate::fleet::Fleet;
use crate::note::span;
use crate::plan::{Cause, Liveness, Waiting};
use crate::record::Stage;
use crate::service::{Placement, Service};
use crate::wish::Availability;

/// How one copy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does its work. Something to tell the user may go with it.
    Good(Option<Waiting>),
    /// It may yet do its work, and nothing is done about it now.
    Hopeful(Option<Waiting>),
    /// It must leave its device, and stays until another does its work.
    Leaving(Cause),
    /// It keeps failing there.
    Failing(Failure),
    /// Its device is gone.
    Gone(Cause),
    /// A copy with the present content is to take over.
    Outdated,
}

/// A copy that keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub why: String,
    /// Whether another device could help.
    pub elsewhere: bool,
    /// Whether the owner of the device does not allow it: nothing was tried there then.
    pub refused: bool,
}

/// A standing and when to look again.
pub(crate) type Stand = (Standing, Option<Moment>);

/// How a copy of a replica stands. `succeeded`: there is one with the present content.
pub(crate) fn of(fleet: &Fleet, service: &Service, copy: &Placement, succeeded: bool, now: Moment) -> Stand {
    let Some(device) = fleet.devices.get(copy.device) else { return (Standing::Gone(Cause::Wanted), None) };
    let name = || device.name.clone();
    let home = service.home(copy.number) == Some(&device.name);
    match is_lost(fleet, service, device, now) {
        Loss::Yes => return lost(fleet, service, device, copy, now),
        Loss::NotYet(at) if device.liveness != Liveness::Up => return (Standing::Hopeful(None), Some(at)),
        Loss::NotYet(_) | Loss::No => (),
    }
    if succeeded && copy.revision != service.revision {
        return (Standing::Outdated, None);
    }
    let leaves = if device.availability == Availability::Drain {
        Some(Cause::Drained(name()))
    } else if device.facts.is_some()
        && filter::suits(device, &service.content, fleet.platforms_of(&service.content.spec)).is_err()
    {
        Some(Cause::Unsuitable(name()))
    } else {
        None
    };
    let (engine, again) = engine_away(fleet, device, now);
    let stays = (leaves.is_some() || engine) && home;
    let waiting = stays.then(|| Waiting::Volume(name()));
    if let (Some(cause), false) = (leaves, stays) {
        return (Standing::Leaving(cause), again);
    }
    if fleet.is_good(copy) {
        return (Standing::Good(waiting), again);
    }
    // Containers may go on without their engine, so what must never run twice stays.
    if engine && !stays && !service.is_exclusive() && !service.is_global() {
        return (Standing::Gone(Cause::EngineAway(name())), None);
    }
    if let Some(failure) = failure(fleet, device, copy) {
        return (Standing::Failing(failure), again);
    }
    match stall(fleet, device, copy) {
        Some((at, failure)) if now >= at => (Standing::Failing(failure), again),
        stall => (Standing::Hopeful(waiting), again.into_iter().chain(stall.map(|(at, _)| at)).min()),
    }
}

/// From when on the pull of a copy counts as hanging unless it gets on, and what is said then; none: it is not pulled.
///
/// The device tells every byte, so what it does not tell has not come. A device that is not heard tells nothing.
pub(crate) fn stall(fleet: &Fleet, device: &Device, copy: &Placement) -> Option<(Moment, Failure)> {
    let Some(Phase::Pulling { done, total }) = copy.phase() else { return None };
    if device.liveness != Liveness::Up {
        return None;
    }
    let (limit, what) = if *total > 0 && done == total {
        (fleet.policy.pull_stall * UNPACKING, "all of its image has arrived and it does not get unpacked".to_owned())
    } else {
        (fleet.policy.pull_stall, format!("nothing more of its image arrives ({} of {})", Bytes(*done), Bytes(*total)))
    };
    let why = format!("{what} for {}", span(limit));
    Some((copy.pull_moved_at + limit + fleet.deaf, Failure { why, elsewhere: true, refused: false }))
}

enum Loss {
    Yes,
    NotYet(Moment),
    No,
}

/// Whether a service takes a device for lost: by its own limit, if it has one.
fn is_lost(fleet: &Fleet, service: &Service, device: &Device, now: Moment) -> Loss {
    let silent = matches!(device.liveness, Liveness::Suspect | Liveness::Lost);
    match service.content.spec.lost_after {
        Some(_) if device.liveness == Liveness::Lost && device.is_absent_on_purpose() => Loss::Yes,
        Some(limit) if silent => {
            let at = (device.heard_at + limit).max(device.grace(&fleet.policy));
            let later = fleet.hears_nobody(now).filter(|_| device.liveness == Liveness::Suspect);
            match (now >= at, later) {
                (true, None) => Loss::Yes,
                (true, Some(again)) => Loss::NotYet(again),
                (false, _) => Loss::NotYet(at),
            }
        }
        None if device.liveness == Liveness::Lost => Loss::Yes,
        Some(_) | None => Loss::No,
    }
}

/// How a copy stands whose device is lost.
pub(crate) fn lost(fleet: &Fleet, service: &Service, device: &Device, copy: &Placement, now: Moment) -> Stand {
    let name = || device.name.clone();
    let waits = |why| (Standing::Hopeful(Some(why)), None);
    if copy.is_completed() {
        return (Standing::Hopeful(None), None);
    }
    if fleet.safe.is_some() && !device.confirmed {
        return waits(Waiting::SafeMode);
    }
    if service.is_global() || service.content.spec.loss == LossPolicy::Wait {
        return waits(Waiting::Device(name()));
    }
    if service.home(copy.number) == Some(&device.name) {
        return waits(Waiting::Volume(name()));
    }
    let gone = (Standing::Gone(Cause::Lost(name())), None);
    match lease_end(fleet, service, device, copy) {
        Some(until) if now < until => (Standing::Hopeful(Some(Waiting::Lease(name(), until))), Some(until)),
        Some(_) | None => gone,
    }
}

/// Until when an exclusive copy may run without hearing the hub; none: it is not exclusive, or surely off.
///
/// The hub counts from when it answered last, the device from when it asked, which is earlier. Clocks may differ by one
/// part in a hundred.
pub(crate) fn lease_end(fleet: &Fleet, service: &Service, device: &Device, copy: &Placement) -> Option<Moment> {
    // A lease that was shortened since counts as it was: the device may not have heard of that.
    let lease = service.lease()?.max(copy.longest_lease);
    if device.confirmed {
        return None;
    }
    let given = device.lease_at.unwrap_or(Moment::ZERO).max(copy.placed_at);
    Some(given + (lease + lease / 100 + fleet.policy.lease_margin))
}

/// Whether the engine has been away for too long, or when that will be.
fn engine_away(fleet: &Fleet, device: &Device, now: Moment) -> (bool, Option<Moment>) {
    match device.engine_away_at.map(|at| at + fleet.policy.engine_grace) {
        Some(until) if now >= until => (true, None),
        until => (false, until),
    }
}

/// Unpacking a large layer on an SD card takes minutes without a word, so it gets so many times as long as a pull.
const UNPACKING: u32 = 3;

/// Whether a copy keeps failing where it is.
pub(crate) fn failure(fleet: &Fleet, device: &Device, copy: &Placement) -> Option<Failure> {
    let seen = copy.seen.as_ref().filter(|_| copy.stage == Stage::Run)?;
    let (reason, given_up) = match &seen.phase {
        Phase::Refused { reason } => {
            return Some(Failure { why: reason.clone(), elsewhere: true, refused: true });
        }
        Phase::Failed { reason } => (reason, true),
        Phase::BackOff { reason, .. } => (reason, false),
        Phase::Waiting | Phase::Pulling { .. } | Phase::Prepared | Phase::Starting | Phase::Running => return None,
        Phase::Unhealthy | Phase::Completed | Phase::Stopping | Phase::LeaseOver => return None,
    };
    let failure = |why: String, elsewhere| Some(Failure { why, elsewhere, refused: false });
    match hint(reason) {
        Hint::Device => return failure(reason.clone(), true),
        Hint::Image => return failure(reason.clone(), false),
        Hint::None => (),
    }
    if seen.last_exit == Some(ExitCause::OutOfMemory) {
        let full = device.load.is_some_and(|load| load.memory.value() >= fleet.policy.full_permille);
        if full || copy.content.spec.container.limits.memory.is_none() {
            return failure(format!("killed for memory on a full device: {reason}"), true);
        }
        return failure("killed because it needs more memory than its own limit; raise the limit".to_owned(), false);
    }
    (given_up || seen.restarts >= fleet.policy.restarts_before_move).then(|| Failure {
        why: reason.clone(),
        elsewhere: true,
        refused: false,
    })
}

/// Whether a container in that phase does not run and is not started again.
pub(crate) fn is_over(phase: &Phase) -> bool {
    match phase {
        Phase::Completed | Phase::Failed { .. } | Phase::LeaseOver | Phase::Prepared | Phase::Refused { .. } => true,
        Phase::Waiting | Phase::Pulling { .. } | Phase::Starting | Phase::Running | Phase::Unhealthy => false,
        Phase::BackOff { .. } | Phase::Stopping => false,
    }
}

/// What an engine's words say about who could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Another device may.
    Device,
    /// None: the image is not there, or nobody may have it.
    Image,
    /// They say nothing.
    None,
}

fn hint(reason: &str) -> Hint {
    const DEVICE: [&str; 7] = [
        "has not answered to `pull image`",
        "no space left",
        "no matching manifest",
        "exec format error",
        "does not match the specified platform",
        "port is already allocated",
        "address already in use",
    ];
    const IMAGE: [&str; 9] = [
        "manifest unknown",
        "not found: manifest",
        "pull access denied",
        "repository does not exist",
        "unauthorized",
        "authentication required",
        "toomanyrequests",
        "no such image",
        "invalid reference format",
    ];
    let reason = reason.to_ascii_lowercase();
    if DEVICE.iter().any(|words| reason.contains(words)) {
        Hint::Device
    } else if IMAGE.iter().any(|words| reason.contains(words)) {
        Hint::Image
    } else {
        Hint::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_is_tried_only_where_it_could_help() {
        assert_eq!(hint("no matching manifest for linux/arm/v7 in the manifest list entries"), Hint::Device);
        assert_eq!(hint("write /var/lib/docker/tmp: no space left on device"), Hint::Device);
        let hanging = "the container engine has not answered to `pull image` within 600 s";
        assert_eq!(hint(hanging), Hint::Device);
        assert_eq!(hint("pull access denied for shop/web, repository does not exist"), Hint::Image);
        assert_eq!(hint("exited with code 1"), Hint::None);
    }
}
