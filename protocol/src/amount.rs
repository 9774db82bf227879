//! Amounts, each with its unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Thousandths of one processor core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MilliCpu(pub u32);

/// Bytes of memory, disk or traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bytes(pub u64);

/// Thousandths of a whole, 0 to 1000; more is cut to 1000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Permille(u16);

impl Permille {
    /// The whole.
    pub const FULL: Self = Self(1000);

    /// `value` thousandths, at most 1000.
    #[must_use]
    pub fn new(value: u16) -> Self {
        Self(value.min(1000))
    }

    /// `part` of `whole`; nothing of nothing is 0.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self(0);
        }
        let permille = u128::from(part.min(whole)) * 1000 / u128::from(whole);
        Self(u16::try_from(permille).unwrap_or(1000))
    }

    /// The number of thousandths, 0 to 1000.
    #[must_use]
    pub fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Bytes {
    /// Binary units with one decimal place, as `free -h` and `docker stats` print them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut tenths = u128::from(self.0) * 10 / 1024;
        let mut unit = 0;
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            tenths /= 1024;
            unit += 1;
        }
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_with_their_unit() {
        assert_eq!(MilliCpu(1500).to_string(), "1.500");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16383.9 PiB");
        assert_eq!(Permille::of(1, 8).to_string(), "12.5 %");
    }

    #[test]
    fn a_part_of_nothing_is_nothing() {
        assert_eq!(Permille::of(5, 0).value(), 0);
        assert_eq!(Permille::of(9, 3), Permille::FULL);
    }
}
