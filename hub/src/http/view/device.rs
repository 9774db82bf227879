//! A device as the API shows it.

use outrigger_api as api;
use outrigger_planner::{Availability, DeviceView, Liveness};
use outrigger_protocol::{
    CgroupVersion, DeviceKind, EngineKind, EngineState, Facts, Load, MemoryLimits, Moment, Throttling,
};

/// A device as the API shows it.
#[must_use]
pub fn device(view: &DeviceView<'_>, now: Moment) -> api::Device {
    let facts = view.facts;
    let heard = view.heard_at;
    api::Device {
        name: view.name.to_string(),
        state: state(view.liveness),
        detail: (!view.why.is_empty()).then(|| view.why.to_owned()),
        availability: availability(view.availability),
        heard_ms_ago: heard.map(|at| millis(now.since(at))),
        lost_after_ms: Some(millis(view.lost_after)),
        labels: view.labels.clone(),
        engine_labels: facts.map(|facts| facts.labels.iter().cloned().collect()).unwrap_or_default(),
        arch: facts.map(|facts| facts.arch.to_string()),
        os: facts.map(|facts| facts.os.clone()),
        kernel: facts.map(|facts| facts.kernel.clone()),
        board: facts.and_then(|facts| facts.board.clone()),
        agent: facts.map(|facts| facts.agent.clone()),
        address: facts.and_then(|facts| facts.address).map(|address| address.to_string()),
        engine: engine(facts, view.engine),
        cpu_milli: facts.map_or(0, |facts| facts.cpu.0),
        memory_bytes: facts.map_or(0, |facts| facts.memory.0),
        reserved: api::Reserved { cpu_milli: view.reserved_cpu.0, memory_bytes: view.reserved_memory.0 },
        generic: facts
            .map(|facts| facts.generic.iter().map(|thing| (thing.kind.clone(), thing.count)).collect())
            .unwrap_or_default(),
        attached: facts.map(attached).unwrap_or_default(),
        replicas: view.replicas,
        running: view.running,
        in_step: view.held == Some(view.stamp),
        load: view.load.as_ref().map(load),
        network: None,
        quarantined: None,
        warnings: warnings(view),
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn state(liveness: Liveness) -> api::DeviceState {
    match liveness {
        Liveness::Unheard => api::DeviceState::Unheard,
        Liveness::Up => api::DeviceState::Online,
        Liveness::Suspect => api::DeviceState::Suspect,
        Liveness::Away => api::DeviceState::Away,
        Liveness::Lost => api::DeviceState::Lost,
    }
}

fn availability(availability: Availability) -> api::Availability {
    match availability {
        Availability::Active => api::Availability::Active,
        Availability::Cordon => api::Availability::Cordon,
        Availability::Drain => api::Availability::Drain,
    }
}

fn engine(facts: Option<&Facts>, state: Option<&EngineState>) -> Option<api::EngineView> {
    let engine = facts?.engine.as_ref()?;
    let kind = match engine.kind {
        EngineKind::Docker => "docker",
        EngineKind::Podman => "podman",
        EngineKind::Memory => "memory",
    };
    let (up, detail) = match state {
        Some(EngineState::Up) => (true, None),
        Some(EngineState::Down(reason)) => (false, Some(reason.clone())),
        Some(EngineState::StorageFailed(reason)) => (false, Some(format!("storage has failed: {reason}"))),
        None => (false, Some("the device has not said how it is yet".to_owned())),
    };
    Some(api::EngineView { kind: kind.to_owned(), version: engine.version.clone(), up, detail })
}

fn attached(facts: &Facts) -> Vec<api::Attached> {
    let kind = |kind| match kind {
        DeviceKind::Video => "video",
        DeviceKind::Serial => "serial",
        DeviceKind::Gpio => "gpio",
        DeviceKind::I2c => "i2c",
        DeviceKind::Render => "render",
        DeviceKind::Gpu => "gpu",
    };
    let one = |thing: &outrigger_protocol::AttachedDevice| api::Attached {
        kind: kind(thing.kind).to_owned(),
        path: thing.path.clone(),
    };
    facts.devices.iter().map(one).collect()
}

fn load(load: &Load) -> api::Load {
    let slowed = Throttling::CAPPED | Throttling::THROTTLED | Throttling::HOT;
    api::Load {
        cpu_permille: load.cpu.value(),
        memory_permille: load.memory.value(),
        swap_permille: load.swap.value(),
        disk_permille: load.disk.value(),
        load1: f64::from(load.load1) / 100.0,
        rx_kbps: load.rx_kbps,
        tx_kbps: load.tx_kbps,
        temperature_celsius: load.temperature.map(|deci| f64::from(deci) / 10.0),
        throttled: load.throttling.0 & slowed != 0,
        undervoltage: load.throttling.is_undervoltage(),
    }
}

fn warnings(view: &DeviceView<'_>) -> Vec<api::DeviceWarning> {
    let mut found = Vec::new();
    let mut warn = |message: &str, help: &str| {
        found.push(api::DeviceWarning { message: message.to_owned(), help: help.to_owned() });
    };
    if let Some(fleet) = view.foreign {
        warn(
            &format!("it belongs to another fleet ({fleet}) and is left alone; what runs there goes on"),
            "if this hub has lost its store: stop it, then `outrigger-hub restore`; if the device is to join this fleet: \
             `outrigger-agent leave` on it",
        );
    }
    if let Some(facts) = view.facts {
        if facts.engine.is_none() {
            warn(
                "no container engine was found",
                "install one: `apt install docker.io`, or see `outrigger-agent doctor`",
            );
        }
        // Off is what Raspberry Pi OS ships; where no cgroup interface is found at all, that is the thing to say.
        match (facts.cgroup, facts.memory_limits) {
            (CgroupVersion::Unknown, _) => {
                warn("the kernel offers no cgroups: limits do not work", "boot a kernel with cgroups");
            }
            (CgroupVersion::V1 | CgroupVersion::V2, MemoryLimits::Off) => warn(
                "the memory cgroup is off: memory limits do not work",
                "add `cgroup_enable=memory` to the kernel's command line (/boot/firmware/cmdline.txt) and reboot",
            ),
            (CgroupVersion::V1 | CgroupVersion::V2, MemoryLimits::Work) => (),
        }
    }
    if let Some(load) = view.load {
        if load.throttling.is_undervoltage() {
            warn(
                "the supply is too weak: the board is undervolted",
                "use the supply made for the board, and a short cable",
            );
        }
        if load.throttling.0 & (Throttling::THROTTLED | Throttling::HOT) != 0 {
            warn("the board slows itself down for heat", "give it a heat sink or a fan, or less work");
        }
        if load.disk.value() >= 950 {
            warn("the disk of the container engine is nearly full", "remove what is not used: `docker system prune`");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use outrigger_protocol::{Arch, Bytes, Engine, Epoch, FleetId, Generation, MilliCpu, Permille, Stamp};

    use super::*;

    fn facts() -> Facts {
        Facts {
            agent: "0.1.0".into(),
            arch: Arch::Arm64,
            also_runs: vec![],
            os: "Debian GNU/Linux 12 (bookworm)".into(),
            kernel: "6.12.1".into(),
            board: Some("Raspberry Pi 4 Model B Rev 1.4".into()),
            cpu: MilliCpu(4000),
            memory: Bytes(1 << 30),
            engine: Some(Engine { kind: EngineKind::Docker, version: "20.10".into() }),
            cgroup: CgroupVersion::V2,
            memory_limits: MemoryLimits::Off,
            labels: vec![("zone".into(), "attic".into())],
            generic: vec![],
            devices: vec![],
            root_on_flash: true,
            address: None,
            mesh_port: None,
            policy: 0,
        }
    }

    #[test]
    fn a_board_in_trouble_says_so_and_what_to_do() {
        let (name, labels, facts) = ("pi-4".parse().unwrap(), BTreeMap::new(), facts());
        let stamp = Stamp { epoch: Epoch(1), generation: Generation(3) };
        let load =
            Load { disk: Permille::new(960), throttling: Throttling(Throttling::UNDERVOLTAGE), ..Load::default() };
        let view = DeviceView {
            name: &name,
            liveness: Liveness::Suspect,
            why: "not heard for 3.1 s",
            availability: Availability::Cordon,
            heard_at: Some(Moment(1000)),
            lost_after: Duration::from_secs(4),
            labels: &labels,
            facts: Some(&facts),
            engine: Some(&EngineState::Down("connection refused".into())),
            reserved_cpu: MilliCpu(0),
            reserved_memory: Bytes(0),
            replicas: 2,
            running: 1,
            stamp,
            held: None,
            load: Some(load),
            session: None,
            foreign: Some(FleetId(7)),
        };
        let shown = device(&view, Moment(4100));
        assert_eq!((shown.state, shown.heard_ms_ago), (api::DeviceState::Suspect, Some(3100)));
        assert_eq!(shown.engine.unwrap().detail.as_deref(), Some("connection refused"));
        assert!(!shown.in_step);
        let messages: Vec<_> = shown.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(messages.len(), 4, "{messages:?}");
        assert!(shown.warnings[0].help.contains("outrigger-agent leave"));
        assert!(shown.warnings[1].help.contains("cgroup_enable=memory"));
    }
}
