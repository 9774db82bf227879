//! Whose word counts, and what the hub is told when the engine does not answer.

use outrigger_protocol::{Assignment, DownMessage, FleetId, Phase, UpMessage};

use super::super::model::{Copy, Device, assignment, one, spec};
use super::super::{Effect, Held, Input, Remark};
use super::SECOND;
use crate::engine::EngineError;

const OTHER: FleetId = FleetId(7);

fn want(fleet: FleetId, generation: u64, copies: &[Copy]) -> DownMessage {
    DownMessage::Want(Assignment { fleet, ..assignment(generation, copies) })
}

#[test]
fn the_hub_of_another_fleet_stops_nothing_and_is_told_whose_the_device_is() {
    let mut device = Device::settled(&[one(1, spec())]);
    let mut hellos = Vec::new();
    for generation in 2..5 {
        let effects = device.step(Input::Down(want(OTHER, generation, &[])));
        hellos.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Publish(UpMessage::Hello(hello)) => Some(hello.fleet),
            _ => None,
        }));
    }
    device.run(SECOND * 60);
    assert_eq!(device.running(), [1]);
    assert_eq!(hellos, [Some(FleetId(0))], "once for each connection");
    let told = device.core.take_remarks();
    assert_eq!(told.iter().filter(|remark| matches!(remark, Remark::OtherFleet(..))).count(), 1);
    device.hear(want(FleetId(0), 9, &[one(2, spec())]));
    device.run(SECOND * 20);
    assert_eq!(device.running(), [2], "its own hub is obeyed as before");
}

#[test]
fn a_device_that_has_lost_its_assignment_knows_its_fleet_by_its_containers() {
    for held in [Held::Nothing, Held::Unreadable] {
        let mut device = Device::new(held);
        device.engine.add_running(1, outrigger_protocol::LossPolicy::Available);
        device.connect();
        // Nothing can be said before the engine has been looked at, so nothing is obeyed before.
        device.hear(want(OTHER, 5, &[]));
        device.run(SECOND * 5);
        assert_eq!(device.core.held(), None);
        device.list();
        device.run(SECOND * 60);
        assert_eq!((device.running(), device.core.held()), (vec![1], None));
        device.hear(want(FleetId(0), 1, &[]));
        device.run(SECOND * 60);
        assert_eq!(device.running(), [0; 0], "the hub of its fleet is obeyed");
    }
}

#[test]
fn a_device_of_no_fleet_takes_the_first() {
    let mut device = Device::new(Held::Nothing);
    device.connect();
    device.hear(want(OTHER, 1, &[one(1, spec())]));
    assert_eq!(device.core.fleet(), None);
    device.list();
    device.run(SECOND * 20);
    assert_eq!((device.running(), device.core.fleet()), (vec![1], Some(OTHER)));
    device.hear(want(FleetId(0), 9, &[]));
    device.run(SECOND * 20);
    assert_eq!(device.running(), [1]);
}

fn timed_out() -> EngineError {
    EngineError::TimedOut { call: "create container", after: SECOND * 120 }
}

#[test]
fn a_container_that_is_made_after_the_call_timed_out_is_found_and_adopted() {
    let mut device = Device::settled(&[]);
    device.engine.loses_events = true;
    device.engine.fail_next_start(timed_out());
    device.engine.late = Some(SECOND / 2);
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 20);
    assert_eq!((device.running(), device.engine.made()), (vec![1], 1));
    assert_eq!(device.status().replicas[0].phase, Phase::Running);
}

#[test]
fn a_start_that_may_still_take_effect_is_told_also_when_it_is_not_wanted_any_more() {
    let mut device = Device::settled(&[]);
    device.engine.loses_events = true;
    device.engine.fail_next_start(timed_out());
    device.engine.late = Some(SECOND * 30);
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND / 2);
    device.hear(DownMessage::Want(assignment(3, &[])));
    device.run(SECOND * 29);
    assert_eq!(device.status().replicas.first().map(|one| &one.phase), Some(&Phase::Stopping));
    device.run(SECOND * 60);
    assert_eq!(device.running(), [0; 0], "it has come late, and is stopped");
    assert_eq!((device.engine.made(), device.status().replicas.len()), (1, 0));
}

#[test]
fn what_never_comes_is_in_doubt_for_a_while_only() {
    let mut device = Device::settled(&[]);
    device.engine.fail_next_start(timed_out());
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND / 2);
    device.hear(DownMessage::Want(assignment(3, &[])));
    device.run(SECOND * 70);
    assert_eq!(device.status().replicas.len(), 0);
    assert_eq!(device.core.observed().relist_at, None, "nothing is looked at for ever");
}
