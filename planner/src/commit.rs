//! Carries a plan out in memory, and says what to save, to publish and to tell.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{DeviceName, Moment, Order, PlacementId, ReplicaName, Revision, ServiceRef};

use crate::even::Evening;
use crate::filter;
use crate::fleet::{Fleet, Timer};
use crate::note::{Note, NoteKind};
use crate::plan::{Cause, Change, Committed, DropCause, Liveness, Plan, Reason, RollStep, Waiting};
use crate::record::{Key, Stage};
use crate::safe_mode::Safe;
use crate::service::{Content, Placement, Service};
use crate::slot::HOUR;
use crate::table::{DeviceIx, ServiceIx};
use crate::tell;

/// Replicas that the event of a batch names.
const MOST_NAMED: usize = 10;

impl Fleet {
    /// Carries a plan out in memory: what it changes is then in [`Fleet::assignment`]. Save the records as one, then
    /// publish the devices' assignments. A plan that was made for another state changes nothing.
    pub fn commit(&mut self, plan: &Plan) -> Committed {
        if plan.basis != self.basis {
            return Committed::default();
        }
        self.basis += 1;
        let mut notes = Vec::new();
        let may_even = self.may_even();
        let judged = plan
            .changes
            .iter()
            .any(|c| matches!(c, Change::Liveness { .. } | Change::SafeMode { .. } | Change::HalfBack(_)));
        self.settle_timers(plan.at, judged);
        for change in &plan.changes {
            self.carry_out(change, plan.at, &mut notes);
        }
        for alarm in &plan.alarms {
            let Some(six) = self.services.find(&alarm.service) else { continue };
            let timer = alarm.number.map_or(Timer::Roll(six), |number| Timer::Slot(six, number));
            self.timers.insert((alarm.at, timer));
        }
        self.end_evening();
        if may_even && plan.is_empty() {
            // There was leisure, and nothing to even out.
            self.uneven.clear();
        }
        notes.extend(tell::replicas(&plan.changes));
        let leaving = self.take_leaving();
        let (records, devices) = self.take_unsaved(plan.at);
        Committed { devices, records, notes, leaving }
    }

    /// What was due has been looked at.
    fn settle_timers(&mut self, now: Moment, judged: bool) {
        let due: Vec<(Moment, Timer)> =
            self.timers.range(..=(now, Timer::Roll(ServiceIx(u32::MAX)))).copied().collect();
        let mut devices = std::mem::take(&mut self.dirty.devices);
        for (at, timer) in due {
            match timer {
                Timer::Device(ix) => {
                    devices.insert(ix);
                }
                // A plan that only judges devices has not looked at these yet.
                Timer::Slot(..) | Timer::Roll(_) if judged => (),
                Timer::Slot(..) | Timer::Roll(_) => {
                    self.timers.remove(&(at, timer));
                }
            }
        }
        self.dirty.safe = false;
        if !judged {
            self.dirty.slots.clear();
            self.dirty.rolls.clear();
            self.dirty.room.clear();
        }
        for ix in devices {
            self.rearm(ix, now);
        }
    }

    fn rearm(&mut self, ix: DeviceIx, now: Moment) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        if device.returned_at.is_some_and(|at| now.since(at) >= self.policy.settle) {
            device.returned_at = None;
            self.rank_anew(ix);
        }
        let Some(device) = self.devices.get_mut(ix) else { return };
        if device.came_at.is_some_and(|at| now.since(at) >= self.policy.settle) {
            device.came_at = None;
            self.uneven.insert(ix);
        }
        let next = self.devices.get(ix).and_then(|device| device.judge(&self.policy, now).next);
        self.arm(ix, next);
    }

    fn carry_out(&mut self, change: &Change, now: Moment, notes: &mut Vec<Note>) {
        match change {
            Change::Liveness { device, now: liveness, why } => self.carry_liveness(device, *liveness, why, now, notes),
            Change::SafeMode { begins, silent, of } => self.carry_safe_mode(begins.as_deref(), silent, *of, notes),
            Change::HalfBack(are_back) => {
                if let Some(safe) = &mut self.safe {
                    safe.back_at = are_back.then_some(now);
                }
            }
            Change::Place { placement, replica, device, revision, stage, reason } => {
                self.carry_place(*placement, replica, device, (*revision, *stage), reason, now);
            }
            Change::Run { placement, .. } => self.carry_run(*placement),
            Change::Drop { placement, why, .. } => self.carry_drop(*placement, why, now),
            Change::Stopped { placement, .. } => self.remove_copy(*placement),
            Change::Pending { replica, why } => self.carry_pending(replica, why.as_ref()),
            Change::Roll { service, step } => self.carry_roll(service, step, now, notes),
            Change::Avoid { service, device, until } => {
                let ix = self.devices.find(device);
                let service = self.services.find(service).and_then(|six| self.services.get_mut(six));
                if let (Some(service), Some(ix)) = (service, ix) {
                    service.avoid.retain(|_, until| *until > now);
                    service.avoid.insert(ix, *until);
                }
            }
        }
    }

    fn carry_liveness(&mut self, name: &DeviceName, liveness: Liveness, why: &str, now: Moment, notes: &mut Vec<Note>) {
        let Some(ix) = self.devices.find(name) else { return };
        self.set_liveness(ix, liveness, why.to_owned());
        let copies = self.devices.get(ix).map_or(0, |device| device.using.want.copies);
        let (kind, with) = match (liveness, copies) {
            (Liveness::Lost, 0) => (NoteKind::DeviceLost, String::new()),
            (Liveness::Lost, 1) => (NoteKind::DeviceLost, " with 1 replica".to_owned()),
            (Liveness::Lost, copies) => (NoteKind::DeviceLost, format!(" with {copies} replicas")),
            _ => (NoteKind::DeviceSuspect, String::new()),
        };
        notes.push(Note::of_device(kind, name, format!("{name} is {liveness}{with}")).because(why));
        if let (Liveness::Lost, Some(safe)) = (liveness, &mut self.safe) {
            safe.silent.insert(ix);
        }
        self.rearm(ix, now);
    }

    fn carry_safe_mode(&mut self, begins: Option<&str>, silent: &[DeviceName], of: u32, notes: &mut Vec<Note>) {
        if let Some(why) = begins {
            let silent = silent.iter().filter_map(|name| self.devices.find(name)).collect();
            self.safe = Some(Safe { why: why.to_owned(), silent, of, back_at: None });
            notes.push(Note::new(NoteKind::SafeModeBegan, "nothing moves").because(why));
            return;
        }
        self.safe = None;
        notes.push(Note::new(NoteKind::SafeModeEnded, "things move again"));
        self.touch_lost();
    }

    /// What was left in place because nothing moved is looked at again.
    pub(crate) fn touch_lost(&mut self) {
        let lost = self.devices.iter().filter(|(_, device)| device.liveness == Liveness::Lost);
        let lost: Vec<DeviceIx> = lost.map(|(ix, _)| ix).collect();
        for ix in lost {
            self.touch_copies(ix);
        }
    }

    fn carry_place(
        &mut self,
        id: PlacementId,
        replica: &ReplicaName,
        device: &DeviceName,
        (revision, stage): (Revision, Stage),
        reason: &Reason,
        now: Moment,
    ) {
        let Some(six) = self.services.find(&replica.service) else { return };
        let Some(ix) = self.devices.find(device) else { return };
        if id >= self.next {
            self.next = id.next();
        }
        let Some(service) = self.services.get(six) else { return };
        let Some(content) = service.contents.get(&revision).cloned() else { return };
        let beside = service.slots.get(&replica.number).into_iter().flat_map(|slot| &slot.copies);
        let same_device = beside.filter_map(|id| self.placements.get(id)).any(|copy| copy.device == ix && copy.counted);
        // Its predecessor makes room for it: because the user wants that order, or because both do not fit.
        let takes_over = stage == Stage::Prepare
            && same_device
            && (service.content.spec.update.order == Order::StopFirst || !self.fits_beside(six, &content, ix));
        let Some(service) = self.services.get_mut(six) else { return };
        if !service.released {
            service.released = true;
            self.unsaved.services.insert(six);
        }
        let copy = Placement {
            service: six,
            number: replica.number,
            device: ix,
            revision,
            content,
            stage,
            counted: false,
            reason: reason.clone(),
            placed_at: now,
            stopped_by: None,
            seen: None,
            seen_at: now,
            unheard: false,
            running_since: None,
            pulled: false,
            pull_moved_at: now - self.deaf,
            usage: None,
            longest_lease: service.lease().unwrap_or_default(),
        };
        if let Cause::Rebalanced(_) = reason.cause {
            self.evening = Some(Evening { service: six, number: replica.number, to: ix });
        }
        self.add_copy(id, copy);
        if !takes_over {
            self.count(id, true);
        }
        self.unsaved.placements.insert(id);
        self.unsaved.assignments.insert(ix);
    }

    /// Devices from which copies that take requests are taken, each with those that send them.
    fn take_leaving(&mut self) -> BTreeMap<DeviceName, BTreeSet<DeviceName>> {
        let name = |ix: DeviceIx| self.devices.get(ix).map(|device| device.name.clone());
        let named = |(ix, viewers): (&DeviceIx, &BTreeSet<DeviceIx>)| {
            Some((name(*ix)?, viewers.iter().filter_map(|ix| name(*ix)).collect()))
        };
        let leaving = self.unsaved.leaving.iter().filter_map(named).collect();
        self.unsaved.leaving.clear();
        leaving
    }

    fn fits_beside(&self, six: ServiceIx, content: &Content, ix: DeviceIx) -> bool {
        let copies = self.services.get(six).and_then(|service| service.on.get(&ix)).copied().unwrap_or(0);
        self.devices.get(ix).is_some_and(|device| filter::fits(device, &device.using, content, copies).is_ok())
    }

    /// A copy comes into being, by a plan or from the store.
    pub(crate) fn add_copy(&mut self, id: PlacementId, copy: Placement) {
        let (six, number, ix) = (copy.service, copy.number, copy.device);
        let leased = self.is_leased(&copy);
        if let Some(service) = self.services.get_mut(six) {
            let slot = service.slots.entry(number).or_default();
            slot.copies.push(id);
            slot.copies.sort_unstable();
        }
        self.touch_mesh(six);
        if let Some(device) = self.devices.get_mut(ix) {
            device.placements.insert(id);
            device.using.want.add(&copy.content);
            device.exclusive += u32::from(leased);
        }
        self.placements.insert(id, copy);
    }

    fn carry_run(&mut self, id: PlacementId) {
        let Some(copy) = self.placements.get_mut(&id) else { return };
        copy.stage = Stage::Run;
        let (six, number, ix) = (copy.service, copy.number, copy.device);
        let leased = self.placements.get(&id).is_some_and(|copy| self.is_leased(copy));
        if let Some(device) = self.devices.get_mut(ix) {
            device.exclusive += u32::from(leased);
        }
        self.count(id, true);
        self.unsaved.placements.insert(id);
        self.unsaved.assignments.insert(ix);
        self.refresh(six, number);
        self.dirty.slots.insert((six, number));
    }

    fn carry_drop(&mut self, id: PlacementId, why: &DropCause, now: Moment) {
        let Some(copy) = self.placements.get_mut(&id) else { return };
        let (six, number, ix, stage) = (copy.service, copy.number, copy.device, copy.stage);
        self.note_leaving(id, now);
        let exclusive = self.services.get(six).is_some_and(Service::is_exclusive);
        if let (DropCause::Failing, Some(service)) = (why, self.services.get_mut(six)) {
            let moved = &mut service.slots.entry(number).or_default().moved_at;
            moved.retain(|at| now.since(*at) < HOUR);
            moved.push(now);
        }
        let sure = matches!(why, DropCause::LeaseOver | DropCause::Forgotten) || stage == Stage::Prepare;
        if exclusive && let Some(device) = self.devices.get_mut(ix) {
            // A device that still holds this copy gets no lease until it says that it holds the next assignment.
            device.lease_from = device.generation.next();
            self.unsaved.devices.insert(ix);
        }
        if exclusive && !sure {
            let by = self.devices.get(ix).map(|device| device.generation.next());
            if let Some(copy) = self.placements.get_mut(&id) {
                copy.stage = Stage::Stop;
                copy.stopped_by = by;
            }
            self.unsaved.placements.insert(id);
        } else {
            self.remove_copy(id);
        }
        self.unsaved.assignments.insert(ix);
        self.refresh(six, number);
        self.dirty.slots.insert((six, number));
    }

    /// A copy is no more.
    pub(crate) fn remove_copy(&mut self, id: PlacementId) {
        self.count(id, false);
        let Some(copy) = self.placements.remove(&id) else { return };
        let leased = self.is_leased(&copy);
        if let Some(device) = self.devices.get_mut(copy.device) {
            device.placements.remove(&id);
            device.using.want.remove(&copy.content);
            device.exclusive = device.exclusive.saturating_sub(u32::from(leased));
        }
        self.unsaved.placements.remove(&id);
        self.unsaved.gone.push(Key::Placement(id));
        self.dirty.slots.insert((copy.service, copy.number));
        if let Some(service) = self.services.get_mut(copy.service)
            && let Some(slot) = service.slots.get_mut(&copy.number)
        {
            slot.copies.retain(|other| *other != id);
        }
        self.refresh(copy.service, copy.number);
        self.tidy_slot(copy.service, copy.number);
    }

    /// A replica that is neither wanted nor has copies is forgotten, and so is a removed service without replicas.
    pub(crate) fn tidy_slot(&mut self, six: ServiceIx, number: u32) {
        let Some(service) = self.services.get_mut(six) else { return };
        let unwanted = service.is_global() || !service.wants(number);
        if unwanted && service.slots.get(&number).is_some_and(|slot| slot.copies.is_empty()) {
            self.set_waiting(six, number, None);
            if let Some(service) = self.services.get_mut(six) {
                service.slots.remove(&number);
            }
        }
        self.tidy_service(six);
    }

    pub(crate) fn tidy_service(&mut self, six: ServiceIx) {
        let Some(service) = self.services.get(six).filter(|service| service.removed && service.slots.is_empty()) else {
            return;
        };
        let name = service.name.clone();
        self.leave_mesh(six);
        self.services.remove(&name);
        self.globals.remove(&six);
        self.waiting.remove(&six);
        self.unsaved.services.remove(&six);
        self.unsaved.gone.push(Key::Service(name));
    }

    fn carry_pending(&mut self, replica: &ReplicaName, why: Option<&Waiting>) {
        let Some(six) = self.services.find(&replica.service) else { return };
        self.set_waiting(six, replica.number, why.cloned());
        self.tidy_slot(six, replica.number);
    }

    fn carry_roll(&mut self, name: &ServiceRef, step: &RollStep, now: Moment, notes: &mut Vec<Note>) {
        let Some(six) = self.services.find(name) else { return };
        let Some(service) = self.services.get_mut(six) else { return };
        let mut tell = |kind, text: String, why: Option<&String>| {
            let note = Note::of_service(kind, name, text);
            notes.push(match why {
                Some(why) => note.because(why),
                None => note,
            });
        };
        match step {
            RollStep::Begin(numbers) => {
                service.roll.batch.extend(numbers.iter().map(|number| (*number, now)));
                let first = numbers.iter().take(MOST_NAMED).map(|number| format!("{name}.{number}"));
                let first = first.collect::<Vec<_>>().join(", ");
                let more = numbers.len().saturating_sub(MOST_NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                tell(NoteKind::RollChanged, format!("changing {first}{more}"), None);
            }
            RollStep::Settled(number) => {
                service.roll.batch.remove(number);
            }
            RollStep::Stuck(stuck) => {
                let before = std::mem::replace(&mut service.roll.stuck, stuck.clone());
                // The values within a reason change with every copy that comes and goes: that it waits is told once.
                if let (true, Some((number, why))) = (before.is_empty(), stuck.first_key_value()) {
                    let text = format!("the change of {name} waits for room");
                    tell(NoteKind::RollChanged, text, Some(&format!("{name}.{number} {why}")));
                }
            }
            RollStep::Pause(why) => {
                service.roll.stuck.clear();
                service.roll.paused = Some(why.clone());
                self.unsaved.services.insert(six);
                tell(NoteKind::RollPaused, format!("the change of {name} stops"), Some(why));
            }
            RollStep::Wait(until) => service.roll.not_before = Some(*until),
            RollStep::Done => {
                service.roll = crate::service::Roll::default();
                let revision = service.revision;
                let copies = service.slots.values().flat_map(|slot| &slot.copies);
                let used: BTreeSet<Revision> =
                    copies.filter_map(|id| self.placements.get(id)).map(|copy| copy.revision).collect();
                service.contents.retain(|known, _| *known == revision || used.contains(known));
                self.unsaved.services.insert(six);
                tell(NoteKind::RollChanged, format!("every copy of {name} is changed"), None);
            }
        }
        self.dirty.rolls.insert(six);
    }
}
