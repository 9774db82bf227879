//! From what is wanted and what is known to a plan. Looks only at what has become dirty; cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{Moment, PlacementId, ReplicaName, ServiceRef};

use crate::filter;
use crate::fleet::{Fleet, Timer};
use crate::plan::{Alarm, Change, Liveness, Plan};
use crate::safe_mode;
use crate::scratch::Scratch;
use crate::service::Service;
use crate::table::{DeviceIx, ServiceIx};

/// What should change now. The same fleet always gives the same plan.
///
/// Where devices have to be judged anew, the plan says only that; the next one, for the same moment, draws the
/// conclusions. [`Fleet::settle`] goes on until nothing is left.
#[must_use]
pub fn reconcile(fleet: &Fleet, now: Moment) -> Plan {
    let (judgements, next) = judge(fleet, now);
    if !judgements.is_empty() {
        let again = Some(now);
        return Plan { at: now, basis: fleet.basis, changes: judgements, alarms: Vec::new(), look_again_at: again };
    }
    let mut planner = Planner::new(fleet, now);
    for (six, numbers) in planner.dirty_services().into_values() {
        let Some(service) = fleet.services.get(six) else { continue };
        planner.service(service, &numbers);
    }
    planner.even_out();
    planner.finish(next)
}

/// A plan in the making.
pub(crate) struct Planner<'a> {
    pub fleet: &'a Fleet,
    pub now: Moment,
    pub scratch: Scratch<'a>,
    pub changes: Vec<Change>,
    /// Devices to which copies with shared volumes come, by volume.
    pub joined: BTreeMap<&'a str, BTreeSet<DeviceIx>>,
    /// A device that counts as lost in this plan, whatever is known of it.
    pub supposed_lost: Option<DeviceIx>,
    alarms: Vec<Alarm>,
    next: PlacementId,
}

/// Devices that are judged anew, safe mode, and when the rest of those that were due is due again.
fn judge(fleet: &Fleet, now: Moment) -> (Vec<Change>, Option<Moment>) {
    let due = fleet.timers.range(..=(now, Timer::Roll(ServiceIx(u32::MAX)))).filter_map(|(_, timer)| match timer {
        Timer::Device(ix) => Some(*ix),
        Timer::Slot(..) | Timer::Roll(_) => None,
    });
    let devices: BTreeSet<DeviceIx> = due.chain(fleet.dirty.devices.iter().copied()).collect();
    let mut turning: Vec<(DeviceIx, Liveness)> = Vec::new();
    let mut changes = Vec::new();
    let mut next: Option<Moment> = None;
    for ix in devices {
        let Some(device) = fleet.devices.get(ix) else { continue };
        let judgement = device.judge(&fleet.policy, now);
        next = next.into_iter().chain(judgement.next).min();
        if judgement.liveness != device.liveness {
            turning.push((ix, judgement.liveness));
            changes.push(Change::Liveness { device: device.name.clone(), now: judgement.liveness, why: judgement.why });
        }
    }
    changes.sort_by(|a, b| liveness_of(a).cmp(&liveness_of(b)));
    let ends_at = fleet.safe.as_ref().and_then(|safe| safe.ends_at(&fleet.policy));
    next = next.into_iter().chain(ends_at.filter(|at| *at > now)).min();
    if !turning.is_empty() || fleet.dirty.safe || ends_at.is_some_and(|at| now >= at) {
        // Safe mode begins before the losses that it is about.
        changes.splice(0..0, safe_mode::judge(fleet, &turning, now));
    }
    (changes, next)
}

fn liveness_of(change: &Change) -> Option<&str> {
    match change {
        Change::Liveness { device, .. } => Some(device.as_str()),
        _ => None,
    }
}

impl<'a> Planner<'a> {
    pub(crate) fn new(fleet: &'a Fleet, now: Moment) -> Self {
        Self {
            fleet,
            now,
            scratch: Scratch::new(fleet),
            changes: Vec::new(),
            joined: BTreeMap::new(),
            supposed_lost: None,
            alarms: Vec::new(),
            next: fleet.next,
        }
    }

    fn finish(mut self, next: Option<Moment>) -> Plan {
        self.alarms.sort();
        self.alarms.dedup();
        let later = (Moment(self.now.0.saturating_add(1)), Timer::Device(DeviceIx(0)));
        let timer = self.fleet.timers.range(later..).next().map(|&(at, _)| at);
        let alarm = self.alarms.first().map(|alarm| alarm.at);
        let look_again_at = next.into_iter().chain(timer).chain(alarm).min();
        Plan { at: self.now, basis: self.fleet.basis, changes: self.changes, alarms: self.alarms, look_again_at }
    }

    /// Services with something to look at, by name, each with its dirty replicas.
    fn dirty_services(&self) -> BTreeMap<ServiceRef, (ServiceIx, BTreeSet<u32>)> {
        let fleet = self.fleet;
        let mut dirty: BTreeMap<ServiceIx, BTreeSet<u32>> = BTreeMap::new();
        for &(six, number) in &fleet.dirty.slots {
            dirty.entry(six).or_default().insert(number);
        }
        for &six in &fleet.dirty.rolls {
            dirty.entry(six).or_default();
        }
        for (_, timer) in fleet.timers.range(..=(self.now, Timer::Roll(ServiceIx(u32::MAX)))) {
            match timer {
                Timer::Slot(six, number) => {
                    dirty.entry(*six).or_default().insert(*number);
                }
                Timer::Roll(six) => {
                    dirty.entry(*six).or_default();
                }
                Timer::Device(_) => (),
            }
        }
        for &ix in &fleet.dirty.room {
            for (six, numbers) in self.who_could_use(ix) {
                dirty.entry(six).or_default().extend(numbers);
            }
        }
        if !fleet.dirty.room.is_empty() {
            for &six in &fleet.globals {
                dirty.entry(six).or_default();
            }
        }
        let named = dirty.into_iter();
        named.filter_map(|(six, numbers)| Some((fleet.services.get(six)?.name.clone(), (six, numbers)))).collect()
    }

    /// Waiting replicas that a device with new room could take.
    fn who_could_use(&self, ix: DeviceIx) -> impl Iterator<Item = (ServiceIx, BTreeSet<u32>)> {
        let fleet = self.fleet;
        fleet.waiting.iter().filter_map(move |(&six, numbers)| {
            let (service, device) = (fleet.services.get(six)?, fleet.devices.get(ix)?);
            filter::open(device).ok()?;
            let content = &service.content;
            filter::suits(device, content, fleet.platforms_of(&content.spec)).ok()?;
            let copies = service.on.get(&ix).copied().unwrap_or(0);
            filter::fits(device, &device.using, content, copies).ok()?;
            Some((six, numbers.clone()))
        })
    }

    /// A number for a new copy.
    pub(crate) fn next_placement(&mut self) -> PlacementId {
        let id = self.next;
        self.next = id.next();
        id
    }

    /// A replica is to be looked at again.
    pub(crate) fn look_again(&mut self, service: &Service, number: Option<u32>, at: Option<Moment>) {
        if let Some(at) = at {
            self.alarms.push(Alarm { at, service: service.name.clone(), number });
        }
    }
}

/// A replica's name.
pub(crate) fn replica(service: &Service, number: u32) -> ReplicaName {
    ReplicaName { service: service.name.clone(), number }
}
