//! The fleet's settings: how long silence may last, and how eagerly work moves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of a fleet. The hub checks them once (`lost_after` longer than `suspect_after`, and so on) and passes them in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Silence after which a device is suspect: it gets nothing new.
    pub suspect_after: Duration,
    /// Silence after which a device is lost and its copies are replaced.
    pub lost_after: Duration,
    /// The same for devices with a label that the operator has set; the first rule that holds counts.
    pub lost_after_of: Vec<LabelRule>,
    /// A device whose connection broke (the will) is lost after this, unless it is back.
    pub lost_after_will: Duration,
    /// A device that said it shuts down is lost after this: its containers stop anyway, so waiting would only keep the
    /// service short. A reboot that should move nothing is announced by setting this longer.
    pub lost_after_shutdown: Duration,
    /// An agent that said it restarts may be silent for so long: its containers go on.
    pub restart_grace: Duration,
    /// Longest limit that past gaps of a device may lead to.
    pub longest_learnt: Duration,
    /// After a start of the hub nothing is lost for so long.
    pub start_grace: Duration,
    /// Devices that must have fallen silent within this time of each other for their number to be the hub's own fault.
    pub safe_window: Duration,
    /// Smallest fleet in which more than half silent at once leads to safe mode.
    pub safe_from: u32,
    /// Added to a lease's end before an exclusive copy is started elsewhere.
    pub lease_margin: Duration,
    /// A container engine may be away for so long before the copies on it are replaced.
    pub engine_grace: Duration,
    /// Restarts on one device after which a copy is tried elsewhere.
    pub restarts_before_move: u32,
    /// How often one replica is moved within an hour because it keeps failing.
    pub moves_per_hour: u32,
    /// How long a device on which a service kept failing is avoided for that service.
    pub avoid_for: Duration,
    /// A device that was lost gets less for so long after its return.
    pub settle: Duration,
    /// A device with a higher use of memory than this, in thousandths, is full: what is killed there for memory moves.
    pub full_permille: u16,
    /// A new copy that does not run after so long (its image being there) stops a roll.
    pub start_deadline: Duration,
    /// A pull whose bytes do not grow for so long is tried on another device. Unpacking what has all arrived is silent,
    /// and gets three times as long.
    pub pull_stall: Duration,
    /// Most devices that may join.
    pub max_devices: usize,
    /// Whether copies are moved back to devices that have been empty for a while.
    pub rebalance: Rebalance,
}

/// A limit for devices with a certain label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRule {
    /// Label that the operator sets.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Silence after which such a device is lost.
    pub lost_after: Duration,
}

/// Whether copies are moved only to even them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rebalance {
    /// Never: what runs stays.
    Never,
    /// One at a time, started there before it stops here, and only where a service is uneven by two copies or more.
    Gently,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_secs(3),
            lost_after: Duration::from_secs(4),
            lost_after_of: Vec::new(),
            lost_after_will: Duration::from_secs(2),
            lost_after_shutdown: Duration::from_secs(2),
            restart_grace: Duration::from_secs(30),
            longest_learnt: Duration::from_secs(30),
            start_grace: Duration::from_secs(15),
            safe_window: Duration::from_secs(30),
            safe_from: 3,
            lease_margin: Duration::from_secs(1),
            engine_grace: Duration::from_secs(30),
            restarts_before_move: 5,
            moves_per_hour: 3,
            avoid_for: Duration::from_secs(600),
            settle: Duration::from_secs(60),
            full_permille: 950,
            start_deadline: Duration::from_secs(120),
            pull_stall: Duration::from_secs(600),
            max_devices: 100_000,
            rebalance: Rebalance::Gently,
        }
    }
}
