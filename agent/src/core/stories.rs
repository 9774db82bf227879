//! The core on a model device: stories with virtual time, each a promise that users rely on.

use std::time::Duration;

use outrigger_protocol::{
    Ask, ByeReason, ContainerSpec, DownMessage, EngineState, Goal, LogsRequest, LossPolicy, Mount, MountKind, Phase,
    PlacementId, PublishedPort, RequestId, RestartCondition, RestartPolicy, SessionNumber, UpMessage,
};

use super::model::{Device, assignment, one, spec};
use super::{Action, Effect, Held, Input, MAX_PULLS, MAX_REQUESTS, MAX_STARTS};
use crate::engine::{EngineError, Health};

const SECOND: Duration = Duration::from_secs(1);
const EXCLUSIVE: LossPolicy = LossPolicy::Exclusive { lease: Duration::from_secs(10) };

fn image(name: &str) -> ContainerSpec {
    ContainerSpec { image: name.into(), ..spec() }
}

fn with_port(host: u16) -> ContainerSpec {
    let port = PublishedPort {
        container: 80,
        host: Some(host),
        address: None,
        protocol: outrigger_protocol::PortProtocol::Tcp,
    };
    ContainerSpec { ports: vec![port], ..spec() }
}

#[test]
fn nothing_is_done_before_the_engine_has_been_looked_at() {
    let mut device = Device::new(Held::Assignment(assignment(1, &[one(1, spec())])));
    device.engine.is_silent = true;
    device.connect();
    device.run(SECOND * 60);
    assert_eq!(device.engine.made(), 0);
    assert!(matches!(device.status().engine, EngineState::Down(_)));
    device.engine.is_silent = false;
    device.list();
    device.run(SECOND);
    assert_eq!(device.running(), [1]);
}

#[test]
fn nothing_is_begun_before_the_assignment_is_on_the_disk() {
    let mut device = Device::settled(&[]);
    device.disk.is_slow = true;
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 5);
    assert_eq!(device.engine.made(), 0);
    device.disk.is_slow = false;
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
}

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
fn a_device_that_boots_alone_starts_what_is_available_or_waits_and_nothing_exclusive() {
    let exclusive = (one(2, spec()).0, one(2, spec()).1, EXCLUSIVE);
    let waiting = (one(3, spec()).0, one(3, spec()).1, LossPolicy::Wait);
    let mut device = Device::new(Held::Assignment(assignment(1, &[one(1, spec()), exclusive, waiting])));
    device.list();
    device.run(SECOND * 60);
    assert_eq!(device.running(), [1, 3]);
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
fn what_is_not_wanted_any_more_gets_its_own_time_to_end_and_is_removed() {
    let patient = ContainerSpec { stop_grace: Duration::from_secs(42), ..spec() };
    let mut device = Device::settled(&[one(1, patient)]);
    device.engine.end_time = SECOND * 5;
    device.hear(DownMessage::Want(assignment(2, &[])));
    device.run(SECOND);
    assert_eq!(device.engine.graces, [Duration::from_secs(42)]);
    assert_eq!(device.status().replicas.first().unwrap().phase, Phase::Stopping);
    device.run(SECOND * 60);
    assert_eq!(device.engine.containers.len(), 0);
    assert_eq!(device.status().replicas.len(), 0);
}

#[test]
fn an_older_assignment_is_never_obeyed_and_a_higher_epoch_always_wins() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.want_of(1, 9, &[one(2, spec())]);
    device.run(SECOND * 20);
    for (epoch, generation) in [(1, 8), (0, 99), (1, 9)] {
        device.want_of(epoch, generation, &[one(3, spec())]);
        device.run(SECOND * 20);
        assert_eq!(device.running(), [2], "{epoch}.{generation}");
    }
    device.want_of(2, 0, &[one(4, spec())]);
    device.run(SECOND * 20);
    assert_eq!(device.running(), [4]);
}

#[test]
fn the_old_copy_serves_until_the_image_of_the_new_one_is_there() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.engine.pull_time = SECOND * 30;
    device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, image("web:2"))])));
    device.run(SECOND * 29);
    assert_eq!(device.running(), [1]);
    device.run(SECOND * 30);
    assert_eq!(device.running(), [2]);
}

#[test]
fn an_old_copy_ends_when_the_image_of_the_new_one_cannot_be_had() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.engine.refuse_pull("web:2", "manifest unknown");
    device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, image("web:2"))])));
    device.run(SECOND * 20);
    assert_eq!(device.running(), [0_u64; 0]);
    let status = device.status();
    let Phase::BackOff { reason, .. } = &status.replicas.first().unwrap().phase else { panic!("{status:?}") };
    assert!(reason.contains("manifest unknown"));
}

#[test]
fn a_copy_to_be_prepared_is_pulled_and_not_started() {
    let mut device = Device::settled(&[]);
    let (placement, spec, loss) = one(1, image("web:2"));
    device.hear(DownMessage::Want(super::model::assignment_of(1, 2, &[(placement, spec, loss)], Goal::Prepare)));
    device.run(SECOND * 20);
    assert_eq!((device.engine.made(), device.engine.pulls.len()), (0, 1));
    assert_eq!(device.status().replicas.first().unwrap().phase, Phase::Prepared);
    assert_eq!(device.status().images, ["web:2"]);
}

#[test]
fn a_port_or_data_that_an_ending_copy_holds_is_waited_for() {
    let volume = Mount {
        kind: MountKind::Volume { name: "data".into(), driver: None, options: vec![] },
        target: "/data".into(),
        read_only: false,
    };
    let with_data = ContainerSpec { mounts: vec![volume], ..spec() };
    for spec in [with_port(8080), with_data] {
        let mut device = Device::settled(&[one(1, spec.clone())]);
        device.engine.end_time = SECOND * 3;
        device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, spec)])));
        device.run(SECOND * 2);
        assert_eq!(device.running(), [1]);
        device.run(SECOND * 10);
        assert_eq!((device.running(), device.engine.most_at_once), (vec![2], 1));
    }
}

#[test]
fn without_such_a_clash_the_new_copy_does_not_wait_for_the_end_of_the_old_one() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.engine.end_time = SECOND * 8;
    device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, spec())])));
    device.run(SECOND * 2);
    assert_eq!(device.running(), [1, 2]);
}

#[test]
fn a_missing_image_is_pulled_once_for_all_its_copies() {
    let mut device = Device::settled(&[]);
    let copies: Vec<_> = (1..=5).map(|id| one(id, image("new:1"))).collect();
    device.hear(DownMessage::Want(assignment(2, &copies)));
    device.run(SECOND * 30);
    assert_eq!((device.running(), device.engine.pulls.len()), (vec![1, 2, 3, 4, 5], 1));
}

#[test]
fn starts_and_pulls_under_way_are_bounded() {
    let mut device = Device::settled(&[]);
    device.engine.start_time = SECOND;
    let copies: Vec<_> = (1..=40).map(|id| one(id, image(&format!("app:{}", id % 10)))).collect();
    device.hear(DownMessage::Want(assignment(2, &copies)));
    device.run(SECOND * 120);
    assert_eq!(device.running().len(), 40);
    assert!(device.engine.most_starts <= MAX_STARTS && device.engine.most_pulls <= MAX_PULLS);
    assert!(device.engine.most_starts > MAX_STARTS / 2, "and it is not done one by one");
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
    assert_eq!(device.status().replicas.first().unwrap().last_exit, Some(outrigger_protocol::ExitCause::OutOfMemory));
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
fn a_copy_without_a_specification_is_skipped_and_the_rest_obeyed() {
    let mut device = Device::settled(&[]);
    let mut wrong = assignment(2, &[one(1, spec()), one(2, spec())]);
    wrong.replicas.first_mut().unwrap().spec = 99;
    device.hear(DownMessage::Want(wrong));
    device.run(SECOND * 5);
    assert_eq!(device.running(), [2]);
}

#[test]
fn a_pull_that_nobody_wants_any_more_is_given_up() {
    let mut device = Device::settled(&[]);
    device.engine.pull_time = SECOND * 600;
    device.hear(DownMessage::Want(assignment(2, &[one(1, image("large:1"))])));
    device.run(SECOND * 5);
    assert!(matches!(device.status().replicas.first().unwrap().phase, Phase::Pulling { .. }));
    device.hear(DownMessage::Want(assignment(3, &[])));
    device.run(SECOND);
    assert_eq!(device.aborted, 1);
    assert!(device.core.observed().under_way.is_empty());
}

#[test]
fn questions_are_bounded_and_end_with_the_connection() {
    let mut device = Device::settled(&[one(1, spec())]);
    let ask = |id: u64, placement: u64| {
        let wish = LogsRequest {
            placement: PlacementId(placement),
            tail: None,
            since_unix: None,
            follow: true,
            timestamps: false,
        };
        Input::Down(DownMessage::Ask(Ask::Logs(RequestId(id), wish)))
    };
    let refused = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Publish(UpMessage::Answer(_))));
    assert!(refused(&device.step(ask(0, 99))), "no such container");
    for id in 0..MAX_REQUESTS {
        let effects = device.step(ask(id as u64, 1));
        assert!(effects.iter().any(|e| matches!(e, Effect::Logs(..))));
    }
    assert!(refused(&device.step(ask(99, 1))), "too many");
    let cancelled = device.step(Input::Disconnected);
    assert_eq!(cancelled.iter().filter(|e| matches!(e, Effect::Cancel(_))).count(), MAX_REQUESTS);
}

#[test]
fn changes_in_a_row_are_told_together_and_a_single_one_at_once() {
    let mut device = Device::settled(&[]);
    device.run(SECOND * 10);
    let before = device.told.len();
    let copies: Vec<_> = (1..=50).map(|id| one(id, spec())).collect();
    device.hear(DownMessage::Want(assignment(2, &copies)));
    device.run(SECOND * 2);
    assert!(device.told.len() - before <= 21, "{}", device.told.len() - before);
    device.run(SECOND * 10);
    let before = device.told.len();
    device.engine.set_health(1, Health::Unhealthy);
    device.run(Duration::from_millis(20));
    assert_eq!(device.told.len() - before, 1);
    device.run(SECOND * 600);
    assert_eq!(device.told.len() - before, 1, "and nothing is told while nothing changes");
}

#[test]
fn a_hub_that_asks_gets_hello_and_the_whole_status() {
    let mut device = Device::settled(&[one(1, spec())]);
    let effects = device.step(Input::Down(DownMessage::Ask(Ask::Hello)));
    let [Effect::Publish(UpMessage::Hello(hello)), Effect::Publish(UpMessage::Status(status))] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((hello.session, hello.held, status.replicas.len()), (status.session, status.held, 1));
}

#[test]
fn the_reason_of_the_end_is_said_on_the_present_connection() {
    let mut device = Device::settled(&[one(1, spec())]);
    let effects = device.step(Input::Stop(ByeReason::Restart));
    let [Effect::Publish(UpMessage::Bye(bye))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((bye.reason, bye.session), (ByeReason::Restart, SessionNumber(device.session)));
}

/// The copy `new` of the replica that `old` was a copy of.
fn replacing(old: u64, new: u64, spec: ContainerSpec) -> super::model::Copy {
    ((PlacementId(new), one(old, spec.clone()).0.1), spec, LossPolicy::Available)
}
