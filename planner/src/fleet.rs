//! The fleet: everything that the hub knows, owned by one task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    DeviceName, Epoch, FleetId, Generation, Moment, NetworkName, NetworkSpec, PlacementId, Platform, ServiceRef,
    StackName, Stamp,
};

use crate::device::Device;
use crate::even::Evening;
use crate::index::{self, Index, Shape};
use crate::mesh::Mesh;
use crate::plan::{Committed, Liveness, Plan, Waiting};
use crate::policy::Policy;
use crate::reconcile::reconcile;
use crate::record::{Key, StackRecord, Stage};
use crate::safe_mode::Safe;
use crate::service::{Placement, Service};
use crate::table::{DeviceIx, ServiceIx, Shared, Table};
use crate::volumes::Volumes;

/// Rounds of planning after which [`Fleet::settle`] lets the hub breathe. Two or three are usual.
const MOST_ROUNDS: u32 = 64;

/// Everything that the hub knows of devices, services and copies.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(crate) policy: Policy,
    pub(crate) id: FleetId,
    pub(crate) epoch: Epoch,
    /// Counts what was heard, wished and committed: a plan is good for one state only.
    pub(crate) basis: u64,
    pub(crate) next: PlacementId,
    pub(crate) reserved_below: PlacementId,
    pub(crate) devices: Table<DeviceName, DeviceIx, Device>,
    pub(crate) services: Table<ServiceRef, ServiceIx, Service>,
    pub(crate) stacks: BTreeMap<StackName, StackRecord>,
    /// Networks that stacks define, or that copies still join.
    pub(crate) networks: BTreeMap<NetworkName, NetworkSpec>,
    pub(crate) image_platforms: BTreeMap<String, Vec<Platform>>,
    pub(crate) placements: Shared<PlacementId, Placement>,
    /// Devices that may be given work, best first.
    pub(crate) index: Index,
    /// Devices that have an image.
    pub(crate) holders: BTreeMap<String, BTreeSet<DeviceIx>>,
    /// Devices with a label that the operator has set; values in small letters, as they are compared.
    pub(crate) labelled: BTreeMap<(String, String), BTreeSet<DeviceIx>>,
    pub(crate) globals: BTreeSet<ServiceIx>,
    /// Replicas that wait, by service.
    pub(crate) waiting: BTreeMap<ServiceIx, BTreeSet<u32>>,
    /// Devices that are not heard although they should be, by when they were heard last.
    pub(crate) silent: BTreeSet<(Moment, DeviceIx)>,
    pub(crate) up: u32,
    /// How long, in all, the hub could not hear.
    pub(crate) deaf: Duration,
    /// When any device was heard last, and after which silence of that one it is plain that nobody is heard.
    pub(crate) last_word: Option<(Moment, Duration)>,
    pub(crate) safe: Option<Safe>,
    /// Devices that have stayed for a while and may have too little to do.
    pub(crate) uneven: BTreeSet<DeviceIx>,
    /// The one move that evens things out at present.
    pub(crate) evening: Option<Evening>,
    pub(crate) volumes: Volumes,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) dirty: Dirty,
    pub(crate) timers: BTreeSet<(Moment, Timer)>,
    pub(crate) unsaved: Unsaved,
}

/// What must be looked at by the next plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub slots: BTreeSet<(ServiceIx, u32)>,
    pub rolls: BTreeSet<ServiceIx>,
    /// Devices that may have room for what waits, or that global services may have to come to.
    pub room: BTreeSet<DeviceIx>,
    /// Devices to judge, whatever their timers say.
    pub devices: BTreeSet<DeviceIx>,
    /// Whether safe mode may have to end.
    pub safe: bool,
}

/// What is looked at when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Device(DeviceIx),
    Slot(ServiceIx, u32),
    Roll(ServiceIx),
}

/// What has changed since the last commit and must be saved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unsaved {
    pub meta: bool,
    pub devices: BTreeSet<DeviceIx>,
    pub services: BTreeSet<ServiceIx>,
    pub placements: BTreeSet<PlacementId>,
    pub gone: Vec<Key>,
    pub volumes: BTreeSet<(String, DeviceName)>,
    /// Devices whose assignment has changed.
    pub assignments: BTreeSet<DeviceIx>,
    /// Devices from which copies that take requests are taken, each with the devices that send them.
    pub leaving: BTreeMap<DeviceIx, BTreeSet<DeviceIx>>,
}

impl Fleet {
    /// A fleet of which nothing is known yet.
    #[must_use]
    pub fn new(policy: Policy, id: FleetId, epoch: Epoch) -> Self {
        let first = PlacementId::first_of(epoch).next();
        Self {
            policy,
            id,
            epoch,
            basis: 0,
            next: first,
            reserved_below: first,
            devices: Table::new(),
            services: Table::new(),
            stacks: BTreeMap::new(),
            networks: BTreeMap::new(),
            image_platforms: BTreeMap::new(),
            placements: Shared::default(),
            index: Index::default(),
            holders: BTreeMap::new(),
            labelled: BTreeMap::new(),
            globals: BTreeSet::new(),
            waiting: BTreeMap::new(),
            silent: BTreeSet::new(),
            up: 0,
            deaf: Duration::ZERO,
            last_word: None,
            safe: None,
            uneven: BTreeSet::new(),
            evening: None,
            volumes: Volumes::default(),
            mesh: Arc::default(),
            dirty: Dirty::default(),
            timers: BTreeSet::new(),
            unsaved: Unsaved { meta: true, ..Unsaved::default() },
        }
    }

    /// Plans and commits until nothing is left to do now. The moment is when to do so again if nothing is heard.
    pub fn settle(&mut self, now: Moment) -> (Committed, Option<Moment>) {
        let mut all = Committed::default();
        for _ in 0..MOST_ROUNDS {
            let plan: Plan = reconcile(self, now);
            let done = plan.is_empty();
            all.extend(self.commit(&plan));
            // A commit that only notes how far time has come may find that there is leisure now to even things out.
            if done && !self.may_even() {
                return (all, plan.look_again_at);
            }
        }
        (all, Some(now))
    }

    /// The settings.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its name for ever, which devices know it by.
    #[must_use]
    pub fn id(&self) -> FleetId {
        self.id
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Place of an assignment in the order.
    pub(crate) fn stamp(&self, generation: Generation) -> Stamp {
        Stamp { epoch: self.epoch, generation }
    }

    /// Puts a device where it belongs among those that may be given work.
    pub(crate) fn rank_anew(&mut self, ix: DeviceIx) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        let belongs = if device.is_open() { index::entry(ix, device, device.using.weight) } else { None };
        if device.indexed == belongs {
            return;
        }
        let before = std::mem::replace(&mut device.indexed, belongs);
        if let Some(before) = before {
            self.index.remove(before);
        } else {
            self.dirty.room.insert(ix);
        }
        if let Some(now) = belongs {
            self.index.insert(now);
        }
    }

    /// Judges a device, and keeps the counts that depend on it.
    pub(crate) fn set_liveness(&mut self, ix: DeviceIx, liveness: Liveness, why: String) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        device.why = why;
        let before = std::mem::replace(&mut device.liveness, liveness);
        self.silent.retain_one(device.heard_at, ix, is_silent(device));
        if before == liveness {
            return;
        }
        self.up = self.up + u32::from(liveness == Liveness::Up) - u32::from(before == Liveness::Up);
        self.dirty.safe |= self.safe.is_some();
        if (before == Liveness::Lost) != (liveness == Liveness::Lost) {
            self.unsaved.devices.insert(ix);
        }
        self.rank_anew(ix);
        self.touch_copies(ix);
        self.touch_leaving(ix);
    }

    /// Everything on a device is to be looked at again.
    pub(crate) fn touch_copies(&mut self, ix: DeviceIx) {
        let Some(device) = self.devices.get(ix) else { return };
        let slots: BTreeSet<(ServiceIx, u32)> =
            device.placements.iter().filter_map(|id| self.placements.get(id)).map(|p| (p.service, p.number)).collect();
        for (service, number) in slots {
            self.refresh(service, number);
            self.dirty.slots.insert((service, number));
        }
    }

    /// Whether a replica has a copy that does its work, and what depends on that.
    pub(crate) fn refresh(&mut self, six: ServiceIx, number: u32) {
        self.touch_mesh(six);
        let Some(service) = self.services.get(six) else { return };
        let Some(slot) = service.slots.get(&number) else { return };
        let good = slot.copies.iter().any(|id| self.placements.get(id).is_some_and(|copy| self.is_good(copy)));
        let first = good && service.good == 0;
        if good == slot.good {
            return;
        }
        let stack = service.name.stack.clone();
        if let Some(service) = self.services.get_mut(six) {
            service.good = service.good + u32::from(good) - u32::from(!good);
            if let Some(slot) = service.slots.get_mut(&number) {
                slot.good = good;
            }
            if service.roll.active {
                self.dirty.rolls.insert(six);
            }
        }
        if first {
            self.touch_dependents(&stack);
        }
    }

    /// Services of a stack that have not started yet may wait for one that now runs.
    fn touch_dependents(&mut self, stack: &StackName) {
        let Some(record) = self.stacks.get(stack) else { return };
        for name in &record.services {
            let name = ServiceRef { stack: stack.clone(), service: name.clone() };
            let Some(six) = self.services.find(&name) else { continue };
            if self.services.get(six).is_some_and(|service| !service.released) {
                // One that runs everywhere has no replicas yet that could wait.
                self.dirty.rolls.insert(six);
                self.dirty.slots.extend(self.waiting.get(&six).into_iter().flatten().map(|&number| (six, number)));
            }
        }
    }

    /// Whether a copy does its work, as far as is known.
    pub(crate) fn is_good(&self, copy: &Placement) -> bool {
        copy.is_seen_working() && self.devices.get(copy.device).is_some_and(Device::is_believed)
    }

    /// Sets or ends a replica's waiting.
    pub(crate) fn set_waiting(&mut self, six: ServiceIx, number: u32, why: Option<Waiting>) {
        let Some(service) = self.services.get_mut(six) else { return };
        let waits = why.is_some();
        if !waits && !service.slots.contains_key(&number) {
            return;
        }
        let slot = service.slots.entry(number).or_default();
        slot.waiting = why;
        if waits {
            self.waiting.entry(six).or_default().insert(number);
        } else if let Some(numbers) = self.waiting.get_mut(&six) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.waiting.remove(&six);
            }
        }
    }

    /// Sets when a device is to be judged next.
    pub(crate) fn arm(&mut self, ix: DeviceIx, at: Option<Moment>) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        if device.timer == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut device.timer, at) {
            self.timers.remove(&(before, Timer::Device(ix)));
        }
        if let Some(at) = at {
            self.timers.insert((at, Timer::Device(ix)));
        }
    }

    /// Platforms of a service's image, as far as they are known.
    pub(crate) fn platforms_of<'a>(&'a self, spec: &'a outrigger_protocol::ServiceSpec) -> Option<&'a [Platform]> {
        let known = spec.platforms.as_ref().or_else(|| self.image_platforms.get(&spec.container.image));
        known.map(Vec::as_slice).filter(|platforms| !platforms.is_empty())
    }

    /// Counts a copy on its device, or no longer.
    pub(crate) fn count(&mut self, id: PlacementId, counted: bool) {
        let Some(copy) = self.placements.get_mut(&id) else { return };
        if copy.counted == counted {
            return;
        }
        copy.counted = counted;
        let (service, device, content) = (copy.service, copy.device, copy.content.clone());
        let mut shape = None;
        if let Some(device) = self.devices.get_mut(device) {
            shape = device.facts.as_ref().map(Shape::of);
            if counted { device.using.add(&content.need) } else { device.using.remove(&content.need) }
        }
        if let Some(service) = self.services.get_mut(service) {
            service.count_on(device, shape, counted);
        }
        self.rank_anew(device);
        if !counted {
            self.dirty.room.insert(device);
        }
    }

    /// Whether a copy is exclusive and counts for its device's lease.
    pub(crate) fn is_leased(&self, copy: &Placement) -> bool {
        copy.stage != Stage::Prepare && self.services.get(copy.service).is_some_and(Service::is_exclusive)
    }
}

fn is_silent(device: &Device) -> bool {
    matches!(device.liveness, Liveness::Suspect | Liveness::Lost | Liveness::Unheard) && !device.is_absent_on_purpose()
}

/// Sets whether a pair is in a set.
trait RetainOne {
    fn retain_one(&mut self, at: Moment, ix: DeviceIx, stays: bool);
}

impl RetainOne for BTreeSet<(Moment, DeviceIx)> {
    fn retain_one(&mut self, at: Moment, ix: DeviceIx, stays: bool) {
        if stays {
            self.insert((at, ix));
        } else {
            self.remove(&(at, ix));
        }
    }
}
