//! What the store promises: what was acknowledged is there after any crash, a full disk loses nothing, a backup is whole.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use outrigger_api::{Event, Severity};
use outrigger_hub::handle::MAX_EVENTS;
use outrigger_hub::store::{FILE, SideError, SideRecord, Store, StoreError, Writer, restore};
use outrigger_planner::{Key, Record, StackRecord, Value};
use outrigger_protocol::Epoch;

/// Tells a child of this test which store to write to until it is killed.
const CHILD: &str = "OUTRIGGER_TEST_STORE";
/// Tells a child on which full disk to try.
const FULL: &str = "OUTRIGGER_TEST_FULL_DISK";

fn stack(number: u64) -> Record {
    let value = StackRecord { services: vec![], networks: vec![], applied_unix_ms: Some(number) };
    Record { key: Key::Stack(format!("s{number}").parse().unwrap()), value: Some(Value::Stack(value)) }
}

/// One that is written over and over.
fn counter(number: u64) -> Record {
    let value = StackRecord { services: vec![], networks: vec![], applied_unix_ms: Some(number) };
    Record { key: Key::Stack("counter".parse().unwrap()), value: Some(Value::Stack(value)) }
}

fn event(id: u64) -> Box<Event> {
    Box::new(Event {
        id,
        at_unix_ms: id,
        kind: "device_lost".to_owned(),
        severity: Severity::Error,
        device: Some("pi".to_owned()),
        stack: None,
        service: None,
        replica: None,
        message: "pi is lost".to_owned(),
        reason: None,
    })
}

const NO_EVENTS: &[Box<Event>] = &[];

fn keys(store: &mut Store) -> Vec<Key> {
    store.load().unwrap().records.into_iter().map(|record| record.key).collect()
}

#[test]
fn what_was_saved_is_there_and_what_was_deleted_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    store.save(&[stack(1), stack(2)], &[event(1), event(2)]).unwrap();
    store.save(&[Record { value: None, ..stack(1) }], NO_EVENTS).unwrap();
    drop(store);
    let loaded = Store::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded.records, [stack(2)]);
    assert_eq!(loaded.events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(loaded.epoch, Epoch(1));
}

#[test]
fn events_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let last = u64::try_from(MAX_EVENTS).unwrap() + 5;
    let events: Vec<_> = (1..=last).map(event).collect();
    store.save(&[], &events).unwrap();
    let kept = store.load().unwrap().events;
    assert_eq!((kept.len(), kept[0].id, kept[kept.len() - 1].id), (MAX_EVENTS, 6, last));
}

#[test]
fn only_the_owner_can_read_it_and_only_one_process_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    let _store = Store::open(&inner).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join(FILE))), (0o700, 0o600));
    assert!(matches!(Store::open(&inner), Err(StoreError::InUse { .. })));
}

#[test]
fn what_was_acknowledged_survives_being_killed_at_any_instant() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return write_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..12u64 {
        let mut child = again("what_was_acknowledged_survives_being_killed_at_any_instant")
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Another number of saves in each round, so that the kill comes at another instant.
        for _ in 0..20 + round * 7 {
            let number = lines.by_ref().map(Result::unwrap).find_map(|line| line.strip_prefix("saved ")?.parse().ok());
            acknowledged = number.expect("the child ended by itself");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines that it wrote before it died count too.
        let late = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("saved ")?.parse().ok()).max();
        acknowledged = late.unwrap_or(acknowledged).max(acknowledged);
        let loaded = Store::open(folder.path()).unwrap().load().unwrap();
        let counted = loaded.records.iter().find(|record| record.key == counter(0).key).unwrap();
        let Some(Value::Stack(StackRecord { applied_unix_ms: Some(counted), .. })) = counted.value else { panic!() };
        assert!(counted >= acknowledged, "{counted} is there, {acknowledged} was acknowledged");
        assert_eq!(loaded.records.len() as u64, counted + 1, "a batch is there as a whole or not at all");
        assert_eq!(loaded.events.last().map(|event| event.id), Some(counted));
    }
}

fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

fn write_for_ever(folder: &Path) {
    let mut store = Store::open(folder).unwrap();
    let first = store.load().unwrap().records.len() as u64;
    for number in first.max(1).. {
        store.save(&[stack(number), counter(number)], &[event(number)]).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "saved {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    if let Some(folder) = std::env::var_os(FULL) {
        return fill_up(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    // Files larger than this cannot be written: for the store the same as a full disk, without needing root.
    let shell = "ulimit -f 400; trap '' XFSZ; exec \"$0\" \"$@\"";
    let done = Command::new("bash")
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_an_error_and_loses_nothing", "--nocapture"])
        .env(FULL, folder.path())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    let loaded = Store::open(folder.path()).unwrap().load().unwrap();
    assert!(loaded.records.iter().any(|record| record.key == Key::Stack("last".parse().unwrap())));
}

fn fill_up(folder: &Path) {
    let mut store = Store::open(folder).unwrap();
    let large = |number: u64| {
        let services = (0..2000).map(|service| format!("service-{service}").parse().unwrap()).collect();
        let value = StackRecord { services, networks: vec![], applied_unix_ms: None };
        Record { value: Some(Value::Stack(value)), ..stack(number) }
    };
    let mut saved = vec![];
    let failed = (1..200u64).find_map(|number| match store.save(&[large(number)], NO_EVENTS) {
        Ok(()) => {
            saved.push(number);
            None
        }
        Err(error) => Some(error),
    });
    assert!(failed.expect("the disk is never full").to_string().starts_with("cannot write to"));
    assert!(!saved.is_empty());
    // It goes on: what was saved is there, and there is room again after something is deleted.
    let expected: std::collections::BTreeSet<_> = saved.iter().map(|number| large(*number).key).collect();
    assert_eq!(keys(&mut store).into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
    let gone: Vec<_> = saved.iter().map(|number| Record { value: None, ..stack(*number) }).collect();
    store.save(&gone, NO_EVENTS).unwrap();
    store.save(&[Record { key: Key::Stack("last".parse().unwrap()), ..stack(1) }], NO_EVENTS).unwrap();
}

#[test]
fn a_backup_restores_everything_and_raises_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, file) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("backup"));
    let mut store = Store::open(&old).unwrap();
    let fleet = store.load().unwrap().fleet;
    let records: Vec<_> = (1..500).map(stack).collect();
    store.save(&records, &[event(7)]).unwrap();
    store.backup(&mut fs::File::create(&file).unwrap()).unwrap();
    let restored = restore(&new, &file, false).unwrap();
    assert_eq!((restored.entries, restored.epoch), (500, Epoch(2)));
    assert_eq!((restored.fleet, Store::open(&new).unwrap().load().unwrap().fleet), (fleet, fleet));
    let another = Store::open(&folder.path().join("another")).unwrap().load().unwrap().fleet;
    assert_ne!(another, fleet, "a store that is made anew is of another fleet");
    let loaded = Store::open(&new).unwrap().load().unwrap();
    assert_eq!((loaded.records.len(), loaded.events.len(), loaded.epoch), (499, 1, Epoch(2)));
    assert!(matches!(restore(&new, &file, false), Err(StoreError::Exists { .. })));
    assert_eq!(restore(&new, &file, true).unwrap().epoch, Epoch(3), "never back, whatever the backup says");
    assert!(matches!(restore(&old, &file, true), Err(StoreError::InUse { .. })), "a hub runs on it");
}

#[test]
fn a_backup_holds_side_records_and_the_authority_for_nobody_else_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, file) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("backup"));
    let mut store = Store::open(&old).unwrap();
    let record = |key: &str, value: Option<&[u8]>| SideRecord {
        table: "identity".to_owned(),
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    store.save_side(&[record("pi", Some(b"1")), record("gone", Some(b"2")), record("odd\0key", Some(b""))]).unwrap();
    store.save_side(&[record("gone", None)]).unwrap();
    fs::create_dir(old.join("pki")).unwrap();
    fs::write(old.join("pki/authority.pem"), "the authority").unwrap();
    store.backup(&mut fs::File::create(&file).unwrap()).unwrap();
    restore(&new, &file, false).unwrap();
    let loaded = Store::open(&new).unwrap().load().unwrap();
    let expected = [("odd\0key".to_owned(), vec![]), ("pi".to_owned(), b"1".to_vec())];
    assert_eq!(loaded.side["identity"], expected.into_iter().collect());
    let authority = new.join("pki/authority.pem");
    assert_eq!(fs::read_to_string(&authority).unwrap(), "the authority");
    assert_eq!(fs::metadata(&authority).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(new.join("pki")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn side_records_are_durable_when_the_save_returns_and_do_not_keep_the_store_open() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, _written) = Writer::start(Store::open(folder.path()).unwrap()).unwrap();
    let side = writer.side();
    side.save("tokens", "a", Some(vec![7])).await.unwrap();
    writer.finish().await;
    assert_eq!(side.save("tokens", "b", Some(vec![8])).await, Err(SideError::Stopping));
    let loaded = Store::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded.side["tokens"], [("a".to_owned(), vec![7])].into_iter().collect());
}

#[test]
fn a_damaged_or_cut_backup_is_refused_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("state"), folder.path().join("backup"));
    let mut store = Store::open(&state).unwrap();
    store.save(&[stack(1), stack(2)], NO_EVENTS).unwrap();
    store.backup(&mut fs::File::create(&file).unwrap()).unwrap();
    drop(store);
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(restore(&state, &file, true), Err(StoreError::NoBackup { .. })), "cut at {at}");
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        assert!(matches!(restore(&state, &file, true), Err(StoreError::NoBackup { .. })), "damaged at {at}");
    }
    assert_eq!(Store::open(&state).unwrap().load().unwrap().records, [stack(1), stack(2)]);
}
