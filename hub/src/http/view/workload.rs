//! Services, replicas and their copies as the API shows them.

use outrigger_api as api;
use outrigger_planner::{CopyView, Liveness, Reason, ReplicaView, RollState, ServiceView, Stage, Waiting};
use outrigger_protocol::{ExitCause, LossPolicy, Mode, Moment, Observed, Phase, PortProtocol};

/// A service as the API shows it.
#[must_use]
pub fn service(view: &ServiceView<'_>) -> api::Service {
    let spec = view.spec;
    let ports = spec.container.ports.iter().map(|port| api::Port {
        container: port.container,
        host: port.host.unwrap_or(0),
        protocol: protocol(port.protocol).to_owned(),
    });
    api::Service {
        name: view.name.to_string(),
        stack: view.name.stack.to_string(),
        image: spec.container.image.clone(),
        mode: match spec.mode {
            Mode::Replicated(_) => api::ServiceMode::Replicated,
            Mode::Global => api::ServiceMode::Global,
        },
        wanted: view.wanted,
        running: view.running,
        pending: view.pending,
        ports: ports.collect(),
        on_device_loss: match spec.loss {
            LossPolicy::Available => "available",
            LossPolicy::Exclusive { .. } => "exclusive",
            LossPolicy::Wait => "wait",
        }
        .to_owned(),
        revision: view.revision.0,
        update: api::Update {
            state: match view.roll.state {
                RollState::Done => api::UpdateState::Done,
                RollState::Preparing => api::UpdateState::Preparing,
                RollState::Rolling => api::UpdateState::Rolling,
                RollState::Paused => api::UpdateState::Paused,
            },
            done: view.roll.done,
            total: view.roll.total,
            reason: view.roll.reason.map(str::to_owned),
        },
        refused: view
            .refused
            .iter()
            .map(|(device, why)| api::Refusal { device: device.to_string(), reason: (*why).to_owned() })
            .collect(),
        notes: Vec::new(),
    }
}

/// A stack in one line, from its services.
#[must_use]
pub fn stack_summary(name: &str, applied_unix_ms: Option<u64>, services: &[api::Service]) -> api::StackSummary {
    let sum =
        |of: fn(&api::Service) -> u32| services.iter().fold(0_u32, |sum, service| sum.saturating_add(of(service)));
    api::StackSummary {
        name: name.to_owned(),
        services: u32::try_from(services.len()).unwrap_or(u32::MAX),
        wanted: sum(|service| service.wanted),
        running: sum(|service| service.running),
        pending: sum(|service| service.pending),
        applied_unix_ms,
    }
}

/// A replica as the API shows it.
#[must_use]
pub fn replica(view: &ReplicaView<'_>, service: &ServiceView<'_>, now: Moment) -> api::Replica {
    let mut copies = view.copies.iter().map(|seen| copy(seen, service));
    let first = copies.next();
    let waiting = view.waiting.map(ToString::to_string);
    api::Replica {
        name: view.name.to_string(),
        service: view.name.service.to_string(),
        number: view.name.number,
        state: first.as_ref().map_or(api::ReplicaState::Pending, |copy| copy.state),
        refused: matches!(view.waiting, Some(Waiting::Owners(_))),
        detail: waiting.or_else(|| first.as_ref().and_then(|copy| copy.detail.clone())),
        since_s: view.copies.first().and_then(|copy| since_s(copy, now)),
        up_to_date: view.up_to_date,
        copy: first,
        others: copies.collect(),
    }
}

/// Why a copy is where it is, or why the replica waits, in one sentence.
#[must_use]
pub fn replica_reason(view: &ReplicaView<'_>) -> String {
    match (view.waiting, view.copies.first()) {
        (Some(waiting), _) => waiting.to_string(),
        (None, Some(copy)) => reason(copy.reason),
        (None, None) => "it has not been placed yet".to_owned(),
    }
}

/// Why a copy is on its device.
pub(super) fn reason(reason: &Reason) -> String {
    let score = &reason.score;
    let points = score.points();
    match score.copies {
        0 => format!("{}; {points} points, no other copy there", reason.cause),
        1 => format!("{}; {points} points, one other copy there", reason.cause),
        more => format!("{}; {points} points, {more} other copies there", reason.cause),
    }
}

fn copy(view: &CopyView<'_>, service: &ServiceView<'_>) -> api::PlacedCopy {
    let state = copy_state(view);
    let seen = view.seen;
    api::PlacedCopy {
        placement: view.placement.to_string(),
        device: view.device.to_string(),
        state,
        detail: copy_detail(view),
        image: (view.revision == service.revision).then(|| service.spec.container.image.clone()),
        revision: view.revision.0,
        reason: reason(view.reason),
        digest: seen.and_then(|seen| filled(&seen.digest)),
        pull: match seen.map(|seen| &seen.phase) {
            Some(Phase::Pulling { done, total }) => Some(api::Pull { done_bytes: *done, total_bytes: *total }),
            Some(_) | None => None,
        },
        container: seen.and_then(|seen| filled(&seen.container)),
        ports: seen.map(opened).unwrap_or_default(),
        restarts: seen.map_or(0, |seen| seen.restarts),
        last_exit: seen.and_then(|seen| seen.last_exit.as_ref()).map(exit),
        cpu_milli: view.usage.map(|usage| usage.cpu_milli),
        memory_bytes: view.usage.map(|usage| usage.memory.0),
    }
}

fn copy_state(view: &CopyView<'_>) -> api::ReplicaState {
    match view.liveness {
        Liveness::Lost => return api::ReplicaState::Lost,
        Liveness::Unheard => return api::ReplicaState::Unknown,
        // What they said last still counts: nothing moves for these.
        Liveness::Up | Liveness::Suspect | Liveness::Away => (),
    }
    if view.stage == Stage::Stop {
        return api::ReplicaState::Stopping;
    }
    let Some(seen) = view.seen else { return api::ReplicaState::Assigned };
    match seen.phase {
        Phase::Waiting => api::ReplicaState::Waiting,
        Phase::Pulling { .. } => api::ReplicaState::Pulling,
        Phase::Prepared => api::ReplicaState::Prepared,
        Phase::Starting => api::ReplicaState::Starting,
        Phase::Running => api::ReplicaState::Running,
        Phase::Unhealthy => api::ReplicaState::Unhealthy,
        Phase::BackOff { .. } => api::ReplicaState::BackOff,
        Phase::Completed => api::ReplicaState::Completed,
        Phase::Failed { .. } => api::ReplicaState::Failed,
        Phase::Stopping => api::ReplicaState::Stopping,
        Phase::LeaseOver => api::ReplicaState::LeaseOver,
        Phase::Refused { .. } => api::ReplicaState::Refused,
    }
}

/// How the copy that does the work is, where that is worth saying.
pub(super) fn first_detail(view: &ReplicaView<'_>) -> Option<String> {
    view.copies.first().and_then(copy_detail)
}

fn copy_detail(view: &CopyView<'_>) -> Option<String> {
    match view.liveness {
        Liveness::Lost => return Some(format!("{} is lost", view.device)),
        Liveness::Unheard => return Some(format!("{} has not been heard since the hub's start", view.device)),
        Liveness::Suspect => return Some(format!("{} should have been heard by now", view.device)),
        Liveness::Away => return Some(format!("{} said that it goes away for a moment", view.device)),
        Liveness::Up => (),
    }
    match &view.seen?.phase {
        Phase::BackOff { reason, .. } | Phase::Failed { reason } | Phase::Refused { reason } => filled(reason),
        Phase::Waiting
        | Phase::Pulling { .. }
        | Phase::Prepared
        | Phase::Starting
        | Phase::Running
        | Phase::Unhealthy
        | Phase::Completed
        | Phase::Stopping
        | Phase::LeaseOver => None,
    }
}

fn since_s(copy: &CopyView<'_>, now: Moment) -> Option<u64> {
    let since_told = copy.seen_at.map_or(0, |at| now.since(at).as_secs());
    copy.seen.map(|seen| u64::from(seen.since_s).saturating_add(since_told))
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn opened(seen: &Observed) -> Vec<api::Port> {
    let one = |(container, host, transport): &(u16, u16, PortProtocol)| api::Port {
        container: *container,
        host: *host,
        protocol: protocol(*transport).to_owned(),
    };
    seen.ports.iter().map(one).collect()
}

fn protocol(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
    }
}

fn exit(cause: &ExitCause) -> api::Exit {
    match cause {
        ExitCause::Exited(code) => api::Exit { kind: api::ExitKind::Exited, code: Some(*code), detail: None },
        ExitCause::OutOfMemory => api::Exit { kind: api::ExitKind::OutOfMemory, code: None, detail: None },
        ExitCause::NotStarted(reason) => {
            api::Exit { kind: api::ExitKind::NotStarted, code: None, detail: Some(reason.clone()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_planner::{Cause, RollView, Score};
    use outrigger_protocol::{DeviceName, PlacementId, ReplicaName, Revision, ServiceRef, ServiceSpec};

    use super::*;
    use crate::http::view::change::tests::spec;

    struct Case {
        service: ServiceRef,
        spec: ServiceSpec,
        name: ReplicaName,
        device: DeviceName,
        reason: Reason,
        seen: Observed,
    }

    fn case(phase: Phase) -> Case {
        let name: ReplicaName = "shop/web.2".parse().unwrap();
        Case {
            service: name.service.clone(),
            spec: spec("web", "nginx:1"),
            device: "pi".parse().unwrap(),
            reason: Reason {
                cause: Cause::Lost("nuc".parse().unwrap()),
                score: Score { free: 800, ..Score::default() },
            },
            seen: Observed {
                placement: PlacementId(255),
                replica: name.clone(),
                phase,
                restarts: 3,
                since_s: 10,
                last_exit: Some(ExitCause::OutOfMemory),
                container: String::new(),
                digest: String::new(),
                ports: vec![(80, 32768, PortProtocol::Tcp)],
            },
            name,
        }
    }

    impl Case {
        fn shown(&self, liveness: Liveness, waiting: Option<&Waiting>) -> api::Replica {
            let copy = CopyView {
                placement: PlacementId(255),
                replica: self.name.clone(),
                device: &self.device,
                liveness,
                revision: Revision(1),
                spec: &self.spec,
                stage: Stage::Run,
                reason: &self.reason,
                seen: Some(&self.seen),
                seen_at: Some(Moment(1000)),
                usage: None,
            };
            let roll = RollView { state: RollState::Rolling, done: 0, total: 1, reason: None };
            let service = ServiceView {
                name: &self.service,
                spec: &self.spec,
                revision: Revision(2),
                wanted: 1,
                running: 0,
                pending: 0,
                roll,
                refused: vec![],
            };
            let view = ReplicaView { name: self.name.clone(), waiting, copies: vec![copy], up_to_date: false };
            replica(&view, &service, Moment(6000))
        }
    }

    #[test]
    fn a_replica_is_what_its_first_copy_is() {
        let shown = case(Phase::BackOff { retry_ms: 5, reason: "exit code 1".into() }).shown(Liveness::Up, None);
        assert_eq!((shown.state, shown.since_s), (api::ReplicaState::BackOff, Some(15)));
        assert_eq!(shown.detail.as_deref(), Some("exit code 1"));
        let copy = shown.copy.unwrap();
        assert_eq!((copy.placement.as_str(), copy.image, copy.ports[0].host), ("ff", None, 32768));
        assert_eq!(copy.reason, "nuc was lost; 800 points, no other copy there");
    }

    #[test]
    fn what_a_lost_device_said_last_is_not_shown_as_the_present() {
        let shown = case(Phase::Running).shown(Liveness::Lost, None);
        assert_eq!((shown.state, shown.detail.as_deref()), (api::ReplicaState::Lost, Some("pi is lost")));
    }

    #[test]
    fn why_it_waits_comes_before_how_its_copy_is() {
        let waiting = Waiting::Device("pi".parse().unwrap());
        let shown = case(Phase::Running).shown(Liveness::Lost, Some(&waiting));
        assert_eq!(shown.detail.as_deref(), Some("waits for pi, as its policy says"));
    }
}
