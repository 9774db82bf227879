//! The numbers that make late, repeated and stale messages harmless.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names a fleet for ever: made at random by the store of its hub at its first start, kept by every backup. A device obeys
/// the hub of one fleet only, so a hub that was started with an empty store is told apart from the right one.
///
/// ```
/// # use outrigger_protocol::FleetId;
/// let fleet = FleetId(0xf1ee7);
/// assert_eq!(fleet.to_string().parse(), Ok(fleet));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FleetId(pub u128);

/// Counts hub takeovers and restores. An agent refuses everything that carries a lower one than it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// Counts changes of one device's assignment. Older ones are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// Epoch and generation of an assignment; ordered by epoch first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The hub's epoch.
    pub epoch: Epoch,
    /// The assignment's generation within it.
    pub generation: Generation,
}

/// Names one placed copy of a replica, for ever: it never changes device or specification. Numbers are given in order
/// by the hub (its epoch in the upper half), so of two copies of one replica the higher number supersedes the lower.
/// Containers get it as `OUTRIGGER_PLACEMENT` and can fence their own storage with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlacementId(pub u64);

/// Names one connection of an agent: milliseconds since the device's boot (`CLOCK_BOOTTIME`) at which it was opened.
/// Within one [`BootId`] a later connection has a higher number, and no disk is needed to keep that true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

/// The kernel's random name for the present boot (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u128);

impl PlacementId {
    /// The first number of an epoch.
    #[must_use]
    pub fn first_of(epoch: Epoch) -> Self {
        Self(u64::from(epoch.0) << 32)
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text is no fleet's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fleet's id: 32 hexadecimal digits")]
pub struct FleetIdError(String);

impl FromStr for FleetId {
    type Err = FleetIdError;

    fn from_str(text: &str) -> Result<Self, FleetIdError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        id.map(Self).ok_or_else(|| FleetIdError(text.to_owned()))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

impl fmt::Display for PlacementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
