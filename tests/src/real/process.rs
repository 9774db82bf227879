//! A program of ours that runs beside the test and ends with it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::eventually;

/// An orderly end of one of our programs takes far less.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with its output appended to `log`.
    pub fn start<S: AsRef<OsStr>>(program: &Path, words: impl IntoIterator<Item = S>, log: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(words);
        Self::spawn(command, log)
    }

    /// Starts what is ready to start, with its output appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log).with_context(|| format!("{}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// Waits for its end, which somebody else has brought about.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let look = || self.child.try_wait()?.context("it runs");
        Ok(eventually("the program ends", ENDS_WITHIN, look)?.0)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid())?), signal)?)
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        eventually("the program ends", ENDS_WITHIN, || self.child.try_wait().ok().flatten().ok_or("it runs"))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
