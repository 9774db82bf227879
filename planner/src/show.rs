//! The fleet for the API and the command line, and the assignments for the devices.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{
    Assigned, Assignment, ContainerSpec, DeviceName, FileRef, Goal, Phase, PlacementId, Revision, ServiceRef,
};
use outrigger_protocol::{Bytes, MilliCpu, ReplicaName, StackName};

use crate::device::Device;
use crate::explain::{Explanation, ReplicaExplanation, Verdict};
use crate::fleet::Fleet;
use crate::plan::Waiting;
use crate::reconcile::{Planner, replica};
use crate::record::Stage;
use crate::search::{self, Avoid, Query};
use crate::service::{Placement, Service, Slot};
use crate::table::{DeviceIx, ServiceIx};
use crate::view::{CopyView, DeviceView, ReplicaView, RollState, RollView, ServiceView, StackView, Totals};
use outrigger_protocol::Moment;

impl Fleet {
    /// What a device is to run; none if there is no such device, or it belongs to another fleet.
    #[must_use]
    pub fn assignment(&self, name: &DeviceName) -> Option<Assignment> {
        let device = self.devices.named(name).filter(|device| device.foreign.is_none())?;
        let mut specs: Vec<ContainerSpec> = Vec::new();
        let mut known: BTreeMap<(ServiceIx, Revision), u32> = BTreeMap::new();
        let mut replicas = Vec::with_capacity(device.placements.len());
        for (id, copy, service) in self.on(device) {
            let goal = match copy.stage {
                Stage::Prepare => Goal::Prepare,
                Stage::Run => Goal::Run,
                Stage::Stop => continue,
            };
            let spec = *known.entry((copy.service, copy.revision)).or_insert_with(|| {
                specs.push(copy.content.spec.container.clone());
                u32::try_from(specs.len() - 1).unwrap_or(u32::MAX)
            });
            let loss = service.content.spec.loss;
            replicas.push(Assigned { placement: id, replica: replica(service, copy.number), spec, goal, loss });
        }
        replicas.sort_by(|a, b| a.replica.cmp(&b.replica).then(a.placement.cmp(&b.placement)));
        let networks = self.networks_of(&specs);
        Some(Assignment { fleet: self.id, stamp: self.stamp(device.generation), specs, replicas, networks })
    }

    fn on<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = (PlacementId, &'a Placement, &'a Service)> {
        device.placements.iter().filter_map(|id| {
            let copy = self.placements.get(id)?;
            Some((*id, copy, self.services.get(copy.service)?))
        })
    }

    /// All devices, by name.
    pub fn devices(&self) -> impl Iterator<Item = DeviceView<'_>> {
        self.devices.iter().map(|(_, device)| self.device_view(device))
    }

    /// One device.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<DeviceView<'_>> {
        self.devices.named(name).map(|device| self.device_view(device))
    }

    fn device_view<'a>(&'a self, device: &'a Device) -> DeviceView<'a> {
        let running = self.on(device).filter(|(_, copy, _)| self.is_good(copy)).count();
        let heard = device.session.is_some();
        DeviceView {
            name: &device.name,
            liveness: device.liveness,
            why: &device.why,
            availability: device.availability,
            heard_at: heard.then_some(device.heard_at),
            lost_after: device.lost_after(&self.policy),
            labels: &device.labels,
            facts: device.facts.as_ref(),
            engine: device.engine.as_ref(),
            reserved_cpu: MilliCpu(u32::try_from(device.using.cpu).unwrap_or(u32::MAX)),
            reserved_memory: Bytes(device.using.memory),
            replicas: u32::try_from(device.placements.len()).unwrap_or(u32::MAX),
            running: u32::try_from(running).unwrap_or(u32::MAX),
            stamp: self.stamp(device.generation),
            held: device.held,
            load: device.load,
            session: device.session,
            foreign: device.foreign.map(|foreign| foreign.fleet),
        }
    }

    /// All stacks, by name.
    pub fn stacks(&self) -> impl Iterator<Item = StackView<'_>> {
        self.stacks.keys().filter_map(|name| self.stack(name))
    }

    /// One stack.
    #[must_use]
    pub fn stack(&self, name: &StackName) -> Option<StackView<'_>> {
        let (name, record) = self.stacks.get_key_value(name)?;
        let services = record.services.iter();
        let services = services.map(|service| ServiceRef { stack: name.clone(), service: service.clone() }).collect();
        Some(StackView { name, applied_unix_ms: record.applied_unix_ms, services })
    }

    /// The secrets and configs that anything needs, in every version: also what is still running an earlier one.
    #[must_use]
    pub fn files(&self) -> BTreeSet<FileRef> {
        let contents = self.services.iter().flat_map(|(_, service)| service.contents.values());
        contents.flat_map(|content| &content.spec.container.files).map(|mount| mount.file.clone()).collect()
    }

    /// All services, by stack and name.
    pub fn services(&self) -> impl Iterator<Item = ServiceView<'_>> {
        self.services.iter().filter(|(_, service)| !service.removed).map(|(_, service)| self.service_view(service))
    }

    /// One service.
    #[must_use]
    pub fn service(&self, name: &ServiceRef) -> Option<ServiceView<'_>> {
        self.services.named(name).filter(|service| !service.removed).map(|service| self.service_view(service))
    }

    fn service_view<'a>(&'a self, service: &'a Service) -> ServiceView<'a> {
        ServiceView {
            name: &service.name,
            spec: &service.content.spec,
            revision: service.revision,
            wanted: service.wanted(),
            running: service.good,
            pending: self.pending(service),
            roll: self.roll_view(service),
            refused: self.refused_by(service),
        }
    }

    /// Replicas that wait and of which no copy does its work. One that waits to leave its device may well run there.
    fn pending(&self, service: &Service) -> u32 {
        let numbers = self.services.find(&service.name).and_then(|six| self.waiting.get(&six));
        let idle = |number: &&u32| service.slots.get(number).is_some_and(|slot| !slot.good);
        u32::try_from(numbers.into_iter().flatten().filter(idle).count()).unwrap_or(u32::MAX)
    }

    fn roll_view<'a>(&'a self, service: &'a Service) -> RollView<'a> {
        let total = service.wanted();
        if !service.roll.active {
            return RollView { state: RollState::Done, done: service.good, total, reason: None };
        }
        let copies = |slot: &'a Slot| slot.copies.iter().filter_map(|id| self.placements.get(id));
        let present = |copy: &&Placement| copy.revision == service.revision;
        let done = service.slots.values().filter(|&slot| copies(slot).any(|copy| present(&copy) && self.is_good(copy)));
        let done = u32::try_from(done.count()).unwrap_or(u32::MAX);
        let begun = service.slots.values().any(|slot| copies(slot).any(|c| present(&c) && c.stage == Stage::Run));
        // What keeps an image from being pulled is all there is to say while nothing has been changed yet.
        let trouble = service.slots.values().flat_map(copies).filter(present).find_map(|copy| match copy.phase() {
            Some(Phase::BackOff { reason, .. } | Phase::Failed { reason } | Phase::Refused { reason }) => {
                Some(reason.as_str())
            }
            _ => None,
        });
        let stuck = service.roll.stuck.values().find_map(|waiting| match waiting {
            Waiting::Change(why) => Some(why.as_str()),
            _ => None,
        });
        let trouble = trouble.or(stuck);
        match &service.roll.paused {
            Some(why) => RollView { state: RollState::Paused, done, total, reason: Some(why) },
            None if begun => RollView { state: RollState::Rolling, done, total, reason: trouble },
            None => RollView { state: RollState::Preparing, done, total, reason: trouble },
        }
    }

    /// The replicas of a service, by number; nothing if there is no such service.
    pub fn replicas(&self, name: &ServiceRef) -> impl Iterator<Item = ReplicaView<'_>> {
        let service = self.services.named(name);
        let slots = service.into_iter().flat_map(|service| service.slots.iter().map(move |slot| (service, slot)));
        slots.map(|(service, (&number, slot))| self.replica_view(service, number, slot))
    }

    /// The replicas of a service from a number on, by number: so that a long list can be read in pieces.
    pub fn replicas_from(&self, name: &ServiceRef, first: u32) -> impl Iterator<Item = ReplicaView<'_>> {
        let service = self.services.named(name);
        let slots =
            service.into_iter().flat_map(move |service| service.slots.range(first..).map(move |slot| (service, slot)));
        slots.map(|(service, (&number, slot))| self.replica_view(service, number, slot))
    }

    /// One replica.
    #[must_use]
    pub fn replica(&self, name: &ReplicaName) -> Option<ReplicaView<'_>> {
        let service = self.services.named(&name.service)?;
        Some(self.replica_view(service, name.number, service.slots.get(&name.number)?))
    }

    fn replica_view<'a>(&'a self, service: &'a Service, number: u32, slot: &'a Slot) -> ReplicaView<'a> {
        let mut copies: Vec<(PlacementId, &Placement)> =
            slot.copies.iter().filter_map(|id| Some((*id, self.placements.get(id)?))).collect();
        // The one that works first, then those that are to, then the rest; the newest first.
        copies.sort_by_key(|(id, copy)| {
            let order = match copy.stage {
                Stage::Run if self.is_good(copy) => 0,
                Stage::Run => 1,
                Stage::Prepare => 2,
                Stage::Stop => 3,
            };
            (order, std::cmp::Reverse(*id))
        });
        let up_to_date = copies.first().is_some_and(|(_, copy)| copy.revision == service.revision);
        let copies = copies.into_iter().filter_map(|(id, copy)| self.copy_view(id, copy)).collect();
        ReplicaView { name: replica(service, number), waiting: waiting(service, number, slot), copies, up_to_date }
    }

    fn copy_view<'a>(&'a self, placement: PlacementId, copy: &'a Placement) -> Option<CopyView<'a>> {
        let device = self.devices.get(copy.device)?;
        Some(CopyView {
            placement,
            replica: replica(self.services.get(copy.service)?, copy.number),
            device: &device.name,
            liveness: device.liveness,
            revision: copy.revision,
            spec: &copy.content.spec,
            stage: copy.stage,
            reason: &copy.reason,
            seen: copy.seen.as_deref(),
            seen_at: copy.seen.as_ref().map(|_| copy.seen_at),
            usage: copy.usage,
        })
    }

    /// The copies assigned to a device, the oldest first.
    pub fn copies_on(&self, name: &DeviceName) -> impl Iterator<Item = CopyView<'_>> {
        let device = self.devices.named(name);
        let copies = device.into_iter().flat_map(|device| self.on(device));
        copies.filter_map(|(id, copy, _)| self.copy_view(id, copy))
    }

    /// One copy.
    #[must_use]
    pub fn copy(&self, placement: PlacementId) -> Option<CopyView<'_>> {
        self.copy_view(placement, self.placements.get(&placement)?)
    }

    /// The fleet in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut totals = Totals {
            devices: number(self.devices.len()),
            up: self.up,
            stacks: number(self.stacks.len()),
            ..Totals::default()
        };
        for (_, service) in self.services.iter().filter(|(_, service)| !service.removed) {
            totals.services += 1;
            totals.wanted += service.wanted();
            totals.running += service.good;
            totals.pending += self.pending(service);
        }
        totals
    }

    /// Why nothing moves at present, if so.
    #[must_use]
    pub fn safe_mode(&self) -> Option<&str> {
        self.safe.as_ref().map(|safe| safe.why.as_str())
    }

    /// Why the replicas of a service are where they are, or wait; of one of them if its number is given. What each device
    /// is worth now is worked out here and not before: nobody else needs it.
    #[must_use]
    pub fn explain(&self, name: &ServiceRef, number: Option<u32>, now: Moment) -> Option<Explanation> {
        let service = self.services.named(name)?;
        let mut planner = Planner::new(self, now);
        planner.scratch.turn_to(service);
        let mut notes: Vec<String> = self.safe.iter().map(|safe| safe.why.clone()).collect();
        notes.extend(service.roll.paused.iter().map(|why| format!("its change is paused: {why}")));
        // One that is to run everywhere has no replica yet that could say so.
        let held = planner.held_back(service).filter(|_| service.slots.is_empty() && !service.removed);
        notes.extend(held.map(|why| format!("nothing of it is placed yet: {why}")));
        let refused = self.refused_by(service).into_iter().filter(|_| service.is_global());
        notes.extend(refused.map(|(device, why)| format!("not on {device}: {why}")));
        let stuck = service.roll.stuck.first_key_value();
        notes.extend(stuck.map(|(number, why)| format!("its change waits: {name}.{number} {why}")));
        let slots = service.slots.iter().filter(|(n, _)| number.is_none_or(|number| number == **n));
        let replicas = slots.map(|(&n, slot)| self.explain_one(&planner, service, n, slot)).collect();
        Some(Explanation { service: name.clone(), notes, replicas })
    }

    fn explain_one(&self, planner: &Planner<'_>, service: &Service, number: u32, slot: &Slot) -> ReplicaExplanation {
        let copies = || slot.copies.iter().rev().filter_map(|id| self.placements.get(id));
        let placed = copies().find(|copy| self.is_good(copy)).or_else(|| copies().find(|c| c.stage == Stage::Run));
        let placed = placed.and_then(|copy| Some((self.devices.get(copy.device)?.name.clone(), copy.reason.clone())));
        let barred: Vec<DeviceIx> = copies().map(|copy| copy.device).collect();
        let home = service.home(number).and_then(|home| self.devices.find(home));
        let together = planner.together(service, number, &service.content);
        let query = planner.query(service, &service.content, &barred, home, Avoid::Strictly);
        let query = Query { together: together.as_ref(), ..query };
        let devices = self.devices.iter().map(|(ix, device)| {
            let refused = search::refusal(&planner.scratch, &query, ix, device, &device.using);
            let verdict = match refused {
                Ok(()) => Verdict::Fits(search::score(&planner.scratch, &query, ix)),
                Err(refused) => Verdict::Refused(refused.to_string()),
            };
            (device.name.clone(), verdict)
        });
        let waiting = waiting(service, number, slot).cloned();
        ReplicaExplanation { replica: replica(service, number), placed, waiting, devices: devices.collect() }
    }
}

/// Why a replica waits: for a place, or with its earlier content for a place of its successor.
fn waiting<'a>(service: &'a Service, number: u32, slot: &'a Slot) -> Option<&'a Waiting> {
    slot.waiting.as_ref().or_else(|| service.roll.stuck.get(&number))
}
