//! The core against the real planner, with a disk and a broker that the test plays.

#[path = "../../tests/facts/mod.rs"]
mod facts;
mod mesh;

use facts::facts;
use outrigger_protocol::{
    Arch, Assignment, BootId, Bye, ByeReason, EngineState, FleetId, Hello, Report, SessionNumber, StackSpec, Status,
};

use super::*;

const FLEET: FleetId = FleetId(0xf1ee7);
const SECOND: Duration = Duration::from_secs(1);

/// A hub with its surroundings: what it saves is kept, what it sends is remembered.
struct World {
    core: HubCore,
    now: Moment,
    disk: BTreeMap<Key, Value>,
    disk_fails: Option<&'static str>,
    sent: Vec<(DeviceName, DownMessage)>,
    cleared: Vec<DeviceName>,
    quarantined: Vec<DeviceName>,
    replies: Vec<(WishId, Result<(), WishError>)>,
    remarks: Vec<&'static str>,
    /// What was done, in order: `save`, `want pi`, `reply 1`.
    trace: Vec<String>,
    sequence: u32,
}

impl World {
    fn new() -> Self {
        let now = Moment(1_000_000);
        let (core, _) = HubCore::restore([], Policy::default(), FLEET, Epoch(1), now);
        let mut world = Self {
            core,
            now,
            disk: BTreeMap::new(),
            disk_fails: None,
            sent: vec![],
            cleared: vec![],
            quarantined: vec![],
            replies: vec![],
            remarks: vec![],
            trace: vec![],
            sequence: 0,
        };
        world.tell(Input::LinkUp);
        world
    }

    /// The hub dies and starts again from its disk.
    fn restart(&mut self) {
        let records = self.disk.clone().into_iter().map(|(key, value)| Record { key, value: Some(value) });
        let (core, ignored) = HubCore::restore(records, Policy::default(), FLEET, Epoch(1), self.now);
        assert_eq!(ignored, Vec::<String>::new());
        self.core = core;
        self.sent.clear();
        self.tell(Input::LinkUp);
    }

    /// Tells the core something, and plays disk and broker until it rests.
    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let effects = self.core.step_all(self.now, std::mem::take(&mut inputs));
            inputs.extend(effects.into_iter().filter_map(|effect| self.play(effect)));
        }
    }

    fn play(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Save { batch, records } => {
                if let Some(reason) = self.disk_fails {
                    return Some(Input::SaveFailed { batch, reason: reason.to_owned() });
                }
                self.trace.push("save".to_owned());
                for record in records {
                    match record.value {
                        Some(value) => drop(self.disk.insert(record.key, value)),
                        None => drop(self.disk.remove(&record.key)),
                    }
                }
                return Some(Input::Saved(batch));
            }
            Effect::Send { device, message } => {
                self.trace.push(format!("{:?} {device}", message.channel()).to_lowercase());
                self.sent.push((device, message));
            }
            Effect::Quarantine { device } => self.quarantined.push(device),
            Effect::Clear { device } => self.cleared.push(device),
            Effect::Reply { id, result } => {
                self.trace.push(format!("reply {}", id.0));
                self.replies.push((id, result));
            }
            Effect::Remark(remark) => self.remarks.push(remark.kind),
        }
        None
    }

    fn hear(&mut self, device: &str, message: UpMessage) {
        self.tell(Input::Heard { device: name(device), message });
    }

    fn join(&mut self, device: &str) {
        self.hear(device, UpMessage::Hello(Box::new(hello(device))));
        let held = None;
        let status = Status {
            session: SessionNumber(1),
            number: 1,
            held,
            engine: EngineState::Up,
            replicas: vec![],
            images: vec![],
        };
        self.hear(device, UpMessage::Status(status));
    }

    /// Time passes, with these devices beating each second.
    fn pass(&mut self, time: Duration, beating: &[&str]) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.core.wake_at().min(self.now + TICK).min(end).max(self.now + Duration::from_millis(1));
            if self.now.0.is_multiple_of(1000) {
                self.sequence += 1;
                for device in beating {
                    self.hear(device, beat(self.sequence));
                }
            }
            self.tell(Input::Tick);
        }
    }

    fn wish(&mut self, id: u64, wish: Wish) {
        self.tell(Input::Wish { id: WishId(id), wish });
    }

    /// The last assignment sent to a device.
    fn wanted(&self, device: &str) -> Option<&Assignment> {
        self.sent.iter().rev().find_map(|(to, message)| match message {
            DownMessage::Want(assignment) if to.as_str() == device => Some(assignment),
            _ => None,
        })
    }

    fn running_on(&self, device: &str) -> usize {
        self.wanted(device).map_or(0, |assignment| assignment.replicas.len())
    }
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn hello(device: &str) -> Hello {
    let facts = facts(Arch::Amd64);
    let boot = BootId(u128::from(device.len() as u64) + 1);
    Hello {
        boot,
        session: SessionNumber(1),
        machine: boot.0,
        fleet: None,
        held: None,
        unix_ms: 0,
        heartbeat_ms: 1000,
        facts,
    }
}

fn beat(sequence: u32) -> UpMessage {
    UpMessage::Report(Report {
        session: SessionNumber(1),
        sequence,
        statuses: 1,
        held: None,
        load: None,
        usage: vec![],
    })
}

/// A stack `shop` of one service with so many copies.
fn shop(replicas: u32) -> Wish {
    let service = outrigger_protocol::ServiceSpec {
        name: "web".parse().unwrap(),
        container: outrigger_protocol::ContainerSpec { image: "web:1".into(), ..Default::default() },
        mode: outrigger_protocol::Mode::Replicated(replicas),
        reservation: Default::default(),
        constraints: vec![],
        spread: vec![],
        max_per_device: None,
        platforms: None,
        loss: outrigger_protocol::LossPolicy::Available,
        lost_after: None,
        volume_move: outrigger_protocol::VolumeMove::Stay,
        update: Default::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Default::default(),
    };
    let stack = StackSpec { name: "shop".parse().unwrap(), services: vec![service], networks: vec![] };
    Wish::Apply { stack, applied_unix_ms: Some(5) }
}

/// Two devices that have been up for long enough for the start's grace to be over, and a shop of two copies.
fn running_shop() -> World {
    let mut world = World::new();
    world.join("pi");
    world.join("nuc1");
    world.pass(SECOND * 20, &["pi", "nuc1"]);
    world.wish(1, shop(2));
    assert_eq!((world.running_on("pi"), world.running_on("nuc1")), (1, 1));
    world
}

#[test]
fn nothing_is_published_or_granted_before_it_is_saved() {
    let mut world = World::new();
    world.join("pi");
    world.pass(SECOND * 20, &["pi"]);
    world.trace.clear();
    world.wish(1, shop(2));
    assert_eq!(world.trace, ["save", "reply 1", "save", "want pi"]);
    assert_eq!(world.running_on("pi"), 2);
}

#[test]
fn a_wish_that_makes_no_sense_is_refused_and_saves_nothing() {
    let mut world = World::new();
    let before = world.disk.clone();
    world.wish(1, Wish::RemoveStack("none".parse().unwrap()));
    assert!(matches!(world.replies[..], [(WishId(1), Err(WishError::Refused(_)))]));
    assert_eq!(world.disk, before);
}

#[test]
fn a_full_disk_refuses_wishes_publishes_nothing_and_loses_nothing() {
    let mut world = running_shop();
    let before = world.wanted("pi").cloned();
    world.disk_fails = Some("no space left on device");
    world.wish(2, shop(6));
    let Some((_, Err(error))) = world.replies.last() else { panic!() };
    assert_eq!(error.to_string(), "read-only: no space left on device");
    assert_eq!(world.core.read_only(), Some("no space left on device"));
    // A device dies meanwhile: decided, but not published while it cannot be saved.
    world.pass(SECOND * 10, &["pi"]);
    assert_eq!(world.wanted("pi"), before.as_ref());
    world.wish(3, shop(7));
    assert!(matches!(world.replies.last(), Some((WishId(3), Err(WishError::ReadOnly(_))))));
    world.disk_fails = None;
    world.pass(SECOND * 2, &["pi"]);
    assert_eq!(world.running_on("pi"), 2, "what was decided meanwhile is saved and published");
    assert_eq!(world.core.read_only(), None);
    world.restart();
    assert_eq!(
        world.core.fleet().services().next().map(|web| web.wanted),
        Some(2),
        "a refused wish is not saved later"
    );
    world.wish(4, shop(3));
    assert_eq!(world.replies.last(), Some(&(WishId(4), Ok(()))));
    assert!(world.remarks.contains(&"store_read_only") && world.remarks.contains(&"store_writable"));
}

#[test]
fn a_store_that_saves_again_is_noticed_without_anybody_asking_for_something() {
    let mut world = running_shop();
    world.disk_fails = Some("no space left on device");
    world.wish(2, shop(6));
    world.pass(SECOND * 3, &["pi", "nuc1"]);
    assert!(world.core.read_only().is_some());
    world.disk_fails = None;
    world.pass(SECOND * 2, &["pi", "nuc1"]);
    assert_eq!(world.core.read_only(), None);
}

#[test]
fn a_lost_device_is_replaced_and_the_loss_is_on_disk_first() {
    let mut world = running_shop();
    world.trace.clear();
    world.pass(SECOND * 6, &["pi"]);
    assert_eq!(world.running_on("pi"), 2);
    let save = world.trace.iter().position(|done| done == "save").unwrap();
    assert!(save < world.trace.iter().position(|done| done == "want pi").unwrap());
}

#[test]
fn a_hub_that_stood_still_blames_nobody() {
    let mut world = running_shop();
    world.now = world.now + SECOND * 600;
    world.tell(Input::Tick);
    world.pass(SECOND * 2, &[]);
    assert_eq!((world.running_on("pi"), world.running_on("nuc1")), (1, 1));
    assert!(world.remarks.contains(&"hub_paused"));
}

#[test]
fn a_broker_that_is_down_blames_nobody_and_is_told_everything_when_it_is_back() {
    let mut world = running_shop();
    world.tell(Input::LinkDown { reason: "gone".into() });
    world.pass(SECOND * 600, &[]);
    assert_eq!(world.core.link_down(), Some("gone"));
    world.sent.clear();
    world.tell(Input::LinkUp);
    assert_eq!((world.running_on("pi"), world.running_on("nuc1")), (1, 1), "published again, unchanged");
    world.pass(SECOND * 2, &[]);
    assert!(!world.remarks.contains(&"device_lost"));
}

#[test]
fn a_restart_of_the_hub_publishes_what_was_and_moves_nothing() {
    let mut world = running_shop();
    let before = [world.wanted("pi").cloned(), world.wanted("nuc1").cloned()];
    world.restart();
    assert_eq!([world.wanted("pi").cloned(), world.wanted("nuc1").cloned()], before);
    world.pass(SECOND * 5, &[]);
    assert_eq!([world.wanted("pi").cloned(), world.wanted("nuc1").cloned()], before);
}

#[test]
fn a_device_that_speaks_without_having_said_hello_is_asked_who_it_is() {
    let mut world = running_shop();
    world.restart();
    world.hear("pi", beat(9));
    let asked = world.sent.iter().any(|(to, message)| *to == name("pi") && *message == DownMessage::Ask(Ask::Hello));
    assert!(asked);
}

#[test]
fn what_is_kept_for_a_device_that_is_not_ours_is_cleared() {
    let mut world = running_shop();
    world.tell(Input::Kept(name("ghost")));
    world.tell(Input::Kept(name("pi")));
    assert_eq!(world.cleared, [name("ghost")]);
}

#[test]
fn a_forgotten_device_is_cleared() {
    let mut world = running_shop();
    world.hear("nuc1", UpMessage::Bye(Bye { session: SessionNumber(1), reason: ByeReason::Leave }));
    world.pass(SECOND * 10, &["pi"]);
    world.wish(2, Wish::Forget(name("nuc1")));
    assert_eq!(world.replies.last(), Some(&(WishId(2), Ok(()))));
    assert!(world.cleared.contains(&name("nuc1")));
    assert_eq!(world.running_on("pi"), 2);
}

#[test]
fn wishes_are_granted_in_their_order_one_save_each() {
    let mut world = World::new();
    let inputs = (1..=3).map(|id| Input::Wish { id: WishId(id), wish: shop(id as u32) });
    let effects = world.core.step_all(world.now, inputs);
    let mut inputs: Vec<_> = effects.into_iter().filter_map(|effect| world.play(effect)).collect();
    while !inputs.is_empty() {
        let effects = world.core.step_all(world.now, std::mem::take(&mut inputs));
        inputs.extend(effects.into_iter().filter_map(|effect| world.play(effect)));
    }
    let granted: Vec<_> = world.replies.iter().map(|(id, result)| (id.0, result.is_ok())).collect();
    assert_eq!(granted, [(1, true), (2, true), (3, true)]);
    let wanted = world.core.fleet().services().next().map(|service| service.wanted);
    assert_eq!(wanted, Some(3));
}

#[test]
fn too_many_wishes_at_once_are_refused_not_kept() {
    let mut world = World::new();
    let inputs = (0..300).map(|id| Input::Wish { id: WishId(id), wish: shop(1) });
    let effects = world.core.step_all(world.now, inputs);
    let refused =
        effects.iter().filter(|effect| matches!(effect, Effect::Reply { result: Err(WishError::TooMany), .. }));
    assert_eq!(refused.count(), 300 - MAX_WISHES);
}

#[test]
fn a_device_of_another_fleet_gets_no_assignment_and_what_was_kept_for_it_is_cleared() {
    let mut world = running_shop();
    world.sent.clear();
    let stranger = Hello { fleet: Some(FleetId(1)), session: SessionNumber(2), ..hello("nuc1") };
    world.hear("nuc1", UpMessage::Hello(Box::new(stranger)));
    assert_eq!(world.cleared, [name("nuc1")]);
    assert!(world.remarks.contains(&"device_refused"));
    assert_eq!(world.running_on("pi"), 2, "what it ran for this fleet is replaced at once");
    world.sent.clear();
    world.tell(Input::LinkUp);
    world.restart();
    world.pass(SECOND * 30, &["pi"]);
    assert_eq!(world.wanted("nuc1"), None);
    assert_eq!(world.cleared, [name("nuc1")], "what other hubs keep for it is not touched");
}

/// Says hello with these boot ids and session numbers, a second apart; whether it ends in quarantine.
fn is_cloned(hellos: &[(u128, u64)], apart: Duration) -> bool {
    let mut world = World::new();
    for (boot, session) in hellos {
        world.now = world.now + apart;
        let hello = Hello { boot: BootId(*boot), session: SessionNumber(*session), ..hello("pi") };
        world.tell(Input::Heard { device: "pi".parse().unwrap(), message: UpMessage::Hello(Box::new(hello)) });
    }
    assert_eq!(world.quarantined.is_empty(), !world.remarks.contains(&"device_cloned"));
    !world.quarantined.is_empty()
}

#[test]
fn two_machines_with_one_identity_are_found_out_by_their_boot_ids() {
    assert!(is_cloned(&[(1, 10), (2, 77), (1, 11), (2, 78)], SECOND));
    assert!(is_cloned(&[(9, 1), (1, 10), (1, 12), (2, 77), (1, 13), (2, 78)], SECOND));
}

#[test]
fn a_machine_that_restarts_or_reconnects_or_whose_messages_come_late_or_twice_is_one_machine() {
    for one in [
        &[(1, 10), (2, 5), (3, 5), (4, 5), (5, 5)][..],
        &[(1, 10), (1, 11), (1, 12), (1, 13), (1, 14)],
        &[(1, 10), (2, 5), (1, 10), (2, 5), (1, 10), (2, 5)],
        &[(1, 10), (2, 5), (1, 10), (2, 6), (1, 10), (2, 7)],
    ] {
        assert!(!is_cloned(one, SECOND), "{one:?}");
    }
    assert!(!is_cloned(&[(1, 10), (2, 77), (1, 11), (2, 78)], SECOND * 30), "not within a minute");
}

#[test]
fn a_stamp_never_has_two_assignments_even_if_a_device_asks_just_as_a_wish_is_granted() {
    let mut world = running_shop();
    let Wish::Apply { mut stack, applied_unix_ms } = shop(2) else { panic!("shop applies a stack") };
    stack.services[0].loss = outrigger_protocol::LossPolicy::Wait;
    let id = WishId(2);
    let asked = world.core.step(world.now, Input::Wish { id, wish: Wish::Apply { stack, applied_unix_ms } });
    let saved = asked.into_iter().filter_map(|effect| world.play(effect));
    // In one step: the wish is granted, and a device holds an old assignment.
    let hello = Input::Heard { device: name("pi"), message: UpMessage::Hello(Box::new(hello("pi"))) };
    let inputs: Vec<Input> = saved.collect::<Vec<_>>().into_iter().chain([hello]).collect();
    let told = world.core.step_all(world.now, inputs);
    let inputs: Vec<Input> = told.into_iter().filter_map(|effect| world.play(effect)).collect();
    inputs.into_iter().for_each(|input| world.tell(input));
    let mut told: BTreeMap<_, Assignment> = BTreeMap::new();
    for (device, message) in world.sent {
        let DownMessage::Want(want) = message else { continue };
        let before = told.entry((device, want.stamp)).or_insert_with(|| want.clone());
        assert_eq!(*before, want);
    }
    assert!(
        told.values().any(|want| want.replicas.iter().any(|one| one.loss != outrigger_protocol::LossPolicy::Available))
    );
}
