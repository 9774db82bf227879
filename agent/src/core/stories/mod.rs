//! The core on a model device: stories with virtual time, each a promise that users rely on.

mod exclusive;
mod faults;
mod files;
mod fleets;
mod networks;
mod policy;

use std::time::Duration;

use outrigger_protocol::{
    Ask, ByeReason, ContainerSpec, DownMessage, EngineState, Goal, LogsRequest, LossPolicy, Mount, MountKind, Phase,
    PlacementId, PublishedPort, RequestId, SessionNumber, UpMessage,
};

use super::model::{Device, assignment, one, spec};
use super::{Effect, Held, Input, MAX_PULLS, MAX_REQUESTS, MAX_STARTS};
use crate::engine::Health;

const SECOND: Duration = Duration::from_secs(1);

fn image(name: &str) -> ContainerSpec {
    ContainerSpec { image: name.into(), ..spec() }
}

fn with_port(host: u16) -> ContainerSpec {
    let port = PublishedPort {
        container: 80,
        host: Some(host),
        address: None,
        protocol: outrigger_protocol::PortProtocol::Tcp,
        mode: outrigger_protocol::PublishMode::Host,
    };
    ContainerSpec { ports: vec![port], ..spec() }
}

/// The copy `new` of the replica that `old` was a copy of.
fn replacing(old: u64, new: u64, spec: ContainerSpec) -> super::model::Copy {
    ((PlacementId(new), one(old, spec.clone()).0.1), spec, LossPolicy::Available)
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
    device.engine.set_health(1, Health::Starting);
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
