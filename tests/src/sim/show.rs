//! Messages, actions and records in one line each, for a trace that people read.

use outrigger_agent::core::Action;
use outrigger_agent::engine::EngineEvent;
use outrigger_planner::{Fleet, Record, ReplicaView, Value};
use outrigger_protocol::{Assignment, DownMessage, Status, UpMessage};

/// A message of a device.
#[must_use]
pub fn up(message: &UpMessage) -> String {
    match message {
        UpMessage::Hello(hello) => {
            format!("hello, session {}, holds {:?}", hello.session, hello.held.map(|s| s.to_string()))
        }
        UpMessage::Report(report) => format!("report {} of session {}", report.sequence, report.session),
        UpMessage::Status(status) => status_line(status),
        UpMessage::Bye(bye) => format!("bye of session {}: {:?}", bye.session, bye.reason),
        UpMessage::Answer(_) => "answer".to_owned(),
        UpMessage::Mesh(mesh) => format!("mesh, holds routes {:?}", mesh.held),
        UpMessage::Unseal(question) => format!("asks for the {}", question.item),
        UpMessage::Renew(renew) => format!("asks for a certificate in session {}", renew.session),
    }
}

fn status_line(status: &Status) -> String {
    let copies: Vec<String> =
        status.replicas.iter().map(|one| format!("{}={} {:?}", one.replica, one.placement, one.phase)).collect();
    let held = status.held.map(|stamp| stamp.to_string());
    format!("status, holds {held:?}, engine {:?}: {}", status.engine, copies.join(", "))
}

/// A message of the hub.
#[must_use]
pub fn down(message: &DownMessage) -> String {
    match message {
        DownMessage::Want(want) => format!("want {}", assignment(want)),
        DownMessage::Lease(lease) => format!("lease for report {} of session {}", lease.sequence, lease.session),
        DownMessage::Ask(ask) => format!("ask {ask:?}"),
        DownMessage::Certificate(_) => "certificate".to_owned(),
        DownMessage::Sealed(sealed) => format!("answer to question {}", sealed.request),
        DownMessage::Routes(routes) => format!("routes {}.{}", routes.epoch, routes.number),
    }
}

/// An assignment.
#[must_use]
pub fn assignment(want: &Assignment) -> String {
    let copies: Vec<String> =
        want.replicas.iter().map(|one| format!("{}={} {:?}", one.replica, one.placement, one.goal)).collect();
    format!("{}: {}", want.stamp, copies.join(", "))
}

/// An action of an agent.
#[must_use]
pub fn action(action: &Action) -> String {
    match action {
        Action::Check(key) => format!("check {}", key.image),
        Action::Pull(key) => format!("pull {}", key.image),
        Action::Create(new) => format!("create {} ({})", new.replica, new.placement),
        Action::Start(placement, id) => format!("start {placement} in {}", id.short()),
        Action::Stop(placement, id, grace) => format!("stop {placement} in {}, grace {grace:?}", id.short()),
        Action::Remove(placement, id) => format!("remove {placement} in {}", id.short()),
        Action::MakeNetwork(spec, _) => format!("make network {}", spec.name),
        Action::RemoveNetwork(name, _) => format!("remove network {name}"),
        Action::ListNetworks => "list networks".to_owned(),
        Action::List => "list".to_owned(),
        Action::Lay(placement, _) => format!("lay the files of {placement}"),
        Action::Clear(placement) => format!("clear the files of {placement}"),
        Action::Inspect(placement, id) => format!("inspect {placement} in {}", id.short()),
    }
}

/// An engine's word.
#[must_use]
pub fn word(word: &EngineEvent) -> String {
    match word {
        EngineEvent::Networks(all) => format!("{} networks", all.len()),
        EngineEvent::Listed(all) => format!("{} containers", all.len()),
        EngineEvent::Changed(one) => format!("{} ({}) {:?}", one.replica, one.placement, one.state),
        EngineEvent::Gone(id) => format!("{} is gone", id.short()),
        EngineEvent::Lost(reason) => format!("lost: {reason}"),
    }
}

/// What the hub saves.
#[must_use]
pub fn records(records: &[Record]) -> String {
    let one = |record: &Record| match &record.value {
        None => format!("-{:?}", record.key),
        Some(Value::Placement(placement)) => format!(
            "{:?} {}.{} on {} {:?} because {}",
            record.key, placement.service, placement.number, placement.device, placement.stage, placement.reason.cause
        ),
        Some(Value::Device(device)) => {
            format!("{:?} generation {} lost {}", record.key, device.generation, device.lost)
        }
        Some(_) => format!("{:?}", record.key),
    };
    records.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// In what two assignments differ.
#[must_use]
pub fn difference(a: &Assignment, b: &Assignment) -> String {
    let copies: Vec<String> =
        a.replicas.iter().zip(&b.replicas).filter(|(a, b)| a != b).map(|(a, b)| format!("{a:?} was {b:?}")).collect();
    format!(
        "{} was {}; {}; specifications {:?} were {:?}",
        assignment(a),
        assignment(b),
        copies.join(", "),
        a.specs,
        b.specs
    )
}

/// All that the hub knows of its devices, services and copies: what a run that broke something is judged by.
#[must_use]
pub fn fleet(fleet: &Fleet) -> Vec<String> {
    let mut lines: Vec<String> = fleet.safe_mode().map(|why| format!("nothing moves: {why}")).into_iter().collect();
    lines.extend(fleet.devices().map(|device| {
        let (held, stamp) = (device.held.map(|stamp| stamp.to_string()), device.stamp);
        let used = format!("{} and {}", device.reserved_cpu, device.reserved_memory);
        let has = device.facts.map(|facts| format!("{} and {}", facts.cpu, facts.memory));
        format!(
            "{} is {} and {:?}, holds {held:?} of {stamp}, engine {:?}, {used} of {has:?} reserved, labels {:?}",
            device.name, device.liveness, device.availability, device.engine, device.labels
        )
    }));
    for service in fleet.services() {
        lines.push(format!(
            "{} wants {} of revision {}, roll {:?}",
            service.name, service.wanted, service.revision.0, service.roll
        ));
        lines.extend(fleet.replicas(service.name).map(|replica| replica_line(&replica)));
    }
    lines
}

fn replica_line(replica: &ReplicaView<'_>) -> String {
    let copies: Vec<String> = replica
        .copies
        .iter()
        .map(|copy| {
            let phase = copy.seen.map(|seen| &seen.phase);
            format!("{} on {} {:?} of revision {} {phase:?}", copy.placement, copy.device, copy.stage, copy.revision.0)
        })
        .collect();
    format!("  {} waits {:?}: {}", replica.name, replica.waiting, copies.join(", "))
}
