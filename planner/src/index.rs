//! Devices that may be given work, best first.
//!
//! Points for what is free are linear in what is used, with factors that depend on a device's size only. So among devices
//! of one [`Shape`] every copy costs the same, and the order before placement is the order after it: the first that fits
//! is the best of its shape. Sizes are rounded so that there are few shapes.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{Arch, Facts};

use crate::device::Device;
use crate::need::{MOST_CPU, MOST_KIB, Weight};
use crate::table::DeviceIx;

/// One point. Points are compared in these parts, so that rounding never decides.
pub(crate) const POINT: i64 = 1 << 30;
/// Points for a processor, or a memory, of which all is free.
const HALF: i64 = 500 * POINT;
/// Smallest sizes that factors are worked out for.
const LEAST_KIB: u64 = 1 << 14;
const LEAST_CPU: u32 = 100;

/// Architecture and rounded size of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub arch: Arch,
    cpu: u32,
    kib: u64,
}

/// A device in the order of its shape: highest points first, then the smaller name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Points before placement, negated.
    pub lost: i64,
    pub rank: u64,
    pub device: DeviceIx,
}

/// Devices that may be given work, best first in each shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub shapes: BTreeMap<Shape, BTreeSet<Entry>>,
    pub len: usize,
    /// Devices, open or not, that run further architectures than their own.
    pub also_runs: usize,
    /// Devices of each shape, open or not.
    pub sizes: BTreeMap<Shape, usize>,
}

impl Shape {
    pub(crate) fn of(facts: &Facts) -> Self {
        let cpu = rounded(u64::from(facts.cpu.0.clamp(LEAST_CPU, MOST_CPU)));
        Self {
            arch: facts.arch,
            cpu: u32::try_from(cpu).unwrap_or(MOST_CPU),
            kib: rounded((facts.memory.0 / 1024).clamp(LEAST_KIB, MOST_KIB)),
        }
    }

    /// Points that so much is worth on a device of this shape.
    pub(crate) fn worth(&self, weight: Weight) -> i64 {
        weight.cpu * (HALF / i64::from(self.cpu)) + weight.kib * (HALF / i64::try_from(self.kib).unwrap_or(i64::MAX))
    }
}

/// The three highest bits of a number: four sizes to every doubling.
fn rounded(size: u64) -> u64 {
    let shift = 61_u32.saturating_sub(size.leading_zeros());
    (size >> shift) << shift
}

/// Points of what is free on a device, before placement.
pub(crate) fn free(facts: &Facts, shape: &Shape, used: Weight) -> i64 {
    let cpu = i64::from(facts.cpu.0.min(MOST_CPU)) - used.cpu;
    let kib = i64::try_from((facts.memory.0 / 1024).min(MOST_KIB)).unwrap_or(i64::MAX) - used.kib;
    shape.worth(Weight { cpu, kib })
}

/// Points that a device loses for load, heat and having been lost a moment ago.
pub(crate) fn lost(device: &Device) -> i64 {
    let unsteady = if device.returned_at.is_some() { UNSTEADY } else { 0 };
    i64::from(device.smooth.lost() + device.smooth.trouble() + unsteady) * POINT
}

/// Points lost by a device that came back a moment ago.
pub(crate) const UNSTEADY: i32 = 300;

/// Where a device with that much used would stand; none while it has not said what it is.
pub(crate) fn entry(ix: DeviceIx, device: &Device, used: Weight) -> Option<(Shape, Entry)> {
    let facts = device.facts.as_ref()?;
    let shape = Shape::of(facts);
    let points = free(facts, &shape, used) - lost(device);
    Some((shape, Entry { lost: -points, rank: device.rank, device: ix }))
}

impl Index {
    /// Devices of a shape have come or gone.
    pub(crate) fn resize(&mut self, shape: Shape, by: isize) {
        let size = self.sizes.entry(shape).or_insert(0);
        *size = size.saturating_add_signed(by);
        if *size == 0 {
            self.sizes.remove(&shape);
        }
    }

    pub(crate) fn insert(&mut self, (shape, entry): (Shape, Entry)) {
        if self.shapes.entry(shape).or_default().insert(entry) {
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, (shape, entry): (Shape, Entry)) {
        let Some(order) = self.shapes.get_mut(&shape) else { return };
        if order.remove(&entry) {
            self.len -= 1;
        }
        if order.is_empty() {
            self.shapes.remove(&shape);
        }
    }
}
