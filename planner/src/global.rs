//! Services that run once on every suitable device.

use std::collections::BTreeSet;

use outrigger_protocol::PlacementId;

use crate::plan::{Cause, DropCause, Reason};
use crate::reconcile::Planner;
use crate::record::Stage;
use crate::search::{self, Avoid};
use crate::service::{Placement, Service, Slot};
use crate::slot::{Copy, left};
use crate::standing::Standing;
use crate::table::DeviceIx;

impl<'a> Planner<'a> {
    /// One copy on every device that the filters allow.
    pub(crate) fn spread_global(&mut self, service: &'a Service) {
        if self.held_back(service).is_some() {
            return;
        }
        let mut taken: BTreeSet<u32> = service.slots.keys().copied().collect();
        let mut rooms: Vec<DeviceIx> = self.fleet.dirty.room.iter().copied().collect();
        if service.slots.is_empty() || !service.released {
            rooms = self.fleet.devices.iter().map(|(ix, _)| ix).collect();
        }
        rooms.sort_by_key(|ix| self.fleet.devices.get(*ix).map(|device| device.rank));
        for ix in rooms {
            if service.on.contains_key(&ix) {
                continue;
            }
            let query = self.query(service, &service.content, &[], None, Avoid::IfPossible);
            let Some((device, using)) = self.fleet.devices.get(ix).zip(self.scratch.using(ix)) else { continue };
            if search::refusal(&self.scratch, &query, ix, device, using).is_err() {
                continue;
            }
            let score = search::score(&self.scratch, &query, ix);
            let number = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
            taken.insert(number);
            self.scratch.give(&service.content, ix);
            self.place(service, number, ix, (service.revision, Stage::Run), Reason { cause: Cause::Wanted, score });
        }
    }

    /// One replica: it stays on its device or goes, and never moves.
    pub(crate) fn global_slot(
        &mut self,
        service: &'a Service,
        number: u32,
        slot: &'a Slot,
        copies: &[(PlacementId, &'a Placement)],
        stands: &[Copy<'a>],
    ) {
        let good = stands.iter().rev().find(|(_, _, standing)| matches!(standing, Standing::Good(_)));
        let mut waiting = None;
        for (id, copy, standing) in stands {
            match standing {
                _ if self.is_second(service, copy) => self.drop_copy(service, *id, copy, DropCause::NotWanted),
                // Both have the present content: it was changed and changed back.
                Standing::Good(_) | Standing::Hopeful(_) if good.is_some_and(|(newest, ..)| newest > id) => {
                    if let Some((by, ..)) = good {
                        self.drop_copy(service, *id, copy, DropCause::Superseded(*by));
                    }
                }
                // What its owner does not allow is as unsuitable as what its labels say; it stays known with the service.
                Standing::Failing(failure) if failure.refused && !service.roll.active => {
                    self.drop_copy(service, *id, copy, DropCause::Refused);
                }
                Standing::Leaving(cause) => self.drop_copy(service, *id, copy, left(cause)),
                Standing::Outdated => {
                    if let Some((by, ..)) = good {
                        self.drop_copy(service, *id, copy, DropCause::Superseded(*by));
                    }
                }
                Standing::Good(why) | Standing::Hopeful(why) => waiting = why.clone().or(waiting),
                Standing::Failing(_) | Standing::Gone(_) => (),
            }
        }
        // A successor whose predecessor has left the device has nothing to succeed.
        if stands.is_empty() && !service.roll.batch.contains_key(&number) {
            for (id, copy) in copies.iter().filter(|(_, copy)| copy.stage == Stage::Prepare) {
                self.drop_copy(service, *id, copy, DropCause::NotWanted);
            }
        }
        self.wait(service, number, Some(slot), waiting);
    }

    /// Whether a replica with a smaller number runs on the same device, as can be after a change from a number of copies
    /// to one everywhere.
    fn is_second(&self, service: &Service, copy: &Placement) -> bool {
        if service.on.get(&copy.device).is_none_or(|on| *on < 2) {
            return false;
        }
        let Some(device) = self.fleet.devices.get(copy.device) else { return false };
        let others = device.placements.iter().filter_map(|id| self.fleet.placements.get(id));
        others
            .filter(|other| other.service == copy.service && other.stage == Stage::Run)
            .any(|o| o.number < copy.number)
    }
}
