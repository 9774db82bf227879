//! Exclusive replicas and their lease.

use std::time::Duration;

use outrigger_protocol::{DownMessage, LossPolicy, Phase, PlacementId};

use super::SECOND;
use crate::core::model::{Device, assignment, one, spec};
use crate::core::{Action, Effect, Held, Input};

const EXCLUSIVE: LossPolicy = LossPolicy::Exclusive { lease: Duration::from_secs(10) };

#[test]
fn a_device_that_boots_alone_starts_what_is_available_or_waits_and_nothing_exclusive() {
    let exclusive = (one(2, spec()).0, one(2, spec()).1, EXCLUSIVE);
    let waiting = (one(3, spec()).0, one(3, spec()).1, LossPolicy::Wait);
    let mut device = Device::new(Held::Assignment(assignment(1, &[one(1, spec()), exclusive, waiting])));
    device.list();
    device.run(SECOND * 60);
    assert_eq!(device.running(), [1, 3]);
}

#[test]
fn an_exclusive_copy_runs_while_the_hub_answers_and_ends_before_its_lease() {
    let mut device = Device::settled(&[]);
    let (replica, spec, _) = one(1, spec());
    device.hear(DownMessage::Want(assignment(2, &[(replica, spec, EXCLUSIVE)])));
    device.run(SECOND * 5);
    assert_eq!(device.running(), [0_u64; 0], "not before the first renewal");
    device.hub_answers = true;
    device.run(SECOND * 60);
    assert_eq!((device.running(), device.engine.stops), (vec![1], 0));
    device.hub_answers = false;
    let last_answer = device.last_answer;
    device.run(SECOND * 20);
    assert_eq!(device.running(), [0_u64; 0]);
    assert!(device.engine.ended_at(1) <= last_answer + Duration::from_secs(10));
    assert_eq!(device.status().replicas.first().unwrap().phase, Phase::LeaseOver);
    device.hub_answers = true;
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
}

#[test]
fn an_agent_that_knows_its_lease_adopts_exclusive_copies_and_ends_them_in_time() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    device.restart_agent();
    device.run(SECOND * 30);
    assert_eq!((device.running(), device.engine.starts, device.engine.stops), (vec![1], 1, 0));
    device.hub_answers = false;
    device.restart_agent();
    let last_answer = device.last_answer;
    device.run(SECOND * 30);
    assert_eq!(device.running(), [0_u64; 0]);
    assert!(device.engine.ended_at(1) <= last_answer + Duration::from_secs(10));
}

#[test]
fn an_agent_that_knows_no_lease_ends_exclusive_copies_at_once_and_starts_them_with_the_next() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    device.hub_answers = false;
    device.restart_agent_with(None);
    device.run(Duration::from_millis(10));
    assert_eq!((device.running(), device.engine.graces.last()), (vec![], Some(&Duration::ZERO)));
    device.hub_answers = true;
    device.run(SECOND * 4);
    assert_eq!(device.running(), [1]);
}

#[test]
fn an_exclusive_copy_that_is_not_wanted_any_more_may_end_in_peace_but_not_beyond_its_lease() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    device.engine.end_time = SECOND * 60;
    device.hub_answers = false;
    let last_answer = device.last_answer;
    device.hear(DownMessage::Want(assignment(3, &[])));
    device.run(SECOND * 30);
    assert!(device.engine.graces.first().is_some_and(|grace| *grace > SECOND * 5));
    assert!(device.engine.ended_at(1) <= last_answer + Duration::from_secs(10));
}

#[test]
fn a_device_that_wakes_after_its_lease_stops_before_anything_else() {
    let exclusive = (one(1, spec()).0, spec(), EXCLUSIVE);
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[exclusive])));
    device.run(SECOND * 5);
    device.suspend(SECOND * 3600);
    let first = device.step(Input::Tick);
    assert!(matches!(first.first(), Some(Effect::Act(_, Action::Stop(_, _, grace))) if grace.is_zero()), "{first:?}");
}

#[test]
fn an_engine_that_cannot_be_asked_does_not_keep_an_exclusive_copy_alive() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    device.hub_answers = false;
    let last_answer = device.last_answer;
    device.engine_lost("connection refused");
    device.run(SECOND * 20);
    let overdue = device.core.overdue();
    let [(placement, pid, at)] = overdue.as_slice() else { panic!("{overdue:?}") };
    assert_eq!((placement.0, *pid), (1, 4711));
    assert!(*at < last_answer + Duration::from_secs(10));
}

#[test]
fn a_running_copy_that_becomes_exclusive_goes_on_if_the_hub_answers_and_ends_if_not() {
    for answers in [true, false] {
        let mut device = Device::settled(&[one(1, spec())]);
        device.hub_answers = answers;
        device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
        device.run(SECOND * 30);
        let (running, stops) = if answers { (vec![1], 0) } else { (vec![], 1) };
        assert_eq!((device.running(), device.engine.stops), (running, stops));
    }
}

#[test]
fn an_end_is_never_told_as_running_on_its_way() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    device.hub_answers = false;
    let before = device.told.len();
    device.run(SECOND * 20);
    let phases: Vec<Phase> =
        device.told.iter().skip(before).map(|status| status.replicas.first().unwrap().phase.clone()).collect();
    assert_eq!(phases, [Phase::Stopping, Phase::LeaseOver]);
}

#[test]
fn a_lease_starts_nothing_before_the_hub_has_said_on_this_connection_what_is_to_run() {
    let mut device = Device::new(Held::Assignment(assignment(1, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.hub_answers = true;
    device.list();
    device.connect();
    device.run(SECOND * 5);
    assert_eq!(device.running(), [0_u64; 0]);
    device.hear(DownMessage::Want(assignment(1, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
}

#[test]
fn a_copy_that_is_just_being_started_is_waited_for_when_it_is_not_wanted_any_more() {
    let mut device = Device::settled(&[]);
    device.hub_answers = true;
    device.hear(DownMessage::Want(assignment(2, &[(one(1, spec()).0, spec(), EXCLUSIVE)])));
    device.run(SECOND * 5);
    for (generation, wait) in (3..).zip([0, 5, 10, 15, 20, 25, 30, 100]) {
        // The copy that runs ends and is being started again, or another is being made, when the next takes its place.
        let placement = *device.running().first().unwrap();
        device.engine.end(placement, 1);
        device.run(Duration::from_millis(100 + wait));
        let next = ((PlacementId(generation), one(1, spec()).0.1), spec(), EXCLUSIVE);
        device.hear(DownMessage::Want(assignment(generation, &[next])));
        device.run(SECOND * 30);
        assert_eq!((device.running(), device.engine.most_at_once), (vec![generation], 1), "after {wait} ms");
    }
}
