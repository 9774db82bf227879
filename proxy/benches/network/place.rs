//! Two devices: network namespaces with a cable between them, and a processor for each.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

/// A network namespace; gone when dropped.
pub struct Place {
    name: String,
}

pub fn ip(arguments: &str) -> Result<()> {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().context("cannot run ip")?;
    ensure!(status.success(), "ip {arguments} failed");
    Ok(())
}

impl Place {
    pub fn new(name: &str) -> Result<Self> {
        let place = Self { name: format!("orbench{}{name}", std::process::id()) };
        ip(&format!("netns add {}", place.name))?;
        ip(&format!("-n {} link set lo up", place.name))?;
        // Thousands of connections from one address.
        place.run(0, "sh", &["-c", "echo 1025 65000 >/proc/sys/net/ipv4/ip_local_port_range"])?;
        Ok(place)
    }

    /// A cable to another device.
    pub fn cable(&self, here: &str, other: &Self, there: &str) -> Result<()> {
        ip(&format!("link add eth0 netns {} type veth peer name eth0 netns {}", self.name, other.name))?;
        for (place, address) in [(self, here), (other, there)] {
            ip(&format!("-n {} address add {address}/24 dev eth0", place.name))?;
            ip(&format!("-n {} link set eth0 up", place.name))?;
        }
        Ok(())
    }

    /// A program that will run in this place, on this processor alone.
    pub fn command(&self, cpu: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "taskset", "-c", &cpu.to_string(), program]).stdin(Stdio::null());
        command
    }

    /// What a program prints that runs here to its end.
    pub fn run(&self, cpu: usize, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(cpu, program).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} failed: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Does something in a thread that is in this place, on this processor.
    pub fn inside<T: Send>(&self, cpu: usize, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        let entered = move || {
            let place = File::open(path)?;
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?;
            let mut set = CpuSet::new();
            set.set(cpu);
            sched_setaffinity(None, &set)?;
            act()
        };
        std::thread::scope(|scope| scope.spawn(entered).join().expect("the thread does not panic"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns delete {}", self.name)) {
            eprintln!("{error:#}");
        }
    }
}
