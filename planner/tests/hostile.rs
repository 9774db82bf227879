//! A device that lies harms itself only.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]

mod story;

use outrigger_planner::{Fleet, Heard, NoteKind, Policy};
use outrigger_protocol::{
    BootId, DeviceName, EngineState, Epoch, FleetId, Hello, Moment, Observed, Phase, PlacementId, SessionNumber, Status,
};
use story::words::{device, words};

fn copy(number: u64) -> Observed {
    Observed {
        placement: PlacementId(number),
        replica: "shop/web.1".parse().unwrap(),
        phase: Phase::Running,
        restarts: 0,
        since_s: 0,
        last_exit: None,
        container: "0123456789ab".into(),
        digest: String::new(),
        ports: vec![],
    }
}

/// As many as fit into the largest status that a device may send.
#[test]
fn copies_and_images_beyond_all_measure_are_not_kept_and_told_once() {
    let name: DeviceName = "pi-1".parse().unwrap();
    let mut fleet = Fleet::new(Policy::default(), FleetId(1), Epoch(1));
    let hello = Hello {
        boot: BootId(1),
        session: SessionNumber(1),
        machine: 1,
        fleet: None,
        held: None,
        unix_ms: 0,
        heartbeat_ms: 1000,
        facts: device(&words("arm64 4cpu 4GiB")).0,
    };
    let _ = fleet.hear(&name, Heard::Hello(hello), Moment(1));
    let mut notes = vec![];
    for round in 0..3_u64 {
        let status = Status {
            session: SessionNumber(1),
            number: u32::try_from(round).unwrap() + 1,
            held: None,
            engine: EngineState::Up,
            replicas: (0..20_000).map(|number| copy(number + round)).collect(),
            images: (0..20_000).map(|number| format!("evil:{number}")).collect(),
        };
        notes.extend(fleet.hear(&name, Heard::Status(status), Moment(2 + round)).notes);
    }
    let told: Vec<_> =
        notes.iter().filter(|note| note.kind == NoteKind::DeviceRefused).map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("20000 copies and 20000 images"), "{told:?}");
    // None of them counts as a copy of ours.
    let view = fleet.device(&name).unwrap();
    assert_eq!((view.replicas, view.running), (0, 0));
}
