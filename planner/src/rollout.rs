//! A changed service is rolled: pulled everywhere before anything stops, then changed in batches, each healthy before the
//! next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_protocol::{LossPolicy, Moment, Order, Phase, PlacementId, UpdateFailure};

use crate::device::Device;
use crate::filter::{self, Refused};
use crate::note::span;
use crate::plan::{Cause, Change, DropCause, Liveness, Reason, RollStep, Waiting};
use crate::reconcile::{Planner, replica};
use crate::record::Stage;
use crate::search::{self, Avoid, Query};
use crate::service::{Placement, Service};
use crate::standing;
use crate::volumes::Together;
use crate::wish::Availability;

/// Room for a successor that fits nowhere is looked for so often: its old copy goes on, and nothing else calls for haste.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(10);

type Copy<'a> = (PlacementId, &'a Placement);

/// The copies of a replica, by what they are to a roll; the newest of each sort.
#[derive(Default, Clone, Copy)]
struct Sorted<'a> {
    old: Option<Copy<'a>>,
    prepared: Option<Copy<'a>>,
    new: Option<Copy<'a>>,
    stopping: bool,
}

/// How a changed copy does.
enum Verdict {
    /// It has been healthy for long enough.
    Settled,
    /// It may become so until then; none: an event will tell.
    Open(Option<Moment>),
    Failed(String),
}

impl<'a> Planner<'a> {
    /// The next steps of a service's roll.
    pub(crate) fn roll(&mut self, service: &'a Service) {
        if service.removed {
            return;
        }
        let touched: BTreeSet<u32> = self.changes.iter().filter_map(|change| number_of(change, service)).collect();
        let slots: BTreeMap<u32, Sorted<'a>> = service
            .slots
            .keys()
            .filter(|number| service.wants(**number))
            .map(|&n| (n, self.sort(service, n)))
            .collect();
        self.drop_stale(service, &slots);
        self.drop_hanging(service, &slots);
        if self.drop_refused(service, &slots) {
            return;
        }
        let (batch, failed) = self.judge_batch(service, &slots, &touched);
        if service.roll.paused.is_some() || failed {
            return;
        }
        let behind: Vec<(u32, Sorted<'a>)> =
            slots.iter().filter(|(_, s)| s.old.is_some() && s.new.is_none()).map(|(n, s)| (*n, *s)).collect();
        let prepared = self.prepare(service, &behind, &touched);
        if !batch {
            return;
        }
        if behind.is_empty() {
            if slots.values().all(|s| s.old.is_none()) {
                self.step(service, RollStep::Done);
            }
            return;
        }
        if prepared {
            self.begin(service, &slots, &behind, &touched);
        }
    }

    fn sort(&self, service: &Service, number: u32) -> Sorted<'a> {
        let mut sorted = Sorted::default();
        let Some(slot) = service.slots.get(&number) else { return sorted };
        for id in &slot.copies {
            let Some(copy) = self.fleet.placements.get(id) else { continue };
            let present = copy.revision == service.revision;
            match copy.stage {
                Stage::Run if present => sorted.new = Some((*id, copy)),
                Stage::Run => sorted.old = Some((*id, copy)),
                Stage::Prepare => sorted.prepared = Some((*id, copy)),
                Stage::Stop => sorted.stopping = true,
            }
        }
        sorted
    }

    /// Prepared copies that nobody will start: of another content, beside a new one, or on a device that is gone.
    fn drop_stale(&mut self, service: &'a Service, slots: &BTreeMap<u32, Sorted<'a>>) {
        for sorted in slots.values() {
            let Some((id, copy)) = sorted.prepared else { continue };
            let open = self.fleet.devices.get(copy.device).is_some_and(|device| device.indexed.is_some());
            let gone =
                !open && self.fleet.safe.is_none() && sorted.old.is_some_and(|(_, old)| old.device != copy.device);
            if copy.revision != service.revision || sorted.new.is_some() || gone {
                self.drop_copy(service, id, copy, DropCause::Changed);
            }
        }
    }

    /// Successors whose pull hangs, where another device could take them.
    fn drop_hanging(&mut self, service: &'a Service, slots: &BTreeMap<u32, Sorted<'a>>) {
        for (number, sorted) in slots {
            let (Some((id, copy)), Some((_, old))) = (sorted.prepared, sorted.old) else { continue };
            let Some(device) = self.fleet.devices.get(copy.device) else { continue };
            let Some((at, failure)) = standing::stall(self.fleet, device, copy) else { continue };
            if self.now < at {
                self.look_again(service, None, Some(at));
                continue;
            }
            let stale = copy.revision != service.revision || sorted.new.is_some();
            let pinned = self.is_pinned(service) || service.home(*number).is_some();
            let barred = [old.device, copy.device];
            let query = self.query(service, &service.content, &barred, None, Avoid::Strictly);
            if !stale && !pinned && search::best(&self.scratch, &query).is_some() && self.may_move(service, *number) {
                self.drop_failing(service, id, copy, &failure);
            }
        }
    }

    /// Successors that the owner of their device does not allow are prepared elsewhere. Where no device is left, the roll
    /// stops, since nothing that the fleet could do would let it go on; says whether it does so.
    fn drop_refused(&mut self, service: &'a Service, slots: &BTreeMap<u32, Sorted<'a>>) -> bool {
        if service.refused.is_empty() || service.roll.paused.is_some() {
            return false;
        }
        for (number, sorted) in slots {
            let (Some((id, copy)), Some((_, old))) = (sorted.prepared, sorted.old) else { continue };
            let Some(why) = service.refusal_of(copy.device, &copy.content) else { continue };
            let barred = [old.device, copy.device];
            let query = self.query(service, &service.content, &barred, None, Avoid::IfPossible);
            let pinned = self.is_pinned(service) || service.home(*number).is_some();
            if !pinned && search::best(&self.scratch, &query).is_some() {
                self.drop_copy(service, id, copy, DropCause::Refused);
                continue;
            }
            let device = self.fleet.devices.get(copy.device).map(|device| device.name.to_string()).unwrap_or_default();
            let told = self.owners(service).map_or_else(|| format!("{device}: {why}"), |why| why.to_string());
            self.step(service, RollStep::Pause(format!("{}: {told}", replica(service, *number))));
            return true;
        }
        false
    }

    /// Looks at what has been changed so far. Says whether the batch is through, and whether the roll stops.
    fn judge_batch(
        &mut self,
        service: &'a Service,
        slots: &BTreeMap<u32, Sorted<'a>>,
        touched: &BTreeSet<u32>,
    ) -> (bool, bool) {
        let mut open = 0;
        let mut failed = None;
        for (&number, &since) in &service.roll.batch {
            let Some(sorted) = slots.get(&number) else {
                self.step(service, RollStep::Settled(number));
                continue;
            };
            if sorted.new.is_none() && sorted.old.is_some() && !touched.contains(&number) {
                // Its successor was taken back, as when the device was lost: the old copy goes on and is changed anew.
                self.step(service, RollStep::Settled(number));
                continue;
            }
            let verdict = match (sorted.new, sorted.prepared) {
                (Some((_, copy)), _) => self.verdict(service, copy, since),
                (None, Some((id, copy))) if sorted.old.is_none() && !sorted.stopping && !touched.contains(&number) => {
                    if self.has_room(service, copy, None) {
                        self.start(service, number, id, copy);
                    } else {
                        self.drop_copy(service, id, copy, DropCause::Changed);
                    }
                    Verdict::Open(None)
                }
                (None, _) => Verdict::Open(None),
            };
            match verdict {
                Verdict::Settled => self.step(service, RollStep::Settled(number)),
                Verdict::Open(again) => {
                    open += 1;
                    self.look_again(service, None, again);
                }
                Verdict::Failed(_) if service.content.spec.update.failure == UpdateFailure::Continue => {
                    self.step(service, RollStep::Settled(number));
                }
                Verdict::Failed(why) => {
                    open += 1;
                    failed = failed.or(Some(format!("{}: {why}", replica(service, number))));
                }
            }
        }
        if let (Some(why), None) = (&failed, &service.roll.paused) {
            self.step(service, RollStep::Pause(why.clone()));
        }
        let through = open == 0;
        let delay = service.content.spec.update.delay;
        if through && !service.roll.batch.is_empty() && !delay.is_zero() {
            self.step(service, RollStep::Wait(self.now + delay));
            self.look_again(service, None, Some(self.now + delay));
            return (false, failed.is_some());
        }
        let wait = service.roll.not_before.filter(|at| *at > self.now);
        self.look_again(service, None, wait);
        (through && wait.is_none(), failed.is_some())
    }

    fn verdict(&self, service: &Service, copy: &Placement, since: Moment) -> Verdict {
        if self.fleet.is_good(copy) {
            let from = copy.running_since.unwrap_or(self.now).max(since);
            let until = from + service.content.spec.update.monitor;
            return if copy.is_completed() || self.now >= until {
                Verdict::Settled
            } else {
                Verdict::Open(Some(until))
            };
        }
        let seen = copy.seen.as_ref();
        match seen.map(|seen| &seen.phase) {
            Some(Phase::Failed { reason } | Phase::Refused { reason }) => return Verdict::Failed(reason.clone()),
            Some(Phase::BackOff { reason, .. }) if copy.pulled => return Verdict::Failed(reason.clone()),
            Some(Phase::Unhealthy) => return Verdict::Failed("its healthcheck fails".to_owned()),
            Some(Phase::BackOff { .. } | Phase::Waiting | Phase::Pulling { .. } | Phase::Prepared) | None => (),
            Some(Phase::Starting | Phase::Running | Phase::Completed | Phase::Stopping | Phase::LeaseOver) => (),
        }
        let believed = self.fleet.devices.get(copy.device).is_some_and(Device::is_believed);
        if !copy.pulled || !believed {
            return Verdict::Open(None);
        }
        let deadline = since.max(copy.placed_at) + self.fleet.policy.start_deadline;
        if self.now >= deadline {
            let limit = span(self.fleet.policy.start_deadline);
            return Verdict::Failed(format!("it did not become healthy within {limit}"));
        }
        Verdict::Open(Some(deadline))
    }

    /// Has the image pulled where the successors will run. Says whether all of it is there.
    fn prepare(&mut self, service: &'a Service, behind: &[(u32, Sorted<'a>)], touched: &BTreeSet<u32>) -> bool {
        let mut all = true;
        let mut stuck = BTreeMap::new();
        for (number, sorted) in behind {
            if touched.contains(number) {
                all = false;
                stuck.extend(service.roll.stuck.get(number).map(|why| (*number, why.clone())));
                continue;
            }
            match (sorted.prepared, sorted.old) {
                (Some((_, copy)), _) if copy.revision == service.revision => {
                    let up = self.fleet.devices.get(copy.device).is_some_and(Device::is_open);
                    all &= copy.pulled || !up;
                }
                (_, Some((_, old))) => {
                    // One that fits nowhere does not hold up the others.
                    if self.prepare_one(service, *number, old) {
                        all = false;
                    } else {
                        stuck.insert(*number, self.why_stuck(service, *number, old));
                        self.look_again(service, None, Some(self.now + LOOK_FOR_ROOM));
                    }
                }
                (_, None) => (),
            }
        }
        if stuck != service.roll.stuck {
            self.step(service, RollStep::Stuck(stuck));
        }
        all
    }

    /// Why a successor fits nowhere: what its predecessor's device lacks, and why others are not taken.
    fn why_stuck(&self, service: &'a Service, number: u32, old: &'a Placement) -> Waiting {
        let Some(device) = self.fleet.devices.get(old.device) else { return Waiting::NoDevice };
        let stop_first = service.content.spec.update.order == Order::StopFirst;
        let here = match self.takes_successor(service, old, stop_first) {
            Err(refused) => format!("on {}, {refused}", device.name),
            Ok(()) => format!("{} is avoided for a while", device.name),
        };
        let elsewhere = match service.home(number) {
            Some(home) => format!("its local volume is on {home}"),
            None if self.is_pinned(service) => "it stays on its device, as its policy says".to_owned(),
            None => "no other device can take the new one".to_owned(),
        };
        Waiting::Change(format!("{here}, and {elsewhere}"))
    }

    fn prepare_one(&mut self, service: &'a Service, number: u32, old: &'a Placement) -> bool {
        let cause = Cause::Changed;
        let stop_first = service.content.spec.update.order == Order::StopFirst;
        let query = self.query(service, &service.content, &[], None, Avoid::IfPossible);
        if self.stays_there(service, old, stop_first) && !self.is_shunned(service, old) {
            let score = search::score(&self.scratch, &query, old.device);
            // Stopped first, the old copy makes room for the new one, which is not counted twice meanwhile.
            if stop_first {
                self.scratch.assign(&service.content, old.device);
            } else {
                self.scratch.give(&service.content, old.device);
            }
            self.place(service, number, old.device, (service.revision, Stage::Prepare), Reason { cause, score });
            return true;
        }
        let home = service.home(number);
        let only = home.and_then(|home| self.fleet.devices.find(home));
        let barred = [old.device];
        let together = self.together(service, number, &service.content);
        let query = self.query(service, &service.content, &barred, only, Avoid::IfPossible);
        let query = Query { together: together.as_ref(), ..query };
        let found = if is_tied(service) || home.is_some() && (only.is_none() || only == Some(old.device)) {
            None
        } else {
            search::best(&self.scratch, &query)
        };
        let Some((ix, score)) = found else {
            // Where both cannot be at once and no other device will do, the old copy has to stop first after all.
            if stop_first || !self.stays_there(service, old, true) {
                return false;
            }
            let score = search::score(&self.scratch, &query, old.device);
            self.scratch.assign(&service.content, old.device);
            self.place(service, number, old.device, (service.revision, Stage::Prepare), Reason { cause, score });
            return true;
        };
        self.scratch.give(&service.content, ix);
        self.place(service, number, ix, (service.revision, Stage::Prepare), Reason { cause, score });
        true
    }

    /// Whether the device of a copy is avoided, as after a pull that hung there, and another would take its successor.
    fn is_shunned(&self, service: &'a Service, old: &Placement) -> bool {
        let barred = [old.device];
        let query = self.query(service, &service.content, &barred, None, Avoid::Strictly);
        service.avoid.get(&old.device).is_some_and(|until| *until > self.now)
            && !self.is_pinned(service)
            && service.home(old.number).is_none()
            && search::best(&self.scratch, &query).is_some()
    }

    /// Whether the successor of a copy can have the same device.
    fn stays_there(&self, service: &'a Service, old: &Placement, stop_first: bool) -> bool {
        self.takes_successor(service, old, stop_first).is_ok()
    }

    fn takes_successor(&self, service: &'a Service, old: &Placement, stop_first: bool) -> Result<(), Refused<'a>> {
        let (device, using) =
            self.fleet.devices.get(old.device).zip(self.scratch.using(old.device)).ok_or(Refused::NoFacts)?;
        stays_open(device)?;
        let content = service.content.as_ref();
        filter::suits(device, content, self.fleet.platforms_of(&content.spec))?;
        if let Some(why) = service.refusal_of(old.device, content) {
            return Err(Refused::Owner(why));
        }
        filter::carries(using, content)?;
        if let Some((devices, volume)) = self.together(service, old.number, content).and_then(Together::into_only)
            && !devices.contains(&old.device)
        {
            return Err(Refused::Volume { volume, on: self.first_of(&devices) });
        }
        let copies = self.scratch.copies(service, old.device);
        if stop_first && old.counted {
            let without = self.scratch.without(old.device, &old.content.need).ok_or(Refused::NoFacts)?;
            return filter::fits(device, &without, content, copies.saturating_sub(1));
        }
        filter::fits(device, using, content, copies)
    }

    /// The next batch: those that do not run anyway, then as many as may be missing at once, by number.
    fn begin(
        &mut self,
        service: &'a Service,
        slots: &BTreeMap<u32, Sorted<'a>>,
        behind: &[(u32, Sorted<'a>)],
        touched: &BTreeSet<u32>,
    ) {
        let update = &service.content.spec.update;
        let most = if update.parallelism == 0 { usize::MAX } else { update.parallelism as usize };
        // What is not there for other reasons counts against what the roll itself may take away.
        let missing = slots.values().filter(|s| s.new.is_some_and(|(_, new)| self.is_on_its_way(new))).count();
        let may = if update.order == Order::StopFirst { most.saturating_sub(missing) } else { most };
        let ready =
            |s: &Sorted<'_>| s.prepared.is_some_and(|(_, copy)| copy.revision == service.revision && copy.pulled);
        let works = |s: &Sorted<'_>| s.old.is_some_and(|(_, old)| self.fleet.is_good(old));
        let candidates = || behind.iter().filter(|(n, s)| ready(s) && !touched.contains(n));
        let idle = candidates().filter(|(_, s)| !works(s)).take(most);
        let mut batch: Vec<(u32, Sorted<'a>)> = idle.copied().collect();
        let room = may.saturating_sub(batch.len());
        batch.extend(candidates().filter(|(_, s)| works(s)).take(room).copied());
        if batch.is_empty() {
            return;
        }
        self.step(service, RollStep::Begin(batch.iter().map(|(number, _)| *number).collect()));
        for (number, sorted) in batch {
            let (Some((id, copy)), Some((old_id, old))) = (sorted.prepared, sorted.old) else { continue };
            if !self.has_room(service, copy, Some(old)) {
                // Others have taken what it needs beyond its predecessor's share: it is prepared anew, where there is room.
                self.drop_copy(service, id, copy, DropCause::Changed);
                self.step(service, RollStep::Settled(number));
                continue;
            }
            if update.order == Order::StopFirst || service.is_exclusive() || !copy.counted {
                self.drop_copy(service, old_id, old, DropCause::Changed);
                // What must never run twice is started elsewhere only when it has surely stopped here.
                if service.is_exclusive() && old.device != copy.device {
                    continue;
                }
            }
            self.start(service, number, id, copy);
        }
    }

    /// Whether a prepared copy, which may not be counted yet, has room where it is, once its predecessor there has gone.
    pub(crate) fn has_room(&self, service: &Service, copy: &Placement, old: Option<&Placement>) -> bool {
        if copy.counted {
            return true;
        }
        let Some((device, using)) = self.fleet.devices.get(copy.device).zip(self.scratch.using(copy.device)) else {
            return false;
        };
        let copies = self.scratch.copies(service, copy.device);
        let before = old.filter(|old| old.device == copy.device && old.counted);
        match before.and_then(|old| self.scratch.without(copy.device, &old.content.need)) {
            Some(using) => filter::fits(device, &using, &copy.content, copies.saturating_sub(1)).is_ok(),
            None => filter::fits(device, using, &copy.content, copies).is_ok(),
        }
    }

    fn start(&mut self, service: &'a Service, number: u32, id: PlacementId, copy: &'a Placement) {
        if !copy.counted {
            self.scratch.give(&copy.content, copy.device);
        }
        self.changes.push(Change::Run { placement: id, replica: replica(service, number) });
    }

    fn is_on_its_way(&self, copy: &Placement) -> bool {
        let up = self.fleet.devices.get(copy.device).is_some_and(Device::is_believed);
        up && !self.fleet.is_good(copy)
    }

    /// Whether a roll leaves copies where they are, whatever happens there: they are tied to their devices, or to others
    /// that have the same volume.
    fn is_pinned(&self, service: &Service) -> bool {
        is_tied(service) || self.fleet.shares(service)
    }

    fn step(&mut self, service: &Service, step: RollStep) {
        self.changes.push(Change::Roll { service: service.name.clone(), step });
    }
}

/// Whether the copies of a service have only one device each that will do, by its mode or policy.
fn is_tied(service: &Service) -> bool {
    service.is_global() || service.content.spec.loss == LossPolicy::Wait
}

/// Whether a device may be given the successor of what it has: a cordoned one keeps what it has, and changes it too.
fn stays_open(device: &Device) -> Result<(), Refused<'_>> {
    if device.liveness != Liveness::Up {
        return Err(Refused::Liveness(device.liveness, &device.why));
    }
    if device.availability == Availability::Drain {
        return Err(Refused::Availability(device.availability));
    }
    match (&device.engine, device.engine_away_at) {
        (Some(state), Some(_)) => Err(Refused::Engine(state)),
        (None, Some(_)) => Err(Refused::NoEngine),
        (_, None) => Ok(()),
    }
}

/// Replicas about which this plan has already decided something wait for the next one.
fn number_of(change: &Change, service: &Service) -> Option<u32> {
    let replica = match change {
        Change::Place { replica, .. } | Change::Run { replica, .. } | Change::Drop { replica, .. } => replica,
        Change::Stopped { replica, .. } => replica,
        Change::Liveness { .. } | Change::SafeMode { .. } | Change::HalfBack(_) | Change::Pending { .. } => {
            return None;
        }
        Change::Roll { .. } | Change::Avoid { .. } => return None,
    };
    (replica.service == service.name).then_some(replica.number)
}
