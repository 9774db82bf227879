//! The last resort of the lease: kills the first process of an exclusive container itself, where the engine has not.
//!
//! An engine that hangs, or has died and left its containers running, cannot be asked to stop anything, and the hub may
//! start another copy when the lease is over. The process is held by a file descriptor from when it was first seen, so
//! that a number that the kernel has given to another process meanwhile kills nobody.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use outrigger_protocol::{Moment, PlacementId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::{debug, error, warn};

/// The processes of exclusive containers.
#[derive(Debug, Default)]
pub struct Guard {
    held: BTreeMap<PlacementId, Held>,
    /// When the next one is to be killed.
    due_at: Option<Moment>,
}

#[derive(Debug)]
struct Held {
    pid: u32,
    process: Option<OwnedFd>,
    is_killed: bool,
}

impl Guard {
    /// Kills those whose time is over. Each is given with its first process and the moment when it is over.
    pub fn watch(&mut self, now: Moment, running: &[(PlacementId, u32, Moment)]) {
        self.held
            .retain(|placement, held| running.iter().any(|(other, pid, _)| other == placement && *pid == held.pid));
        self.due_at = None;
        for &(placement, pid, over_at) in running {
            let held = self.held.entry(placement).or_insert_with(|| Held { pid, process: hold(pid), is_killed: false });
            if held.is_killed {
                continue;
            }
            if now >= over_at {
                held.is_killed = true;
                kill(placement, held);
            } else {
                self.due_at = Some(self.due_at.map_or(over_at, |due_at| due_at.min(over_at)));
            }
        }
    }

    /// When to watch again at the latest.
    #[must_use]
    pub fn due_at(&self) -> Moment {
        self.due_at.unwrap_or(Moment::NEVER)
    }
}

fn hold(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let opened = pidfd_open(pid, PidfdFlags::empty());
    opened.inspect_err(|error| debug!(%error, "a process cannot be held")).ok()
}

fn kill(placement: PlacementId, held: &Held) {
    let Some(process) = &held.process else {
        error!(%placement, pid = held.pid, "the engine has not stopped an exclusive replica in time, and we cannot");
        return;
    };
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) => warn!(%placement, pid = held.pid, "the engine has not stopped an exclusive replica in time; killed"),
        // It has ended; the engine has not told yet.
        Err(rustix::io::Errno::SRCH) => (),
        Err(error) => error!(%placement, pid = held.pid, %error, "an exclusive replica runs beyond its lease"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    const PLACEMENT: PlacementId = PlacementId(1);

    fn process() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn is_alive(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_none()
    }

    #[test]
    fn a_process_is_killed_when_its_time_is_over_and_not_before() {
        let mut child = process();
        let mut guard = Guard::default();
        let running = [(PLACEMENT, child.id(), Moment(100))];
        guard.watch(Moment(99), &running);
        assert!(is_alive(&mut child));
        assert_eq!(guard.due_at(), Moment(100));
        guard.watch(Moment(100), &running);
        assert!(!child.wait().unwrap().success());
        assert_eq!(guard.due_at(), Moment::NEVER);
    }

    #[test]
    fn what_does_not_run_any_more_is_let_go() {
        let mut child = process();
        let mut guard = Guard::default();
        guard.watch(Moment(0), &[(PLACEMENT, child.id(), Moment(100))]);
        guard.watch(Moment(200), &[]);
        assert!(is_alive(&mut child) && guard.held.is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
