//! Things that have a name and, for speed, a number.
//!
//! A copy of a fleet shares what it holds with the original until one of them changes it: a dry run plans on a copy, which
//! the task that owns the fleet must hand out without standing still.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A map from small numbers. Its order is never used for a decision.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Mixes numbers that we made ourselves: no chance, and no attacker to fear.
#[derive(Debug, Clone, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing; the high bits are the good ones, and the map uses the top seven and the low ones.
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Number of a device while the hub runs. Says nothing about order: decisions are ordered by names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceIx(pub u32);

/// Number of a service while the hub runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceIx(pub u32);

/// A number that a [`Table`] gives.
pub(crate) trait Ix: Copy {
    fn from_number(number: u32) -> Self;
    fn number(self) -> u32;
}

impl Ix for DeviceIx {
    fn from_number(number: u32) -> Self {
        Self(number)
    }
    fn number(self) -> u32 {
        self.0
    }
}

impl Ix for ServiceIx {
    fn from_number(number: u32) -> Self {
        Self(number)
    }
    fn number(self) -> u32 {
        self.0
    }
}

/// Entries that are found by name or, faster, by number. Numbers of removed entries are used again.
#[derive(Debug, Clone)]
pub(crate) struct Table<K, I, V> {
    entries: Vec<Option<Arc<V>>>,
    names: BTreeMap<K, I>,
    free: Vec<I>,
}

impl<K: Ord, I: Ix, V: Clone> Table<K, I, V> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), names: BTreeMap::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn find(&self, name: &K) -> Option<I> {
        self.names.get(name).copied()
    }

    pub(crate) fn get(&self, ix: I) -> Option<&V> {
        self.entries.get(ix.number() as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, ix: I) -> Option<&mut V> {
        self.entries.get_mut(ix.number() as usize)?.as_mut().map(Arc::make_mut)
    }

    pub(crate) fn named(&self, name: &K) -> Option<&V> {
        self.get(self.find(name)?)
    }

    pub(crate) fn insert(&mut self, name: K, value: V) -> I {
        let ix = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            I::from_number(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
        });
        self.entries[ix.number() as usize] = Some(Arc::new(value));
        self.names.insert(name, ix);
        ix
    }

    pub(crate) fn remove(&mut self, name: &K) -> Option<V> {
        let ix = self.names.remove(name)?;
        self.free.push(ix);
        self.entries[ix.number() as usize].take().map(Arc::unwrap_or_clone)
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &V)> {
        self.names.values().filter_map(|&ix| self.get(ix).map(|value| (ix, value)))
    }

    /// Numbers of those whose names lie in a range, by name.
    pub(crate) fn range(&self, range: impl std::ops::RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, I)> {
        self.names.range(range).map(|(name, &ix)| (name, ix))
    }
}

/// Entries that are found by number.
#[derive(Debug, Clone)]
pub(crate) struct Shared<K, V>(NumberMap<K, Arc<V>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(NumberMap::default())
    }
}

impl<K: Eq + Hash, V: Clone> Shared<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(Arc::as_ref)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(Arc::make_mut)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, Arc::new(value));
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key).map(Arc::unwrap_or_clone)
    }
}

/// Small numbers, one bit each: asked for every device of an order, so it must be near.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn set(&mut self, ix: DeviceIx, present: bool) {
        let (word, bit) = (ix.0 as usize / 64, 1_u64 << (ix.0 % 64));
        if word >= self.0.len() {
            if !present {
                return;
            }
            self.0.resize(word + 1, 0);
        }
        if present { self.0[word] |= bit } else { self.0[word] &= !bit }
    }

    pub(crate) fn has(&self, ix: DeviceIx) -> bool {
        self.0.get(ix.0 as usize / 64).is_some_and(|word| word & (1_u64 << (ix.0 % 64)) != 0)
    }
}
