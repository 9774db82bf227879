//! A plan: what is to change, each change with its reason. A value; who carries it out has no choice left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use outrigger_protocol::{DeviceName, Moment, PlacementId, ReplicaName, Revision, ServiceRef};
use serde::{Deserialize, Serialize};

use crate::record::{Record, Stage};
use crate::{Note, score::Score};

/// What is to change now. Commit every plan, also an empty one: that is how the fleet learns how far time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For when it was made.
    pub at: Moment,
    /// State of the fleet that it was made for; committed to another one it changes nothing.
    pub basis: u64,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// What is to be looked at again when its time has come.
    pub alarms: Vec<Alarm>,
    /// When to plan again even if nothing is heard.
    pub look_again_at: Option<Moment>,
}

/// Something is to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    /// When.
    pub at: Moment,
    /// A replica or the roll of this service.
    pub service: ServiceRef,
    /// Which replica; none: the roll.
    pub number: Option<u32>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A device is judged anew.
    Liveness {
        /// The device.
        device: DeviceName,
        /// The judgement.
        now: Liveness,
        /// Why, for people.
        why: String,
    },
    /// Nothing moves because devices are lost, or things move again.
    SafeMode {
        /// Why it begins; none: it ends.
        begins: Option<String>,
        /// Devices counted as silent.
        silent: Vec<DeviceName>,
        /// Devices that were there before.
        of: u32,
    },
    /// While nothing moves, half of the fleet is back, or no longer.
    HalfBack(bool),
    /// A replica gets a copy on a device.
    Place {
        /// The new copy.
        placement: PlacementId,
        /// Of which replica.
        replica: ReplicaName,
        /// Where.
        device: DeviceName,
        /// With which content.
        revision: Revision,
        /// How far it is to go for now.
        stage: Stage,
        /// Why there.
        reason: Reason,
    },
    /// A prepared copy is started.
    Run {
        /// The copy.
        placement: PlacementId,
        /// Of which replica.
        replica: ReplicaName,
    },
    /// A copy is taken from its device.
    Drop {
        /// The copy.
        placement: PlacementId,
        /// Of which replica.
        replica: ReplicaName,
        /// Where it was.
        device: DeviceName,
        /// Why.
        why: DropCause,
    },
    /// An exclusive copy has surely stopped.
    Stopped {
        /// The copy.
        placement: PlacementId,
        /// Of which replica.
        replica: ReplicaName,
    },
    /// A replica waits, or waits for another reason than before.
    Pending {
        /// The replica.
        replica: ReplicaName,
        /// Why; none: it waits no more.
        why: Option<Waiting>,
    },
    /// A roll goes on.
    Roll {
        /// Of which service.
        service: ServiceRef,
        /// How.
        step: RollStep,
    },
    /// A service keeps failing on a device, which is avoided for a while.
    Avoid {
        /// The service.
        service: ServiceRef,
        /// The device.
        device: DeviceName,
        /// Until when.
        until: Moment,
    },
}

/// Whether a device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Liveness {
    /// Not heard since the hub's start. Nothing moves for that.
    Unheard,
    /// It is heard.
    Up,
    /// It should have been heard by now, or its connection broke. It gets nothing new, nothing moves.
    Suspect,
    /// It said that it restarts or shuts down.
    Away,
    /// It is not there; its copies are replaced.
    Lost,
}

/// Why a copy is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What made it necessary.
    pub cause: Cause,
    /// What spoke for this device.
    pub score: Score,
}

/// What made a placement necessary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It is wanted and was not there.
    Wanted,
    /// Its device was lost.
    Lost(DeviceName),
    /// Its device is drained.
    Drained(DeviceName),
    /// Its device no longer satisfies the service's rules.
    Unsuitable(DeviceName),
    /// It kept failing on its device.
    Failing(DeviceName),
    /// The container engine of its device is away.
    EngineAway(DeviceName),
    /// Its specification has changed.
    Changed,
    /// It evens out the copies of its service.
    Rebalanced(DeviceName),
    /// The owner of that device does not allow it.
    Refused(DeviceName),
}

/// Why a copy is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropCause {
    /// Fewer copies are wanted, or the service is gone.
    NotWanted,
    /// Another copy of the replica does the work.
    Superseded(PlacementId),
    /// It makes way for its changed successor.
    Changed,
    /// It kept failing there.
    Failing,
    /// Its device is drained.
    Drained,
    /// Its device does not satisfy the service's rules.
    Unsuitable,
    /// Its device was lost and its lease has run out.
    LeaseOver,
    /// Its device was forgotten.
    Forgotten,
    /// The owner of its device does not allow it.
    Refused,
}

/// Why a replica waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// No device can take it; [`Fleet::explain`](crate::Fleet::explain) has the refusal of each.
    NoDevice,
    /// For a service that it depends on.
    Dependency(String),
    /// Its device is lost and it stays with it, because of its policy.
    Device(DeviceName),
    /// Its device is lost, drained or unsuitable, and it stays with it because of its local volume.
    Volume(DeviceName),
    /// An exclusive copy may still run there, until that moment at the latest.
    Lease(DeviceName, Moment),
    /// It would be moved, and no other device can take it.
    NoOther(DeviceName),
    /// Too many devices fell silent at once.
    SafeMode,
    /// It keeps failing; why another device is not tried now.
    Failing(String),
    /// It runs, with its earlier content: why the new one fits nowhere.
    Change(String),
    /// Owners of devices do not allow it, and no other device can ever take it; who, and what they say.
    Owners(String),
    /// Owners of devices do not allow it, and no other device can take it at present; who, and what they say.
    SomeOwners(String),
    /// It has a local volume that another service has too, which is there, and that device cannot take it.
    SharedVolume(DeviceName, String),
}

/// How a roll goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollStep {
    /// The successors of these are being changed.
    Begin(Vec<u32>),
    /// This one has stayed healthy for long enough.
    Settled(u32),
    /// It pauses.
    Pause(String),
    /// The next batch not before.
    Wait(Moment),
    /// These cannot be changed at present; why, by number.
    Stuck(BTreeMap<u32, Waiting>),
    /// Every copy has the present content.
    Done,
}

/// What a commit changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Devices whose assignment changed, by name; each has a new generation. Publish after saving.
    pub devices: Vec<DeviceName>,
    /// What to save, in any order, but as one.
    pub records: Vec<Record>,
    /// What happened, for the event log.
    pub notes: Vec<Note>,
    /// Devices from which copies that take requests are taken, each with the devices that send them: these are to know
    /// before the copies stop.
    pub leaving: BTreeMap<DeviceName, BTreeSet<DeviceName>>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Committed {
    /// Adds what a later commit changed.
    pub fn extend(&mut self, later: Self) {
        self.devices.extend(later.devices);
        self.devices.sort();
        self.devices.dedup();
        self.records.extend(later.records);
        self.notes.extend(later.notes);
        for (device, viewers) in later.leaving {
            self.leaving.entry(device).or_default().extend(viewers);
        }
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unheard => "unheard",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Away => "away",
            Self::Lost => "lost",
        })
    }
}

impl Cause {
    /// The device that a copy is to leave because of it, while it is still there.
    pub(crate) fn left(&self) -> Option<&DeviceName> {
        match self {
            Self::Drained(device) | Self::Unsuitable(device) | Self::Failing(device) => Some(device),
            Self::Rebalanced(device) | Self::Refused(device) => Some(device),
            Self::Wanted | Self::Lost(_) | Self::EngineAway(_) | Self::Changed => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("wanted"),
            Self::Lost(from) => write!(f, "{from} was lost"),
            Self::Drained(from) => write!(f, "{from} is drained"),
            Self::Unsuitable(from) => write!(f, "{from} no longer satisfies its rules"),
            Self::Failing(from) => write!(f, "it kept failing on {from}"),
            Self::EngineAway(from) => write!(f, "the container engine of {from} does not answer"),
            Self::Changed => f.write_str("its specification has changed"),
            Self::Refused(from) => write!(f, "the owner of {from} does not allow it there"),
            Self::Rebalanced(from) => write!(f, "{from} has more copies of the service"),
        }
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWanted => f.write_str("it is no longer wanted"),
            Self::Superseded(by) => write!(f, "copy {by} does its work"),
            Self::Changed => f.write_str("its specification has changed"),
            Self::Failing => f.write_str("it kept failing there"),
            Self::Drained => f.write_str("the device is drained"),
            Self::Unsuitable => f.write_str("the device does not satisfy its rules"),
            Self::LeaseOver => f.write_str("the device was lost and the lease has run out"),
            Self::Refused => f.write_str("the owner of the device does not allow it"),
            Self::Forgotten => f.write_str("the device was forgotten"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("no device can take it"),
            Self::Dependency(on) => write!(f, "waits until {on} runs"),
            Self::Device(device) => write!(f, "waits for {device}, as its policy says"),
            Self::Volume(device) => write!(f, "stays on {device}, where its local volume is"),
            // The moment is one of the hub's clock, which tells a reader nothing.
            Self::Lease(device, _) => write!(f, "may still run on {device} until its lease has run out"),
            Self::NoOther(device) => write!(f, "should leave {device}, and no other device can take it"),
            Self::SafeMode => f.write_str("too many devices fell silent at once, so nothing moves"),
            Self::Failing(why) => write!(f, "keeps failing: {why}"),
            Self::SomeOwners(why) => write!(f, "no device can take it at present; not allowed on {why}"),
            Self::Owners(why) => write!(f, "no device can take it: {why}"),
            Self::SharedVolume(device, volume) => {
                write!(f, "shares the local volume `{volume}`, which is on {device}, and that cannot take it")
            }
            Self::Change(why) => write!(f, "keeps its earlier content: {why}"),
        }
    }
}
