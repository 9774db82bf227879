//! What a container asks for as the engine has understood it: read back before each start. So neither an engine that reads an
//! option otherwise than we do, nor a container that was made under an earlier policy, gets past the present one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::demand::{Demand, Host, capability, network, security_option};

/// What is read of `/containers/ID/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Made {
    /// How it was made.
    pub host_config: MadeHost,
    /// From what.
    pub config: MadeConfig,
    /// What is mounted.
    pub mounts: Option<Vec<MadeMount>>,
    /// Whether it runs.
    pub state: MadeState,
}

/// How a container was made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MadeHost {
    pub privileged: bool,
    pub cap_add: Option<Vec<String>>,
    pub network_mode: String,
    pub pid_mode: String,
    pub ipc_mode: String,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    pub userns_mode: String,
    pub cgroup_parent: String,
    pub security_opt: Option<Vec<String>>,
    pub sysctls: Option<BTreeMap<String, String>>,
    pub devices: Option<Vec<MadeDevice>>,
    pub device_requests: Option<Vec<serde::de::IgnoredAny>>,
    pub device_cgroup_rules: Option<Vec<String>>,
    pub volumes_from: Option<Vec<String>>,
}

/// From what a container was made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MadeConfig {
    /// The image as it was asked for.
    pub image: String,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Whether a container runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MadeState {
    /// Its first process; 0 where there is none.
    pub pid: i64,
}

/// One device of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MadeDevice {
    /// Its path on the device.
    pub path_on_host: String,
}

/// One mount of a container.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MadeMount {
    /// `bind`, `volume`, `tmpfs` …
    #[serde(rename = "Type")]
    pub sort: String,
    /// Of a volume.
    pub name: String,
    /// Path on the device.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Of a volume.
    pub driver: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
}

/// What such a container asks for.
#[must_use]
pub fn made_demands(made: &Made) -> Vec<Demand> {
    let host = &made.host_config;
    let mut all = vec![Demand::Image(made.config.image.clone())];
    all.extend(host.privileged.then_some(Demand::Privileged));
    // Engines have names of their own for private networks; none of them says whose else it is.
    all.extend(
        namespace(&host.network_mode, Host::Network)
            .or_else(|| network(&host.network_mode).filter(|_| host.network_mode.contains(':'))),
    );
    all.extend(namespace(&host.pid_mode, Host::Pid));
    all.extend(namespace(&host.ipc_mode, Host::Ipc));
    all.extend(namespace(&host.uts_mode, Host::Uts));
    all.extend(namespace(&host.userns_mode, Host::User));
    if !host.privileged {
        all.extend(host.cap_add.iter().flatten().filter_map(|name| capability(name)));
    }
    all.extend(host.security_opt.iter().flatten().filter_map(|option| security_option(option)));
    all.extend(host.sysctls.iter().flatten().map(|(name, _)| Demand::Sysctl(name.clone())));
    all.extend(host.devices.iter().flatten().map(|device| Demand::Device(device.path_on_host.clone())));
    all.extend(host.device_requests.iter().flatten().next().map(|_| Demand::Gpu));
    all.extend(
        host.device_cgroup_rules.iter().flatten().map(|rule| Demand::Never(format!("the device rule `{rule}`"))),
    );
    all.extend(host.volumes_from.iter().flatten().map(|from| Demand::Never(format!("the volumes of `{from}`"))));
    all.extend(made.mounts.iter().flatten().filter_map(mount));
    all.sort();
    all.dedup();
    all
}

fn namespace(mode: &str, host: Host) -> Option<Demand> {
    match mode {
        "host" => Some(Demand::Host(host)),
        _ if mode.starts_with("container:") || mode.starts_with("ns:") => {
            Some(Demand::Never(format!("the {} namespace of another container", host.word())))
        }
        _ => None,
    }
}

fn mount(mount: &MadeMount) -> Option<Demand> {
    match mount.sort.as_str() {
        "bind" => Some(Demand::Bind { source: mount.source.clone(), writable: mount.writable }),
        "volume" if !matches!(mount.driver.as_str(), "" | "local") => Some(Demand::VolumeDriver(mount.driver.clone())),
        "volume" | "tmpfs" => None,
        other => Some(Demand::Never(format!("a mount of type `{other}`"))),
    }
}
