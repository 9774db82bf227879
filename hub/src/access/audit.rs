//! The audit log: every change, who, from where, what. One JSON record a line, each with the digest of the line before.
//!
//! The store keeps number and digest of the last record (the *anchor*), so that lines cut off at the end are missed too.
//! Somebody who rules the hub's machine can write both anew: copy the log elsewhere if that is to be noticed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::{AuditCheck, AuditRecord};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::{error, warn};

use crate::store::{Side, SideTables};

/// Name of the file in the state folder.
const FILE: &str = "audit.log";
/// Name of the side table with the anchor.
const TABLE: &str = "audit";
const ANCHOR: &str = "anchor";
/// Bytes of a line. What is longer was not written by us.
const MAX_LINE: u64 = 16 * 1024;
/// Characters of one text in a record.
const MAX_TEXT: usize = 1024;
/// Faults that one check tells.
const MAX_PROBLEMS: usize = 20;

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub who: String,
    /// From where.
    pub from: String,
    /// Method and path.
    pub what: String,
    /// More about it, never a secret.
    pub detail: Option<String>,
    /// How it was answered.
    pub status: u16,
}

/// Why nothing can be recorded.
#[derive(Debug, Error)]
#[error("cannot {doing} {}", path.display())]
pub struct AuditError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    side: Side,
    book: Arc<Mutex<Book>>,
}

/// Number and digest of the last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    number: u64,
    digest: String,
}

impl Anchor {
    fn none() -> Self {
        Self { number: 0, digest: "0".repeat(64) }
    }
}

#[derive(Debug)]
struct Book {
    file: File,
    last: Anchor,
    /// As the store has it.
    anchor: Anchor,
    /// The last attempt to write failed, and may have left a part of a line.
    is_torn: bool,
}

impl Audit {
    /// Opens the log in the state folder and looks how far it goes.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path, saved: &SideTables, side: Side) -> Result<Self, AuditError> {
        let path = folder.join(FILE);
        let failed = |doing| move |source| AuditError { doing, path: folder.join(FILE), source };
        let anchor = saved.get(TABLE).and_then(|table| serde_json::from_slice(table.get(ANCHOR)?).ok());
        let anchor = anchor.unwrap_or_else(Anchor::none);
        let mut file = open(&path).map_err(failed("open"))?;
        let walk = walk(&mut BufReader::new(&file), &anchor, |_| ()).map_err(failed("read"))?;
        if walk.torn_bytes > 0 && walk.last.number >= anchor.number {
            // The machine went down in the middle of a line that nobody was told is there.
            let whole = file.metadata().map(|metadata| metadata.len().saturating_sub(walk.torn_bytes));
            whole.and_then(|length| file.set_len(length)).map_err(failed("mend"))?;
        } else if !walk.problems.is_empty() {
            warn!(log = %path.display(), problem = walk.problems[0], "the audit log was changed; `outrigger audit verify`");
            end_line(&mut file, walk.torn_bytes).map_err(failed("write"))?;
        }
        let last = if walk.last.number >= anchor.number { walk.last } else { anchor.clone() };
        let book = Arc::new(Mutex::new(Book { file, last, anchor, is_torn: false }));
        Ok(Self { path, side, book })
    }

    /// Writes one record; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn record(&self, entry: Entry, at_unix_ms: u64) -> Result<(), AuditError> {
        let mut book = Arc::clone(&self.book).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || {
            let done = book.append(entry, at_unix_ms);
            (book, done)
        });
        let failed = |source| AuditError { doing: "write to", path: self.path.clone(), source };
        let (mut book, done) = written.await.map_err(|fault| failed(io::Error::other(fault)))?;
        done.map_err(failed)?;
        // An anchor is a number and a text: it always serialises.
        let text = serde_json::to_vec(&book.last).unwrap_or_default();
        match self.side.save(TABLE, ANCHOR, Some(text)).await {
            Ok(()) => book.anchor = book.last.clone(),
            // The record is there; only its loss would not be noticed until the next one.
            Err(fault) => error!(%fault, "the audit log's end cannot be saved"),
        }
        Ok(())
    }

    /// Whether the next change can be recorded. After a failure this tries.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn is_writable(&self) -> Result<(), AuditError> {
        let mut book = self.book.lock().await;
        book.mend().map_err(|source| AuditError { doing: "write to", path: self.path.clone(), source })
    }

    /// The latest records after `since`, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn latest(&self, since: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
        let mut kept = std::collections::VecDeque::with_capacity(limit);
        let (_, kept) = self
            .walk(move |reader, anchor| {
                let walk = walk(reader, anchor, |record| {
                    if record.number > since {
                        if kept.len() == limit {
                            kept.pop_front();
                        }
                        kept.push_back(record);
                    }
                })?;
                Ok((walk, kept))
            })
            .await?;
        Ok(kept.into())
    }

    /// Looks whether any line was changed or taken away.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn check(&self) -> Result<AuditCheck, AuditError> {
        let walk = self.walk(|reader, anchor| walk(reader, anchor, |_| ())).await?;
        Ok(AuditCheck { ok: walk.problems.is_empty(), records: walk.records, problems: walk.problems })
    }

    async fn walk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut dyn BufRead, &Anchor) -> io::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        // Opened under the lock and read up to the length of that moment: later lines have a later anchor.
        let book = self.book.lock().await;
        let anchor = book.anchor.clone();
        let opened = File::open(&self.path).and_then(|file| Ok((file.metadata()?.len(), file)));
        drop(book);
        let failed = |source| AuditError { doing: "read", path: self.path.clone(), source };
        let (length, file) = opened.map_err(failed)?;
        let read = tokio::task::spawn_blocking(move || look(&mut BufReader::new(file.take(length)), &anchor));
        read.await.map_err(|fault| failed(io::Error::other(fault)))?.map_err(failed)
    }
}

impl Book {
    fn append(&mut self, entry: Entry, at_unix_ms: u64) -> io::Result<()> {
        self.mend()?;
        let Entry { who, from, what, detail, status } = entry;
        let record = AuditRecord {
            number: self.last.number + 1,
            at_unix_ms,
            who: short(&who),
            from: short(&from),
            what: short(&what),
            detail: detail.as_deref().map(short),
            status,
            previous: self.last.digest.clone(),
        };
        let mut line = serde_json::to_vec(&record)?;
        let digest = hex(&line);
        line.push(b'\n');
        self.is_torn = true;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.is_torn = false;
        self.last = Anchor { number: record.number, digest };
        Ok(())
    }

    /// Takes away what a failed write may have left.
    fn mend(&mut self) -> io::Result<()> {
        if !self.is_torn {
            return Ok(());
        }
        let mut reader = BufReader::new(&self.file);
        reader.seek(SeekFrom::Start(0))?;
        let walk = walk(&mut reader, &self.anchor, |_| ())?;
        let mut length = self.file.metadata()?.len().saturating_sub(walk.torn_bytes);
        if walk.last.number > self.last.number {
            // The whole line is there although that was not said. It is ours: nobody was told of it, so it goes.
            length = length.saturating_sub(walk.last_bytes);
        }
        self.file.set_len(length)?;
        self.file.sync_data()?;
        self.is_torn = false;
        Ok(())
    }
}

/// What a walk through the log found.
struct Walk {
    records: u64,
    last: Anchor,
    /// Bytes of the last whole line.
    last_bytes: u64,
    /// Bytes behind the last line end.
    torn_bytes: u64,
    problems: Vec<String>,
}

fn walk(reader: &mut dyn BufRead, anchor: &Anchor, mut take: impl FnMut(AuditRecord)) -> io::Result<Walk> {
    let mut found = Walk { records: 0, last: Anchor::none(), last_bytes: 0, torn_bytes: 0, problems: Vec::new() };
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        if (&mut *reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if line.last() != Some(&b'\n') && (line.len() as u64) < MAX_LINE {
            found.torn_bytes = line.len() as u64;
            found.problem(format!("line {number}: it breaks off"));
            break;
        }
        found.last_bytes = line.len() as u64;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        found.line(number, text, anchor, &mut take);
    }
    if found.last.number < anchor.number {
        let (has, wanted) = (found.last.number, anchor.number);
        found.problem(format!("the end is missing: the last record is {has}, and there were {wanted}"));
    }
    Ok(found)
}

impl Walk {
    fn line(&mut self, line: u64, text: &[u8], anchor: &Anchor, take: &mut dyn FnMut(AuditRecord)) {
        let Ok(record) = serde_json::from_slice::<AuditRecord>(text) else {
            self.problem(format!("line {line}: it is no record"));
            return;
        };
        if record.number != self.last.number + 1 {
            self.problem(format!("line {line}: record {} follows record {}", record.number, self.last.number));
        }
        if record.previous != self.last.digest {
            self.problem(format!("line {line}: the record before it was changed, or this one"));
        }
        let digest = hex(text);
        if record.number == anchor.number && digest != anchor.digest {
            self.problem(format!("line {line}: it is not the record that was written"));
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

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// What follows begins on a line of its own.
fn end_line(file: &mut File, torn_bytes: u64) -> io::Result<()> {
    if torn_bytes > 0 { file.write_all(b"\n") } else { Ok(()) }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: &str) -> Entry {
        Entry { who: "ann".into(), from: "::1".into(), what: what.into(), detail: None, status: 200 }
    }

    fn book(path: &Path) -> Book {
        Book { file: open(path).unwrap(), last: Anchor::none(), anchor: Anchor::none(), is_torn: false }
    }

    fn found(path: &Path, anchor: &Anchor) -> Walk {
        walk(&mut BufReader::new(File::open(path).unwrap()), anchor, |_| ()).unwrap()
    }

    #[test]
    fn what_a_failed_write_left_is_taken_away_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut book = book(&path);
        book.append(entry("first"), 1).unwrap();
        book.file.write_all(b"{\"number\":2,\"at").unwrap();
        book.is_torn = true;
        book.append(entry("second"), 2).unwrap();
        // A whole line of which nobody was told that it is there.
        let told = book.last.clone();
        book.append(entry("third"), 3).unwrap();
        (book.last, book.is_torn) = (told, true);
        book.append(entry("fourth"), 4).unwrap();
        let walk = found(&path, &book.last);
        assert_eq!((walk.records, walk.problems), (3, Vec::<String>::new()));
    }

    #[test]
    fn a_log_that_cannot_be_written_says_so_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut book = book(&path);
        book.append(entry("first"), 1).unwrap();
        let good = std::mem::replace(&mut book.file, File::open(&path).unwrap());
        assert!(book.append(entry("lost"), 2).is_err());
        assert!(book.mend().is_err(), "changes are refused");
        book.file = good;
        book.append(entry("second"), 3).unwrap();
        let walk = found(&path, &book.last);
        assert_eq!((walk.records, walk.problems, book.last.number), (2, Vec::<String>::new(), 2));
    }

    #[test]
    fn lines_beyond_all_measure_are_problems_and_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, vec![b'x'; 1024 * 1024]).unwrap();
        let walk = found(&path, &Anchor::none());
        assert_eq!((walk.records, walk.problems.len()), (0, MAX_PROBLEMS));
    }
}
