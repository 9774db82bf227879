//! Secrets and configs: there before their container, gone with it, waited for without the hub.

use outrigger_protocol::{ContainerSpec, DownMessage, FileKind, FileMount, FileRef, Phase};

use super::{SECOND, replacing};
use crate::core::Held;
use crate::core::model::{Device, assignment, one, spec};
use crate::engine::EngineError;

fn with_secret(version: u64) -> ContainerSpec {
    let file = FileRef { kind: FileKind::Secret, name: "db".parse().unwrap(), version };
    let mount = FileMount { file, target: "/run/secrets/db".into(), uid: 0, gid: 0, mode: 0o444 };
    ContainerSpec { files: vec![mount], ..spec() }
}

fn unheard() -> Option<EngineError> {
    Some(EngineError::Unreachable { reason: "the hub is not heard".into() })
}

fn laid(device: &Device) -> Vec<u64> {
    device.engine.laid.iter().copied().collect()
}

#[test]
fn a_secret_is_there_with_its_copy_and_gone_within_five_seconds_of_its_end() {
    let mut device = Device::settled(&[]);
    device.hear(DownMessage::Want(assignment(2, &[one(1, with_secret(1)), one(2, spec())])));
    device.run(SECOND * 5);
    assert_eq!((device.running(), laid(&device)), (vec![1, 2], vec![1]), "and none where none is wanted");
    device.hear(DownMessage::Want(assignment(3, &[one(2, spec())])));
    device.run(SECOND * 5);
    assert_eq!((device.running(), laid(&device)), (vec![2], vec![]));
}

#[test]
fn a_copy_that_takes_its_time_to_end_keeps_its_secret_until_then() {
    let patient = ContainerSpec { stop_grace: SECOND * 60, ..with_secret(1) };
    let mut device = Device::settled(&[one(1, patient)]);
    device.engine.end_time = SECOND * 30;
    device.hear(DownMessage::Want(assignment(2, &[])));
    device.run(SECOND * 29);
    assert_eq!(laid(&device), [1]);
    device.run(SECOND * 6);
    assert_eq!((device.running(), laid(&device)), (vec![], vec![]));
}

#[test]
fn nothing_starts_without_its_secret_and_the_hub_is_told_why() {
    let mut device = Device::settled(&[]);
    device.engine.no_files = Some(EngineError::Refused { reason: "there is no secret `db`".into() });
    device.hear(DownMessage::Want(assignment(2, &[one(1, with_secret(1))])));
    device.run(SECOND * 60);
    assert_eq!((device.running(), device.engine.made()), (vec![], 0));
    let status = device.status();
    let Phase::BackOff { reason, .. } = &status.replicas.first().unwrap().phase else { panic!("{status:?}") };
    assert_eq!(reason, "there is no secret `db`");
    device.engine.no_files = None;
    device.run(SECOND * 16);
    assert_eq!(device.running(), [1], "whoever sets it need not do more");
}

#[test]
fn after_a_boot_without_the_hub_what_needs_a_secret_waits_and_all_else_runs() {
    let mut device = Device::new(Held::Assignment(assignment(1, &[one(1, with_secret(1)), one(2, spec())])));
    device.engine.images.insert(spec().image);
    device.engine.no_files = unheard();
    device.list();
    device.run(SECOND * 600);
    assert_eq!(device.running(), [2]);
    device.engine.no_files = None;
    device.connect();
    device.run(SECOND * 2);
    assert_eq!(device.running(), [1, 2], "it does not wait for its turn once the hub is there");
}

#[test]
fn a_restart_of_the_agent_stops_nothing_and_a_secret_that_was_lost_is_there_again() {
    let mut device = Device::settled(&[one(1, with_secret(1))]);
    device.engine.laid.clear();
    device.restart_agent();
    device.connect();
    device.run(SECOND * 5);
    assert_eq!((device.running(), laid(&device)), (vec![1], vec![1]));
    assert_eq!(device.engine.made(), 1);
    device.engine.end(1, 1);
    device.list();
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
}

#[test]
fn a_new_version_comes_with_a_new_copy_and_the_old_one_goes_with_the_old() {
    let mut device = Device::settled(&[one(1, with_secret(1))]);
    device.hear(DownMessage::Want(assignment(2, &[replacing(1, 2, with_secret(2))])));
    device.run(SECOND * 10);
    assert_eq!((device.running(), laid(&device)), (vec![2], vec![2]));
}
