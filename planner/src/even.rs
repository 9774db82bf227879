//! Work is moved back to a device that has stayed for a while: one copy at a time, started there before it stops here,
//! and only where a service is uneven by two copies or more. Nothing else goes on in the meantime.

use outrigger_protocol::LossPolicy;

use crate::fleet::Fleet;
use crate::plan::{Cause, Liveness, Reason};
use crate::policy::Rebalance;
use crate::reconcile::Planner;
use crate::record::Stage;
use crate::search::{self, Avoid};
use crate::service::{Placement, Service};
use crate::table::{DeviceIx, ServiceIx};

/// Copies that a device must have less than another before one is moved.
const UNEVEN: u32 = 2;

/// A move under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evening {
    pub service: ServiceIx,
    pub number: u32,
    pub to: DeviceIx,
}

impl Fleet {
    /// Whether there is leisure to move something that could as well stay.
    pub(crate) fn may_even(&self) -> bool {
        self.policy.rebalance == Rebalance::Gently
            && self.safe.is_none()
            && self.evening.is_none()
            && !self.uneven.is_empty()
    }

    /// Ends the move under way when one copy is left. A device on which that copy failed is not tried again.
    pub(crate) fn end_evening(&mut self) {
        let Some(Evening { service, number, to }) = self.evening else { return };
        let slot = self.services.get(service).and_then(|service| service.slots.get(&number));
        let copies = slot.into_iter().flat_map(|slot| &slot.copies).filter_map(|id| self.placements.get(id));
        let left: Vec<&Placement> = copies.filter(|copy| copy.stage == Stage::Run).collect();
        if left.len() > 1 {
            return;
        }
        if left.first().is_none_or(|copy| copy.device != to) {
            self.uneven.remove(&to);
        }
        self.evening = None;
    }
}

impl<'a> Planner<'a> {
    /// Moves one copy to a device that has too little, if nothing else is to be done.
    pub(crate) fn even_out(&mut self) {
        if !self.changes.is_empty() || !self.fleet.may_even() {
            return;
        }
        let mut devices: Vec<DeviceIx> = self.fleet.uneven.iter().copied().collect();
        devices.sort_by_key(|ix| self.fleet.devices.get(*ix).map(|device| device.rank));
        for to in devices {
            for (_, service) in self.fleet.services.iter() {
                if may_move(service) && self.even_service(service, to) {
                    return;
                }
            }
        }
    }

    fn even_service(&mut self, service: &'a Service, to: DeviceIx) -> bool {
        let here = service.on.get(&to).copied().unwrap_or(0);
        let rank = |ix: DeviceIx| self.fleet.devices.get(ix).map(|device| device.rank);
        let up = |ix: &DeviceIx| self.fleet.devices.get(*ix).is_some_and(|device| device.liveness == Liveness::Up);
        let counts = service.on.iter().filter(|(ix, count)| **count >= here + UNEVEN && up(ix));
        let Some((&from, _)) = counts.max_by_key(|(ix, count)| (**count, rank(**ix))) else { return false };
        self.scratch.turn_to(service);
        let query = self.query(service, &service.content, &[], None, Avoid::Strictly);
        let Some((device, using)) = self.fleet.devices.get(to).zip(self.scratch.using(to)) else { return false };
        if search::refusal(&self.scratch, &query, to, device, using).is_err() {
            return false;
        }
        let Some((source, number)) = self.fleet.devices.get(from).and_then(|source| {
            let copies = source.placements.iter().filter_map(|id| self.fleet.placements.get(id));
            let ours =
                copies.filter(|copy| self.fleet.services.get(copy.service).is_some_and(|s| s.name == service.name));
            Some((source, ours.filter(|copy| self.fleet.is_good(copy)).map(|copy| copy.number).max()?))
        }) else {
            return false;
        };
        let score = search::score(&self.scratch, &query, to);
        let reason = Reason { cause: Cause::Rebalanced(source.name.clone()), score };
        self.scratch.give(&service.content, to);
        self.place(service, number, to, (service.revision, Stage::Run), reason);
        true
    }
}

/// Whether copies of a service may be moved at leisure: they have nothing local, may run twice for a moment, and all is
/// well with them.
fn may_move(service: &Service) -> bool {
    let spec = &service.content.spec;
    !service.removed
        && !service.is_global()
        && !service.roll.active
        && service.content.need.volumes.is_empty()
        && spec.loss == LossPolicy::Available
        && spec.spread.is_empty()
        && service.good == service.wanted()
}
