//! A device as the hub knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_protocol::{
    BootId, ByeReason, DeviceKind, DeviceName, EngineState, Facts, Generation, Load, Moment, PlacementId,
    SessionNumber, Stamp,
};

use crate::foreign::{self, Foreign};
use crate::index::{Entry, Shape};
use crate::liveness::Gaps;
use crate::load::Smooth;
use crate::need::{GPU, Use};
use crate::plan::Liveness;
use crate::record::DeviceRecord;
use crate::wish::Availability;

/// Boots that a device is known to have left.
const RETIRED: usize = 8;

/// A device as the hub knows it.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub name: DeviceName,
    /// Place in the order of names, with gaps; compared instead of the name because that is fast.
    pub rank: u64,
    pub labels: BTreeMap<String, String>,
    pub availability: Availability,
    pub generation: Generation,
    pub lease_from: Generation,
    pub machine: u128,
    pub facts: Option<Facts>,
    /// It belongs to another fleet.
    pub foreign: Option<Foreign>,

    pub liveness: Liveness,
    pub why: String,
    /// When it was heard last; of one not heard since the hub's start: that start.
    pub heard_at: Moment,
    /// Since when the hub can hear again after connections may have broken on its side; none: it was heard since.
    pub deaf_until: Option<Moment>,
    pub hints: Hints,
    pub gaps: Gaps,
    pub heartbeat: Duration,
    pub session: Option<(BootId, SessionNumber)>,
    pub retired: Vec<BootId>,
    pub asked_at: Option<Moment>,
    /// When it came back from being lost.
    pub returned_at: Option<Moment>,
    /// Since when it has been there, until it has stayed for a while.
    pub came_at: Option<Moment>,
    /// The operator says that it is off.
    pub confirmed: bool,

    pub engine: Option<EngineState>,
    pub engine_away_at: Option<Moment>,
    pub held: Option<Stamp>,
    /// That it holds an assignment of a later hub has been told on this connection.
    pub is_refusal_told: bool,
    /// Number of the newest status of this connection that has come; 0: none has.
    pub heard_status: u32,
    /// Reports in a row that told of a newer status than any that has come.
    pub missed: u32,
    /// That it tells of more than is kept has been told on this connection.
    pub is_excess_told: bool,
    /// The assignment by which its last status tells what its engine runs; none: no status of this connection has.
    pub told_under: Option<Stamp>,
    pub bumped_at: Moment,
    pub lease_at: Option<Moment>,
    pub load: Option<Load>,
    pub smooth: Smooth,
    pub images: BTreeSet<String>,

    pub placements: BTreeSet<PlacementId>,
    /// Copies that are exclusive and may run.
    pub exclusive: u32,
    pub using: Use,
    pub indexed: Option<(Shape, Entry)>,
    /// When it is to be judged next.
    pub timer: Option<Moment>,
}

/// What was said about its going away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Its connection broke then.
    pub will_at: Option<Moment>,
    /// It said goodbye then.
    pub bye: Option<(ByeReason, Moment)>,
}

impl Device {
    pub(crate) fn new(name: DeviceName, rank: u64, record: DeviceRecord, now: Moment) -> Self {
        Self {
            name,
            rank,
            labels: record.labels,
            availability: record.availability,
            generation: record.generation,
            lease_from: record.lease_from,
            machine: record.machine,
            facts: record.facts,
            foreign: record.foreign.map(|fleet| Foreign { fleet, session: None }),
            liveness: if record.lost { Liveness::Lost } else { Liveness::Unheard },
            why: match record.foreign {
                Some(fleet) => foreign::why(fleet),
                None if record.lost => "it was lost when the hub started".into(),
                None => "not heard since the hub started".into(),
            },
            heard_at: now,
            deaf_until: None,
            hints: Hints::default(),
            gaps: Gaps::default(),
            heartbeat: Duration::ZERO,
            session: None,
            retired: Vec::new(),
            asked_at: None,
            returned_at: None,
            came_at: None,
            confirmed: false,
            engine: None,
            engine_away_at: None,
            held: None,
            is_refusal_told: false,
            heard_status: 0,
            missed: 0,
            is_excess_told: false,
            told_under: None,
            bumped_at: now,
            // A hub that has just started does not know what leases it gave: as late as possible is safe.
            lease_at: Some(now),
            load: None,
            smooth: Smooth::default(),
            images: BTreeSet::new(),
            placements: BTreeSet::new(),
            exclusive: 0,
            using: Use::default(),
            indexed: None,
            timer: None,
        }
    }

    pub(crate) fn record(&self) -> DeviceRecord {
        DeviceRecord {
            labels: self.labels.clone(),
            availability: self.availability,
            generation: self.generation,
            lease_from: self.lease_from,
            machine: self.machine,
            facts: self.facts.clone(),
            lost: self.liveness == Liveness::Lost,
            foreign: self.foreign.map(|foreign| foreign.fleet),
        }
    }

    /// It is past this boot: a message that claims it is late.
    pub(crate) fn retire(&mut self, boot: BootId) {
        self.retired.insert(0, boot);
        self.retired.truncate(RETIRED);
    }

    /// Whether it may be given new work at all.
    pub(crate) fn is_open(&self) -> bool {
        self.liveness == Liveness::Up
            && self.availability == Availability::Active
            && self.facts.as_ref().is_some_and(|facts| facts.engine.is_some())
            && !matches!(self.engine, Some(EngineState::Down(_) | EngineState::StorageFailed(_)))
    }

    /// Whether what it said last about its copies can still be taken for true.
    pub(crate) fn is_believed(&self) -> bool {
        matches!(self.liveness, Liveness::Up | Liveness::Suspect | Liveness::Away)
            && !matches!(self.engine, Some(EngineState::Down(_)))
    }

    /// Whether it may yet tell what it runs, as far as is known.
    pub(crate) fn is_expected(&self) -> bool {
        self.foreign.is_none() && self.liveness != Liveness::Lost
    }

    /// How many of a kind it has.
    pub(crate) fn generic(&self, kind: &str) -> u32 {
        let Some(facts) = &self.facts else { return 0 };
        let listed = facts.generic.iter().filter(|g| g.kind == kind).map(|g| g.count).sum::<u32>();
        if kind != GPU {
            return listed;
        }
        let attached = facts.devices.iter().filter(|d| d.kind == DeviceKind::Gpu).count();
        listed.max(u32::try_from(attached).unwrap_or(u32::MAX))
    }
}
