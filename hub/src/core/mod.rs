//! The hub's decisions without its surroundings: inputs in, effects out, time as an argument. One process can so simulate
//! a fleet with its disks, links and clocks.
//!
//! Two rules are kept here. *Save before publish*: while a batch is being saved nothing is planned, so that what is
//! published when it is saved is exactly what was saved. *Never count what could not be heard*: a step that comes late, or
//! a broker that is down, is told to the fleet as a pause.

mod clone;
mod mesh;
mod remark;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use outrigger_planner::{Fleet, Heard, Key, Policy, Record, Refusal, Reply, Value, Wish};
use outrigger_protocol::{Ask, DeviceName, DownMessage, Epoch, FleetId, Moment, UpMessage};
use thiserror::Error;

use clone::Clones;
use mesh::Mesh;
pub use remark::Remark;

/// The shell steps the core at least this often.
pub const TICK: Duration = Duration::from_millis(500);
/// A step that comes later than this after the one before means that the hub could not hear in between.
const LATE: Duration = Duration::from_millis(1250);
/// A pause longer than this may have made devices give up their connections to a broker that stood still with the hub.
const BREAKS: Duration = Duration::from_secs(5);
/// A pause shorter than this is not worth a line in the log.
const WORTH_A_REMARK: Duration = Duration::from_secs(3);
/// After a save that failed, the next attempt comes no sooner.
const RETRY: Duration = Duration::from_secs(1);
/// Wishes that may wait for their turn.
const MAX_WISHES: usize = 256;

/// Names one wish until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WishId(pub u64);

/// Names one batch until it is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What the core learns.
#[derive(Debug)]
pub enum Input {
    /// A device said something.
    Heard {
        /// Who.
        device: DeviceName,
        /// What.
        message: UpMessage,
    },
    /// The operator wants something.
    Wish {
        /// Named in the answer.
        id: WishId,
        /// What.
        wish: Wish,
    },
    /// A batch is durable.
    Saved(BatchId),
    /// A batch could not be saved; nothing of it was.
    SaveFailed {
        /// Which.
        batch: BatchId,
        /// Why.
        reason: String,
    },
    /// The broker works (again), and may have forgotten what it kept.
    LinkUp,
    /// The broker cannot be reached.
    LinkDown {
        /// Why.
        reason: String,
    },
    /// A second machine wanted the name of a device that lives, and was turned away.
    NameTaken {
        /// Which name.
        device: DeviceName,
        /// Where the second machine is.
        by: IpAddr,
    },
    /// A device sent far more than it may, and was cut off.
    Flooding(DeviceName),
    /// A device has sent what cannot be read.
    Garbage {
        /// Which.
        device: DeviceName,
        /// What was wrong with it.
        reason: String,
    },
    /// Machines push each other off this name.
    FoughtOver(DeviceName),
    /// The broker keeps an assignment for this device.
    Kept(DeviceName),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make these durable, all or nothing, and say so.
    Save {
        /// Named when it is done.
        batch: BatchId,
        /// What.
        records: Vec<Record>,
    },
    /// Send to a device.
    Send {
        /// To whom.
        device: DeviceName,
        /// What.
        message: DownMessage,
    },
    /// Let the broker keep nothing for a device.
    Clear {
        /// Whose.
        device: DeviceName,
    },
    /// Two machines have one identity: let neither in until somebody has looked.
    Quarantine {
        /// Whose.
        device: DeviceName,
    },
    /// Answer a wish. Granted means that it is durable.
    Reply {
        /// Which.
        id: WishId,
        /// How it ended.
        result: Result<(), WishError>,
    },
    /// Something happened that people should be able to read.
    Remark(Remark),
}

/// Why a wish was not granted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WishError {
    /// It makes no sense for this fleet.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot save.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// Too many wishes wait already.
    #[error("too many wishes are waiting to be saved; try again")]
    TooMany,
}

/// The hub's state.
#[derive(Debug)]
pub struct HubCore {
    fleet: Fleet,
    stepped_at: Moment,
    look_again_at: Option<Moment>,
    link_down: Option<String>,
    link_was_up: bool,
    unsaved: BTreeMap<Key, Option<Value>>,
    unpublished: BTreeSet<DeviceName>,
    /// What the start has to say; told with the first step.
    remarks: Vec<Remark>,
    saving: Option<Saving>,
    wishes: VecDeque<(WishId, Wish)>,
    read_only: Option<ReadOnly>,
    next_batch: u64,
    started_at: Moment,
    clones: Clones,
    mesh: Mesh,
}

/// What is being saved.
#[derive(Debug)]
struct Saving {
    batch: BatchId,
    /// Without those of the wish: what is refused because it could not be saved must not be saved later.
    records: BTreeMap<Key, Option<Value>>,
    devices: BTreeSet<DeviceName>,
    wish: Option<(WishId, Wish)>,
}

#[derive(Debug)]
struct ReadOnly {
    reason: String,
    retry_at: Moment,
}

impl HubCore {
    /// The hub as it was saved. Nothing has been heard yet. The texts are records that fit nothing else, for the log.
    #[must_use]
    pub fn restore(
        records: impl IntoIterator<Item = Record>,
        policy: Policy,
        fleet: FleetId,
        epoch: Epoch,
        now: Moment,
    ) -> (Self, Vec<String>) {
        let mut restored = Fleet::restore(records, policy, fleet, epoch, now);
        // What a crash has left half done (a wish that was saved, but not yet planned) is decided before anything is
        // published: a device never gets two assignments under one stamp.
        let (committed, look_again_at) = restored.fleet.settle(now);
        let core = Self {
            fleet: restored.fleet,
            stepped_at: now,
            look_again_at,
            link_down: Some("not connected yet".to_owned()),
            link_was_up: false,
            unsaved: committed.records.into_iter().map(|record| (record.key, record.value)).collect(),
            unpublished: committed.devices.into_iter().collect(),
            remarks: committed.notes.into_iter().map(Remark::from).collect(),
            saving: None,
            wishes: VecDeque::new(),
            read_only: None,
            next_batch: 1,
            started_at: now,
            clones: Clones::default(),
            mesh: Mesh::default(),
        };
        (core, restored.ignored)
    }

    /// Takes what happened and says what is to be done.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        self.step_all(now, [input])
    }

    /// Takes all that happened and then plans once.
    pub fn step_all(&mut self, now: Moment, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let mut effects: Vec<Effect> = std::mem::take(&mut self.remarks).into_iter().map(Effect::Remark).collect();
        self.count_time(now, &mut effects);
        for input in inputs {
            self.take(now, input, &mut effects);
        }
        self.settle(now, &mut effects);
        self.route(now, &mut effects);
        self.save(now, &mut effects);
        effects
    }

    /// When to step again even if nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Moment {
        let tick = self.stepped_at + TICK;
        self.look_again_at
            .into_iter()
            .chain(self.mesh.wake_at().filter(|_| self.link_down.is_none()))
            .fold(tick, Moment::min)
    }

    /// What is known of the fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Why wishes are refused and nothing is published at present; none: all is well.
    #[must_use]
    pub fn read_only(&self) -> Option<&str> {
        self.read_only.as_ref().map(|state| state.reason.as_str())
    }

    /// Why no device can be heard at present; none: the broker works.
    #[must_use]
    pub fn link_down(&self) -> Option<&str> {
        self.link_down.as_deref()
    }

    /// When this hub started.
    #[must_use]
    pub fn started_at(&self) -> Moment {
        self.started_at
    }

    fn count_time(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let gap = now.since(self.stepped_at);
        self.stepped_at = now.max(self.stepped_at);
        if self.link_down.is_some() {
            self.fleet.paused(gap, now);
        } else if gap > LATE {
            self.fleet.paused(gap, now);
            if gap > BREAKS {
                self.fleet.reconnecting(now);
            }
            if gap > WORTH_A_REMARK {
                effects.push(Effect::Remark(Remark::hub_paused(gap)));
            }
        }
    }

    fn take(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Heard { device, message } => self.hear(now, &device, message, effects),
            Input::Wish { id, wish } => self.queue(id, wish, effects),
            Input::Saved(batch) => self.saved(now, batch, effects),
            Input::SaveFailed { batch, reason } => self.save_failed(now, batch, reason, effects),
            Input::LinkUp => self.link_up(now, effects),
            Input::LinkDown { reason } => {
                effects.push(Effect::Remark(Remark::broker_down(&reason)));
                self.link_down = Some(reason);
            }
            Input::NameTaken { device, by } => effects.push(Effect::Remark(Remark::name_taken(&device, by))),
            Input::Flooding(device) => effects.push(Effect::Remark(Remark::flooding(&device))),
            Input::Garbage { device, reason } => effects.push(Effect::Remark(Remark::garbage(&device, &reason))),
            Input::FoughtOver(device) => effects.push(Effect::Remark(Remark::fought_over(&device))),
            Input::Kept(device) => {
                if self.fleet.device(&device).is_none() {
                    effects.push(Effect::Clear { device });
                }
            }
            Input::Tick => (),
        }
    }

    fn hear(&mut self, now: Moment, device: &DeviceName, message: UpMessage, effects: &mut Vec<Effect>) {
        if let UpMessage::Hello(hello) = &message
            && self.clones.hears(device, hello, now)
        {
            effects.push(Effect::Remark(Remark::cloned(device)));
            effects.push(Effect::Quarantine { device: device.clone() });
        }
        let heard = match message {
            UpMessage::Hello(hello) => Heard::Hello(*hello),
            UpMessage::Report(report) => Heard::Report(report),
            UpMessage::Status(status) => Heard::Status(status),
            UpMessage::Bye(bye) => Heard::Bye(bye),
            UpMessage::Mesh(status) => return self.hear_mesh(device, status, effects),
            // The shell gives answers to who asked, and certificates.
            UpMessage::Answer(_) | UpMessage::Renew(_) | UpMessage::Unseal(_) => return,
        };
        let Reply { ask_hello, lease, publish, ignored: _, notes } = self.fleet.hear(device, heard, now);
        effects.extend(notes.into_iter().map(|note| Effect::Remark(note.into())));
        if ask_hello {
            effects.push(Effect::Send { device: device.clone(), message: DownMessage::Ask(Ask::Hello) });
        }
        if let Some(lease) = lease {
            effects.push(Effect::Send { device: device.clone(), message: DownMessage::Lease(lease) });
        }
        if publish && !self.is_pending(device) {
            self.publish(device, effects);
        }
    }

    fn link_up(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.fleet.reconnecting(now);
        let was_down = self.link_down.take();
        if std::mem::replace(&mut self.link_was_up, true)
            && let Some(reason) = was_down
        {
            effects.push(Effect::Remark(Remark::broker_up(&reason)));
        }
        let ours = self.fleet.devices().filter(|device| device.foreign.is_none());
        let devices: Vec<_> = ours.map(|device| device.name.clone()).collect();
        for device in devices {
            if !self.is_pending(&device) {
                self.publish(&device, effects);
            }
        }
        self.reroute_all(now);
    }

    /// Whether the device's assignment has changes that are not durable yet, or have no generation yet, as when a wish was
    /// granted just now. It is published when they are.
    fn is_pending(&self, device: &DeviceName) -> bool {
        self.fleet.is_changing(device)
            || self.mesh.holds(device)
            || self.unpublished.contains(device)
            || self.saving.as_ref().is_some_and(|saving| saving.devices.contains(device))
    }

    fn publish(&self, device: &DeviceName, effects: &mut Vec<Effect>) {
        let device = device.clone();
        effects.push(match self.fleet.assignment(&device) {
            Some(assignment) => Effect::Send { device, message: DownMessage::Want(assignment) },
            None => Effect::Clear { device },
        });
    }

    /// Publishes what is durable now, unless it takes copies away that still get requests.
    fn publish_saved(&mut self, device: &DeviceName, effects: &mut Vec<Effect>) {
        if self.mesh.is_free(device) {
            self.publish(device, effects);
        }
    }

    fn queue(&mut self, id: WishId, wish: Wish, effects: &mut Vec<Effect>) {
        let refusal = match &self.read_only {
            Some(state) if !self.unsaved.is_empty() => Some(WishError::ReadOnly(state.reason.clone())),
            _ if self.wishes.len() >= MAX_WISHES => Some(WishError::TooMany),
            _ => None,
        };
        match refusal {
            Some(error) => effects.push(Effect::Reply { id, result: Err(error) }),
            None => self.wishes.push_back((id, wish)),
        }
    }

    fn saved(&mut self, now: Moment, batch: BatchId, effects: &mut Vec<Effect>) {
        let Some(saving) = self.saving.take_if(|saving| saving.batch == batch) else { return };
        if self.read_only.take().is_some() {
            effects.push(Effect::Remark(Remark::store_writable()));
        }
        for device in &saving.devices {
            self.publish_saved(device, effects);
        }
        if let Some((id, wish)) = saving.wish {
            let forgotten = if let Wish::Forget(device) = &wish { Some(device.clone()) } else { None };
            if let Some(device) = &forgotten {
                self.clones.forget(device);
                self.mesh.forget(device);
            }
            let result = self.fleet.wish(wish, now).map_err(WishError::from).map(|notes| {
                effects.extend(notes.into_iter().map(|note| Effect::Remark(note.into())));
                effects.extend(forgotten.map(|device| Effect::Clear { device }));
            });
            effects.push(Effect::Reply { id, result });
        }
    }

    fn save_failed(&mut self, now: Moment, batch: BatchId, reason: String, effects: &mut Vec<Effect>) {
        let Some(saving) = self.saving.take_if(|saving| saving.batch == batch) else { return };
        for (key, value) in saving.records {
            self.unsaved.entry(key).or_insert(value);
        }
        self.unpublished.extend(saving.devices);
        if self.read_only.as_ref().is_none_or(|state| state.reason != reason) {
            effects.push(Effect::Remark(Remark::store_read_only(&reason)));
        }
        let refused = saving.wish.into_iter().chain(self.wishes.drain(..));
        effects.extend(refused.map(|(id, _)| Effect::Reply { id, result: Err(WishError::ReadOnly(reason.clone())) }));
        self.read_only = Some(ReadOnly { reason, retry_at: now + RETRY });
    }

    /// Plans, unless a batch is being saved: what is published after it must be what was saved.
    fn settle(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.saving.is_some() {
            return;
        }
        let (committed, look_again_at) = self.fleet.settle(now);
        self.look_again_at = look_again_at;
        effects.extend(committed.notes.into_iter().map(|note| Effect::Remark(note.into())));
        self.unsaved.extend(committed.records.into_iter().map(|record| (record.key, record.value)));
        self.unpublished.extend(committed.devices);
        self.hold_back(now, committed.leaving);
        if self.unsaved.is_empty() {
            for device in std::mem::take(&mut self.unpublished) {
                self.publish_saved(&device, effects);
            }
        }
    }

    /// Begins to save what has been decided, with the next wish that makes sense.
    fn save(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let is_due = self.read_only.as_ref().map(|state| now >= state.retry_at);
        if self.saving.is_some() || (is_due == Some(false) && !self.unsaved.is_empty()) {
            return;
        }
        let records = std::mem::take(&mut self.unsaved);
        let mut with_wish = records.clone();
        let mut taken = None;
        while let Some((id, wish)) = self.wishes.pop_front() {
            match self.fleet.check(&wish) {
                Ok(more) => {
                    with_wish.extend(more.into_iter().map(|record| (record.key, record.value)));
                    taken = Some((id, wish));
                    break;
                }
                Err(refusal) => effects.push(Effect::Reply { id, result: Err(refusal.into()) }),
            }
        }
        // While read-only even nothing is saved now and then: to learn when the disk takes it again, and to say so.
        if with_wish.is_empty() && taken.is_none() && is_due != Some(true) {
            return;
        }
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let list = with_wish.into_iter().map(|(key, value)| Record { key, value }).collect();
        effects.push(Effect::Save { batch, records: list });
        self.saving = Some(Saving { batch, records, devices: std::mem::take(&mut self.unpublished), wish: taken });
    }
}

#[cfg(test)]
mod tests;
