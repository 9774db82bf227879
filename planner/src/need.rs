//! What one copy needs of a device, worked out once per content of a service; and what copies use of a device.

use std::net::IpAddr;

use outrigger_protocol::{
    ContainerSpec, MAX_ASSIGNED, MountKind, PortProtocol, PublishMode, PublishedPort, ServiceSpec, spec_bytes,
};

use crate::service::Content;

/// Processor time that a copy without a reservation is counted with when devices are compared, in thousandths of a
/// core. Kubernetes' scheduler takes the same 0.1: without it, all copies that reserve nothing would crowd one device.
const NOMINAL_CPU: u32 = 100;
/// Memory that a copy without a reservation is counted with when devices are compared, in KiB.
const NOMINAL_KIB: i64 = 64 * 1024;
/// Sums stay far from overflow with these.
pub(crate) const MOST_KIB: u64 = 1 << 34;
pub(crate) const MOST_CPU: u32 = 10_000_000;

/// A copy that takes no more than this in an assignment is counted with its specification each time: two thousand of them
/// fit, so there is no need to know which of them share one.
const SMALL: usize = 1024;

/// Bytes of a network in an assignment besides its name: a length and two flags.
const NETWORK: usize = 4;

/// Kind under which graphics processors are counted, however they were asked for.
pub(crate) const GPU: &str = "gpu";

/// What one copy needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub cpu: u32,
    pub memory: u64,
    /// As counted when devices are compared.
    pub weight: Weight,
    pub generic: Vec<(String, u32)>,
    pub ports: Vec<HostPort>,
    /// Paths of attached devices of the kinds that agents report.
    pub attached: Vec<String>,
    pub memory_limit: bool,
    /// Named volumes whose data lie on the device, by their names there.
    pub volumes: Vec<String>,
    /// Bytes of its specification in an assignment.
    pub spec_bytes: usize,
}

/// Processor time and memory as counted when devices are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub cpu: i64,
    pub kib: i64,
}

/// A port of a device that one copy can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub protocol: PortProtocol,
    pub port: u16,
    pub address: Option<IpAddr>,
}

/// What the copies on a device have reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub copies: u32,
    pub cpu: u64,
    pub memory: u64,
    pub weight: Weight,
    pub generic: Vec<(String, u32)>,
    pub ports: Vec<HostPort>,
    pub want: Want,
}

/// What a device's assignment takes on the wire, never less than it does. Prepared copies stand in it too, also those that
/// are not counted in anything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub copies: usize,
    pub bytes: usize,
    /// Large specifications, by where they are in memory, each with its number of copies.
    large: Vec<(usize, u32)>,
}

impl Want {
    /// Bytes that a copy would add.
    pub(crate) fn more(&self, content: &Content) -> usize {
        let spec = content.need.spec_bytes;
        let shared = is_large(content) && self.large.iter().any(|(known, _)| *known == identity(content));
        MAX_ASSIGNED + if shared { 0 } else { spec }
    }

    pub(crate) fn add(&mut self, content: &Content) {
        self.copies += 1;
        self.bytes = self.bytes.saturating_add(self.more(content));
        if !is_large(content) {
            return;
        }
        match self.large.iter_mut().find(|(known, _)| *known == identity(content)) {
            Some((_, count)) => *count += 1,
            None => self.large.push((identity(content), 1)),
        }
    }

    pub(crate) fn remove(&mut self, content: &Content) {
        if is_large(content) {
            let Some(at) = self.large.iter().position(|(known, _)| *known == identity(content)) else { return };
            self.large[at].1 -= 1;
            if self.large[at].1 == 0 {
                self.large.swap_remove(at);
            }
        }
        self.copies = self.copies.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(self.more(content));
    }
}

fn is_large(content: &Content) -> bool {
    content.need.spec_bytes + MAX_ASSIGNED > SMALL
}

/// Every copy of a specification holds the same object, which lives as long as any of them.
fn identity(content: &Content) -> usize {
    std::ptr::from_ref(content).addr()
}

impl Need {
    pub(crate) fn of(spec: &ServiceSpec) -> Self {
        let reserved = &spec.reservation;
        let kib = i64::try_from((reserved.memory.0.div_ceil(1024)).min(MOST_KIB)).unwrap_or(i64::MAX);
        let cpu = reserved.cpu.0.min(MOST_CPU);
        let weight = Weight {
            cpu: i64::from(if cpu == 0 { NOMINAL_CPU } else { cpu }),
            kib: if kib == 0 { NOMINAL_KIB } else { kib },
        };
        Self {
            cpu: reserved.cpu.0,
            memory: reserved.memory.0,
            weight,
            generic: generic_of(spec),
            ports: spec.container.ports.iter().filter_map(HostPort::of).collect(),
            attached: spec.container.devices.iter().map(|d| &d.host).filter(|p| is_reported(p)).cloned().collect(),
            memory_limit: spec.container.limits.memory.is_some(),
            volumes: local_volumes(&spec.container),
            spec_bytes: spec_bytes(&spec.container) + network_bytes(&spec.container),
        }
    }
}

/// Bytes of the networks that it joins in an assignment, if it is the only one that joins them.
fn network_bytes(spec: &ContainerSpec) -> usize {
    spec.networks.iter().map(|attachment| attachment.network.as_str().len() + NETWORK).sum()
}

/// Graphics processors count once, whether reserved as a generic resource, asked of the engine, or both.
fn generic_of(spec: &ServiceSpec) -> Vec<(String, u32)> {
    let mut sums: Vec<(String, u32)> = Vec::new();
    for resource in &spec.reservation.generic {
        match sums.iter_mut().find(|(kind, _)| *kind == resource.kind) {
            Some((_, count)) => *count = count.saturating_add(resource.count),
            None => sums.push((resource.kind.clone(), resource.count)),
        }
    }
    let ask = |ids: usize, count: Option<u32>| u32::try_from(ids).unwrap_or(u32::MAX).max(count.unwrap_or(1));
    let gpus = spec.container.gpus.iter().map(|gpu| ask(gpu.ids.len(), gpu.count)).fold(0, u32::saturating_add);
    if gpus > 0 {
        match sums.iter_mut().find(|(kind, _)| kind == GPU) {
            Some((_, count)) => *count = (*count).max(gpus),
            None => sums.push((GPU.to_owned(), gpus)),
        }
    }
    sums
}

/// Whether agents list things under such paths; of others only the engine can tell whether they are there.
fn is_reported(path: &str) -> bool {
    const PREFIXES: [&str; 6] = ["/dev/video", "/dev/ttyUSB", "/dev/ttyACM", "/dev/gpiochip", "/dev/i2c-", "/dev/dri/"];
    PREFIXES.iter().any(|prefix| path.len() > prefix.len() && path.starts_with(prefix))
}

/// Names of the volumes whose data lie on the device. Those that the local driver mounts from a server do not.
pub(crate) fn local_volumes(spec: &ContainerSpec) -> Vec<String> {
    let remote = |kind: &str| matches!(kind, "nfs" | "nfs4" | "cifs" | "smb3" | "tmpfs");
    let mut names: Vec<String> = spec
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Volume { name, driver, options } => {
                let local = driver.as_deref().is_none_or(|driver| driver == "local");
                let is_remote = options.iter().any(|(key, value)| key == "type" && remote(value));
                (local && !is_remote).then(|| name.clone())
            }
            MountKind::Anonymous | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl HostPort {
    /// None for one that every device opens: that needs nothing of the device where a copy runs.
    fn of(published: &PublishedPort) -> Option<Self> {
        if published.mode == PublishMode::Ingress {
            return None;
        }
        let port = published.host.filter(|&port| port != 0)?;
        Some(Self { protocol: published.protocol, port, address: published.address.filter(|a| !a.is_unspecified()) })
    }

    /// Whether two cannot be open at once: no address means every address.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

impl Use {
    pub(crate) fn add(&mut self, need: &Need) {
        self.copies += 1;
        self.cpu += u64::from(need.cpu);
        self.memory = self.memory.saturating_add(need.memory);
        self.weight.cpu += need.weight.cpu;
        self.weight.kib += need.weight.kib;
        self.ports.extend(&need.ports);
        for (kind, count) in &need.generic {
            match self.generic.iter_mut().find(|(known, _)| known == kind) {
                Some((_, sum)) => *sum += count,
                None => self.generic.push((kind.clone(), *count)),
            }
        }
    }

    pub(crate) fn remove(&mut self, need: &Need) {
        self.copies = self.copies.saturating_sub(1);
        self.cpu = self.cpu.saturating_sub(u64::from(need.cpu));
        self.memory = self.memory.saturating_sub(need.memory);
        self.weight.cpu -= need.weight.cpu;
        self.weight.kib -= need.weight.kib;
        for port in &need.ports {
            if let Some(at) = self.ports.iter().position(|known| known == port) {
                self.ports.swap_remove(at);
            }
        }
        for (kind, count) in &need.generic {
            if let Some((_, sum)) = self.generic.iter_mut().find(|(known, _)| known == kind) {
                *sum = sum.saturating_sub(*count);
            }
        }
        self.generic.retain(|(_, sum)| *sum > 0);
    }

    pub(crate) fn generic(&self, kind: &str) -> u32 {
        self.generic.iter().find(|(known, _)| known == kind).map_or(0, |(_, sum)| *sum)
    }
}
