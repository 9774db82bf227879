//! The hub's surroundings: its process, its store, and its connection to the broker.

use std::collections::BTreeMap;

use outrigger_hub::core::{BatchId, Effect, HubCore, Input, WishId};
use outrigger_planner::{Key, Policy, Stage, Value, Wish};
use outrigger_protocol::{Channel, DeviceName, DownMessage, Epoch, FleetId, Moment, decode_up, encode_down};

use super::disk::Store;
use super::lost::LostStore;
use super::net::key;
use super::queue::Time;
use super::show;
use super::world::{Event, World};

/// The hub finds out so late that a broker does not answer.
const MISSES_AFTER: (Time, Time) = (2_000, 3_000);
/// Inputs that the hub takes at once.
const BATCH: usize = 256;

/// The fleet.
pub const FLEET: FleetId = FleetId(0xf1ee7);
/// The hub.
#[derive(Debug)]
pub struct Hub {
    /// Its core; none while it does not run.
    pub core: Option<HubCore>,
    /// Counts its runs, so that what was meant for an earlier one is void.
    pub life: u32,
    /// When its machine booted, in true time.
    pub booted_at: Time,
    /// When the next tick is due, in true time.
    pub tick_at: Time,
    /// Its store.
    pub store: Store,
    /// Shortest and longest time of writing.
    pub write: (Time, Time),
    /// The fleet that its store names.
    pub fleet: FleetId,
    /// What its store had before it was lost, while it is.
    pub lost: Option<LostStore>,
    /// Counts restores.
    pub epoch: Epoch,
    /// Its settings.
    pub policy: Policy,
    /// Whether the broker is part of it.
    pub is_embedded: bool,
    /// Its connection to the broker, counted; none: there is none.
    pub conn: Option<u32>,
    /// Whether the line to an external broker is whole.
    pub line_up: bool,
    /// What waits for that line.
    pub held: Vec<Event>,
    /// It stands still, and what has come meanwhile.
    pub paused: Option<Vec<Input>>,
    /// Since when it stands still, or did last.
    pub paused_at: Time,
    /// It crashes after so many more effects.
    pub crash_in: Option<(u32, Time)>,
    /// A backup of its store.
    pub backup: Option<BTreeMap<Key, Value>>,
    conns: u32,
    last: BTreeMap<(usize, u8), Time>,
}

impl Hub {
    /// A hub that was never started.
    #[must_use]
    pub fn new(policy: Policy, is_embedded: bool) -> Self {
        Self {
            core: None,
            life: 0,
            booted_at: 0,
            tick_at: Time::MAX,
            store: Store::default(),
            write: (1, 20),
            fleet: FLEET,
            lost: None,
            epoch: Epoch(1),
            policy,
            is_embedded,
            conn: None,
            line_up: true,
            held: Vec::new(),
            paused: None,
            paused_at: 0,
            crash_in: None,
            backup: None,
            conns: 0,
            last: BTreeMap::new(),
        }
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self, now: Time) -> Moment {
        // Far from zero, so that nobody mistakes one machine's moments for another's.
        Moment(7_000_000 + now - self.booted_at)
    }
}

impl World {
    /// The hub starts with what its store has.
    pub fn hub_starts(&mut self) {
        if self.hub.core.is_some() {
            return;
        }
        self.hub.life += 1;
        let moment = self.hub.clock(self.now);
        let records = self.bug.loaded(self.hub.store.read());
        let (core, ignored) =
            HubCore::restore(records, self.bug.policy(self.hub.policy.clone()), self.hub.fleet, self.hub.epoch, moment);
        self.hub.core = Some(core);
        self.hub.crash_in = None;
        let epoch = self.hub.epoch;
        self.line(|| format!("the hub starts, epoch {epoch}"));
        if !ignored.is_empty() {
            self.check.fail("what was saved fits together", ignored.join("; "));
        }
        let lost = self.hub.store.durable().iter().filter_map(|entry| match entry {
            (Key::Device(name), Value::Device(device)) if device.lost => Some(name.clone()),
            _ => None,
        });
        self.check.hub_started(self.now, lost.collect());
        self.check_store();
        if self.hub.is_embedded {
            self.broker_starts();
        }
        let life = self.hub.life;
        self.hub_connect(life);
        self.resend_wishes();
        self.hub_input(vec![Input::Tick]);
    }

    /// The hub reaches the broker, or tries again.
    pub fn hub_connect(&mut self, life: u32) {
        if self.hub.life != life || self.hub.core.is_none() || self.hub.conn.is_some() {
            return;
        }
        if !self.broker.is_alive || !self.hub.line_up {
            let pause = self.chance.hub.range(100, 2000);
            self.after(pause, Event::HubConnect(life));
            return;
        }
        self.hub.conns += 1;
        self.hub.conn = Some(self.hub.conns);
        self.hub.last.clear();
        self.line(|| "the hub reaches the broker".to_owned());
        let mut inputs = vec![Input::LinkUp];
        let kept = self.broker.retained.keys().filter(|(_, channel)| *channel == key(Channel::Want));
        inputs.extend(kept.map(|(device, _)| Input::Kept(self.devices[*device].name.clone())));
        self.hub_input(inputs);
    }

    /// The hub loses the broker.
    pub fn hub_misses(&mut self, conn: u32) {
        if self.hub.conn != Some(conn) || (self.broker.is_alive && self.hub.line_up) {
            return;
        }
        self.hub.conn = None;
        self.sometimes.count("the hub missed the broker");
        self.line(|| "the hub misses the broker".to_owned());
        self.hub_input(vec![Input::LinkDown { reason: "no answer".to_owned() }]);
        let life = self.hub.life;
        self.hub_connect(life);
    }

    /// The broker is gone from under the hub, or the line to it is cut: it notices a while later.
    pub fn hub_will_miss(&mut self, is_told: bool) {
        let Some(conn) = self.hub.conn else { return };
        let delay = if is_told { 1 } else { self.chance.hub.range(MISSES_AFTER.0, MISSES_AFTER.1) };
        self.after(delay, Event::HubMisses(conn));
    }

    /// The hub's process, or its machine, ends.
    pub fn hub_dies(&mut self, is_machine: bool) {
        if self.hub.core.take().is_none() {
            return;
        }
        self.line(|| "the hub ends".to_owned());
        let is_moving = |value: &Value| matches!(value, Value::Placement(copy) if copy.stage != Stage::Run);
        if self.hub.store.durable().values().any(is_moving) {
            self.sometimes.count("the hub was restarted in the middle of a move");
        }
        self.hub.life += 1;
        self.hub.conn = None;
        self.hub.paused = None;
        self.hub.crash_in = None;
        self.hub.held.clear();
        self.hub.tick_at = Time::MAX;
        self.hub.store.cut(&mut self.chance.hub);
        self.bug.lying_store(&mut self.hub.store);
        if is_machine {
            self.hub.booted_at = self.now;
        }
        if self.hub.is_embedded {
            self.broker_dies(false, !is_machine);
        }
        self.check.hub_ended(self.now);
    }

    /// A message of a device leaves the broker for the hub.
    pub fn reach_hub(&mut self, device: usize, channel: Channel, bytes: Vec<u8>, late: Time) {
        let Some(conn) = self.hub.conn else { return };
        let delay = if self.hub.is_embedded { late } else { late + self.chance.hub.range(0, 5) };
        let last = self.hub.last.entry((device, key(channel))).or_default();
        let at = (self.now + delay).max(*last);
        *last = at;
        self.queue.push(at, Event::AtHub(conn, device, channel, bytes));
    }

    /// A message of a device arrives at the hub.
    pub fn at_hub(&mut self, conn: u32, device: usize, channel: Channel, bytes: &[u8]) {
        if self.hub.conn != Some(conn) {
            return;
        }
        if !self.hub.line_up {
            self.hub.held.push(Event::AtHub(conn, device, channel, bytes.to_vec()));
            return;
        }
        let Ok(message) = decode_up(channel, bytes) else {
            self.check.fail("every message can be read", format!("d{device} {channel:?}"));
            return;
        };
        self.check.heard(device, &message, self.now);
        let device = self.devices[device].name.clone();
        self.hub_input(vec![Input::Heard { device, message }]);
    }

    /// The core gets inputs, unless the hub stands still, and what it wants is done.
    pub fn hub_input(&mut self, inputs: Vec<Input>) {
        if self.hub.core.is_none() {
            return;
        }
        if let Some(waiting) = &mut self.hub.paused {
            waiting.extend(inputs);
            return;
        }
        self.hub_input_at(self.hub.clock(self.now), inputs);
    }

    fn hub_input_at(&mut self, moment: Moment, inputs: Vec<Input>) {
        let Some(core) = &mut self.hub.core else { return };
        let effects = core.step_all(moment, inputs);
        let effects = self.bug.hub_effects(effects);
        let life = self.hub.life;
        for effect in effects {
            if !self.hub_may_go_on() {
                self.sometimes.count("the hub crashed between two effects");
                self.hub_dies(false);
                let back_after = self.chance.hub.range(500, 6000);
                self.after(back_after, Event::HubStarts);
                return;
            }
            self.hub_effect(effect);
            if self.hub.life != life || self.check.broken.is_some() {
                return;
            }
        }
        self.plan_hub_tick();
    }

    /// Whether the crash that is due has not come yet: between any two effects it may.
    fn hub_may_go_on(&mut self) -> bool {
        let Some((left, by)) = &mut self.hub.crash_in else { return true };
        if *left == 0 || *by <= self.now {
            return false;
        }
        *left -= 1;
        true
    }

    fn plan_hub_tick(&mut self) {
        let Some(core) = &self.hub.core else { return };
        let wake_at = core.wake_at();
        if wake_at == Moment::NEVER {
            return;
        }
        let at = (wake_at.0.saturating_sub(7_000_000) + self.hub.booted_at).max(self.now + 1);
        if at < self.hub.tick_at || self.hub.tick_at <= self.now {
            self.hub.tick_at = at;
            let life = self.hub.life;
            self.queue.push(at, Event::HubTick(life, at));
        }
    }

    /// The core's next moment.
    pub fn hub_tick(&mut self, life: u32, at: Time) {
        if self.hub.life != life || self.hub.tick_at != at {
            return;
        }
        self.hub.tick_at = Time::MAX;
        if self.hub.paused.is_none() {
            self.check.hub_ticks += 1;
            self.hub_input(vec![Input::Tick]);
        }
    }

    fn hub_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Save { batch, records } => {
                self.trace.count(&[31, self.now, batch.0, records.len() as u64]);
                self.line(|| format!("the hub saves batch {}: {}", batch.0, show::records(&records)));
                self.check_decision(&records);
                self.hub.store.begin(batch.0, records);
                let (life, delay) = (self.hub.life, self.chance.hub.range(self.hub.write.0, self.hub.write.1));
                if self.bug.is_saved_early() {
                    self.after(0, Event::HubTold(life, batch));
                }
                self.after(delay, Event::HubSaved(life, batch));
            }
            Effect::Send { device, message } => {
                self.line(|| format!("the hub tells {device} {}", show::down(&message)));
                self.send_down(&device, &message);
            }
            // Nobody copies a card here, so the hub must never think that somebody did.
            Effect::Quarantine { device } => unreachable!("{device} was taken for two machines"),
            Effect::Clear { device } => {
                let (Some(index), Some(conn)) = (self.index_of(&device), self.hub.conn) else { return };
                self.line(|| format!("the hub clears what is kept for {device}"));
                self.hub_publishes(conn, index, Channel::Want, None);
                self.hub_publishes(conn, index, Channel::Routes, None);
            }
            Effect::Reply { id: WishId(number), result } => {
                self.line(|| format!("the hub answers wish {number}: {result:?}"));
                self.wish_answered(number, result);
            }
            Effect::Remark(remark) => {
                self.trace.count(&[32, self.now]);
                self.line(|| format!("the hub remarks {}: {} {:?}", remark.kind, remark.message, remark.reason));
                self.remarked(&remark);
            }
        }
    }

    /// The device's place in the list.
    #[must_use]
    pub fn index_of(&self, device: &DeviceName) -> Option<usize> {
        device
            .as_str()
            .strip_prefix('d')
            .and_then(|number| number.parse().ok())
            .filter(|index| *index < self.devices.len())
    }

    fn send_down(&mut self, device: &DeviceName, message: &DownMessage) {
        let (Some(index), Some(conn)) = (self.index_of(device), self.hub.conn) else { return };
        let Ok(bytes) = encode_down(message) else {
            self.check.fail("every message fits its channel", format!("to {device}"));
            return;
        };
        self.check_published(index, message);
        self.hub_publishes(conn, index, message.channel(), Some(bytes));
    }

    fn hub_publishes(&mut self, conn: u32, device: usize, channel: Channel, bytes: Option<Vec<u8>>) {
        let delay = if self.hub.is_embedded { 0 } else { self.chance.hub.range(0, 5) };
        // The same map as upwards; the channels differ.
        let last = self.hub.last.entry((device, key(channel))).or_default();
        let at = (self.now + delay).max(*last);
        *last = at;
        self.queue.push(at, Event::FromHub(conn, device, channel, bytes));
    }

    /// A message of the hub arrives at the broker.
    pub fn leave_hub(&mut self, conn: u32, device: usize, channel: Channel, bytes: Option<Vec<u8>>) {
        if !self.broker.is_alive {
            return;
        }
        // What an external broker has received counts even if the hub is gone since.
        if self.hub.conn == Some(conn) && !self.hub.line_up {
            self.hub.held.push(Event::FromHub(conn, device, channel, bytes));
            return;
        }
        let Some(bytes) = bytes else {
            self.broker.retained.remove(&(device, key(channel)));
            return;
        };
        if self.bug.loses_want(channel) {
            return;
        }
        if channel.is_retained() {
            self.broker.retained.insert((device, key(channel)), bytes.clone());
        }
        if let Some(open) = self.broker.current.get(&device).copied() {
            self.deliver(open, channel, bytes, 0);
        }
    }

    /// The line between hub and external broker changes.
    pub fn set_hub_line(&mut self, is_up: bool) {
        if self.hub.line_up == is_up {
            return;
        }
        self.hub.line_up = is_up;
        self.line(|| format!("the line between hub and broker: {is_up}"));
        if !is_up {
            self.hub_will_miss(false);
            return;
        }
        for event in std::mem::take(&mut self.hub.held) {
            self.after(1, event);
        }
    }

    /// A batch is written, or could not be.
    pub fn hub_saved(&mut self, life: u32, batch: BatchId) {
        if self.hub.life != life {
            return;
        }
        let Some(result) = self.hub.store.end(batch.0) else { return };
        match result {
            Ok(()) => {
                self.bug.store_written(&self.hub.store);
                self.hub_told(life, batch);
                self.check_store();
            }
            Err(reason) => {
                self.sometimes.count("the hub could not save");
                self.hub_input(vec![Input::SaveFailed { batch, reason }]);
            }
        }
    }

    /// The hub is told that a batch is durable.
    pub fn hub_told(&mut self, life: u32, batch: BatchId) {
        if self.hub.life == life {
            self.hub_input(vec![Input::Saved(batch)]);
        }
    }

    /// The hub stands still for so long.
    pub fn pause_hub(&mut self, for_ms: Time) {
        if self.hub.core.is_some() && self.hub.paused.is_none() {
            self.line(|| "the hub stands still".to_owned());
            self.hub.paused = Some(Vec::new());
            self.hub.paused_at = self.now;
            let life = self.hub.life;
            self.after(for_ms, Event::HubResumes(life));
            if self.hub.is_embedded {
                self.broker_stands_still(for_ms);
            }
        }
    }

    /// It goes on with what has come meanwhile.
    pub fn hub_resumes(&mut self, life: u32) {
        if self.hub.life != life {
            return;
        }
        let Some(mut waiting) = self.hub.paused.take() else { return };
        self.line(|| format!("the hub goes on, {} messages waited", waiting.len()));
        self.check.hub_resumed(self.now);
        for early in self.bug.resumed_at(self.hub.clock(self.hub.paused_at), self.hub.clock(self.now)) {
            self.hub_input_at(early, vec![Input::Tick]);
        }
        while waiting.len() > BATCH {
            let rest = waiting.split_off(BATCH);
            self.hub_input(waiting);
            waiting = rest;
        }
        self.hub_input(waiting);
        self.hub_input(vec![Input::Tick]);
    }

    /// A wish reaches the hub.
    pub fn send_wish(&mut self, number: u64, wish: Wish) {
        if self.hub.core.is_none() || self.hub.paused.is_some() || self.hub.lost.is_some() {
            self.after(1000, Event::Wish(number, Box::new(wish)));
            return;
        }
        if self.operator.is_open(number) {
            self.hub_input(vec![Input::Wish { id: WishId(number), wish }]);
        }
    }
}
