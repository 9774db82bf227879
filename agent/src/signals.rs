//! When the agent is told to end, and why.

use std::future::Future;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use outrigger_protocol::ByeReason;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for systemd to say whether the device goes down.
const ANSWER: Duration = Duration::from_secs(1);

/// Ends with the reason when SIGTERM or SIGINT comes.
///
/// # Errors
/// If signals cannot be listened for.
pub fn shutdown() -> io::Result<impl Future<Output = ByeReason>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! { // both may be cancelled: the process ends with either
            _ = term.recv() => (),
            _ = interrupt.recv() => (),
        }
        let state = tokio::task::spawn_blocking(system_state);
        match tokio::time::timeout(ANSWER, state).await {
            Ok(Ok(Some(state))) => reason(&state),
            Ok(Ok(None) | Err(_)) | Err(_) => ByeReason::Restart,
        }
    })
}

/// What systemd says about the system as a whole; none where there is no systemd.
fn system_state() -> Option<String> {
    let mut ask = Command::new("systemctl");
    ask.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null());
    String::from_utf8(ask.output().ok()?.stdout).ok()
}

/// A restart unless systemd is sure that the device goes down: a restart that is called a shutdown would have the hub move
/// what goes on running here, while a shutdown that is called a restart is noticed by its silence.
fn reason(system_state: &str) -> ByeReason {
    if system_state.trim() == "stopping" { ByeReason::Shutdown } else { ByeReason::Restart }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_that_stops_makes_it_a_shutdown() {
        assert_eq!(reason("stopping\n"), ByeReason::Shutdown);
        for other in ["running\n", "degraded\n", "starting\n", "offline\n", "unknown\n", ""] {
            assert_eq!(reason(other), ByeReason::Restart);
        }
    }
}
