//! What one container is made from: the part of a service that the agent hands to its engine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Attachment, Bytes, FileMount, MilliCpu, Platform, PublishMode};

/// How to make one container. Everything is resolved: no variables, no defaults of Compose are left to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Image reference as the user wrote it, possibly with a digest.
    pub image: String,
    /// The platform to pull, where the user or the image leaves a choice.
    pub platform: Option<Platform>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entrypoint; empty resets it.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, in order, later ones win.
    pub environment: Vec<(String, String)>,
    /// Container labels; `outrigger.*` is ours and refused in Compose files.
    pub labels: Vec<(String, String)>,
    /// Ports opened on the device.
    pub ports: Vec<PublishedPort>,
    /// Volumes, binds and tmpfs.
    pub mounts: Vec<Mount>,
    /// Replaces the image's healthcheck.
    pub healthcheck: Option<Healthcheck>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Whether the owner of the file asks for all privileges.
    pub privileged: bool,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Whether an init process reaps children.
    pub init: Option<bool>,
    /// Signal that asks it to stop, such as `SIGINT`.
    pub stop_signal: Option<String>,
    /// Time between that signal and the kill. Docker's default is 10 s.
    pub stop_grace: Duration,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Namespaced kernel parameters.
    pub sysctls: Vec<(String, String)>,
    /// Host devices passed through.
    pub devices: Vec<DeviceMapping>,
    /// GPUs passed through.
    pub gpus: Vec<GpuRequest>,
    /// Lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Where its output goes; none: `local` with a size cap, because unbounded logs kill SD cards.
    pub logging: Option<LogConfig>,
    /// Size of `/dev/shm`.
    pub shm_size: Option<Bytes>,
    /// Limits of the container's cgroup.
    pub limits: CgroupLimits,
    /// `host`, `none` or the engine's default bridge.
    pub network_mode: Option<String>,
    /// Security options, such as `no-new-privileges:true`.
    pub security_opt: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Further groups of the process.
    pub group_add: Vec<String>,
    /// A terminal is allocated.
    pub tty: bool,
    /// Networks of the fleet that it joins; none: it has the network that [`Self::network_mode`] names, alone.
    pub networks: Vec<Attachment>,
    /// Secrets and configs that it finds as files.
    pub files: Vec<FileMount>,
}

/// What the kernel holds the container to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// Most processor time.
    pub cpu: Option<MilliCpu>,
    /// Most memory; the kernel kills what needs more.
    pub memory: Option<Bytes>,
    /// Most processes and threads; 0 is as many as it wants, none is the agent's default.
    pub pids: Option<u32>,
}

/// A port opened on the device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container: u16,
    /// Port on the device; none: the engine picks a free one.
    pub host: Option<u16>,
    /// Address on the device; none: all.
    pub address: Option<std::net::IpAddr>,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// Who opens it.
    pub mode: PublishMode,
}

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl std::fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path inside the container.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MountKind {
    /// A named volume of the engine on that device, already prefixed with its stack unless it is external.
    Volume {
        /// The engine's name for it.
        name: String,
        /// Volume driver; none is `local`.
        driver: Option<String>,
        /// Driver options.
        options: Vec<(String, String)>,
    },
    /// An anonymous volume: goes with the container.
    Anonymous,
    /// A path of the device.
    Bind {
        /// Absolute path on the device.
        source: String,
        /// Whether a missing path is made as a folder.
        create: bool,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes.
        size: Option<Bytes>,
        /// Permissions, such as 0o1777.
        mode: Option<u32>,
    },
}

/// How the engine finds out whether the container works.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Healthcheck {
    /// The check.
    pub test: HealthcheckTest,
    /// Time between checks.
    pub interval: Option<Duration>,
    /// Longest time of one.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between checks within the start period.
    pub start_interval: Option<Duration>,
}

/// The check of a [`Healthcheck`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthcheckTest {
    /// The image's own check is switched off.
    Disabled,
    /// The image's own check with other times.
    Inherited,
    /// A program with arguments.
    Exec(Vec<String>),
    /// A line for the image's shell.
    Shell(String),
}

/// What happens when a container ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which endings are followed by a restart.
    pub condition: RestartCondition,
    /// First wait before a restart; it doubles up to five minutes. None: 0.1 s.
    pub delay: Option<Duration>,
    /// Restarts after which it is given up; none: never.
    pub max_attempts: Option<u32>,
    /// How long a container must run before its earlier failures are forgotten.
    pub window: Option<Duration>,
}

/// Which endings are followed by a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartCondition {
    /// All: a service is meant to run.
    #[default]
    Any,
    /// Exit codes other than 0, and kills.
    OnFailure,
    /// None: it runs once.
    None,
}

/// A resource limit of processes (`setrlimit`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, such as `nofile`.
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// A host device passed through.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the device, such as `/dev/ttyUSB0`.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// GPUs passed through (Docker's device requests).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuRequest {
    /// Driver, such as `nvidia`; none: the engine's choice.
    pub driver: Option<String>,
    /// How many; none with no ids: all.
    pub count: Option<u32>,
    /// Named ones.
    pub ids: Vec<String>,
    /// What they must be able to do, such as `gpu`.
    pub capabilities: Vec<String>,
}

/// Where the container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogConfig {
    /// The engine's log driver.
    pub driver: String,
    /// Its options.
    pub options: Vec<(String, String)>,
}
