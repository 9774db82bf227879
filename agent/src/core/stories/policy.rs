//! The owner of the device has the last word.

use outrigger_protocol::{ContainerSpec, DownMessage, ExitCause, Goal, Phase};

use super::{SECOND, image, replacing};
use crate::core::Held;
use crate::core::model::{Device, assignment, assignment_of, one, spec};
use crate::policy::{Guarded, Policy};

fn privileged(name: &str) -> ContainerSpec {
    ContainerSpec { privileged: true, ..image(name) }
}

fn policy(text: &str) -> Policy {
    Policy::of(text, "/etc/outrigger/policy.toml".into(), Guarded::default())
}

fn refusal(device: &Device, index: usize) -> String {
    match &device.status().replicas.get(index).unwrap().phase {
        Phase::Refused { reason } => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_owner_does_not_allow_is_neither_pulled_nor_made_and_the_hub_is_told_why() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec()), one(2, privileged("new:1"))])));
    device.run(SECOND * 600);
    assert_eq!((device.running(), device.engine.made(), device.engine.pulls.len()), (vec![1], 1, 0));
    assert!(refusal(&device, 1).contains("privileged = true"), "{}", refusal(&device, 1));
    // One status when it came; nothing is tried, so there is nothing more to tell.
    assert!(device.told.len() <= 6, "{}", device.told.len());
}

#[test]
fn a_copy_that_is_only_prepared_is_refused_too() {
    let mut device = Device::settled(&[]);
    device.hear(DownMessage::Want(assignment_of(1, 2, &[one(1, privileged("new:1"))], Goal::Prepare)));
    device.run(SECOND * 60);
    assert!(device.engine.pulls.is_empty());
    assert!(refusal(&device, 0).contains("privileged containers"));
}

#[test]
fn the_old_copy_ends_when_told_although_its_successor_is_refused() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, privileged("new:1"))])));
    device.run(SECOND * 60);
    assert!(device.running().is_empty());
}

#[test]
fn a_policy_that_becomes_stricter_ends_what_it_forbids_and_a_wider_one_starts_it_again() {
    let mut device = Device::new(Held::Nothing);
    device.policy = policy("privileged = true");
    device.restart_agent();
    device.connect();
    device.hear(DownMessage::Want(assignment(1, &[one(1, privileged("web:1")), one(2, spec())])));
    device.run(SECOND * 10);
    assert_eq!(device.running(), [1, 2]);
    device.policy = policy("");
    device.restart_agent();
    device.run(SECOND * 60);
    assert_eq!(device.running(), [2]);
    assert!(refusal(&device, 0).contains("privileged = true"));
    device.policy = policy("privileged = true");
    device.restart_agent();
    device.run(SECOND * 60);
    assert_eq!(device.running(), [1, 2]);
}

#[test]
fn a_broken_policy_starts_nothing_and_stops_nothing() {
    let mut device = Device::new(Held::Nothing);
    device.policy = policy("privileged = true");
    device.restart_agent();
    device.connect();
    device.hear(DownMessage::Want(assignment(1, &[one(1, privileged("web:1"))])));
    device.run(SECOND * 10);
    device.policy = policy("privileged = tru");
    device.restart_agent();
    device.run(SECOND * 60);
    assert_eq!((device.running(), device.engine.stops), (vec![1], 0));
    assert_eq!(device.status().replicas.first().unwrap().phase, Phase::Running);
    // It ends by itself: without the owner's word it is not started again.
    device.engine.end(1, 1);
    device.run(SECOND * 60);
    assert!(device.running().is_empty());
    assert!(refusal(&device, 0).contains("that file cannot be used"), "{}", refusal(&device, 0));
}

#[test]
fn what_is_refused_at_the_last_moment_is_not_tried_again() {
    let mut device = Device::settled(&[]);
    let reason = "the owner of the device does not allow the mount of `/srv/a`: it is a link".to_owned();
    device.engine.fail_next_start(crate::engine::EngineError::NotAllowed { reason: reason.clone() });
    device.hear(DownMessage::Want(assignment(2, &[one(1, spec())])));
    device.run(SECOND * 3600);
    assert_eq!((device.engine.starts, refusal(&device, 0)), (0, reason.clone()));
    assert_eq!(device.status().replicas.first().unwrap().last_exit, Some(ExitCause::NotStarted(reason)));
}
