//! What happened, as a number that two runs can be compared by, and as lines for people.

use std::collections::VecDeque;

use super::queue::Time;

/// Lines kept for the report of a failure.
const KEPT: usize = 250;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    keeps_all: bool,
}

impl Trace {
    /// A trace that is only a number, or with lines too: the last ones, or all.
    #[must_use]
    pub fn new(detail: Detail) -> Self {
        let lines = (detail != Detail::Hash).then(VecDeque::new);
        Self { hash: 0xcbf2_9ce4_8422_2325, lines, keeps_all: detail == Detail::All }
    }

    /// Something happened; the numbers say what.
    pub fn count(&mut self, numbers: &[u64]) {
        for number in numbers {
            // FNV-1a over whole words, with a turn so that high bits matter.
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }

    /// Bytes that were sent.
    pub fn count_bytes(&mut self, bytes: &[u8]) {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.count(&[hash]);
    }

    /// A line for people, made only where somebody will read it.
    pub fn line(&mut self, now: Time, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if !self.keeps_all && lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(format!("{:>4}.{:03} {}", now / 1000, now % 1000, text()));
    }

    /// The number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().flatten().cloned().collect()
    }
}

/// How much of a trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Only the number.
    Hash,
    /// And the last lines.
    Last,
    /// And all lines.
    All,
}
