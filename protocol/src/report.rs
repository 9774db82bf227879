//! The heartbeat.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Permille, PlacementId, SessionNumber, Stamp};

/// A heartbeat with the device's load; some tens of bytes. Usage of replicas rides along on every tenth or so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The connection that it was sent on.
    pub session: SessionNumber,
    /// Counts the reports of that connection; a lease renewal names the one that it answers.
    pub sequence: u32,
    /// Number of the newest status sent on that connection; 0: none yet. A hub that has not heard it asks.
    pub statuses: u32,
    /// The assignment that the device holds; none before its first.
    pub held: Option<Stamp>,
    /// How loaded the device is; none: nothing has changed enough to be worth its bytes since the last one.
    pub load: Option<Load>,
    /// Usage of replicas; empty where it is not their turn.
    pub usage: Vec<Usage>,
}

/// How loaded a device is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Processor time used of all cores since the last sample.
    pub cpu: Permille,
    /// Memory that cannot be given away (total less available).
    pub memory: Permille,
    /// Swap used.
    pub swap: Permille,
    /// Space used on the engine's file system.
    pub disk: Permille,
    /// Load average of one minute, in hundredths.
    pub load1: u32,
    /// Kilobytes per second received on all physical interfaces.
    pub rx_kbps: u32,
    /// Kilobytes per second sent.
    pub tx_kbps: u32,
    /// Hottest sensor in tenths of a degree Celsius.
    pub temperature: Option<i16>,
    /// What the firmware says about power and heat.
    pub throttling: Throttling,
}

/// Bits of a Raspberry Pi's `get_throttled`: what is wrong now. All false where the firmware says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttling(pub u8);

impl Throttling {
    /// The supply is too weak.
    pub const UNDERVOLTAGE: u8 = 1;
    /// The clock is capped.
    pub const CAPPED: u8 = 1 << 1;
    /// The processor is slowed down.
    pub const THROTTLED: u8 = 1 << 2;
    /// The soft temperature limit is reached.
    pub const HOT: u8 = 1 << 3;

    /// Whether anything is wrong.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.0 != 0
    }

    /// Whether the supply is too weak.
    #[must_use]
    pub fn is_undervoltage(self) -> bool {
        self.0 & Self::UNDERVOLTAGE != 0
    }
}

/// What one replica uses, from its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Which copy.
    pub placement: PlacementId,
    /// Thousandths of one core since the last sample.
    pub cpu_milli: u32,
    /// Memory in use, without the page cache that can be given back.
    pub memory: Bytes,
}
