//! A service, its replicas and their copies as the hub knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{
    CgroupLimits, ContainerSpec, DeviceName, Generation, LossPolicy, Mode, Moment, Observed, Phase, PlacementId,
    RestartPolicy, Revision, ServiceRef, ServiceSpec, Usage, VolumeMove,
};

use crate::index::Shape;
use crate::need::Need;
use crate::plan::{Reason, Waiting};
use crate::record::Stage;
use crate::table::{Bits, DeviceIx, NumberMap, ServiceIx};

/// What the copies of one revision are made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub spec: ServiceSpec,
    pub need: Need,
}

/// A service as the hub knows it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub name: ServiceRef,
    pub contents: BTreeMap<Revision, Arc<Content>>,
    /// The present one's content.
    pub content: Arc<Content>,
    pub revision: Revision,
    pub newest: Revision,
    pub released: bool,
    pub removed: bool,
    pub homes: BTreeMap<u32, DeviceName>,
    pub slots: BTreeMap<u32, Slot>,
    /// Counted copies on each device.
    pub on: NumberMap<DeviceIx, u32>,
    /// Devices with any.
    pub has: Bits,
    /// How many of the devices of each shape have any.
    pub cover: BTreeMap<Shape, usize>,
    /// Replicas of which a copy runs and is healthy.
    pub good: u32,
    pub roll: Roll,
    /// Where it kept failing, and until when that is avoided.
    pub avoid: BTreeMap<DeviceIx, Moment>,
    /// Devices whose owner does not allow the present content; why.
    pub refused: BTreeMap<DeviceIx, String>,
}

/// A replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    /// Its copies, the newest last.
    pub copies: Vec<PlacementId>,
    pub waiting: Option<Waiting>,
    pub good: bool,
    /// When it was moved because it kept failing, within the last hour.
    pub moved_at: Vec<Moment>,
}

/// A change of a service under way.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Roll {
    /// Whether some copies may have another content than the present one.
    pub active: bool,
    /// Replicas being changed, each since when.
    pub batch: BTreeMap<u32, Moment>,
    pub paused: Option<String>,
    pub not_before: Option<Moment>,
    /// Replicas whose successors fit nowhere, each with why. Worked out anew after a restart of the hub.
    pub stuck: BTreeMap<u32, Waiting>,
}

/// A placed copy.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub service: ServiceIx,
    pub number: u32,
    pub device: DeviceIx,
    pub revision: Revision,
    pub content: Arc<Content>,
    pub stage: Stage,
    /// Whether it is counted in what its device has reserved. A prepared successor on the same device is not: it takes
    /// over what its predecessor has.
    pub counted: bool,
    pub reason: Reason,
    pub placed_at: Moment,
    /// Generation of its device's assignment that no longer has it, once it is to stop.
    pub stopped_by: Option<Generation>,
    pub seen: Option<Box<Observed>>,
    pub seen_at: Moment,
    /// Whether it was placed before the hub's start, and its device has not said since what it runs.
    pub unheard: bool,
    /// Since when it has been running and healthy without a break.
    pub running_since: Option<Moment>,
    /// Whether its image was there when it was seen.
    pub pulled: bool,
    /// When its pull was seen to get on last; without the time in which the hub could not hear.
    pub pull_moved_at: Moment,
    pub usage: Option<Usage>,
    /// Longest lease that its device was ever told for it.
    pub longest_lease: Duration,
}

impl Content {
    /// Whether an owner who refuses one of them refuses the other. What is left out here only has effects within the container;
    /// where it is not sure, they differ, and devices that have refused are asked again.
    fn asks_the_same(&self, other: &Self) -> bool {
        let asked = |content: &Self| ContainerSpec {
            command: None,
            entrypoint: None,
            environment: Vec::new(),
            labels: Vec::new(),
            healthcheck: None,
            restart: RestartPolicy::default(),
            working_dir: None,
            hostname: None,
            stop_signal: None,
            stop_grace: Duration::ZERO,
            limits: CgroupLimits::default(),
            ..content.spec.container.clone()
        };
        asked(self) == asked(other)
    }

    pub(crate) fn new(spec: ServiceSpec) -> Arc<Self> {
        let need = Need::of(&spec);
        Arc::new(Self { spec, need })
    }
}

impl Service {
    pub(crate) fn is_global(&self) -> bool {
        self.content.spec.mode == Mode::Global
    }

    /// The lease of its copies, where they are exclusive.
    pub(crate) fn lease(&self) -> Option<Duration> {
        match self.content.spec.loss {
            LossPolicy::Exclusive { lease } => Some(lease),
            LossPolicy::Available | LossPolicy::Wait => None,
        }
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(self.content.spec.loss, LossPolicy::Exclusive { .. })
    }

    /// Whether a replica of this number is wanted; of a global service that is up to its device.
    pub(crate) fn wants(&self, number: u32) -> bool {
        !self.removed
            && match self.content.spec.mode {
                Mode::Replicated(replicas) => (1..=replicas).contains(&number),
                Mode::Global => true,
            }
    }

    /// How many replicas there are to be.
    pub(crate) fn wanted(&self) -> u32 {
        match self.content.spec.mode {
            _ if self.removed => 0,
            Mode::Replicated(replicas) => replicas,
            Mode::Global => u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
        }
    }

    /// Another content is the present one. Owners of devices that have refused the one before are not asked once more
    /// for the same.
    pub(crate) fn turn_to(&mut self, content: Arc<Content>) {
        if !Arc::ptr_eq(&self.content, &content) && !self.content.asks_the_same(&content) {
            self.refused.clear();
        }
        self.content = content;
    }

    /// Why the owner of a device does not allow this content, if that is known.
    pub(crate) fn refusal_of(&self, ix: DeviceIx, content: &Content) -> Option<&str> {
        let is_present = || std::ptr::eq(content, self.content.as_ref());
        self.refused.get(&ix).filter(|_| is_present()).map(String::as_str)
    }

    /// A copy more or less on a device.
    pub(crate) fn count_on(&mut self, ix: DeviceIx, shape: Option<Shape>, more: bool) {
        let on = self.on.entry(ix).or_insert(0);
        let had = *on > 0;
        *on = if more { *on + 1 } else { on.saturating_sub(1) };
        let has = *on > 0;
        if !has {
            self.on.remove(&ix);
        }
        if had == has {
            return;
        }
        self.has.set(ix, has);
        if let Some(shape) = shape {
            let cover = self.cover.entry(shape).or_insert(0);
            *cover = if has { *cover + 1 } else { cover.saturating_sub(1) };
        }
    }

    /// The device that a replica must stay on because its data are there.
    pub(crate) fn home(&self, number: u32) -> Option<&DeviceName> {
        let pinned = !self.content.need.volumes.is_empty() && self.content.spec.volume_move == VolumeMove::Stay;
        self.homes.get(&number).filter(|_| pinned)
    }
}

impl Placement {
    /// The phase that its device saw last.
    pub(crate) fn phase(&self) -> Option<&Phase> {
        self.seen.as_ref().map(|seen| &seen.phase)
    }

    /// Whether it did its work when it was seen last.
    pub(crate) fn is_seen_working(&self) -> bool {
        self.stage == Stage::Run && matches!(self.phase(), Some(Phase::Running | Phase::Completed))
    }

    /// Whether it has ended as it should.
    pub(crate) fn is_completed(&self) -> bool {
        matches!(self.phase(), Some(Phase::Completed))
    }
}
