//! When the agent is told to end, and why, or to read its files again.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use outrigger_protocol::ByeReason;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Longest wait for systemd to say whether the device goes down.
const ANSWER: Duration = Duration::from_secs(1);

/// What the agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// To end (SIGTERM, SIGINT), for this reason.
    End(ByeReason),
    /// To read its settings and the owner's policy again (SIGHUP).
    Reload,
}

/// The signals that are listened to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. May be cancelled: what came and was not taken is there the next time.
    pub async fn next(&mut self) -> Told {
        tokio::select! { // all may be cancelled: a receive loses nothing
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
            _ = self.hang_up.recv() => return Told::Reload,
        }
        let state = tokio::task::spawn_blocking(system_state);
        Told::End(match tokio::time::timeout(ANSWER, state).await {
            Ok(Ok(Some(state))) => reason(&state),
            Ok(Ok(None) | Err(_)) | Err(_) => ByeReason::Restart,
        })
    }
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

    #[tokio::test]
    async fn a_hang_up_reloads_and_ends_nothing() {
        let mut signals = Signals::listen().unwrap();
        let own = std::process::id().to_string();
        for _ in 0..2 {
            assert!(Command::new("kill").args(["-HUP", &own]).status().unwrap().success());
            let told = tokio::time::timeout(Duration::from_secs(30), signals.next()).await;
            assert_eq!(told.expect("the signal was sent"), Told::Reload);
        }
    }

    #[test]
    fn only_a_system_that_stops_makes_it_a_shutdown() {
        assert_eq!(reason("stopping\n"), ByeReason::Shutdown);
        for other in ["running\n", "degraded\n", "starting\n", "offline\n", "unknown\n", ""] {
            assert_eq!(reason(other), ByeReason::Restart);
        }
    }
}
