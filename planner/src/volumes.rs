//! Named local volumes: where their data lie, and what must be on one device because it shares them.
//!
//! An engine keeps a volume when its container goes, so what is known here outlives copies, services and stacks. A volume
//! that several services of a fleet mount is one only where they are on one device.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{DeviceName, Mode, ReplicaName, ServiceRef, ServiceSpec, VolumeMove};

use crate::device::Device;
use crate::filter::{self, Refused};
use crate::fleet::Fleet;
use crate::need::{Use, local_volumes};
use crate::plan::{Cause, Liveness, Waiting};
use crate::reconcile::Planner;
use crate::record::{Key, Record, Stage, Value};
use crate::service::{Content, Service};
use crate::table::{DeviceIx, ServiceIx};
use crate::wish::Availability;

/// What is known of named local volumes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volumes {
    /// Replicas whose containers have used a volume on a device, also of services that are gone.
    data: BTreeMap<String, BTreeMap<DeviceName, BTreeSet<ReplicaName>>>,
    /// Services whose present content mounts it.
    mounted: BTreeMap<String, BTreeSet<ServiceIx>>,
}

/// Where a copy may be because of the volumes that its service shares with others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Together<'a> {
    /// The devices that have the volume; none: no device has it yet.
    only: Option<(BTreeSet<DeviceIx>, &'a str)>,
    /// Services that will have to follow, each with the volume.
    followers: Vec<(&'a str, &'a Content)>,
}

impl<'a> Together<'a> {
    /// The only devices that will do, if not all may.
    pub(crate) fn devices(&self) -> Option<&BTreeSet<DeviceIx>> {
        self.only.as_ref().map(|(devices, _)| devices)
    }

    pub(crate) fn into_only(self) -> Option<(BTreeSet<DeviceIx>, &'a str)> {
        self.only
    }

    /// Why a device will not do.
    pub(crate) fn admits(
        &self,
        fleet: &'a Fleet,
        own: &Content,
        (ix, device): (DeviceIx, &'a Device),
        using: &Use,
    ) -> Result<(), Refused<'a>> {
        if let Some((devices, volume)) = self.only.as_ref().filter(|(devices, _)| !devices.contains(&ix)) {
            return Err(Refused::Volume { volume, on: first_of(fleet, devices) });
        }
        let mut using = using.clone();
        using.add(&own.need);
        for (volume, content) in &self.followers {
            let refused = filter::suits(device, content, fleet.platforms_of(&content.spec))
                .and_then(|()| filter::fits(device, &using, content, 0));
            if let Err(why) = refused {
                return Err(Refused::Follower { volume, why: Box::new(why) });
            }
            using.add(&content.need);
        }
        Ok(())
    }
}

impl Volumes {
    /// A replica's container has used a volume there.
    pub(crate) fn put(&mut self, volume: &str, device: DeviceName, replicas: impl IntoIterator<Item = ReplicaName>) {
        let on = self.data.entry(volume.to_owned()).or_default();
        on.entry(device).or_default().extend(replicas);
    }

    /// A replica has its data elsewhere by now.
    fn leave(&mut self, volume: &str, device: &DeviceName, replica: &ReplicaName) {
        let Some(on) = self.data.get_mut(volume) else { return };
        if let Some(replicas) = on.get_mut(device) {
            replicas.remove(replica);
            if replicas.is_empty() {
                on.remove(device);
            }
        }
    }

    /// Devices that have data of a volume, each with the replicas that used it there.
    fn data(&self, volume: &str) -> impl Iterator<Item = (&DeviceName, &BTreeSet<ReplicaName>)> {
        self.data.get(volume).into_iter().flatten()
    }

    fn record(&self, volume: &str, device: &DeviceName) -> Record {
        let replicas = self.data.get(volume).and_then(|on| on.get(device));
        let key = Key::Volume(volume.to_owned(), device.clone());
        Record { key, value: replicas.cloned().map(Value::Volume) }
    }

    /// What is to be deleted when a device is forgotten: its data are gone with it.
    pub(crate) fn on_device(&self, device: &DeviceName) -> Vec<Key> {
        let all = self.data.iter().filter(|(_, on)| on.contains_key(device));
        all.map(|(volume, _)| Key::Volume(volume.clone(), device.clone())).collect()
    }

    pub(crate) fn forget_device(&mut self, device: &DeviceName) {
        self.data.values_mut().for_each(|on| drop(on.remove(device)));
        self.data.retain(|_, on| !on.is_empty());
    }

    /// What a service mounts has changed.
    pub(crate) fn mount(&mut self, six: ServiceIx, before: &[String], now: &[String]) {
        for volume in before {
            if let Some(services) = self.mounted.get_mut(volume) {
                services.remove(&six);
                if services.is_empty() {
                    self.mounted.remove(volume);
                }
            }
        }
        for volume in now {
            self.mounted.entry(volume.clone()).or_default().insert(six);
        }
    }
}

impl Fleet {
    /// A container of a replica has been made on a device: its local volumes are there.
    pub(crate) fn settle_home(&mut self, (six, number): (ServiceIx, u32), ix: DeviceIx, content: &Content) {
        let Some(device) = self.devices.get(ix).map(|device| device.name.clone()) else { return };
        let Some(service) = self.services.get(six) else { return };
        let is_known = service.homes.get(&number) == Some(&device);
        let has_data = |volume: &String| self.volumes.data.get(volume).is_some_and(|on| on.contains_key(&device));
        // One that runs everywhere has a volume of its own everywhere: that is nothing to remember.
        if is_known && (service.is_global() || content.need.volumes.iter().all(has_data)) {
            return;
        }
        let is_global = service.is_global();
        let replica = ReplicaName { service: service.name.clone(), number };
        let before = self.services.get_mut(six).and_then(|service| service.homes.insert(number, device.clone()));
        self.unsaved.services.insert(six);
        for volume in content.need.volumes.iter().filter(|_| !is_global) {
            if let Some(before) = before.as_ref().filter(|before| **before != device) {
                self.volumes.leave(volume, before, &replica);
                self.unsaved.volumes.insert((volume.clone(), before.clone()));
            }
            self.volumes.put(volume, device.clone(), [replica.clone()]);
            self.unsaved.volumes.insert((volume.clone(), device.clone()));
            self.touch_sharers(volume);
        }
    }

    /// Replicas that wait for a volume may find it now.
    fn touch_sharers(&mut self, volume: &str) {
        for six in self.volumes.mounted.get(volume).into_iter().flatten() {
            let waiting = self.waiting.get(six).into_iter().flatten();
            self.dirty.slots.extend(waiting.map(|number| (*six, *number)));
        }
    }

    pub(crate) fn volume_records(&self, changed: BTreeSet<(String, DeviceName)>) -> Vec<Record> {
        changed.iter().map(|(volume, device)| self.volumes.record(volume, device)).collect()
    }

    /// On which device each replica of a service finds its data, whichever service left them there. `goes_on`: whether a
    /// service is there after the wish; what others of those use is theirs.
    pub(crate) fn homes_of(
        &self,
        name: &ServiceRef,
        spec: &ServiceSpec,
        before: BTreeMap<u32, DeviceName>,
        goes_on: impl Fn(&ServiceRef) -> bool,
    ) -> BTreeMap<u32, DeviceName> {
        let Mode::Replicated(replicas) = spec.mode else { return before };
        let volumes = local_volumes(&spec.container);
        let data = || volumes.iter().flat_map(|volume| self.volumes.data(volume));
        let mut homes: BTreeMap<u32, DeviceName> = BTreeMap::new();
        for (device, replica) in data().flat_map(|(device, all)| all.iter().map(move |one| (device, one))) {
            if replica.service == *name {
                homes.insert(replica.number, device.clone());
            }
        }
        let taken: BTreeSet<&DeviceName> = homes.values().collect();
        let ownerless =
            |all: &BTreeSet<ReplicaName>| !all.iter().any(|one| one.service == *name || goes_on(&one.service));
        let vacant: BTreeSet<DeviceName> =
            data().filter(|(device, all)| ownerless(all) && !taken.contains(device)).map(|(d, _)| d.clone()).collect();
        let homeless: Vec<u32> =
            (1..=replicas).filter(|number| !homes.contains_key(number)).take(vacant.len()).collect();
        homes.extend(homeless.into_iter().zip(vacant));
        homes
    }

    /// Services that share a volume; those that run everywhere have theirs everywhere and are none of them.
    fn sharers(&self, volume: &str) -> Vec<&Service> {
        let all = self.volumes.mounted.get(volume).into_iter().flatten();
        let all = all.filter_map(|six| self.services.get(*six));
        all.filter(|service| !service.removed && !service.is_global()).collect()
    }

    /// Whether a service has a local volume that another has, too.
    pub(crate) fn shares(&self, service: &Service) -> bool {
        !service.is_global() && service.content.need.volumes.iter().any(|volume| self.sharers(volume).len() > 1)
    }

    /// Devices on which copies of these services have a volume, or will soon.
    fn held(&self, sharers: &[&Service], volume: &str, but: (&ServiceRef, u32)) -> BTreeSet<DeviceIx> {
        let keeps = |device: &Device| device.liveness != Liveness::Lost && device.availability != Availability::Drain;
        let slots = sharers.iter().flat_map(|service| service.slots.iter().map(move |slot| (&service.name, slot)));
        let others = slots.filter(|(name, (number, _))| (*name, **number) != but);
        let copies = others.flat_map(|(_, (_, slot))| &slot.copies).filter_map(|id| self.placements.get(id));
        copies
            .filter(|copy| copy.stage == Stage::Run && copy.content.need.volumes.iter().any(|name| name == volume))
            .map(|copy| copy.device)
            .filter(|ix| self.devices.get(*ix).is_some_and(keeps))
            .collect()
    }
}

impl<'a> Planner<'a> {
    /// Where a copy may be because of what its service shares; none: anywhere.
    pub(crate) fn together(&self, service: &'a Service, number: u32, content: &'a Content) -> Option<Together<'a>> {
        if service.home(number).is_some() || !self.fleet.shares(service) {
            return None;
        }
        let mut together = Together::default();
        for volume in &content.need.volumes {
            let sharers = self.fleet.sharers(volume);
            if sharers.len() < 2 {
                continue;
            }
            let mut devices = self.fleet.held(&sharers, volume, (&service.name, number));
            devices.retain(|ix| Some(*ix) != self.supposed_lost);
            devices.extend(self.joined.get(volume.as_str()).into_iter().flatten());
            // Where all of them may start without their data, only what runs holds the others.
            if sharers.iter().any(|sharer| sharer.content.spec.volume_move == VolumeMove::Stay) {
                devices.extend(self.fleet.volumes.data(volume).filter_map(|(name, _)| self.fleet.devices.find(name)));
            }
            if devices.is_empty() {
                let others = sharers.into_iter().filter(|sharer| sharer.name != service.name);
                together.followers.extend(others.map(|sharer| (volume.as_str(), sharer.content.as_ref())));
                continue;
            }
            together.only = Some(match together.only.take() {
                Some((before, _)) => (before.intersection(&devices).copied().collect(), volume),
                None => (devices, volume),
            });
        }
        Some(together)
    }

    pub(crate) fn first_of(&self, devices: &BTreeSet<DeviceIx>) -> Option<&'a str> {
        first_of(self.fleet, devices)
    }

    /// A copy comes to a device in this plan: what shares its volumes has to follow.
    pub(crate) fn join(&mut self, service: &'a Service, ix: DeviceIx) {
        if self.fleet.shares(service) {
            for volume in &service.content.need.volumes {
                self.joined.entry(volume).or_default().insert(ix);
            }
        }
    }

    /// Why a replica is placed nowhere.
    pub(crate) fn nowhere(
        &self,
        service: &Service,
        home: Option<&DeviceName>,
        together: Option<&Together<'_>>,
        cause: &Cause,
    ) -> Waiting {
        let name = |ix: &DeviceIx| Some(self.fleet.devices.get(*ix)?.name.clone());
        let only = together.and_then(|together| together.only.as_ref());
        let shared = only.and_then(|(devices, volume)| Some((devices.iter().find_map(name)?, volume)));
        match (home, shared, cause.left()) {
            (Some(home), _, _) => Waiting::Volume(home.clone()),
            (None, Some((device, volume)), _) => Waiting::SharedVolume(device, (*volume).to_owned()),
            (None, None, Some(device)) if !matches!(cause, Cause::Refused(_)) => Waiting::NoOther(device.clone()),
            (None, None, _) => self.owners(service).unwrap_or(Waiting::NoDevice),
        }
    }
}

fn first_of<'a>(fleet: &'a Fleet, devices: &BTreeSet<DeviceIx>) -> Option<&'a str> {
    devices.iter().find_map(|ix| Some(fleet.devices.get(*ix)?.name.as_str()))
}
