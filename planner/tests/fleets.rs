//! Devices of other fleets, and statuses that are lost on the way.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]

mod story;

use std::time::Duration;

use outrigger_planner::{Heard, Liveness, NoteKind, Policy, Wish};
use outrigger_protocol::{DeviceName, EngineState, FleetId, Report, SessionNumber, StackSpec, Status};
use story::agent::Agent;
use story::words::{device, service, words};
use story::{FLEET, World};

const OTHER: FleetId = FleetId(0x07e4);
const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn world(devices: &[&str]) -> World {
    let mut world = World::new(Policy::default());
    for (number, text) in devices.iter().enumerate() {
        let (facts, _) = device(&words("amd64 4cpu 4GiB"));
        let agent = Agent::new(name(text), facts, number as u64, world.now);
        world.agents.insert(name(text), agent);
    }
    world
}

fn deploy(world: &mut World, replicas: u32) {
    let web = service("web", &words(&format!("x{replicas} image web:1")));
    let stack = StackSpec { name: "shop".parse().unwrap(), services: vec![web], networks: vec![] };
    world.wish(Wish::Apply { stack, applied_unix_ms: None }).unwrap();
}

fn agent<'a>(world: &'a mut World, text: &str) -> &'a mut Agent {
    world.agents.get_mut(&name(text)).unwrap()
}

fn refusals(world: &World) -> usize {
    world.notes.iter().filter(|note| note.kind == NoteKind::DeviceRefused).count()
}

#[test]
fn a_device_of_another_fleet_is_shown_with_the_reason_and_given_nothing() {
    let mut world = world(&["pi", "stranger"]);
    agent(&mut world, "stranger").fleet = Some(OTHER);
    world.pass(SECOND * 30);
    deploy(&mut world, 4);
    world.pass(SECOND * 30);
    assert_eq!(world.running("shop/web"), ["pi"; 4]);
    let view = world.fleet.device(&name("stranger")).unwrap();
    assert_eq!((view.liveness, view.foreign), (Liveness::Lost, Some(OTHER)));
    assert!(view.why.contains(&OTHER.to_string()), "{}", view.why);
    assert_eq!(world.fleet.assignment(&name("stranger")), None);
    assert_eq!(refusals(&world), 1, "it is told once, not with each heartbeat");
    let told = world.notes.iter().find(|note| note.kind == NoteKind::DeviceRefused).unwrap().to_string();
    for way_out in ["outrigger-hub restore", "outrigger-agent leave"] {
        assert!(told.contains(way_out), "{told}");
    }
}

#[test]
fn a_hub_that_forgot_its_fleet_stops_nothing_and_says_why_nothing_runs_elsewhere() {
    let mut world = world(&["a", "b", "c"]);
    for device in ["a", "b", "c"] {
        agent(&mut world, device).fleet = Some(OTHER);
    }
    deploy(&mut world, 1);
    world.pass(SECOND * 60);
    assert_eq!(world.running("shop/web"), [""; 0]);
    let waits = world.fleet.explain(&"shop/web".parse().unwrap(), None, world.now).unwrap();
    assert!(format!("{waits:?}").contains("belongs to another fleet"), "{waits:?}");
}

#[test]
fn a_device_that_left_for_another_fleet_is_replaced_and_used_again_when_it_returns() {
    let mut world = world(&["a", "b"]);
    world.pass(SECOND * 20);
    deploy(&mut world, 2);
    world.pass(SECOND * 10);
    assert_eq!(world.running("shop/web"), ["a", "b"]);
    agent(&mut world, "b").leave_for(Some(OTHER));
    world.pass(SECOND * 5);
    assert_eq!(world.running("shop/web"), ["a", "a"]);
    // Also a hub that has restarted since does not take it for its own.
    world.restart_hub();
    assert_eq!(world.fleet.device(&name("b")).unwrap().foreign, Some(OTHER));
    assert_eq!(world.fleet.assignment(&name("b")), None);
    world.pass(SECOND * 20);
    agent(&mut world, "b").leave_for(None);
    world.pass(SECOND * 5);
    let view = world.fleet.device(&name("b")).unwrap();
    assert_eq!((view.liveness, view.foreign), (Liveness::Up, None));
    assert_eq!(agent(&mut world, "b").held.as_ref().map(|held| held.fleet), Some(FLEET));
    world.wish(Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 3 }).unwrap();
    world.pass(SECOND * 10);
    assert!(world.running("shop/web").contains(&"b".to_owned()));
}

/// A device that the hub knows, and a report of it that tells of so many statuses; whether the hub asks.
fn asks(world: &mut World, sequence: u32, statuses: u32) -> bool {
    world.now = world.now + SECOND;
    let session = SessionNumber(1);
    let report = Report { session, sequence, statuses, held: None, load: None, usage: vec![] };
    world.fleet.hear(&name("pi"), Heard::Report(report), world.now).ask_hello
}

#[test]
fn a_status_that_was_lost_is_asked_for_and_less_and_less_often() {
    let mut world = world(&["pi"]);
    world.pass(SECOND * 3);
    world.agents.clear();
    assert!(!asks(&mut world, 100, 1), "it has come");
    let asked: Vec<u32> = (1..=40).filter(|&beat| asks(&mut world, 100 + beat, 50)).collect();
    assert_eq!(asked, [2, 4, 8, 16, 32], "one report may overtake its status, two do not");
    let session = SessionNumber(1);
    let status = Status { session, number: 51, held: None, engine: EngineState::Up, replicas: vec![], images: vec![] };
    world.fleet.hear(&name("pi"), Heard::Status(status), world.now);
    assert!((0..10).all(|beat| !asks(&mut world, 200 + beat, 51)));
}

#[test]
fn what_a_device_holds_is_learnt_from_its_heartbeat() {
    let mut world = world(&["pi"]);
    world.pass(SECOND * 20);
    let present = world.fleet.device(&name("pi")).unwrap().stamp;
    world.agents.clear();
    deploy(&mut world, 1);
    let wanted = world.fleet.device(&name("pi")).unwrap().stamp;
    assert!(wanted > present);
    let session = SessionNumber(1);
    let report = Report { session, sequence: 99, statuses: 1, held: Some(wanted), load: None, usage: vec![] };
    world.fleet.hear(&name("pi"), Heard::Report(report), world.now);
    assert_eq!(world.fleet.device(&name("pi")).unwrap().held, Some(wanted));
}
