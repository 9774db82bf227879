//! What a container asks of its device, taken from its specification. Every field is named here, so that a new one does not
//! compile before somebody has thought about it.

use outrigger_protocol::{ContainerSpec, LogConfig, Mount, MountKind};

use super::{DEFAULT_CAPABILITIES, HARMLESS_CAPABILITIES};

/// Limits that only bind the container itself.
const HARMLESS_ULIMITS: [&str; 10] =
    ["as", "core", "cpu", "data", "fsize", "locks", "nofile", "nproc", "sigpending", "stack"];
/// Log drivers that keep the output on the device.
const HARMLESS_LOG_DRIVERS: [&str; 6] = ["json-file", "local", "journald", "k8s-file", "passthrough", "none"];
/// Their options that name neither a path nor another machine.
const HARMLESS_LOG_OPTIONS: [&str; 11] = [
    "max-size", "max-file", "compress", "tag", "labels", "labels-regex", "env", "env-regex", "mode", "max-buffer-size",
    "cache-disabled",
];
/// File systems that a volume of the local driver may be, with what its `device` is.
const VOLUME_TYPES: [(&str, Source); 11] = [
    ("", Source::Path),
    ("none", Source::Path),
    ("bind", Source::Path),
    ("nfs", Source::Elsewhere),
    ("nfs4", Source::Elsewhere),
    ("cifs", Source::Elsewhere),
    ("tmpfs", Source::Elsewhere),
    ("ext4", Source::Path),
    ("xfs", Source::Path),
    ("btrfs", Source::Path),
    ("vfat", Source::Path),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Path,
    Elsewhere,
}

/// A namespace of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// Its network: all its addresses, and all that listens on loopback.
    Network,
    /// Its processes.
    Pid,
    /// Its shared memory.
    Ipc,
    /// Its host name.
    Uts,
    /// Its users, where the engine maps them.
    User,
}

/// Something that is not plainly harmless.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// All privileges.
    Privileged,
    /// A namespace of the device.
    Host(Host),
    /// A capability, without `CAP_`.
    Capability(String),
    /// A path of the device.
    Bind {
        /// As it was written.
        source: String,
        /// Whether it is to be written.
        writable: bool,
    },
    /// A device.
    Device(String),
    /// GPUs.
    Gpu,
    /// A kernel parameter.
    Sysctl(String),
    /// A limit of processes.
    Ulimit(String),
    /// A security option, with `=` between name and value.
    SecurityOption(String),
    /// Another runtime.
    Runtime(String),
    /// A cgroup to be put under.
    CgroupParent(String),
    /// A volume driver, or options of the local one.
    VolumeDriver(String),
    /// A volume that is not ours.
    Volume(String),
    /// A log driver, or an option of one that is not plainly harmless.
    LogDriver(String),
    /// An image.
    Image(String),
    /// What no policy allows; what it is.
    Never(String),
}

/// What a specification asks for.
#[must_use]
pub fn demands(spec: &ContainerSpec) -> Vec<Demand> {
    let ContainerSpec {
        image,
        mounts,
        cap_add,
        privileged,
        ulimits,
        sysctls,
        devices,
        gpus,
        logging,
        network_mode,
        security_opt,
        // Within the container, or limits of it.
        platform: _,
        command: _,
        entrypoint: _,
        environment: _,
        labels: _,
        networks: _,
        // From the hub, in memory that only we look into, and read-only: no more than what stands in the environment.
        files: _,
        healthcheck: _,
        restart: _,
        user: _,
        working_dir: _,
        hostname: _,
        cap_drop: _,
        read_only: _,
        init: _,
        stop_signal: _,
        stop_grace: _,
        extra_hosts: _,
        shm_size: _,
        limits: _,
        dns: _,
        group_add: _,
        tty: _,
        // Whatever the device has open is seen by the planner, and the engine refuses a port that is taken.
        ports: _,
    } = spec;
    let mut all = vec![Demand::Image(image.clone())];
    all.extend(privileged.then_some(Demand::Privileged));
    all.extend(network_mode.as_deref().and_then(network));
    all.extend(cap_add.iter().filter_map(|name| capability(name)));
    all.extend(mounts.iter().flat_map(mount));
    all.extend(devices.iter().map(|device| Demand::Device(device.host.clone())));
    all.extend((!gpus.is_empty()).then_some(Demand::Gpu));
    all.extend(sysctls.iter().map(|(name, _)| Demand::Sysctl(name.clone())));
    all.extend(ulimits.iter().filter_map(|limit| ulimit(&limit.name)));
    all.extend(security_opt.iter().filter_map(|option| security_option(option)));
    all.extend(logging.as_ref().and_then(log_driver));
    all.sort();
    all.dedup();
    all
}

pub(super) fn network(mode: &str) -> Option<Demand> {
    match mode {
        "" | "default" | "bridge" | "none" | "private" => None,
        "host" => Some(Demand::Host(Host::Network)),
        other => Some(Demand::Never(format!("network_mode `{other}`"))),
    }
}

/// Both spellings, in any case.
pub(super) fn capability(name: &str) -> Option<Demand> {
    let name = bare_capability(name);
    let is_harmless = DEFAULT_CAPABILITIES.contains(&name.as_str()) || HARMLESS_CAPABILITIES.contains(&name.as_str());
    (!is_harmless).then_some(Demand::Capability(name))
}

/// The name without `CAP_`, in capitals.
#[must_use]
pub fn bare_capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
}

fn ulimit(name: &str) -> Option<Demand> {
    let name = name.to_ascii_lowercase();
    (!HARMLESS_ULIMITS.contains(&name.as_str())).then_some(Demand::Ulimit(name))
}

/// `no-new-privileges` may be switched off: its root has no more than the capabilities that it was given.
pub(super) fn security_option(option: &str) -> Option<Demand> {
    let separator = option.find(['=', ':']).unwrap_or(option.len());
    let (name, value) = option.split_at_checked(separator).unwrap_or((option, ""));
    let name = name.to_ascii_lowercase();
    if name == "no-new-privileges" {
        return None;
    }
    let value = value.get(1..).filter(|value| !value.is_empty());
    Some(Demand::SecurityOption(value.map_or(name.clone(), |value| format!("{name}={value}"))))
}

fn log_driver(logging: &LogConfig) -> Option<Demand> {
    let is_harmless = HARMLESS_LOG_DRIVERS.contains(&logging.driver.as_str())
        && logging.options.iter().all(|(name, _)| HARMLESS_LOG_OPTIONS.contains(&name.as_str()));
    (!is_harmless).then(|| Demand::LogDriver(logging.driver.clone()))
}

fn mount(mount: &Mount) -> Vec<Demand> {
    match &mount.kind {
        MountKind::Anonymous | MountKind::Tmpfs { .. } => Vec::new(),
        MountKind::Bind { source, .. } => vec![Demand::Bind { source: source.clone(), writable: !mount.read_only }],
        MountKind::Volume { name, driver, options } => volume(name, driver.as_deref(), options, mount.read_only),
    }
}

/// A volume of the local driver can be any path of the device, or any of its disks.
pub(super) fn volume(name: &str, driver: Option<&str>, options: &[(String, String)], read_only: bool) -> Vec<Demand> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || !name.chars().all(is_name) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return vec![Demand::Never(format!("a volume named `{name}`"))];
    }
    let driver = driver.filter(|driver| !driver.is_empty()).unwrap_or("local");
    if driver == "local" && options.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Demand::VolumeDriver(driver.to_owned())];
    if driver == "local" {
        all.extend(local_volume(options, read_only));
    }
    all
}

fn local_volume(options: &[(String, String)], read_only: bool) -> Option<Demand> {
    let option = |key: &str| options.iter().rev().find(|(name, _)| name == key).map_or("", |(_, value)| value);
    if let Some((key, _)) = options.iter().find(|(key, _)| !["type", "o", "device", "size"].contains(&key.as_str())) {
        return Some(Demand::Never(format!("the volume option `{key}`")));
    }
    let kind = option("type").to_ascii_lowercase();
    let Some((_, source)) = VOLUME_TYPES.iter().find(|(name, _)| *name == kind) else {
        return Some(Demand::Never(format!("a volume of type `{kind}`")));
    };
    let (device, words) = (option("device"), option("o").to_ascii_lowercase());
    let is_bind = words.split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
    if *source == Source::Elsewhere && !is_bind {
        return None;
    }
    if device.starts_with("/dev/") && !is_bind {
        return Some(Demand::Device(device.to_owned()));
    }
    let is_read = read_only || words.split(',').any(|word| word.trim() == "ro");
    Some(Demand::Bind { source: device.to_owned(), writable: !is_read })
}
