//! What would become of a device's copies if it were lost now. Works it out as the real plan would, and changes nothing.

use std::time::Duration;

use outrigger_protocol::{DeviceName, Moment, PlacementId, ReplicaName};

use crate::device::Device;
use crate::fleet::Fleet;
use crate::plan::{Cause, Change, Liveness, Waiting};
use crate::reconcile::{Planner, replica};
use crate::record::Stage;
use crate::safe_mode;
use crate::score::Score;
use crate::search::{self, Avoid, Query};
use crate::service::{Placement, Service};
use crate::standing::{self, Standing};
use crate::table::DeviceIx;

/// Devices that are asked why they cannot take a replica; a large fleet says the same over and over.
const MOST_REFUSALS: usize = 8;

/// What would become of a device's copies if it were lost now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIfLost {
    /// The device.
    pub device: DeviceName,
    /// Silence after which it is lost.
    pub after: Duration,
    /// Why nothing would move at all: with it, too many devices would be silent at once.
    pub safe_mode: Option<String>,
    /// Each replica that has a copy there to run, by name.
    pub replicas: Vec<IfLost>,
}

/// What would become of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfLost {
    /// The replica.
    pub replica: ReplicaName,
    /// What would become of it.
    pub fate: Fate,
}

/// What would become of a replica whose device is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it has ended as it should.
    Done,
    /// A copy on another device does its work already.
    GoesOn(DeviceName),
    /// It is started elsewhere.
    Moves {
        /// Where.
        to: DeviceName,
        /// What speaks for that device; none: a copy is prepared there already.
        score: Option<Score>,
        /// So long after the device was heard last.
        after: Duration,
    },
    /// It waits.
    Waits {
        /// Why.
        why: Waiting,
        /// Why other devices cannot take it, where that is why: the first few of them, by name.
        refusals: Vec<(DeviceName, String)>,
    },
}

impl Fleet {
    /// What would become of a device's copies if it were lost now; none if there is no such device. Changes nothing.
    #[must_use]
    pub fn what_if_lost(&self, name: &DeviceName, now: Moment) -> Option<WhatIfLost> {
        let ix = self.devices.find(name)?;
        let device = self.devices.get(ix)?;
        let turning = [(ix, Liveness::Lost)];
        let judged = safe_mode::judge(self, if device.liveness == Liveness::Lost { &[] } else { &turning }, now);
        let begins = judged.into_iter().find_map(|change| match change {
            Change::SafeMode { begins, .. } => begins,
            _ => None,
        });
        let in_force = self.safe.as_ref().filter(|_| !device.confirmed).map(|safe| safe.why.clone());
        let safe_mode = in_force.or(begins);
        let mut on_it: Vec<(ReplicaName, PlacementId)> = Vec::new();
        for id in &device.placements {
            let Some(copy) = self.placements.get(id).filter(|copy| copy.stage == Stage::Run) else { continue };
            let Some(service) = self.services.get(copy.service).filter(|service| service.wants(copy.number)) else {
                continue;
            };
            on_it.push((replica(service, copy.number), *id));
        }
        // As the plan would: service by service, replica by replica, each seeing what those before it have taken.
        on_it.sort();
        let mut planner = Planner::new(self, now);
        planner.supposed_lost = Some(ix);
        let mut at_hand = None;
        let mut replicas = Vec::with_capacity(on_it.len());
        for (replica, id) in on_it {
            let Some(copy) = self.placements.get(&id) else { continue };
            let Some(service) = self.services.get(copy.service) else { continue };
            if at_hand.replace(copy.service) != Some(copy.service) {
                planner.scratch.turn_to(service);
            }
            let fate = planner.fate(service, (ix, device), (id, copy), safe_mode.is_some());
            replicas.push(IfLost { replica, fate });
        }
        Some(WhatIfLost { device: name.clone(), after: device.lost_after(&self.policy), safe_mode, replicas })
    }
}

impl<'a> Planner<'a> {
    fn fate(
        &mut self,
        service: &'a Service,
        (ix, device): (DeviceIx, &'a Device),
        (id, copy): (PlacementId, &'a Placement),
        safe_mode: bool,
    ) -> Fate {
        let slot = service.slots.get(&copy.number);
        let others: Vec<(PlacementId, &Placement)> = slot
            .into_iter()
            .flat_map(|slot| &slot.copies)
            .filter(|other| **other != id)
            .filter_map(|other| Some((*other, self.fleet.placements.get(other)?)))
            .collect();
        let name = |copy: &Placement| self.fleet.devices.get(copy.device).map(|device| device.name.clone());
        if copy.is_completed() {
            return Fate::Done;
        }
        let works = others.iter().find(|(_, other)| other.device != ix && self.fleet.is_good(other));
        if let Some(on) = works.and_then(|(_, other)| name(other)) {
            return Fate::GoesOn(on);
        }
        let waits = |why| Fate::Waits { why, refusals: Vec::new() };
        if safe_mode {
            return waits(Waiting::SafeMode);
        }
        let (standing, until) = standing::lost(self.fleet, service, device, copy, self.now);
        match standing {
            Standing::Hopeful(Some(Waiting::Lease(..))) | Standing::Gone(_) => (),
            Standing::Hopeful(Some(why)) => return waits(why),
            Standing::Hopeful(None) | Standing::Good(_) | Standing::Leaving(_) => return Fate::Done,
            Standing::Failing(_) | Standing::Outdated => return Fate::Done,
        }
        let limit = service.content.spec.lost_after.unwrap_or_else(|| device.lost_after(&self.fleet.policy));
        let after = until.map_or(limit, |until| limit.max(until.since(device.heard_at)));
        let prepared = others.iter().find(|(_, other)| {
            let open = self.fleet.devices.get(other.device).is_some_and(|device| device.indexed.is_some());
            let present = other.stage == Stage::Prepare && other.revision == service.revision;
            other.device != ix && open && present && service.roll.paused.is_none()
        });
        if let Some(to) = prepared.and_then(|(_, other)| name(other)) {
            return Fate::Moves { to, score: None, after };
        }
        let barred: Vec<DeviceIx> = others.iter().map(|(_, other)| other.device).chain([ix]).collect();
        let (_, content) = self.content_for(service, slot);
        let together = self.together(service, copy.number, content);
        let query = self.query(service, content, &barred, None, Avoid::IfPossible);
        let query = Query { together: together.as_ref(), ..query };
        let Some((to, score)) = search::best(&self.scratch, &query) else {
            let devices = self.fleet.devices.iter().filter(|(other, _)| *other != ix).take(MOST_REFUSALS);
            let refusals = devices.filter_map(|(other, device)| {
                let refused = search::refusal(&self.scratch, &query, other, device, self.scratch.using(other)?);
                refused.err().map(|refused| (device.name.clone(), refused.to_string()))
            });
            let refusals = refusals.collect();
            let why = self.nowhere(service, None, together.as_ref(), &Cause::Lost(device.name.clone()));
            return Fate::Waits { why, refusals };
        };
        self.join(service, to);
        self.scratch.give(content, to);
        let to = self.fleet.devices.get(to).map(|device| device.name.clone());
        to.map_or(Fate::Done, |to| Fate::Moves { to, score: Some(score), after })
    }
}
