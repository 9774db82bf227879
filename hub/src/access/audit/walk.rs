//! Reads the log and says what is wrong with it: every line a record, numbered without a gap, each with the digest of the
//! one before.

use std::io::{self, BufRead, Read};

use outrigger_api::AuditRecord;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Bytes of a line. What is longer was not written by us.
const MAX_LINE: u64 = 16 * 1024;
/// Faults that one check tells.
pub(super) const MAX_PROBLEMS: usize = 20;

/// Number and digest of a record, so that what follows it can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) number: u64,
    pub(super) digest: String,
}

impl Anchor {
    /// Before the first record.
    pub(super) fn none() -> Self {
        Self { number: 0, digest: "0".repeat(64) }
    }
}

/// What a walk through one or more files found.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) records: u64,
    pub(super) last: Anchor,
    /// Bytes of the last whole line.
    pub(super) last_bytes: u64,
    /// Bytes behind the last line end of the last file.
    pub(super) torn_bytes: u64,
    pub(super) problems: Vec<String>,
}

impl Walk {
    /// Begins behind this record.
    pub(super) fn behind(last: Anchor) -> Self {
        Self { records: 0, last, last_bytes: 0, torn_bytes: 0, problems: Vec::new() }
    }

    /// Reads one file. `anchor` is the last record that was written, `name` that of the file.
    pub(super) fn read(
        &mut self,
        name: &str,
        reader: &mut dyn BufRead,
        anchor: &Anchor,
        mut take: impl FnMut(AuditRecord),
    ) -> io::Result<()> {
        if self.torn_bytes > 0 {
            self.problem("a file before the last one breaks off".to_owned());
        }
        (self.last_bytes, self.torn_bytes) = (0, 0);
        let mut line = Vec::new();
        let mut number = 0_u64;
        loop {
            line.clear();
            if (&mut *reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            number += 1;
            let place = format!("{name}, line {number}");
            if line.last() != Some(&b'\n') && (line.len() as u64) < MAX_LINE {
                self.torn_bytes = line.len() as u64;
                self.problem(format!("{place}: it breaks off"));
                return Ok(());
            }
            self.last_bytes = line.len() as u64;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            self.line(&place, text, anchor, &mut take);
        }
    }

    /// Looks whether the end is there.
    pub(super) fn finish(mut self, anchor: &Anchor) -> Self {
        if self.last.number < anchor.number {
            let (has, wanted) = (self.last.number, anchor.number);
            self.problem(format!("the end is missing: the last record is {has}, and there were {wanted}"));
        }
        self
    }

    fn line(&mut self, place: &str, text: &[u8], anchor: &Anchor, take: &mut dyn FnMut(AuditRecord)) {
        let Ok(record) = serde_json::from_slice::<AuditRecord>(text) else {
            self.problem(format!("{place}: it is no record"));
            return;
        };
        if record.number != self.last.number + 1 {
            self.problem(format!("{place}: record {} follows record {}", record.number, self.last.number));
        }
        if record.previous != self.last.digest {
            self.problem(format!("{place}: the record before it was changed, or this one"));
        }
        let digest = hex(text);
        if record.number == anchor.number && digest != anchor.digest {
            self.problem(format!("{place}: it is not the record that was written"));
        }
        self.records += 1;
        self.last = Anchor { number: record.number, digest };
        take(record);
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// The first record of a file, if it has one.
pub(super) fn first_record(reader: &mut dyn BufRead) -> io::Result<Option<AuditRecord>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line).ok())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
