//! Measured load, smoothed and cut into steps, so that a peak of a second moves nothing and reordering is rare.

use std::time::Duration;

use outrigger_protocol::{Load, Moment, Throttling};

/// Time after which a new level counts for half.
const HALF_LIFE: Duration = Duration::from_secs(15);
/// Samples that follow each other faster are left out: what they add would be lost in rounding.
const SAMPLE: Duration = Duration::from_millis(900);
/// Width of a step in thousandths.
const STEP: i64 = 64;
/// Points lost by a device that is used up.
const MOST_LOST: i64 = 300;
/// From this on a board without throttling counts as hot, in tenths of a degree; the Pi's soft limit is 80.
const HOT: i16 = 800;
/// From this on the engine's file system counts as full, in thousandths.
const DISK_FULL: u16 = 900;

/// Smoothed load of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Smooth {
    permille: i64,
    /// The step that it is counted with, which follows with some inertia.
    step: i64,
    trouble: i32,
    at: Option<Moment>,
}

impl Smooth {
    /// Takes a sample; says whether the device is to be ranked anew.
    pub(crate) fn take(&mut self, load: &Load, now: Moment) -> bool {
        let passed = match self.at {
            Some(at) if now.since(at) < SAMPLE => return false,
            Some(at) => Some(i64::try_from(now.since(at).as_millis()).unwrap_or(i64::MAX).min(1 << 32)),
            None => None,
        };
        let sample = i64::from(load.cpu.value().max(load.memory.value()));
        let before = (self.step, self.trouble);
        let half = i64::try_from(HALF_LIFE.as_millis()).unwrap_or(1);
        self.permille += passed.map_or(sample, |passed| (sample - self.permille) * passed / (passed + half));
        self.at = Some(now);
        let centre = self.step * STEP + STEP / 2;
        if (self.permille - centre).abs() > STEP * 3 / 4 {
            self.step = self.permille / STEP;
        }
        self.trouble = trouble(load);
        before != (self.step, self.trouble)
    }

    /// Points lost for load.
    pub(crate) fn lost(&self) -> i32 {
        i32::try_from(self.step * STEP * MOST_LOST / 1000).unwrap_or(0)
    }

    /// Points lost for heat, power and a full disk.
    pub(crate) fn trouble(&self) -> i32 {
        self.trouble
    }
}

fn trouble(load: &Load) -> i32 {
    let slowed = load.throttling.0 & (Throttling::CAPPED | Throttling::THROTTLED | Throttling::HOT) != 0;
    let hot = slowed || load.temperature.is_some_and(|t| t >= HOT);
    let mut points = 0;
    if hot {
        points += 200;
    }
    if load.throttling.is_undervoltage() {
        points += 200;
    }
    if load.disk.value() >= DISK_FULL {
        points += 200;
    }
    points
}
