//! Disks: what is written becomes durable a while later, all or nothing; a power cut in between leaves the old or the new.

use std::collections::{BTreeMap, VecDeque};

use outrigger_agent::core::Held;
use outrigger_planner::{Key, Record, Value};
use outrigger_protocol::Assignment;

use super::rng::Rng;

/// The agent's one file.
#[derive(Debug, Clone, Default)]
pub struct AssignmentFile {
    durable: Option<Assignment>,
    is_damaged: bool,
    writing: VecDeque<(u64, Assignment)>,
    next: u64,
    /// Writing fails.
    pub is_full: bool,
    /// When the last write that has begun is over: one comes after the other.
    pub busy_until: super::queue::Time,
}

impl AssignmentFile {
    /// Begins to replace the file.
    pub fn begin(&mut self, assignment: Assignment) -> u64 {
        self.next += 1;
        self.writing.push_back((self.next, assignment));
        self.next
    }

    /// The replacing that began under this number is over; the reason where it failed.
    pub fn end(&mut self, number: u64) -> Option<(Assignment, Result<(), String>)> {
        let index = self.writing.iter().position(|(at, _)| *at == number)?;
        let (_, assignment) = self.writing.remove(index)?;
        if self.is_full {
            return Some((assignment, Err("no space left on device".to_owned())));
        }
        self.durable = Some(assignment.clone());
        self.is_damaged = false;
        Some((assignment, Ok(())))
    }

    /// The writer is gone, or the power: each write has become durable or not.
    pub fn cut(&mut self, rng: &mut Rng) {
        while let Some((_, assignment)) = self.writing.pop_front() {
            if !self.is_full && rng.chance(500) {
                self.durable = Some(assignment);
                self.is_damaged = false;
            } else {
                self.writing.clear();
            }
        }
    }

    /// The file is removed.
    pub fn remove(&mut self) {
        self.durable = None;
        self.writing.clear();
        self.is_damaged = false;
    }

    /// A bit of the file flips.
    pub fn damage(&mut self) {
        self.is_damaged = self.durable.is_some();
    }

    /// What an agent that starts now finds.
    #[must_use]
    pub fn read(&self) -> Held {
        match (&self.durable, self.is_damaged) {
            (None, _) => Held::Nothing,
            (Some(_), true) => Held::Unreadable,
            (Some(assignment), false) => Held::Assignment(assignment.clone()),
        }
    }

    /// What a power cut would leave, for the checker.
    #[must_use]
    pub fn durable(&self) -> Option<&Assignment> {
        self.durable.as_ref()
    }

    /// Goes back to an earlier content: what a disk does that lies about having written.
    pub fn forget_last(&mut self, earlier: Option<Assignment>) {
        self.durable = earlier;
    }
}

/// The hub's store.
#[derive(Debug, Clone, Default)]
pub struct Store {
    durable: BTreeMap<Key, Value>,
    writing: VecDeque<(u64, Vec<Record>)>,
    /// Writing fails.
    pub is_full: bool,
}

impl Store {
    /// Begins to write a batch.
    pub fn begin(&mut self, batch: u64, records: Vec<Record>) {
        self.writing.push_back((batch, records));
    }

    /// The writing of this batch is over; the reason where it failed.
    pub fn end(&mut self, batch: u64) -> Option<Result<(), String>> {
        let index = self.writing.iter().position(|(number, _)| *number == batch)?;
        let (_, records) = self.writing.remove(index)?;
        if self.is_full {
            return Some(Err("no space left on device".to_owned()));
        }
        self.apply(records);
        Some(Ok(()))
    }

    /// The hub is gone: each batch under way has become durable or not, in order.
    pub fn cut(&mut self, rng: &mut Rng) {
        while let Some((_, records)) = self.writing.pop_front() {
            if self.is_full || rng.chance(500) {
                self.writing.clear();
            } else {
                self.apply(records);
            }
        }
    }

    fn apply(&mut self, records: Vec<Record>) {
        for record in records {
            match record.value {
                Some(value) => self.durable.insert(record.key, value),
                None => self.durable.remove(&record.key),
            };
        }
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> &BTreeMap<Key, Value> {
        &self.durable
    }

    /// All records, for a hub that starts.
    #[must_use]
    pub fn read(&self) -> Vec<Record> {
        self.durable.iter().map(|(key, value)| Record { key: key.clone(), value: Some(value.clone()) }).collect()
    }

    /// Puts a backup in its place.
    pub fn replace(&mut self, backup: BTreeMap<Key, Value>) {
        self.durable = backup;
        self.writing.clear();
    }
}
