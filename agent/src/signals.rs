//! When the agent is told to end, and why.

use std::future::Future;
use std::io;
use std::path::Path;

use outrigger_protocol::ByeReason;
use tokio::signal::unix::{SignalKind, signal};

/// Exists while systemd shuts the device down.
const SHUTDOWN_SCHEDULED: &str = "/run/systemd/shutdown/scheduled";
/// Exists, with the name of the job, while systemd switches to one of its final targets.
const SHUTDOWN_JOBS: [&str; 3] = ["/run/nologin", "/run/initctl.shutdown", "/run/shutdown"];

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
        reason()
    })
}

fn reason() -> ByeReason {
    let is_going_down = SHUTDOWN_JOBS.iter().chain([&SHUTDOWN_SCHEDULED]).any(|path| Path::new(path).exists());
    if is_going_down { ByeReason::Shutdown } else { ByeReason::Restart }
}
