//! Values for tests, as a hub would give them.

use std::collections::BTreeMap;

use outrigger_api::{
    Availability, Device, DeviceState, EngineView, Load, PlacedCopy, Replica, ReplicaState, Reserved, Service,
    ServiceMode, Update, UpdateState,
};

/// A service of one running copy.
pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        stack: name.split('/').next().unwrap_or_default().into(),
        image: "web:1".into(),
        mode: ServiceMode::Replicated,
        wanted: 1,
        running: 1,
        pending: 0,
        ports: Vec::new(),
        on_device_loss: "available".into(),
        revision: 1,
        update: Update { state: UpdateState::Done, done: 1, total: 1, reason: None },
        refused: Vec::new(),
        notes: Vec::new(),
    }
}

/// A replica with a copy on a device.
pub(crate) fn replica(name: &str, state: ReplicaState, device: &str) -> Replica {
    let (service, number) = name.rsplit_once('.').unwrap();
    Replica {
        name: name.into(),
        service: service.into(),
        number: number.parse().unwrap(),
        state,
        detail: None,
        refused: false,
        since_s: Some(95),
        up_to_date: true,
        copy: Some(copy(device, state)),
        others: Vec::new(),
    }
}

/// A replica that no device can take.
pub(crate) fn pending(name: &str, detail: &str) -> Replica {
    let replica = replica(name, ReplicaState::Pending, "");
    Replica { detail: Some(detail.into()), since_s: None, copy: None, up_to_date: false, ..replica }
}

/// A copy on a device.
pub(crate) fn copy(device: &str, state: ReplicaState) -> PlacedCopy {
    PlacedCopy {
        placement: "2a".into(),
        device: device.into(),
        state,
        detail: None,
        image: Some("web:1".into()),
        revision: 1,
        reason: "most free memory".into(),
        digest: None,
        pull: None,
        container: Some("0123456789ab".into()),
        ports: Vec::new(),
        restarts: 0,
        last_exit: None,
        cpu_milli: Some(120),
        memory_bytes: Some(5 * 1024 * 1024),
    }
}

/// A Raspberry Pi that works.
pub(crate) fn device(name: &str) -> Device {
    Device {
        name: name.into(),
        state: DeviceState::Online,
        detail: None,
        availability: Availability::Active,
        heard_ms_ago: Some(400),
        lost_after_ms: Some(4000),
        labels: BTreeMap::from([("zone".into(), "attic".into())]),
        engine_labels: BTreeMap::new(),
        arch: Some("arm64".into()),
        os: Some("Debian GNU/Linux 12 (bookworm)".into()),
        kernel: Some("6.6.51".into()),
        board: Some("Raspberry Pi 4 Model B Rev 1.4".into()),
        agent: Some("0.1.0".into()),
        address: Some("10.0.0.4".into()),
        engine: Some(EngineView { kind: "docker".into(), version: "27.1.1".into(), up: true, detail: None }),
        cpu_milli: 4000,
        memory_bytes: 4 * 1024 * 1024 * 1024,
        reserved: Reserved { cpu_milli: 500, memory_bytes: 256 * 1024 * 1024 },
        generic: BTreeMap::new(),
        attached: Vec::new(),
        replicas: 2,
        running: 2,
        in_step: true,
        load: Some(Load {
            cpu_permille: 125,
            memory_permille: 400,
            swap_permille: 0,
            disk_permille: 610,
            load1: 0.5,
            rx_kbps: 3,
            tx_kbps: 1,
            temperature_celsius: Some(48.2),
            throttled: false,
            undervoltage: false,
        }),
        network: None,
        quarantined: None,
        warnings: Vec::new(),
    }
}
