//! What becomes of one replica: which of its copies stays, which goes, whether it needs another.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{PlacementId, Revision, ServiceRef};

use crate::plan::{Cause, Change, DropCause, Reason, Waiting};
use crate::reconcile::{Planner, replica};
use crate::record::Stage;
use crate::search::{self, Avoid, Query};
use crate::service::{Content, Placement, Service, Slot};
use crate::standing::{self, Failure, Standing};
use crate::table::DeviceIx;

/// Moves of a failing replica are counted within this.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A copy with how it stands.
pub(crate) type Copy<'a> = (PlacementId, &'a Placement, Standing);

impl<'a> Planner<'a> {
    /// Everything of a service that has become dirty.
    pub(crate) fn service(&mut self, service: &'a Service, numbers: &BTreeSet<u32>) {
        self.scratch.turn_to(service);
        let mut fresh = Vec::new();
        for &number in numbers {
            match service.slots.get(&number) {
                Some(slot) if !slot.copies.is_empty() || !service.wants(number) => self.slot(service, number, slot),
                slot if service.wants(number) && !service.is_global() => {
                    if let Some(why) = self.held_back(service) {
                        self.wait(service, number, slot, Some(why));
                    } else {
                        fresh.push(number);
                    }
                }
                Some(_) | None => (),
            }
        }
        self.place_fresh(service, &fresh);
        if service.is_global() && !service.removed {
            self.spread_global(service);
        }
        if service.roll.active {
            self.roll(service);
        }
    }

    /// Replicas without any copy, all at once.
    fn place_fresh(&mut self, service: &'a Service, numbers: &[u32]) {
        let shares = self.fleet.shares(service);
        let (at_home, free): (Vec<u32>, Vec<u32>) =
            numbers.iter().partition(|number| shares || service.home(**number).is_some());
        for number in at_home {
            let slot = service.slots.get(&number);
            self.place_or_wait(service, number, slot, Cause::Wanted, &[], Avoid::IfPossible);
        }
        let query = self.query(service, &service.content, &[], None, Avoid::IfPossible);
        let found = search::best_many(&mut self.scratch, &query, free.len());
        let mut found = found.into_iter();
        let mut nowhere = None;
        for number in free {
            let slot = service.slots.get(&number);
            match found.next() {
                Some((ix, score)) => {
                    self.place(
                        service,
                        number,
                        ix,
                        (service.revision, Stage::Run),
                        Reason { cause: Cause::Wanted, score },
                    );
                    self.wait(service, number, slot, None);
                }
                None => {
                    let why = nowhere.get_or_insert_with(|| self.owners(service).unwrap_or(Waiting::NoDevice));
                    let why = why.clone();
                    self.wait(service, number, slot, Some(why));
                }
            }
        }
    }

    /// One replica that has copies.
    fn slot(&mut self, service: &'a Service, number: u32, slot: &'a Slot) {
        let copies: Vec<(PlacementId, &Placement)> =
            slot.copies.iter().filter_map(|id| Some((*id, self.fleet.placements.get(id)?))).collect();
        let stopping = self.stopping(service, number, &copies);
        if !service.wants(number) {
            for (id, copy) in copies.iter().filter(|(_, copy)| copy.stage != Stage::Stop) {
                self.drop_copy(service, *id, copy, DropCause::NotWanted);
            }
            self.wait(service, number, Some(slot), None);
            return;
        }
        let running = copies.iter().filter(|(_, copy)| copy.stage == Stage::Run);
        // A successor that must leave, or whose device is gone, takes nothing over: its predecessor may have to go on.
        let succeeded = running.clone().filter(|(_, copy)| copy.revision == service.revision).any(|(_, copy)| {
            let (standing, _) = standing::of(self.fleet, service, copy, true, self.now);
            !matches!(standing, Standing::Leaving(_) | Standing::Gone(_))
        });
        let mut again = None;
        let mut stands: Vec<Copy<'_>> = running
            .map(|&(id, copy)| {
                let (standing, at) = standing::of(self.fleet, service, copy, succeeded, self.now);
                again = again.into_iter().chain(at).min();
                (id, copy, standing)
            })
            .collect();
        self.look_again(service, Some(number), again);
        make_way(&mut stands);
        if service.is_global() {
            return self.global_slot(service, number, slot, &copies, &stands);
        }
        if self.keep_good(service, number, slot, &stands) || self.keep_hopeful(service, number, slot, &stands) {
            return;
        }
        self.replace(service, number, slot, &copies, &stands, stopping);
    }

    /// Copies that are to stop and have surely done so; why the others block the replica.
    fn stopping(&mut self, service: &Service, number: u32, copies: &[(PlacementId, &Placement)]) -> Option<Waiting> {
        let mut blocked = None;
        for (id, copy) in copies.iter().filter(|(_, copy)| copy.stage == Stage::Stop) {
            let Some(device) = self.fleet.devices.get(copy.device) else { continue };
            let confirmed = copy.stopped_by.is_some_and(|by| device.told_under >= Some(self.fleet.stamp(by)))
                && copy.seen.as_ref().is_none_or(|seen| standing::is_over(&seen.phase));
            let until = standing::lease_end(self.fleet, service, device, copy);
            match until {
                Some(until) if !confirmed && self.now < until => {
                    blocked = Some(Waiting::Lease(device.name.clone(), until));
                    self.look_again(service, Some(number), Some(until));
                }
                Some(_) | None => {
                    self.scratch.take(&copy.content, copy.device);
                    self.changes.push(Change::Stopped { placement: *id, replica: replica(service, number) });
                }
            }
        }
        blocked
    }

    /// If a copy does its work, the newest such stays and all others go.
    fn keep_good(&mut self, service: &'a Service, number: u32, slot: &'a Slot, stands: &[Copy<'a>]) -> bool {
        let good = stands.iter().rev().find_map(|(id, _, standing)| match standing {
            Standing::Good(why) => Some((*id, why.clone())),
            Standing::Hopeful(_) | Standing::Leaving(_) | Standing::Failing(_) | Standing::Gone(_) => None,
            Standing::Outdated => None,
        });
        let Some((keeper, why)) = good else { return false };
        for (id, copy, standing) in stands.iter().filter(|(id, ..)| *id != keeper) {
            let why = match standing {
                Standing::Leaving(cause @ (Cause::Drained(_) | Cause::Unsuitable(_))) => left(cause),
                Standing::Leaving(_) => DropCause::Superseded(keeper),
                Standing::Good(_) | Standing::Hopeful(_) | Standing::Failing(_) => DropCause::Superseded(keeper),
                Standing::Gone(_) | Standing::Outdated => DropCause::Superseded(keeper),
            };
            self.drop_copy(service, *id, copy, why);
        }
        self.wait(service, number, Some(slot), why);
        true
    }

    /// If a copy may yet do its work, nothing is started; what keeps failing beside it goes.
    fn keep_hopeful(&mut self, service: &'a Service, number: u32, slot: &'a Slot, stands: &[Copy<'a>]) -> bool {
        let hopeful = stands.iter().rev().find_map(|(id, _, standing)| match standing {
            Standing::Hopeful(why) => Some((*id, why.clone())),
            Standing::Good(_) | Standing::Leaving(_) | Standing::Failing(_) | Standing::Gone(_) => None,
            Standing::Outdated => None,
        });
        let Some((keeper, why)) = hopeful else { return false };
        for (id, copy, _) in stands.iter().filter(|(_, _, standing)| matches!(standing, Standing::Failing(_))) {
            self.drop_copy(service, *id, copy, DropCause::Superseded(keeper));
        }
        self.wait(service, number, Some(slot), why);
        true
    }

    /// No copy does its work or may yet: another is needed, if it is allowed.
    fn replace(
        &mut self,
        service: &'a Service,
        number: u32,
        slot: &'a Slot,
        copies: &[(PlacementId, &'a Placement)],
        stands: &[Copy<'a>],
        stopping: Option<Waiting>,
    ) {
        let failing = stands.iter().rev().find_map(|(id, copy, standing)| match standing {
            Standing::Failing(failure) => Some((*id, *copy, failure)),
            _ => None,
        });
        if let Some((_, copy, failure)) = failing
            && let Some(why) = self.stays_failing(service, number, slot, copy, failure)
        {
            return self.wait(service, number, Some(slot), why);
        }
        let wait = stopping.or_else(|| self.held_back(service));
        if let Some(why) = wait {
            return self.wait(service, number, Some(slot), Some(why));
        }
        let leaving = |standing: &Standing| matches!(standing, Standing::Leaving(_) | Standing::Failing(_));
        if service.is_exclusive() && stands.iter().any(|(_, _, standing)| leaving(standing)) {
            return self.leave_first(service, number, slot, stands);
        }
        let placed = if failing.is_none() && self.run_prepared(service, number, copies) {
            self.wait(service, number, Some(slot), None);
            true
        } else {
            let cause = stands.iter().rev().find_map(|(_, copy, standing)| self.cause(copy, standing));
            let barred: Vec<DeviceIx> = copies.iter().map(|(_, copy)| copy.device).collect();
            let avoid = if failing.is_some() { Avoid::Strictly } else { Avoid::IfPossible };
            self.place_or_wait(service, number, Some(slot), cause.unwrap_or(Cause::Wanted), &barred, avoid)
        };
        if !placed {
            return self.keep_one(service, stands);
        }
        for (id, copy, standing) in stands {
            match standing {
                Standing::Failing(failure) => self.drop_failing(service, *id, copy, failure),
                Standing::Gone(_) if service.is_exclusive() => {
                    self.drop_copy(service, *id, copy, DropCause::LeaseOver);
                }
                Standing::Gone(_) | Standing::Leaving(_) | Standing::Outdated => (),
                Standing::Good(_) | Standing::Hopeful(_) => (),
            }
        }
    }

    /// All copies should leave and none can: one of them goes on, the newest that works.
    fn keep_one(&mut self, service: &'a Service, stands: &[Copy<'a>]) {
        let leaving = || stands.iter().rev().filter(|(_, _, standing)| matches!(standing, Standing::Leaving(_)));
        let works = leaving().find(|(_, copy, _)| self.fleet.is_good(copy)).or_else(|| leaving().next());
        let Some(&(keeper, ..)) = works else { return };
        for (id, copy, _) in leaving().filter(|(id, ..)| *id != keeper) {
            self.drop_copy(service, *id, copy, DropCause::Superseded(keeper));
        }
    }

    /// Whether a failing copy is left where it is, and why.
    fn stays_failing(
        &mut self,
        service: &Service,
        number: u32,
        slot: &Slot,
        copy: &Placement,
        failure: &Failure,
    ) -> Option<Option<Waiting>> {
        let why = |text: &str| Some(Some(Waiting::Failing(text.to_owned())));
        if !failure.elsewhere {
            return why(&failure.why);
        }
        // The roll itself judges what it has just changed.
        if service.roll.active && (service.roll.batch.contains_key(&number) || service.roll.paused.is_some()) {
            return Some(None);
        }
        if service.home(number).is_some() {
            let device = self.fleet.devices.get(copy.device)?;
            return Some(Some(Waiting::Volume(device.name.clone())));
        }
        // A refusal costs nothing, so there is no end to it but the devices'.
        if !failure.refused && !self.may_move(service, number) {
            let recent = slot.moved_at.iter().find(|at| self.now.since(**at) < HOUR);
            let again = recent.map(|at| *at + HOUR);
            self.look_again(service, Some(number), again);
            return why("it was moved as often as is allowed within an hour");
        }
        None
    }

    /// Whether a replica may be moved once more within this hour because it fails.
    pub(crate) fn may_move(&self, service: &Service, number: u32) -> bool {
        let moved = service.slots.get(&number).map_or(&[][..], |slot| &slot.moved_at);
        let recent = moved.iter().filter(|at| self.now.since(**at) < HOUR).count();
        recent < self.fleet.policy.moves_per_hour as usize
    }

    /// Starts a copy that was only prepared so far.
    fn run_prepared(&mut self, service: &Service, number: u32, copies: &[(PlacementId, &Placement)]) -> bool {
        let open =
            |copy: &Placement| self.fleet.devices.get(copy.device).is_some_and(|device| device.indexed.is_some());
        let prepared = copies.iter().rev().find(|(_, copy)| {
            copy.stage == Stage::Prepare
                && copy.revision == service.revision
                && open(copy)
                && service.roll.paused.is_none()
        });
        let Some((id, copy)) = prepared.filter(|(_, copy)| self.has_room(service, copy, None)) else { return false };
        if !copy.counted {
            self.scratch.give(&copy.content, copy.device);
        }
        self.changes.push(Change::Run { placement: *id, replica: replica(service, number) });
        true
    }

    /// An exclusive copy must have stopped before it is started elsewhere; it is stopped only if there is an elsewhere.
    fn leave_first(&mut self, service: &'a Service, number: u32, slot: &Slot, stands: &[Copy<'a>]) {
        let barred: Vec<DeviceIx> = stands.iter().map(|(_, copy, _)| copy.device).collect();
        let fails = stands.iter().any(|(_, _, standing)| matches!(standing, Standing::Failing(_)));
        let avoid = if fails { Avoid::Strictly } else { Avoid::IfPossible };
        let together = self.together(service, number, &service.content);
        let query =
            Query { together: together.as_ref(), ..self.query(service, &service.content, &barred, None, avoid) };
        let elsewhere = search::best(&self.scratch, &query).is_some();
        for (id, copy, standing) in stands {
            match standing {
                Standing::Leaving(cause) if elsewhere => self.drop_copy(service, *id, copy, left(cause)),
                Standing::Failing(failure) if elsewhere => self.drop_failing(service, *id, copy, failure),
                Standing::Leaving(_) | Standing::Failing(_) => {
                    if let Some(device) = self.fleet.devices.get(copy.device) {
                        self.wait(service, number, Some(slot), Some(Waiting::NoOther(device.name.clone())));
                    }
                }
                Standing::Good(_) | Standing::Hopeful(_) | Standing::Gone(_) | Standing::Outdated => (),
            }
        }
    }

    /// Why a replica may not be started yet, wherever.
    pub(crate) fn held_back(&self, service: &Service) -> Option<Waiting> {
        if service.released {
            return None;
        }
        let missing = service.content.spec.depends_on.iter().find(|name| {
            let on = ServiceRef { stack: service.name.stack.clone(), service: (*name).clone() };
            self.fleet.services.named(&on).is_some_and(|on| on.good == 0 && !on.removed)
        });
        missing.map(|name| Waiting::Dependency(name.to_string()))
    }

    /// Finds a device for a replica and places it there, or has it wait.
    fn place_or_wait(
        &mut self,
        service: &'a Service,
        number: u32,
        slot: Option<&Slot>,
        cause: Cause,
        barred: &[DeviceIx],
        avoid: Avoid,
    ) -> bool {
        let (revision, content) = self.content_for(service, slot);
        let home = service.home(number);
        if let Some(home) = home
            && self.fleet.devices.find(home).is_none()
        {
            self.wait(service, number, slot, Some(Waiting::Volume(home.clone())));
            return false;
        }
        let together = self.together(service, number, content);
        let only = home.and_then(|home| self.fleet.devices.find(home));
        let query = Query { together: together.as_ref(), ..self.query(service, content, barred, only, avoid) };
        let Some((ix, score)) = search::best(&self.scratch, &query) else {
            let why = self.nowhere(service, home, together.as_ref(), &cause);
            self.wait(service, number, slot, Some(why));
            return false;
        };
        self.scratch.give(content, ix);
        self.place(service, number, ix, (revision, Stage::Run), Reason { cause, score });
        self.wait(service, number, slot, None);
        true
    }

    /// While a roll is paused, what it has not reached yet keeps what it has, also on another device.
    pub(crate) fn content_for(&self, service: &'a Service, slot: Option<&Slot>) -> (Revision, &'a Content) {
        let present = (service.revision, service.content.as_ref());
        if service.roll.paused.is_none() {
            return present;
        }
        let copies = slot.into_iter().flat_map(|slot| &slot.copies);
        let newest = copies.filter_map(|id| self.fleet.placements.get(id)).rfind(|copy| copy.stage == Stage::Run);
        let older = newest.and_then(|copy| Some((copy.revision, service.contents.get(&copy.revision)?.as_ref())));
        older.unwrap_or(present)
    }

    /// What is looked for.
    pub(crate) fn query<'q>(
        &self,
        service: &'q Service,
        content: &'q Content,
        barred: &'q [DeviceIx],
        home: Option<DeviceIx>,
        avoid: Avoid,
    ) -> Query<'q>
    where
        'a: 'q,
    {
        let platforms = self.fleet.platforms_of(&content.spec);
        Query { service, content, platforms, barred, home, together: None, avoid, now: self.now }
    }

    /// The decision that a copy comes to a device; the scratch has been told.
    pub(crate) fn place(
        &mut self,
        service: &'a Service,
        number: u32,
        ix: DeviceIx,
        (revision, stage): (Revision, Stage),
        reason: Reason,
    ) {
        let Some(device) = self.fleet.devices.get(ix) else { return };
        self.join(service, ix);
        let placement = self.next_placement();
        let (replica, device) = (replica(service, number), device.name.clone());
        self.changes.push(Change::Place { placement, replica, device, revision, stage, reason });
    }

    /// The decision that a copy leaves its device.
    pub(crate) fn drop_copy(&mut self, service: &Service, id: PlacementId, copy: &Placement, why: DropCause) {
        let Some(device) = self.fleet.devices.get(copy.device) else { return };
        if copy.counted && !service.is_exclusive() {
            self.scratch.take(&copy.content, copy.device);
        }
        let (replica, device) = (replica(service, copy.number), device.name.clone());
        self.changes.push(Change::Drop { placement: id, replica, device, why });
    }

    pub(crate) fn drop_failing(&mut self, service: &Service, id: PlacementId, copy: &Placement, failure: &Failure) {
        if failure.refused {
            return self.drop_copy(service, id, copy, DropCause::Refused);
        }
        let until = self.now + self.fleet.policy.avoid_for;
        if let Some(device) = self.fleet.devices.get(copy.device) {
            let (service, device) = (service.name.clone(), device.name.clone());
            self.changes.push(Change::Avoid { service, device, until });
        }
        self.drop_copy(service, id, copy, DropCause::Failing);
    }

    /// The replica waits, or no longer; said only if that is new.
    pub(crate) fn wait(&mut self, service: &Service, number: u32, slot: Option<&Slot>, why: Option<Waiting>) {
        if slot.and_then(|slot| slot.waiting.as_ref()) != why.as_ref() {
            self.changes.push(Change::Pending { replica: replica(service, number), why });
        }
    }

    fn cause(&self, copy: &Placement, standing: &Standing) -> Option<Cause> {
        match standing {
            Standing::Leaving(cause) | Standing::Gone(cause) => Some(cause.clone()),
            Standing::Failing(failure) => {
                let name = self.fleet.devices.get(copy.device)?.name.clone();
                Some(if failure.refused { Cause::Refused(name) } else { Cause::Failing(name) })
            }
            Standing::Good(_) | Standing::Hopeful(_) | Standing::Outdated => None,
        }
    }
}

/// A copy that evens things out is let start beside the one whose place it takes.
fn make_way(stands: &mut [Copy<'_>]) {
    let Some(((_, newest, Standing::Hopeful(None)), older)) = stands.split_last_mut() else { return };
    let Cause::Rebalanced(_) = newest.reason.cause else { return };
    for (_, _, standing) in older.iter_mut().filter(|(_, _, standing)| matches!(standing, Standing::Good(_))) {
        *standing = Standing::Leaving(newest.reason.cause.clone());
    }
}

pub(crate) fn left(cause: &Cause) -> DropCause {
    if matches!(cause, Cause::Drained(_)) { DropCause::Drained } else { DropCause::Unsuitable }
}
