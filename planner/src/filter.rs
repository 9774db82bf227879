//! Whether a device can take a copy at all. Every refusal says which values were compared.

use std::borrow::Cow;
use std::fmt;

use outrigger_protocol::{
    Arch, Bytes, Constraint, ConstraintKey, EngineState, MAX_REPLICAS_PER_DEVICE, MAX_WANT, MemoryLimits, MilliCpu,
    Platform, PortProtocol,
};

use crate::device::Device;
use crate::need::Use;
use crate::plan::Liveness;
use crate::service::Content;
use crate::wish::Availability;

/// Bytes of an assignment besides its specifications and copies: version, stamp, lengths.
const ASSIGNMENT: usize = 64;
/// Role of a device that runs an agent. Hubs are no devices.
const ROLE: &str = "worker";

/// Why a device cannot take a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused<'a> {
    Liveness(Liveness, &'a str),
    Availability(Availability),
    NoFacts,
    NoEngine,
    Engine(&'a EngineState),
    Platform { device: Arch, wanted: Cow<'a, [Platform]> },
    Constraint { constraint: &'a Constraint, value: Cow<'a, str>, twin: Option<Twin<'a>> },
    MemoryLimits,
    Cpu { free: u64, wanted: u32 },
    Memory { free: u64, wanted: u64 },
    Generic { kind: &'a str, free: u32, wanted: u32 },
    Attached(&'a str),
    Port(PortProtocol, u16),
    MaxPerDevice(u32),
    Crowded,
    TooLarge { copies: usize, bytes: usize },
    Failing,
    Owner(&'a str),
    Home(&'a str),
    Volume { volume: &'a str, on: Option<&'a str> },
    Follower { volume: &'a str, why: Box<Refused<'a>> },
    Taken,
}

/// Whether a device may be given work at all.
pub(crate) fn open(device: &Device) -> Result<(), Refused<'_>> {
    if device.liveness != Liveness::Up {
        return Err(Refused::Liveness(device.liveness, &device.why));
    }
    if device.availability != Availability::Active {
        return Err(Refused::Availability(device.availability));
    }
    let facts = device.facts.as_ref().ok_or(Refused::NoFacts)?;
    if facts.engine.is_none() {
        return Err(Refused::NoEngine);
    }
    match &device.engine {
        Some(state @ (EngineState::Down(_) | EngineState::StorageFailed(_))) => Err(Refused::Engine(state)),
        Some(EngineState::Up) | None => Ok(()),
    }
}

/// Whether a device satisfies the rules of a service, whatever else is on it.
pub(crate) fn suits<'a>(
    device: &'a Device,
    content: &'a Content,
    platforms: Option<&'a [Platform]>,
) -> Result<(), Refused<'a>> {
    let facts = device.facts.as_ref().ok_or(Refused::NoFacts)?;
    let runs = |arch: Arch| facts.arch.runs(arch) || facts.also_runs.contains(&arch);
    if let Some(platform) = content.spec.container.platform {
        if !runs(platform.arch) {
            return Err(Refused::Platform { device: facts.arch, wanted: Cow::Owned(vec![platform]) });
        }
    } else if let Some(platforms) = platforms.filter(|platforms| !platforms.iter().any(|p| runs(p.arch))) {
        return Err(Refused::Platform { device: facts.arch, wanted: Cow::Borrowed(platforms) });
    }
    for constraint in &content.spec.constraints {
        let value = value_of(device, &constraint.key);
        if is_equal(&constraint.key, &value, &constraint.value) != constraint.equal {
            let twin = if value.is_empty() { twin(device, &constraint.key) } else { None };
            return Err(Refused::Constraint { constraint, value, twin });
        }
    }
    if content.need.memory_limit && facts.memory_limits == MemoryLimits::Off {
        return Err(Refused::MemoryLimits);
    }
    let has = |path: &String| facts.devices.iter().any(|attached| attached.path == *path);
    match content.need.attached.iter().find(|path| !has(path)) {
        Some(path) => Err(Refused::Attached(path)),
        None => Ok(()),
    }
}

/// Whether there is room on a device beside what is used there. `copies`: of this service on this device.
pub(crate) fn fits<'a>(device: &Device, using: &Use, content: &'a Content, copies: u32) -> Result<(), Refused<'a>> {
    let facts = device.facts.as_ref().ok_or(Refused::NoFacts)?;
    let need = &content.need;
    if let Some(most) = content.spec.max_per_device.filter(|&most| most > 0 && copies >= most) {
        return Err(Refused::MaxPerDevice(most));
    }
    if using.copies as usize >= MAX_REPLICAS_PER_DEVICE {
        return Err(Refused::Crowded);
    }
    let free = u64::from(facts.cpu.0).saturating_sub(using.cpu);
    if u64::from(need.cpu) > free {
        return Err(Refused::Cpu { free, wanted: need.cpu });
    }
    let free = facts.memory.0.saturating_sub(using.memory);
    if need.memory > free {
        return Err(Refused::Memory { free, wanted: need.memory });
    }
    for (kind, wanted) in &need.generic {
        let free = device.generic(kind).saturating_sub(using.generic(kind));
        if *wanted > free {
            return Err(Refused::Generic { kind, free, wanted: *wanted });
        }
    }
    match need.ports.iter().find(|port| using.ports.iter().any(|taken| taken.clashes(port))) {
        Some(port) => Err(Refused::Port(port.protocol, port.port)),
        None => Ok(()),
    }
}

/// Whether the device's assignment still fits into one message with another copy.
pub(crate) fn carries<'a>(using: &Use, content: &Content) -> Result<(), Refused<'a>> {
    let bytes = using.want.bytes.saturating_add(using.want.more(content));
    if bytes > MAX_WANT - ASSIGNMENT { Err(Refused::TooLarge { copies: using.want.copies + 1, bytes }) } else { Ok(()) }
}

/// What a device has under a key; empty where it has nothing, as Swarm has it.
pub(crate) fn value_of<'a>(device: &'a Device, key: &ConstraintKey) -> Cow<'a, str> {
    let facts = device.facts.as_ref();
    match key {
        ConstraintKey::NodeLabel(label) => device.labels.get(label).map_or("", String::as_str).into(),
        ConstraintKey::EngineLabel(label) => engine_label(device, label).unwrap_or_default().into(),
        ConstraintKey::Name => device.name.as_str().into(),
        ConstraintKey::Os => "linux".into(),
        ConstraintKey::Arch => facts.map_or(Cow::Borrowed(""), |facts| facts.arch.to_string().into()),
        ConstraintKey::Role => ROLE.into(),
    }
}

/// The label of the other kind with the same name, as `engine.labels`, name and value: those that a device brings along
/// (its agent's settings) and those that the hub gave it are easily taken for one another.
type Twin<'a> = (&'static str, &'a str, &'a str);

fn twin<'a>(device: &'a Device, key: &'a ConstraintKey) -> Option<Twin<'a>> {
    match key {
        ConstraintKey::NodeLabel(label) => engine_label(device, label).map(|value| ("engine.labels", &**label, value)),
        ConstraintKey::EngineLabel(label) => {
            device.labels.get(label).map(|value| ("node.labels", &**label, value.as_str()))
        }
        ConstraintKey::Name | ConstraintKey::Os | ConstraintKey::Arch | ConstraintKey::Role => None,
    }
}

fn engine_label<'a>(device: &'a Device, label: &str) -> Option<&'a str> {
    let labels = device.facts.as_ref().map_or(&[][..], |facts| &facts.labels);
    labels.iter().find(|(key, _)| key == label).map(|(_, value)| value.as_str())
}

/// Swarm compares without regard to case; architectures have more than one name each.
fn is_equal(key: &ConstraintKey, value: &str, wanted: &str) -> bool {
    if value.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let arch = |text: &str| text.to_ascii_lowercase().parse::<Arch>().ok();
    *key == ConstraintKey::Arch && arch(wanted).is_some_and(|wanted| arch(value) == Some(wanted))
}

fn key_text(key: &ConstraintKey) -> Cow<'_, str> {
    match key {
        ConstraintKey::NodeLabel(label) => format!("node.labels.{label}").into(),
        ConstraintKey::EngineLabel(label) => format!("engine.labels.{label}").into(),
        ConstraintKey::Name => "node.hostname".into(),
        ConstraintKey::Os => "node.platform.os".into(),
        ConstraintKey::Arch => "node.platform.arch".into(),
        ConstraintKey::Role => "node.role".into(),
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Liveness(liveness, why) => write!(f, "it is {liveness}: {why}"),
            Self::Availability(Availability::Drain) => f.write_str("it is being drained"),
            Self::Availability(_) => f.write_str("it is cordoned"),
            Self::NoFacts => f.write_str("it has not said yet what it is"),
            Self::NoEngine => f.write_str("it has no container engine"),
            Self::Engine(EngineState::StorageFailed(why)) => write!(f, "its storage has failed or is full: {why}"),
            Self::Engine(EngineState::Down(why)) => write!(f, "its container engine does not answer: {why}"),
            Self::Engine(EngineState::Up) => f.write_str("its container engine was away"),
            Self::Platform { device, wanted } => {
                let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                write!(f, "it is linux/{device}, and the image is for {}", wanted.join(", "))
            }
            Self::Constraint { constraint, value, twin } => {
                let sign = if constraint.equal { "==" } else { "!=" };
                write!(f, "{} is `{value}`, wanted {sign} `{}`", key_text(&constraint.key), constraint.value)?;
                match twin {
                    Some((kind, label, value)) => write!(f, "; but {kind}.{label} is `{value}`: is that meant?"),
                    None => Ok(()),
                }
            }
            Self::MemoryLimits => f.write_str(
                "memory limits do not work there; add `cgroup_enable=memory` to its kernel command line and reboot",
            ),
            Self::Cpu { free, wanted } => {
                let free = MilliCpu(u32::try_from(*free).unwrap_or(u32::MAX));
                write!(f, "{free} cores are free, {} are wanted", MilliCpu(*wanted))
            }
            Self::Memory { free, wanted } => {
                write!(f, "{} of memory are free, {} are wanted", Bytes(*free), Bytes(*wanted))
            }
            Self::Generic { kind, free, wanted } => write!(f, "{free} of `{kind}` are free, {wanted} are wanted"),
            Self::Attached(path) => write!(f, "{path} is not attached"),
            Self::Port(protocol, port) => write!(f, "port {port}/{protocol} is taken by another copy"),
            Self::MaxPerDevice(most) => write!(f, "it has {most} copies of the service, the most that one may have"),
            Self::Crowded => write!(f, "it has {MAX_REPLICAS_PER_DEVICE} copies, the most that one may have"),
            Self::TooLarge { copies, bytes } => {
                let (wanted, most) = (Bytes(*bytes as u64), Bytes(MAX_WANT as u64));
                write!(f, "its assignment would have {copies} copies and {wanted}, more than the {most} of one message")
            }
            Self::Failing => f.write_str("the service kept failing there a while ago"),
            Self::Owner(why) => f.write_str(why),
            Self::Home(home) => write!(f, "the local volume is on {home}"),
            Self::Volume { volume, on: Some(on) } => {
                write!(f, "the local volume `{volume}`, which another service has too, is on {on}")
            }
            Self::Volume { volume, on: None } => {
                write!(f, "no device has `{volume}` and its other local volumes, which other services have too")
            }
            Self::Follower { volume, why } => {
                write!(f, "another service has the local volume `{volume}` too and could not run there: {why}")
            }
            Self::Taken => f.write_str("another copy of the replica is there"),
        }
    }
}
