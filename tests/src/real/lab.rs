//! The lab: small devices on this machine, each with its own network, processes and Docker Engine. `tests/lab --help`
//! says what they are; this is the same in Rust.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{command, place};

/// All devices of one lab. They end with it.
#[derive(Debug)]
pub struct Lab {
    count: u8,
}

/// Devices are numbered from 1.
#[derive(Debug, Clone, Copy)]
pub struct Device<'lab> {
    _lab: &'lab Lab,
    number: u8,
}

/// Time since the epoch at which the lab acted.
pub type ActedAt = Duration;

impl Lab {
    /// A fresh lab with this many devices, whose engines answer and have the images of this name (`web`).
    pub fn up(count: u8, images: &[&str]) -> Result<Self> {
        lab(["down"])?;
        let this = Self { count };
        lab(["up", &count.to_string()])?;
        for image in images {
            lab([OsStr::new("load"), place::image(image)?.as_os_str()])?;
        }
        Ok(this)
    }

    /// One device.
    #[must_use]
    pub fn device(&self, number: u8) -> Device<'_> {
        assert!((1..=self.count).contains(&number), "the lab has devices 1 to {}", self.count);
        Device { _lab: self, number }
    }

    /// Every device.
    pub fn devices(&self) -> impl Iterator<Item = Device<'_>> {
        (1..=self.count).map(|number| self.device(number))
    }

    /// This machine's address in the lab's network: where the hub listens.
    pub fn host_address(&self) -> Result<String> {
        lab(["ip", "host"])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The logs of a failed test are below LAB_DIR: keep them where somebody wants to look at them.
        if env::var_os("OUTRIGGER_KEEP_LAB").is_none()
            && let Err(error) = lab(["down"])
        {
            eprintln!("the lab stays up: {error:#}");
        }
    }
}

impl Device<'_> {
    /// From 1.
    #[must_use]
    pub fn number(self) -> u8 {
        self.number
    }

    /// Its host name.
    #[must_use]
    pub fn name(self) -> String {
        format!("dev{}", self.number)
    }

    /// In the lab's network.
    pub fn address(self) -> Result<String> {
        self.tell("ip", &[])
    }

    /// The socket of its engine, which can be used from outside too.
    pub fn socket(self) -> Result<PathBuf> {
        self.tell("sock", &[]).map(PathBuf::from)
    }

    /// Its own processes as seen from outside, not those of its containers.
    pub fn pids(self) -> Result<Vec<u32>> {
        let printed = self.tell("pids", &[])?;
        printed.split_whitespace().map(|pid| pid.parse().with_context(|| format!("not a pid: {pid}"))).collect()
    }

    /// Runs a command inside and returns what it printed.
    pub fn run(self, words: &[&str]) -> Result<String> {
        self.tell("exec", words)
    }

    /// The same within the network of one of its containers, which sees names and addresses as the container does.
    pub fn run_beside(self, container: &str, words: &[&str]) -> Result<String> {
        let pid = self.docker(&["inspect", "--format", "{{.State.Pid}}", container])?;
        let resolv = self.docker(&["inspect", "--format", "{{.ResolvConfPath}}", container])?;
        // What is read as /etc/resolv.conf is the container's, as within it.
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let enter = ["unshare", "--mount", "nsenter", "--target", &pid, "--net", "sh", "-c", script, &resolv];
        self.run(&[&enter, words].concat())
    }

    /// Starts a command inside, with its output in `log`, and returns its pid as seen from outside. It ends with the
    /// device.
    pub fn spawn(self, log: &str, words: &[&str]) -> Result<u32> {
        let number = self.number.to_string();
        let pid = lab([&["exec", "-d", "-o", log, &number], words].concat())?;
        pid.parse().with_context(|| format!("not a pid: {pid}"))
    }

    /// The docker client against its engine.
    pub fn docker(self, words: &[&str]) -> Result<String> {
        self.tell("docker", words)
    }

    /// A command that runs at every boot, once the engine answers.
    pub fn set_boot_command(self, command: &str) -> Result<()> {
        self.tell("boot", &[command]).map(drop)
    }

    /// The cable falls silent, and every process is killed at once: no peer gets a word.
    pub fn cut_power(self) -> Result<ActedAt> {
        self.act("kill", &[])
    }

    /// Every process is killed, but the network stays: peers are told that the connections are gone.
    pub fn crash(self) -> Result<ActedAt> {
        self.act("crash", &[])
    }

    /// Boots it again with its old disk.
    pub fn revive(self) -> Result<ActedAt> {
        self.act("revive", &[])
    }

    /// Pulls the cable; the device notices.
    pub fn unplug(self) -> Result<ActedAt> {
        self.act("unplug", &[])
    }

    /// Drops all its traffic; the device does not notice.
    pub fn partition(self) -> Result<ActedAt> {
        self.act("partition", &[])
    }

    /// Drops all traffic between this device and another, both ways. The hub is heard by both.
    pub fn partition_from(self, other: Device<'_>) -> Result<ActedAt> {
        self.act("partition", &["--from", &other.number.to_string()])
    }

    /// Undoes `unplug` and `partition`.
    pub fn heal(self) -> Result<ActedAt> {
        self.act("heal", &[])
    }

    /// It hangs, its network stays up.
    pub fn freeze(self) -> Result<ActedAt> {
        self.act("freeze", &[])
    }

    /// It goes on where it hung.
    pub fn thaw(self) -> Result<ActedAt> {
        self.act("thaw", &[])
    }

    /// Ends its Docker Engine in an orderly way.
    pub fn stop_engine(self) -> Result<ActedAt> {
        self.act("engine", &["stop"])
    }

    /// Kills its Docker Engine.
    pub fn kill_engine(self) -> Result<ActedAt> {
        self.act("engine", &["kill"])
    }

    /// Starts its Docker Engine again.
    pub fn start_engine(self) -> Result<ActedAt> {
        self.act("engine", &["start"])
    }

    fn tell(self, what: &str, words: &[&str]) -> Result<String> {
        let number = self.number.to_string();
        lab([&[what, &number], words].concat())
    }

    fn act(self, what: &str, words: &[&str]) -> Result<ActedAt> {
        let printed = self.tell(what, words)?;
        let seconds: f64 = printed.parse().with_context(|| format!("not a time: {printed}"))?;
        Ok(Duration::from_secs_f64(seconds))
    }
}

fn lab<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<String> {
    command::run(place::lab_script(), words)
}
