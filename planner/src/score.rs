//! What speaks for a device.

use serde::{Deserialize, Serialize};

/// What spoke for a device. Compared in this order: the evenness of what the service spreads over, its copies on the
/// device, then the sum of the rest; ties go to the smaller name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Score {
    /// Copies of the service that share a value with this device, for each spread preference; fewer is better.
    pub spread: Vec<u32>,
    /// Copies of the service on the device before this one; fewer is better.
    pub copies: u32,
    /// Points for what is free after placement, 0 to 1000, less than 0 where more is used than there is.
    pub free: i32,
    /// Points lost for measured load, smoothed.
    pub load: i32,
    /// Points lost for heat, throttling, a weak supply, a full disk, or having been lost a moment ago.
    pub trouble: i32,
    /// Points for having the image already.
    pub image: i32,
}

impl Score {
    /// The points in one number.
    #[must_use]
    pub fn points(&self) -> i32 {
        self.free - self.load - self.trouble + self.image
    }
}
