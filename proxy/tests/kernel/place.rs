//! Network namespaces: a device with bridges, and containers on them.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::in_thread;

/// A network namespace; gone when dropped.
pub struct Place {
    pub name: String,
}

pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Place {
    pub fn new(name: &str) -> Self {
        let name = format!("or{}{name}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self { name }
    }

    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// For the first thing in a thread: what it opens from then on is in this place.
    pub fn entrance(&self) -> impl FnOnce() + Send + 'static {
        let path = Path::new("/run/netns").join(&self.name);
        move || {
            let place = File::open(path).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&place), Some(LinkNameSpaceType::Network)).unwrap();
        }
    }

    /// Does something in a thread that is in this place.
    pub async fn run<T: Send + 'static>(&self, act: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        in_thread(self.entrance(), act).await
    }

    /// What a program prints there.
    pub fn output(&self, program: &str, arguments: &str) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Writes a setting of the kernel, for this place alone.
    pub async fn set(&self, key: &'static str, value: &'static str) {
        self.run(async move || std::fs::write(format!("/proc/sys/{}", key.replace('.', "/")), value).unwrap()).await;
    }

    /// A bridge with these addresses.
    pub fn bridge(&self, name: &str, addresses: &[&str]) {
        self.ip(&format!("link add {name} type bridge"));
        self.ip(&format!("link set {name} up"));
        for address in addresses {
            self.ip(&format!("address add {address} dev {name} nodad"));
        }
    }

    /// A container on a bridge of this device: its first address is that of the bridge's network.
    pub fn container(&self, name: &str, bridge: &str, addresses: &[&str], gateways: &[&str]) -> Self {
        let inside = Self::new(name);
        let port = format!("v{}{name}", std::process::id());
        ip(&format!("link add {port} netns {} type veth peer name eth0 netns {}", self.name, inside.name));
        self.ip(&format!("link set {port} master {bridge} up"));
        inside.ip("link set eth0 up");
        for address in addresses {
            inside.ip(&format!("address add {address} dev eth0 nodad"));
        }
        for gateway in gateways {
            inside.ip(&format!("route add default via {gateway}"));
        }
        inside
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Printed, not asserted: this may run while a test panics.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}
