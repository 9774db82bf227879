//! From the fleet to records and back.

use std::collections::BTreeMap;

use outrigger_protocol::{DeviceName, Epoch, FleetId, Moment, PlacementId};

use crate::fleet::Fleet;
use crate::policy::Policy;
use crate::record::{Key, MetaRecord, PlacementRecord, Record, ServiceRecord, Stage, Value};
use crate::service::{Placement, Service};

/// Numbers of placements are reserved in blocks of so many, so that the counter is not saved with every copy.
const BLOCK: u64 = 1 << 16;

/// A restored fleet.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The fleet.
    pub fleet: Fleet,
    /// Records that fit nothing else, such as a copy on a device that is not there; for the log.
    pub ignored: Vec<String>,
}

impl Fleet {
    /// Whether a device's assignment has changed since the last commit: it gets its new generation with the next one.
    #[must_use]
    pub fn is_changing(&self, name: &DeviceName) -> bool {
        self.devices.find(name).is_some_and(|ix| self.unsaved.assignments.contains(&ix))
    }

    /// A fleet as it was saved. Nothing has been heard: nothing is lost and nothing moves until devices are heard or the
    /// start grace has passed. With a higher epoch than the saved one, every assignment is made anew under it.
    #[must_use]
    pub fn restore(
        records: impl IntoIterator<Item = Record>,
        policy: Policy,
        id: FleetId,
        epoch: Epoch,
        now: Moment,
    ) -> Restored {
        let mut fleet = Self::new(policy, id, epoch);
        let mut ignored = Vec::new();
        let mut placements = Vec::new();
        let mut volumes = Vec::new();
        let mut by_key: BTreeMap<Key, Value> = BTreeMap::new();
        for record in records {
            match (record.key, record.value) {
                (Key::Placement(id), Some(Value::Placement(value))) => placements.push((id, *value)),
                (key, Some(value)) => drop(by_key.insert(key, value)),
                (key, None) => drop(by_key.remove(&key)),
            }
        }
        for (key, value) in by_key {
            match (key, value) {
                (Key::Meta, Value::Meta(meta)) => fleet.restore_meta(&meta),
                (Key::Stack(name), Value::Stack(stack)) => drop(fleet.stacks.insert(name, stack)),
                (Key::Service(name), Value::Service(service)) => fleet.put_service(name, *service),
                (Key::Device(name), Value::Device(device)) => drop(fleet.add_device(&name, *device, now)),
                (Key::Network(name), Value::Network(network)) => drop(fleet.networks.insert(name, network)),
                (Key::Volume(volume, device), Value::Volume(used)) => volumes.push((volume, device, used)),
                (Key::Image(image), Value::Image(platforms)) => drop(fleet.image_platforms.insert(image, platforms)),
                (key, _) => ignored.push(format!("{key:?} has a value of another sort")),
            }
        }
        for (volume, device, used) in volumes {
            if fleet.devices.find(&device).is_some() {
                fleet.volumes.put(&volume, device, used);
            } else {
                ignored.push(format!("volume {volume}: there is no device {device}"));
                fleet.unsaved.gone.push(Key::Volume(volume, device));
            }
        }
        placements.sort_by_key(|(id, _)| *id);
        for (id, record) in placements {
            if let Err(why) = fleet.restore_copy(id, record, now) {
                ignored.push(format!("copy {id}: {why}"));
                fleet.unsaved.gone.push(Key::Placement(id));
            }
        }
        fleet.restore_rolls(now);
        Restored { fleet, ignored }
    }

    fn restore_meta(&mut self, meta: &MetaRecord) {
        if meta.epoch == self.epoch {
            self.next = self.next.max(meta.placements_below);
            self.reserved_below = self.next;
        }
    }

    fn restore_copy(&mut self, id: PlacementId, record: PlacementRecord, now: Moment) -> Result<(), String> {
        let six =
            self.services.find(&record.service).ok_or_else(|| format!("there is no service {}", record.service))?;
        let ix = self.devices.find(&record.device).ok_or_else(|| format!("there is no device {}", record.device))?;
        let service = self.services.get(six).ok_or("its service is gone")?;
        let content = service.contents.get(&record.revision).cloned();
        let content = content.ok_or_else(|| format!("{} has no revision {}", record.service, record.revision.0))?;
        let beside = service.slots.get(&record.number).into_iter().flat_map(|slot| &slot.copies);
        let same_device = beside.filter_map(|id| self.placements.get(id)).any(|copy| copy.device == ix && copy.counted);
        let copy = Placement {
            service: six,
            number: record.number,
            device: ix,
            revision: record.revision,
            content,
            stage: record.stage,
            counted: false,
            reason: record.reason,
            placed_at: now,
            // Which generation dropped it is not saved; the present one has, or the next will have.
            stopped_by: self.devices.get(ix).filter(|_| record.stage == Stage::Stop).map(|device| device.generation),
            seen: None,
            seen_at: now,
            unheard: true,
            running_since: None,
            pulled: false,
            pull_moved_at: now - self.deaf,
            usage: None,
            longest_lease: record.longest_lease.max(service.lease().unwrap_or_default()),
        };
        self.next = self.next.max(id.next());
        self.reserved_below = self.reserved_below.max(self.next);
        let slot = (six, record.number);
        if record.loss != service.content.spec.loss {
            // The hub ended between the wish and the plan: the device has not been told, under any stamp.
            self.unsaved.assignments.insert(ix);
            self.unsaved.placements.insert(id);
        }
        self.add_copy(id, copy);
        if !(record.stage == Stage::Prepare && same_device) {
            self.count(id, true);
        }
        self.dirty.slots.insert(slot);
        Ok(())
    }

    /// Rolls go on where they were: what has the new content already is watched again.
    fn restore_rolls(&mut self, now: Moment) {
        let all: Vec<_> = self.services.iter().map(|(six, _)| six).collect();
        for six in all {
            let Some(service) = self.services.get(six) else { continue };
            let copies: Vec<&Placement> =
                service.slots.values().flat_map(|slot| &slot.copies).filter_map(|id| self.placements.get(id)).collect();
            let rolls = |copy: &&Placement| copy.revision != service.revision || copy.stage == Stage::Prepare;
            let active = copies.iter().any(rolls);
            let changed = copies.iter().filter(|copy| active && !rolls(copy)).map(|copy| (copy.number, now)).collect();
            if let Some(service) = self.services.get_mut(six) {
                service.roll.active |= active;
                service.roll.batch = changed;
                if active {
                    self.dirty.rolls.insert(six);
                }
            }
            // A service that was removed is kept for as long as it has copies, and not longer.
            self.tidy_service(six);
        }
    }

    /// Everything that has changed since it was asked last: records, and devices with a new generation.
    pub(crate) fn take_unsaved(&mut self, now: Moment) -> (Vec<Record>, Vec<DeviceName>) {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut records = Vec::with_capacity(unsaved.placements.len() + unsaved.gone.len() + 8);
        records.extend(unsaved.gone.into_iter().map(|key| Record { key, value: None }));
        if self.next > self.reserved_below || unsaved.meta {
            self.reserved_below = PlacementId(self.next.0 + BLOCK);
            let meta = MetaRecord { epoch: self.epoch, placements_below: self.reserved_below };
            records.push(Record { key: Key::Meta, value: Some(Value::Meta(meta)) });
        }
        let mut names = Vec::with_capacity(unsaved.assignments.len());
        for &ix in &unsaved.assignments {
            let Some(device) = self.devices.get_mut(ix) else { continue };
            device.generation = device.generation.next();
            device.bumped_at = now;
            names.push(device.name.clone());
        }
        names.sort();
        for ix in unsaved.devices.union(&unsaved.assignments) {
            let Some(device) = self.devices.get(*ix) else { continue };
            let (key, value) = (Key::Device(device.name.clone()), Value::Device(Box::new(device.record())));
            records.push(Record { key, value: Some(value) });
        }
        for six in unsaved.services {
            let Some(service) = self.services.get(six) else { continue };
            let (key, value) = (Key::Service(service.name.clone()), Value::Service(Box::new(service.record())));
            records.push(Record { key, value: Some(value) });
        }
        records.extend(self.volume_records(unsaved.volumes));
        for id in unsaved.placements {
            let Some(record) = self.placement_record(id) else { continue };
            records.push(Record { key: Key::Placement(id), value: Some(Value::Placement(Box::new(record))) });
        }
        (records, names)
    }

    fn placement_record(&self, id: PlacementId) -> Option<PlacementRecord> {
        let copy = self.placements.get(&id)?;
        let service = self.services.get(copy.service)?;
        Some(PlacementRecord {
            service: service.name.clone(),
            number: copy.number,
            device: self.devices.get(copy.device)?.name.clone(),
            revision: copy.revision,
            stage: copy.stage,
            loss: service.content.spec.loss,
            longest_lease: copy.longest_lease,
            reason: copy.reason.clone(),
        })
    }
}

impl Service {
    pub(crate) fn record(&self) -> ServiceRecord {
        let older = self.contents.iter().filter(|(revision, _)| **revision != self.revision);
        ServiceRecord {
            spec: self.content.spec.clone(),
            revision: self.revision,
            newest: self.newest,
            older: older.map(|(revision, content)| (*revision, content.spec.clone())).collect(),
            released: self.released,
            paused: self.roll.paused.clone(),
            removed: self.removed,
            homes: self.homes.clone(),
        }
    }
}
