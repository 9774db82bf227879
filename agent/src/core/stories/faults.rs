//! What happens when something breaks: a container, the agent, the engine, the disk.

use std::time::Duration;

use outrigger_protocol::{
    ContainerSpec, DownMessage, EngineState, ExitCause, LossPolicy, Phase, RestartCondition, RestartPolicy,
};

use super::{SECOND, image};
use crate::core::Held;
use crate::core::model::{Device, assignment, one, spec};
use crate::engine::{EngineError, Health};

#[test]
fn a_restart_of_the_agent_adopts_what_runs() {
    let mut device = Device::settled(&[one(1, spec()), one(2, spec())]);
    let starts = device.engine.starts;
    for _ in 0..3 {
        device.restart_agent();
        device.run(SECOND * 5);
    }
    assert_eq!((device.running(), device.engine.starts, device.engine.stops), (vec![1, 2], starts, 0));
    assert!(device.status().replicas.iter().all(|one| one.phase == Phase::Running && one.restarts == 0));
}

#[test]
fn what_cannot_be_read_starts_and_stops_nothing_until_the_hub_speaks() {
    for held in [Held::Unreadable, Held::Nothing] {
        let mut device = Device::new(held);
        device.engine.add_running(7, LossPolicy::Available);
        device.list();
        device.connect();
        device.run(SECOND * 60);
        assert_eq!((device.running(), device.engine.stops), (vec![7], 0));
        assert_eq!(device.status().replicas.first().unwrap().phase, Phase::Running);
        device.hear(DownMessage::Want(assignment(1, &[one(8, spec())])));
        device.run(SECOND * 20);
        assert_eq!(device.running(), [8]);
    }
}

#[test]
fn what_is_killed_after_running_well_is_back_at_once() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.run(SECOND * 60);
    device.engine.end(1, 137);
    device.run(Duration::from_millis(100));
    assert_eq!(device.running(), [1]);
    assert_eq!(device.status().replicas.first().unwrap().restarts, 1);
}

#[test]
fn what_keeps_failing_is_tried_ever_more_seldom_and_says_why() {
    let mut device = Device::settled(&[]);
    device.engine.lives_for = Some(Duration::from_millis(50));
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 3600);
    // 0.1, 0.2, … 204.8 s are 12 pauses in 409.5 s; then one each five minutes.
    let expected = 12 + (3600 - 410) / 300;
    assert!((expected - 1..=expected + 3).contains(&device.engine.starts), "{}", device.engine.starts);
    let status = device.status();
    let Phase::BackOff { retry_ms, reason } = &status.replicas.first().unwrap().phase else { panic!("{status:?}") };
    assert!(*retry_ms <= 300_000 && reason == "it ended with code 1");
}

#[test]
fn a_copy_that_runs_once_is_not_started_again() {
    let once = RestartPolicy { condition: RestartCondition::None, ..RestartPolicy::default() };
    let mut device = Device::settled(&[one(1, ContainerSpec { restart: once, ..spec() })]);
    device.engine.end(1, 0);
    device.run(SECOND * 600);
    assert_eq!((device.engine.starts, device.status().replicas.first().unwrap().phase.clone()), (1, Phase::Completed));
}

#[test]
fn a_kill_for_memory_is_told_apart() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.engine.end_for_memory(1);
    device.run(SECOND);
    assert_eq!(device.status().replicas.first().unwrap().last_exit, Some(ExitCause::OutOfMemory));
}

#[test]
fn health_is_told() {
    let mut device = Device::settled(&[one(1, spec())]);
    for (health, phase) in
        [(Health::Unhealthy, Phase::Unhealthy), (Health::Starting, Phase::Starting), (Health::Healthy, Phase::Running)]
    {
        device.engine.set_health(1, health);
        device.run(SECOND);
        assert_eq!(device.status().replicas.first().unwrap().phase, phase);
    }
}

#[test]
fn what_stays_unhealthy_is_restarted_and_what_runs_once_is_not() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.engine.set_health(1, Health::Unhealthy);
    device.run(SECOND * 4);
    assert_eq!(device.engine.stops, 0);
    device.run(SECOND * 4);
    assert_eq!((device.running(), device.engine.starts, device.engine.stops), (vec![1], 2, 1));
    let once = RestartPolicy { condition: RestartCondition::None, ..RestartPolicy::default() };
    let mut device = Device::settled(&[one(1, ContainerSpec { restart: once, ..spec() })]);
    device.engine.set_health(1, Health::Unhealthy);
    device.run(SECOND * 60);
    assert_eq!(device.engine.stops, 0);
}

#[test]
fn an_image_that_comes_by_hand_is_found_when_it_is_tried_again() {
    let mut device = Device::settled(&[]);
    device.engine.refuse_pull("own:1", "no such host");
    device.hear(DownMessage::Want(assignment(2, &[one(1, image("own:1"))])));
    device.run(SECOND * 10);
    device.engine.images.insert("own:1".into());
    device.run(SECOND * 20);
    assert_eq!(device.running(), [1]);
}

#[test]
fn an_agent_that_has_just_started_does_not_call_its_engine_down_before_it_could_answer() {
    let mut device = Device::new(Held::Nothing);
    device.connect();
    device.run(Duration::from_millis(1_900));
    assert_eq!(device.told.len(), 0);
    device.run(SECOND);
    assert!(matches!(device.status().engine, EngineState::Down(_)));
}

#[test]
fn a_container_of_which_the_engine_says_nothing_is_looked_at() {
    let mut device = Device::settled(&[]);
    device.engine.loses_events = true;
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 5);
    assert_eq!((device.status().replicas.first().unwrap().phase.clone(), device.engine.made()), (Phase::Running, 1));
    device.hear(DownMessage::Want(assignment(3, &[])));
    device.run(SECOND * 60);
    assert_eq!(device.engine.containers.len(), 0);
}

#[test]
fn an_engine_that_is_down_is_reported_and_what_runs_is_adopted_when_it_is_back() {
    let mut device = Device::settled(&[one(1, spec()), one(2, spec())]);
    device.engine_lost("connection refused");
    device.run(SECOND * 30);
    assert_eq!(device.status().engine, EngineState::Down("connection refused".into()));
    assert_eq!(device.status().replicas.len(), 2);
    device.list();
    device.run(SECOND * 5);
    assert_eq!((device.status().engine, device.engine.starts, device.engine.stops), (EngineState::Up, 2, 0));
}

#[test]
fn a_call_that_the_engine_does_not_answer_is_nobodys_failure() {
    let mut device = Device::settled(&[]);
    device.engine.fail_next_start(EngineError::TimedOut { call: "create", after: SECOND });
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 5);
    assert_eq!((device.running(), device.status().replicas.first().unwrap().restarts), (vec![1], 0));
}

#[test]
fn a_full_disk_is_reported_in_the_engines_words_and_tried_again() {
    let mut device = Device::settled(&[]);
    device.engine.fail_next_start(EngineError::NoSpace { reason: "no space left on device".into() });
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(Duration::from_millis(150));
    assert!(
        device
            .told
            .iter()
            .any(|status| matches!(&status.engine, EngineState::StorageFailed(why) if why.contains("no space")))
    );
    device.run(SECOND * 5);
    assert_eq!((device.running(), device.status().engine), (vec![1], EngineState::Up));
}

#[test]
fn a_disk_that_saves_nothing_starts_nothing_new_and_stops_what_the_hub_ends() {
    let mut device = Device::settled(&[one(1, spec()), one(2, spec())]);
    device.disk.fails = true;
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec()), one(3, spec())])));
    device.run(SECOND * 20);
    assert_eq!(device.running(), [1]);
    assert!(matches!(device.status().engine, EngineState::StorageFailed(_)));
    device.engine.end(1, 1);
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1], "what it had goes on");
    device.disk.fails = false;
    device.run(SECOND * 60);
    assert_eq!((device.running(), device.status().engine), (vec![1, 3], EngineState::Up));
}

#[test]
fn a_disk_that_was_full_for_a_moment_is_found_free_at_once() {
    let mut device = Device::settled(&[]);
    device.disk.fails = true;
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND);
    device.disk.fails = false;
    device.run(SECOND * 2);
    assert_eq!((device.running(), device.status().engine), (vec![1], EngineState::Up));
    assert!(device.disk.held.is_some());
}

#[test]
fn a_disk_that_stays_full_is_tried_now_and_then_and_said_to_have_failed_throughout() {
    let mut device = Device::settled(&[]);
    device.disk.fails = true;
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND);
    let (told, tried) = (device.told.len(), device.disk.tried);
    device.run(SECOND * 80);
    assert!((10..=15).contains(&(device.disk.tried - tried)), "{}", device.disk.tried - tried);
    assert_eq!(device.told.len(), told, "what has not changed is not told");
    assert!(matches!(device.status().engine, EngineState::StorageFailed(_)));
    device.disk.fails = false;
    device.run(SECOND * 10);
    assert_eq!((device.running(), device.status().engine), (vec![1], EngineState::Up));
}

#[test]
fn a_device_that_returns_waits_a_moment_for_the_hub_and_starts_nothing_that_runs_elsewhere_by_now() {
    let mut device = Device::new(Held::Assignment(assignment(1, &[one(1, spec()), one(2, spec())])));
    device.list();
    device.run(SECOND);
    device.connect();
    device.hear(DownMessage::Want(assignment(2, &[one(2, spec())])));
    device.run(SECOND * 10);
    assert_eq!((device.running(), device.engine.starts), (vec![2], 1));
}

#[test]
fn a_device_whose_hub_says_nothing_new_starts_at_once() {
    let held = assignment(1, &[one(1, spec())]);
    let mut device = Device::new(Held::Assignment(held.clone()));
    device.list();
    device.connect();
    device.hear(DownMessage::Want(held));
    device.run(Duration::from_millis(100));
    assert_eq!(device.running(), [1]);
}
