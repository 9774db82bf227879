//! The words of a story: devices, services, amounts and times as text.

use std::time::Duration;

use outrigger_protocol::{
    AttachedDevice, Attachment, Bytes, CgroupVersion, Constraint, ConstraintKey, ContainerSpec, DeviceKind,
    DeviceMapping, Engine, EngineKind, Facts, FileKind, FileMount, FileRef, GenericResource, GpuRequest, LossPolicy,
    MemoryLimits, MilliCpu, Mode, Mount, MountKind, Order, PortProtocol, PublishMode, PublishedPort, Reservation,
    ServiceName, ServiceSpec, Traffic, UpdateConfig, UpdateFailure, VolumeMove,
};

/// Words of a line; what stands in quotes is one word.
pub fn words(line: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            found.push(part.to_owned());
        } else {
            found.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    found
}

pub fn time(text: &str) -> Duration {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or_else(|| panic!("`{text}` has no unit"));
    let number: f64 = text[..split].parse().unwrap();
    let unit = match &text[split..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => panic!("`{unit}` is no unit of time"),
    };
    Duration::from_secs_f64(number * unit)
}

pub fn bytes(text: &str) -> u64 {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("`{text}` has no unit"));
    let number: u64 = text[..split].parse().unwrap();
    number
        * match &text[split..] {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            unit => panic!("`{unit}` is no unit of memory"),
        }
}

fn cpu(text: &str) -> MilliCpu {
    let cores: f64 = text.trim_end_matches("cpu").parse().unwrap();
    MilliCpu((cores * 1000.0) as u32)
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or_else(|| panic!("`{text}` is not KEY=VALUE"));
    (key.to_owned(), value.to_owned())
}

/// `arm64 4cpu 4GiB …`; labels of the operator are returned beside it.
pub fn device(words: &[String]) -> (Facts, Vec<(String, String)>) {
    let mut facts = Facts {
        agent: "1".into(),
        arch: words[0].parse().unwrap(),
        also_runs: vec![],
        os: "Debian".into(),
        kernel: "6".into(),
        board: None,
        cpu: cpu(&words[1]),
        memory: Bytes(bytes(&words[2])),
        engine: Some(Engine { kind: EngineKind::Memory, version: "1".into() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![],
        devices: vec![],
        root_on_flash: false,
        address: None,
        mesh_port: None,
        policy: 0,
    };
    let mut labels = vec![];
    let mut rest = words[3..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("`{word}` needs a value"));
        match word.as_str() {
            "label" => labels.push(pair(value())),
            "engine-label" => facts.labels.push(pair(value())),
            "runs" => facts.also_runs.push(value().parse().unwrap()),
            "mesh" => {
                facts.mesh_port = Some(7946);
                facts.address = Some(value().parse().unwrap());
            }
            "no-memory-limits" => facts.memory_limits = MemoryLimits::Off,
            "attached" => {
                let path = value().clone();
                let kind = if path == "gpu" { DeviceKind::Gpu } else { DeviceKind::Video };
                facts.devices.push(AttachedDevice { kind, path });
            }
            "generic" => {
                let (kind, count) = pair(value());
                facts.generic.push(GenericResource { kind, count: count.parse().unwrap() });
            }
            word => panic!("`{word}` says nothing about a device"),
        }
    }
    (facts, labels)
}

fn key(text: &str) -> ConstraintKey {
    match text {
        "node.hostname" | "node.id" => ConstraintKey::Name,
        "node.platform.os" => ConstraintKey::Os,
        "node.platform.arch" => ConstraintKey::Arch,
        "node.role" => ConstraintKey::Role,
        text => match text.strip_prefix("node.labels.") {
            Some(label) => ConstraintKey::NodeLabel(label.into()),
            None => ConstraintKey::EngineLabel(text.strip_prefix("engine.labels.").unwrap().into()),
        },
    }
}

fn constraint(text: &str) -> Constraint {
    let (left, equal, value) = match text.split_once("==") {
        Some((left, value)) => (left, true, value),
        None => text.split_once("!=").map(|(left, value)| (left, false, value)).unwrap(),
    };
    Constraint { key: key(left), equal, value: value.into() }
}

/// `x3 cpu 0.5 volume data …`
pub fn service(name: &str, words: &[String]) -> ServiceSpec {
    let mode = match words[0].as_str() {
        "global" => Mode::Global,
        count => Mode::Replicated(count.strip_prefix('x').unwrap().parse().unwrap()),
    };
    let mut spec = ServiceSpec {
        name: name.parse::<ServiceName>().unwrap(),
        container: ContainerSpec { image: format!("{name}:1"), ..ContainerSpec::default() },
        mode,
        reservation: Reservation::default(),
        constraints: vec![],
        spread: vec![],
        max_per_device: None,
        platforms: None,
        loss: LossPolicy::Available,
        lost_after: None,
        volume_move: VolumeMove::Stay,
        update: UpdateConfig::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Traffic::default(),
    };
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("`{word}` needs a value")).as_str();
        match word.as_str() {
            "image" => spec.container.image = value().into(),
            "command" => spec.container.command = Some(vec!["x".repeat(usize::try_from(bytes(value())).unwrap())]),
            "cpu" => spec.reservation.cpu = cpu(value()),
            "memory" => spec.reservation.memory = Bytes(bytes(value())),
            "memory-limit" => spec.container.limits.memory = Some(Bytes(bytes(value()))),
            "generic" => {
                let (kind, count) = pair(value());
                spec.reservation.generic.push(GenericResource { kind, count: count.parse().unwrap() });
            }
            "device" => {
                let host = value().to_owned();
                spec.container.devices.push(DeviceMapping { container: host.clone(), host, permissions: "rwm".into() });
            }
            "gpus" => {
                let count = Some(value().parse().unwrap());
                let request = GpuRequest { driver: None, count, ids: vec![], capabilities: vec!["gpu".into()] };
                spec.container.gpus.push(request);
            }
            "port" => spec.container.ports.push(port(value())),
            "publish" => {
                spec.container.ports.push(PublishedPort { mode: PublishMode::Ingress, ..port(value()) });
            }
            "network" => {
                let text = value();
                let (network, aliases) = text.split_once(':').unwrap_or((text, ""));
                let aliases = aliases.split(',').filter(|alias| !alias.is_empty()).map(str::to_owned).collect();
                spec.container.networks.push(Attachment { network: network.parse().unwrap(), aliases });
            }
            "volume" => {
                let name = value().to_owned();
                let kind = MountKind::Volume { name, driver: None, options: vec![] };
                spec.container.mounts.push(Mount { kind, target: "/data".into(), read_only: false });
            }
            "volume-may-move" => spec.volume_move = VolumeMove::Allow,
            "constraint" => spec.constraints.push(constraint(value())),
            "spread" => spec.spread.push(key(value())),
            "max" => spec.max_per_device = Some(value().parse().unwrap()),
            "platform" => spec.container.platform = Some(value().parse().unwrap()),
            "platforms" => spec.platforms = Some(value().split(',').map(|p| p.parse().unwrap()).collect()),
            "exclusive" => spec.loss = LossPolicy::Exclusive { lease: time(value()) },
            "waits-for-device" => spec.loss = LossPolicy::Wait,
            "lost-after" => spec.lost_after = Some(time(value())),
            "start-first" => spec.update.order = Order::StartFirst,
            "parallelism" => spec.update.parallelism = value().parse().unwrap(),
            "delay" => spec.update.delay = time(value()),
            "monitor" => spec.update.monitor = time(value()),
            "continue-on-failure" => spec.update.failure = UpdateFailure::Continue,
            "secret" => {
                let file = FileRef { kind: FileKind::Secret, name: value().parse().unwrap(), version: 1 };
                let target = format!("/run/secrets/{}", file.name);
                spec.container.files.push(FileMount { file, target, uid: 0, gid: 0, mode: 0o444 });
            }
            "after" => spec.depends_on.push(value().parse().unwrap()),
            word => panic!("`{word}` says nothing about a service"),
        }
    }
    spec
}

fn port(text: &str) -> PublishedPort {
    let (number, protocol) = match text.split_once('/') {
        Some((number, "udp")) => (number, PortProtocol::Udp),
        Some((number, _)) => (number, PortProtocol::Tcp),
        None => (text, PortProtocol::Tcp),
    };
    let number = number.parse().unwrap();
    PublishedPort { container: number, host: Some(number), address: None, protocol, mode: PublishMode::Host }
}
