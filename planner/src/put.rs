//! Puts changed services and devices in their place, from a wish or from the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_protocol::{DeviceName, LossPolicy, Mode, PlacementId, Platform, Revision, ServiceRef, ServiceSpec};

use crate::fleet::Fleet;
use crate::index::Shape;
use crate::record::{DeviceRecord, Key, ServiceRecord, Stage};
use crate::service::{Content, Roll, Service};
use crate::table::{Bits, DeviceIx, NumberMap, ServiceIx};

impl Fleet {
    /// A service is as this record says. Its copies follow with the next plan; a removed one without any is for
    /// [`Fleet::tidy_service`] to forget, when all that belongs to it is there.
    pub(crate) fn put_service(&mut self, name: ServiceRef, record: ServiceRecord) {
        let six = match self.services.find(&name) {
            Some(six) => six,
            None => self.services.insert(name.clone(), new_service(name.clone(), &record)),
        };
        self.unsaved.gone.retain(|key| !matches!(key, Key::Service(gone) if *gone == name));
        let copies = self.copies_of(six);
        let Some(service) = self.services.get_mut(six) else { return };
        let loss_before = service.content.spec.loss;
        let rolls_on = service.revision == record.revision && record.paused == service.roll.paused;
        service.revision = record.revision;
        service.newest = record.newest;
        service.released = record.released;
        service.removed = record.removed;
        service.homes = record.homes;
        let mounted = service.content.need.volumes.clone();
        let mut contents = BTreeMap::new();
        for (revision, spec) in record.older.into_iter().chain([(record.revision, record.spec)]) {
            contents.insert(revision, kept(&service.contents, revision, spec));
        }
        if let Some(content) = contents.get(&record.revision) {
            service.turn_to(content.clone());
        }
        service.contents = contents;
        let mounts = if record.removed { &[][..] } else { &service.content.need.volumes };
        self.volumes.mount(six, &mounted, mounts);
        if !rolls_on {
            service.roll = Roll { paused: record.paused, ..Roll::default() };
        }
        self.recount(six, &copies, loss_before);
        self.touch_mesh(six);
        let global = self.services.get(six).is_some_and(Service::is_global);
        if global {
            self.globals.insert(six)
        } else {
            self.globals.remove(&six)
        };
        self.touch_service(six);
    }

    fn copies_of(&self, six: ServiceIx) -> Vec<PlacementId> {
        let slots = self.services.get(six).into_iter().flat_map(|service| service.slots.values());
        slots.flat_map(|slot| slot.copies.iter().copied()).collect()
    }

    /// What a copy reserves, and whether it is leased, may have changed with the service.
    fn recount(&mut self, six: ServiceIx, copies: &[PlacementId], loss_before: LossPolicy) {
        let Some(service) = self.services.get(six) else { return };
        let (contents, exclusive, revision) = (service.contents.clone(), service.is_exclusive(), service.revision);
        let was_exclusive = matches!(loss_before, LossPolicy::Exclusive { .. });
        let is_other_policy = service.content.spec.loss != loss_before;
        let lease = service.lease().unwrap_or_default();
        let mut rolls = false;
        for id in copies {
            let Some(copy) = self.placements.get(id) else { continue };
            let (ix, counted, leased) = (copy.device, copy.counted, copy.stage != Stage::Prepare);
            rolls |= copy.revision != revision || copy.stage == Stage::Prepare;
            if let Some(content) = contents.get(&copy.revision).filter(|content| !Arc::ptr_eq(content, &copy.content)) {
                self.count(*id, false);
                if let Some(copy) = self.placements.get_mut(id) {
                    let before = std::mem::replace(&mut copy.content, content.clone());
                    if let Some(device) = self.devices.get_mut(ix) {
                        device.using.want.remove(&before);
                        device.using.want.add(content);
                    }
                }
                self.count(*id, counted);
            }
            if is_other_policy {
                // The device is told what becomes of the copy when it hears nothing.
                self.unsaved.assignments.insert(ix);
                self.unsaved.placements.insert(*id);
                if let Some(copy) = self.placements.get_mut(id) {
                    copy.longest_lease = copy.longest_lease.max(lease);
                }
            }
            if was_exclusive != exclusive
                && leased
                && let Some(device) = self.devices.get_mut(ix)
            {
                device.exclusive = if exclusive { device.exclusive + 1 } else { device.exclusive.saturating_sub(1) };
            }
        }
        if let Some(service) = self.services.get_mut(six) {
            service.roll.active |= rolls;
        }
    }

    /// Everything of a service is to be looked at again.
    fn touch_service(&mut self, six: ServiceIx) {
        let Some(service) = self.services.get(six) else { return };
        let wanted = match service.content.spec.mode {
            Mode::Replicated(replicas) if !service.removed => replicas,
            Mode::Replicated(_) | Mode::Global => 0,
        };
        let numbers: Vec<u32> = service.slots.keys().copied().filter(|number| *number > wanted).collect();
        self.dirty.slots.extend((1..=wanted).chain(numbers).map(|number| (six, number)));
        self.dirty.rolls.insert(six);
        if service.is_global() {
            self.dirty.room.extend(self.devices.iter().map(|(ix, _)| ix));
        }
    }

    /// A device is as this record says.
    pub(crate) fn put_device(&mut self, name: &DeviceName, record: DeviceRecord) {
        let Some(ix) = self.devices.find(name) else { return };
        self.index_labels(ix, false);
        if let Some(device) = self.devices.get_mut(ix) {
            device.labels = record.labels;
            device.availability = record.availability;
        }
        self.index_labels(ix, true);
        self.rank_anew(ix);
        self.dirty.room.insert(ix);
        self.dirty.devices.insert(ix);
        self.touch_copies(ix);
    }

    /// A device is gone for good, with all that was on it.
    pub(crate) fn forget(&mut self, name: &DeviceName) {
        let Some(ix) = self.devices.find(name) else { return };
        self.arm(ix, None);
        let copies: Vec<PlacementId> =
            self.devices.get(ix).into_iter().flat_map(|device| device.placements.iter().copied()).collect();
        for id in copies {
            self.remove_copy(id);
        }
        self.forget_peer(ix);
        self.index_labels(ix, false);
        let Some(device) = self.devices.remove(name) else { return };
        if let Some(indexed) = device.indexed {
            self.index.remove(indexed);
        }
        if let Some(facts) = &device.facts {
            self.index.also_runs -= usize::from(!facts.also_runs.is_empty());
            self.index.resize(Shape::of(facts), -1);
        }
        for image in &device.images {
            if let Some(holders) = self.holders.get_mut(image) {
                holders.remove(&ix);
            }
        }
        self.silent.remove(&(device.heard_at, ix));
        self.volumes.forget_device(name);
        self.unsaved.volumes.retain(|(_, device)| device != name);
        if let Some(safe) = &mut self.safe {
            safe.silent.remove(&ix);
            self.dirty.safe = true;
        }
        let services: Vec<ServiceIx> = self.services.iter().map(|(six, _)| six).collect();
        for six in services {
            if let Some(service) = self.services.get_mut(six) {
                service.avoid.remove(&ix);
                service.refused.remove(&ix);
            }
        }
        self.dirty.room.remove(&ix);
        self.dirty.devices.remove(&ix);
        self.unsaved.devices.remove(&ix);
        self.unsaved.assignments.remove(&ix);
        self.unsaved.gone.push(Key::Device(name.clone()));
    }

    /// The operator says that a device is off.
    pub(crate) fn confirm(&mut self, ix: DeviceIx) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        device.confirmed = true;
        self.silent.remove(&(device.heard_at, ix));
        self.dirty.devices.insert(ix);
        self.dirty.safe |= self.safe.is_some();
        self.touch_copies(ix);
    }

    /// For which platforms an image exists.
    pub(crate) fn put_image(&mut self, image: String, platforms: Vec<Platform>) {
        let uses = |service: &Service| service.content.spec.container.image == image;
        let users: Vec<ServiceIx> =
            self.services.iter().filter(|(_, service)| uses(service)).map(|(six, _)| six).collect();
        self.image_platforms.insert(image, platforms);
        for six in users {
            self.touch_service(six);
        }
    }
}

fn new_service(name: ServiceRef, record: &ServiceRecord) -> Service {
    let content = Content::new(record.spec.clone());
    Service {
        name,
        contents: BTreeMap::from([(record.revision, content.clone())]),
        content,
        revision: record.revision,
        newest: record.newest,
        released: record.released,
        removed: record.removed,
        homes: BTreeMap::new(),
        slots: BTreeMap::new(),
        on: NumberMap::default(),
        has: Bits::default(),
        cover: BTreeMap::new(),
        good: 0,
        roll: Roll { paused: record.paused.clone(), ..Roll::default() },
        avoid: BTreeMap::new(),
        refused: BTreeMap::new(),
    }
}

/// A content that stays as it is stays the same object, so that nothing has to be counted anew.
fn kept(known: &BTreeMap<Revision, Arc<Content>>, revision: Revision, spec: ServiceSpec) -> Arc<Content> {
    match known.get(&revision) {
        Some(content) if content.spec == spec => content.clone(),
        Some(_) | None => Content::new(spec),
    }
}
