//! What a plan has decided so far, laid over the fleet: the fleet itself changes only when the plan is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use crate::filter;
use crate::fleet::Fleet;
use crate::index::{self, Entry, Shape};
use crate::need::{Need, Use};
use crate::service::{Content, Service};
use crate::table::{Bits, DeviceIx, NumberMap};

/// A shape of which more than this part is laid over is copied as a whole: skipping what is hidden would cost more.
const COPY_FROM: usize = 4;

/// What a plan has decided so far.
pub(crate) struct Scratch<'a> {
    pub fleet: &'a Fleet,
    touched: NumberMap<DeviceIx, Use>,
    is_touched: Bits,
    layers: BTreeMap<Shape, Layer>,
    /// Of the service at hand: copies more or less than in the fleet.
    on: NumberMap<DeviceIx, i64>,
    /// Of the service at hand: copies by the values that it spreads over, for every leading part of them.
    spread: BTreeMap<Vec<String>, u32>,
}

/// Changed entries of one shape.
#[derive(Default)]
struct Layer {
    entries: BTreeSet<Entry>,
    hidden: usize,
    /// Whether `entries` is all there is.
    whole: bool,
}

impl<'a> Scratch<'a> {
    pub(crate) fn new(fleet: &'a Fleet) -> Self {
        Self {
            fleet,
            touched: NumberMap::default(),
            is_touched: Bits::default(),
            layers: BTreeMap::new(),
            on: NumberMap::default(),
            spread: BTreeMap::new(),
        }
    }

    /// Turns to a service.
    pub(crate) fn turn_to(&mut self, service: &Service) {
        self.on.clear();
        self.spread.clear();
        if service.content.spec.spread.is_empty() {
            return;
        }
        for (&ix, &count) in &service.on {
            self.count_spread(&service.content, ix, i64::from(count));
        }
    }

    /// What is reserved on a device.
    pub(crate) fn using(&self, ix: DeviceIx) -> Option<&Use> {
        self.touched.get(&ix).or_else(|| self.fleet.devices.get(ix).map(|device| &device.using))
    }

    /// Whether a device has a copy of the service at hand; quick.
    pub(crate) fn has(&self, service: &Service, ix: DeviceIx) -> bool {
        if !self.on.is_empty() && self.on.contains_key(&ix) {
            self.copies(service, ix) > 0
        } else {
            service.has.has(ix)
        }
    }

    /// Whether every device of a shape has a copy of the service at hand, as far as can be said at once.
    pub(crate) fn is_covered(&self, service: &Service, shape: &Shape) -> bool {
        self.on.values().all(|more| *more >= 0)
            && service.cover.get(shape) == self.fleet.index.sizes.get(shape)
            && service.cover.contains_key(shape)
    }

    /// Copies of the service at hand on a device.
    pub(crate) fn copies(&self, service: &Service, ix: DeviceIx) -> u32 {
        let before = i64::from(service.on.get(&ix).copied().unwrap_or(0));
        let more = if self.on.is_empty() { 0 } else { self.on.get(&ix).copied().unwrap_or(0) };
        u32::try_from(before + more).unwrap_or(0)
    }

    /// Number of devices that have, or had, copies of the service at hand.
    pub(crate) fn covered(&self, service: &Service) -> usize {
        service.on.len() + self.on.len()
    }

    /// Devices that this plan gave copies of the service at hand.
    pub(crate) fn given(&self) -> impl Iterator<Item = DeviceIx> {
        self.on.keys().copied()
    }

    /// Copies that share values with a device, for each spread preference.
    pub(crate) fn spread(&self, content: &Content, ix: DeviceIx) -> Vec<u32> {
        let Some(device) = self.fleet.devices.get(ix) else { return Vec::new() };
        let mut path = Vec::with_capacity(content.spec.spread.len());
        let keys = content.spec.spread.iter();
        keys.map(|key| {
            path.push(filter::value_of(device, key).into_owned());
            self.spread.get(&path).copied().unwrap_or(0)
        })
        .collect()
    }

    /// Fewest copies that share one value, of so many values that there are; of the first preference.
    pub(crate) fn least_shared(&self, values: usize) -> u32 {
        let first: Vec<u32> = self.spread.iter().filter(|(path, _)| path.len() == 1).map(|(_, count)| *count).collect();
        if first.len() < values { 0 } else { first.into_iter().min().unwrap_or(0) }
    }

    /// A copy of the service at hand comes to a device.
    pub(crate) fn give(&mut self, content: &Content, ix: DeviceIx) {
        self.change(ix, |using| {
            using.add(&content.need);
            using.want.add(content);
        });
        *self.on.entry(ix).or_insert(0) += 1;
        self.count_spread(content, ix, 1);
    }

    /// A copy of the service at hand leaves a device.
    pub(crate) fn take(&mut self, content: &Content, ix: DeviceIx) {
        self.change(ix, |using| {
            using.remove(&content.need);
            using.want.remove(content);
        });
        *self.on.entry(ix).or_insert(0) -= 1;
        self.count_spread(content, ix, -1);
    }

    /// A copy that takes over what another has comes to a device: only the assignment grows.
    pub(crate) fn assign(&mut self, content: &Content, ix: DeviceIx) {
        self.change(ix, |using| using.want.add(content));
    }

    /// What would be used on a device without one copy.
    pub(crate) fn without(&self, ix: DeviceIx, need: &Need) -> Option<Use> {
        let mut using = self.using(ix)?.clone();
        using.remove(need);
        Some(using)
    }

    /// Devices of a shape that may be given work, best first.
    pub(crate) fn entries(&self, shape: &Shape) -> impl Iterator<Item = &Entry> {
        let layer = self.layers.get(shape);
        let base = self.fleet.index.shapes.get(shape).filter(|_| !layer.is_some_and(|layer| layer.whole));
        let untouched = layer.is_none();
        let base = base.into_iter().flatten().filter(move |e| untouched || !self.is_touched.has(e.device));
        Merged { left: base.peekable(), right: layer.into_iter().flat_map(|layer| &layer.entries).peekable() }
    }

    fn count_spread(&mut self, content: &Content, ix: DeviceIx, by: i64) {
        if content.spec.spread.is_empty() {
            return;
        }
        let Some(device) = self.fleet.devices.get(ix) else { return };
        let mut path = Vec::new();
        for key in &content.spec.spread {
            path.push(filter::value_of(device, key).into_owned());
            let count = self.spread.entry(path.clone()).or_insert(0);
            *count = u32::try_from(i64::from(*count) + by).unwrap_or(0);
        }
    }

    fn change(&mut self, ix: DeviceIx, change: impl FnOnce(&mut Use)) {
        let Some(device) = self.fleet.devices.get(ix) else { return };
        let fresh = !self.touched.contains_key(&ix);
        self.is_touched.set(ix, true);
        let using = self.touched.entry(ix).or_insert_with(|| device.using.clone());
        let before = using.weight;
        change(using);
        let after = using.weight;
        // A device that may not be given work stands in no order.
        if device.indexed.is_none() {
            return;
        }
        let (Some((shape, old)), Some((_, new))) = (index::entry(ix, device, before), index::entry(ix, device, after))
        else {
            return;
        };
        let layer = self.layers.entry(shape).or_default();
        if !fresh || layer.whole {
            layer.entries.remove(&old);
        } else {
            layer.hidden += 1;
        }
        layer.entries.insert(new);
        self.copy_if_worth(&shape);
    }

    fn copy_if_worth(&mut self, shape: &Shape) {
        let Some(base) = self.fleet.index.shapes.get(shape) else { return };
        let Some(layer) = self.layers.get_mut(shape) else { return };
        if layer.whole || layer.hidden * COPY_FROM < base.len() {
            return;
        }
        layer.whole = true;
        layer.entries.extend(base.iter().filter(|entry| !self.is_touched.has(entry.device)));
    }
}

/// Two ordered sequences as one.
struct Merged<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<T: Ord, L: Iterator<Item = T>, R: Iterator<Item = T>> Iterator for Merged<L, R> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if right < left => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}
