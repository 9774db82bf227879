//! The words and colours for what the API says in choices.

use outrigger_api::{
    Availability, DeviceState, ExitKind, Port, Pull, Replica, ReplicaState, ServiceChangeKind, Severity, UpdateState,
};

use crate::amounts;
use crate::style::Tone;
use crate::table::Cell;

pub(crate) fn replica_state(state: ReplicaState) -> (Tone, &'static str) {
    match state {
        ReplicaState::Pending => (Tone::Bad, "pending"),
        ReplicaState::Assigned => (Tone::Busy, "assigned"),
        ReplicaState::Waiting => (Tone::Busy, "waiting"),
        ReplicaState::Pulling => (Tone::Busy, "pulling"),
        ReplicaState::Prepared => (Tone::Busy, "prepared"),
        ReplicaState::Starting => (Tone::Busy, "starting"),
        ReplicaState::Running => (Tone::Good, "running"),
        ReplicaState::Unhealthy => (Tone::Bad, "unhealthy"),
        ReplicaState::BackOff => (Tone::Bad, "back-off"),
        ReplicaState::Completed => (Tone::Good, "completed"),
        ReplicaState::Failed => (Tone::Bad, "failed"),
        ReplicaState::Stopping => (Tone::Busy, "stopping"),
        ReplicaState::LeaseOver => (Tone::Bad, "lease over"),
        ReplicaState::Unknown => (Tone::Warning, "unknown"),
        ReplicaState::Lost => (Tone::Bad, "lost"),
        ReplicaState::Other => (Tone::Plain, "?"),
    }
}

/// The state with its progress: `pulling 45%`.
pub(crate) fn replica_progress(replica: &Replica) -> Cell {
    let (tone, word) = replica_state(replica.state);
    match replica.copy.as_ref().and_then(|copy| copy.pull) {
        Some(pull) if replica.state == ReplicaState::Pulling => {
            Cell::toned(tone, format!("{word} {}", pull_percent(pull)))
        }
        Some(_) | None => Cell::toned(tone, word),
    }
}

pub(crate) fn pull_percent(pull: Pull) -> String {
    if pull.total_bytes == 0 {
        return String::new();
    }
    format!("{}%", u128::from(pull.done_bytes.min(pull.total_bytes)) * 100 / u128::from(pull.total_bytes))
}

pub(crate) fn device_state(state: DeviceState) -> (Tone, &'static str) {
    match state {
        DeviceState::Online => (Tone::Good, "online"),
        DeviceState::Suspect => (Tone::Warning, "suspect"),
        DeviceState::Lost => (Tone::Bad, "lost"),
        DeviceState::Away => (Tone::Warning, "away"),
        DeviceState::Unheard => (Tone::Warning, "unheard"),
        DeviceState::Other => (Tone::Plain, "?"),
    }
}

pub(crate) fn availability(availability: Availability) -> (Tone, &'static str) {
    match availability {
        Availability::Active => (Tone::Plain, "active"),
        Availability::Cordon => (Tone::Warning, "cordon"),
        Availability::Drain => (Tone::Warning, "drain"),
    }
}

pub(crate) fn severity(severity: Severity) -> (Tone, &'static str) {
    match severity {
        Severity::Info => (Tone::Plain, "info"),
        Severity::Warning => (Tone::Warning, "warning"),
        Severity::Error => (Tone::Bad, "error"),
    }
}

pub(crate) fn service_change(change: ServiceChangeKind) -> (Tone, &'static str) {
    match change {
        ServiceChangeKind::Created => (Tone::Good, "created"),
        ServiceChangeKind::Changed => (Tone::Busy, "changed"),
        ServiceChangeKind::Unchanged => (Tone::Dim, "unchanged"),
        ServiceChangeKind::Removed => (Tone::Warning, "removed"),
    }
}

pub(crate) fn update_state(state: UpdateState) -> (Tone, &'static str) {
    match state {
        UpdateState::Done => (Tone::Plain, ""),
        UpdateState::Preparing => (Tone::Busy, "preparing"),
        UpdateState::Rolling => (Tone::Busy, "rolling"),
        UpdateState::Paused => (Tone::Bad, "paused"),
        UpdateState::Other => (Tone::Plain, "?"),
    }
}

/// `running/wanted`, good when they are equal.
pub(crate) fn share(running: u32, wanted: u32) -> Cell {
    let tone = if running >= wanted { Tone::Good } else { Tone::Warning };
    Cell::toned(tone, format!("{running}/{wanted}"))
}

/// A number that is empty when it is zero.
pub(crate) fn unless_zero(number: u32, tone: Tone) -> Cell {
    if number == 0 { Cell::from("") } else { Cell::toned(tone, number.to_string()) }
}

/// `8080->80/tcp, 53->53/udp`; `*` where the engine picks the port.
pub(crate) fn ports(ports: &[Port]) -> String {
    let one = |port: &Port| match port.host {
        0 => format!("*->{}/{}", port.container, port.protocol),
        host => format!("{host}->{}/{}", port.container, port.protocol),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Why a replica is as it is: the hub's words, else how it ended last.
pub(crate) fn detail(replica: &Replica) -> String {
    if let Some(detail) = &replica.detail {
        return detail.clone();
    }
    let Some(copy) = &replica.copy else { return String::new() };
    if let Some(detail) = &copy.detail {
        return detail.clone();
    }
    match (&copy.last_exit, replica.state) {
        (
            Some(exit),
            ReplicaState::BackOff | ReplicaState::Failed | ReplicaState::Unhealthy | ReplicaState::Starting,
        ) => match exit.kind {
            ExitKind::Exited => format!("exited with {}", exit.code.unwrap_or_default()),
            ExitKind::OutOfMemory => "killed: out of memory".into(),
            ExitKind::NotStarted => exit.detail.clone().unwrap_or_else(|| "could not be started".into()),
            ExitKind::Other => String::new(),
        },
        _ => String::new(),
    }
}

/// How long ago a point in time was.
pub(crate) fn ago(unix_ms: Option<u64>, now_unix_ms: u64) -> String {
    unix_ms.map_or_else(String::new, |at| format!("{} ago", amounts::age(now_unix_ms.saturating_sub(at) / 1000)))
}

/// A coloured word as a field.
pub(crate) fn cell((tone, word): (Tone, &'static str)) -> Cell {
    Cell::toned(tone, word)
}
