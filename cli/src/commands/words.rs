//! The words and colours for what the API says in choices.

use outrigger_api::{
    Availability, DeviceState, Exit, ExitKind, PlacedCopy, Port, Pull, Replica, ReplicaState, ServiceChangeKind,
    Severity, UpdateState,
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
        ReplicaState::Refused => (Tone::Bad, "refused"),
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

/// Why a replica is as it is: what the hub says of it, and what its device does.
pub(crate) fn detail(replica: &Replica) -> String {
    let of_copy = replica.copy.as_ref().and_then(copy_detail);
    match (&replica.detail, of_copy) {
        (Some(detail), Some(of_copy)) if !detail.contains(&of_copy) => format!("{detail}; {of_copy}"),
        (Some(detail), _) => detail.clone(),
        (None, of_copy) => of_copy.unwrap_or_default(),
    }
}

/// The device's words, else how the container ended last, where that is what keeps it from running.
fn copy_detail(copy: &PlacedCopy) -> Option<String> {
    let is_in_trouble = matches!(
        copy.state,
        ReplicaState::BackOff | ReplicaState::Failed | ReplicaState::Refused | ReplicaState::Unhealthy
    );
    let exit = copy.last_exit.as_ref().filter(|_| is_in_trouble);
    copy.detail.clone().or_else(|| exit.map(ended))
}

fn ended(exit: &Exit) -> String {
    match exit.kind {
        ExitKind::Exited => format!("exited with {}", exit.code.unwrap_or_default()),
        ExitKind::OutOfMemory => "killed: out of memory".into(),
        ExitKind::NotStarted => exit.detail.clone().unwrap_or_else(|| "could not be started".into()),
        ExitKind::Other => "ended".into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples;

    #[test]
    fn a_replica_that_cannot_run_tells_all_that_is_known_about_it() {
        let mut replica = samples::replica("shop/web.1", ReplicaState::BackOff, "pi-1");
        let exit = Exit { kind: ExitKind::Exited, code: Some(3), detail: None };
        replica.copy.as_mut().unwrap().last_exit = Some(exit);
        assert_eq!(detail(&replica), "exited with 3");
        replica.detail = Some("no other device can take it".into());
        assert_eq!(detail(&replica), "no other device can take it; exited with 3");
        replica.detail = Some("exited with 3".into());
        assert_eq!(detail(&replica), "exited with 3", "nothing is said twice");
        let running = samples::replica("shop/web.1", ReplicaState::Running, "pi-1");
        assert_eq!(detail(&running), "");
    }
}
