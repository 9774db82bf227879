//! The audit log: every change, who, from where, what. One JSON record a line, each with the digest of the line before.
//!
//! The store keeps number and digest of the last record (the *anchor*), so that lines cut off at the end are missed too, and
//! of the record behind which the log begins (the *start*): old files go, and that is no fault. Somebody who rules the hub's
//! machine can write all of it anew: copy the log elsewhere if that is to be noticed.

mod book;
mod walk;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::{AuditCheck, AuditRecord};
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::{error, info, warn};

use self::book::{Book, FILE, Keep, USUAL, closed_name, closed_path};
use self::walk::{Anchor, Walk};
use crate::store::{Side, SideRecord, SideTables};

/// Name of the side table with the anchors.
const TABLE: &str = "audit";
const ANCHOR: &str = "anchor";
const START: &str = "start";

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
    book: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    book: Book,
    start: Anchor,
}

/// The files of one moment: later lines have a later anchor.
struct Snapshot {
    start: Anchor,
    anchor: Anchor,
    /// Each with its name and its first record, the oldest first.
    files: Vec<(String, u64, io::Take<File>)>,
}

impl Audit {
    /// Opens the log in the state folder and looks how far it goes.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path, saved: &SideTables, side: Side) -> Result<Self, AuditError> {
        Self::open_with(folder, saved, side, USUAL)
    }

    fn open_with(folder: &Path, saved: &SideTables, side: Side, keep: Keep) -> Result<Self, AuditError> {
        let path = folder.join(FILE);
        let anchor = |key| saved.get(TABLE).and_then(|table| serde_json::from_slice(table.get(key)?).ok());
        let start = anchor(START).unwrap_or_else(Anchor::none);
        let opened = Book::open(folder, keep, &start, anchor(ANCHOR).unwrap_or_else(Anchor::none));
        let (book, fault) = opened.map_err(|source| AuditError { doing: "open", path: path.clone(), source })?;
        if let Some(problem) = fault {
            warn!(log = %path.display(), problem, "the audit log was changed; `outrigger audit verify`");
        }
        Ok(Self { path, side, book: Arc::new(Mutex::new(Kept { book, start })) })
    }

    /// Writes one record; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn record(&self, entry: Entry, at_unix_ms: u64) -> Result<(), AuditError> {
        let kept = Arc::clone(&self.book).lock_owned().await;
        let (mut kept, done) = self.blocking(kept, move |kept| kept.book.append(entry, at_unix_ms)).await?;
        done.map_err(|source| self.failed("write to", source))?;
        match self.side.save_all(vec![record(ANCHOR, &kept.book.last)]).await {
            Ok(()) => kept.book.anchor = kept.book.last.clone(),
            // The record is there; only its loss would not be noticed until the next one.
            Err(fault) => error!(%fault, "the audit log's end cannot be saved"),
        }
        self.drop_surplus(kept).await;
        Ok(())
    }

    /// Lets the oldest file go if there are too many. One that cannot go now goes after the next record.
    async fn drop_surplus(&self, mut kept: OwnedMutexGuard<Kept>) {
        let surplus = match kept.book.surplus() {
            Ok(Some(surplus)) => surplus,
            Ok(None) => return,
            Err(fault) => return warn!(%fault, "an old file of the audit log cannot be read"),
        };
        // First the new beginning: without it the check would miss what has gone.
        if let Err(fault) = self.side.save_all(vec![record(START, &surplus.start)]).await {
            return warn!(%fault, "the audit log's beginning cannot be saved");
        }
        kept.start = surplus.start;
        match kept.book.drop_file(surplus.first) {
            Ok(()) => info!(file = closed_name(surplus.first), "the oldest file of the audit log was removed"),
            Err(fault) => warn!(%fault, "an old file of the audit log cannot be removed"),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        mut kept: OwnedMutexGuard<Kept>,
        work: impl FnOnce(&mut Kept) -> T + Send + 'static,
    ) -> Result<(OwnedMutexGuard<Kept>, T), AuditError> {
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut kept);
            (kept, done)
        });
        worked.await.map_err(|fault| self.failed("write to", io::Error::other(fault)))
    }

    /// Whether the next change can be recorded. After a failure this tries.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn is_writable(&self) -> Result<(), AuditError> {
        let mut kept = self.book.lock().await;
        kept.book.mend().map_err(|source| self.failed("write to", source))
    }

    /// The latest records after `since`, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn latest(&self, since: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
        self.read(move |snapshot| snapshot.latest(since, limit)).await
    }

    /// Looks whether any line was changed or taken away, in all files that are kept.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn check(&self) -> Result<AuditCheck, AuditError> {
        let walk = self.read(Snapshot::check).await?;
        Ok(AuditCheck { ok: walk.problems.is_empty(), records: walk.records, problems: walk.problems })
    }

    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(Snapshot) -> io::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        let kept = self.book.lock().await;
        let snapshot = Snapshot::of(&kept);
        drop(kept);
        let snapshot = snapshot.map_err(|source| self.failed("read", source))?;
        let read = tokio::task::spawn_blocking(move || look(snapshot)).await;
        read.map_err(|fault| self.failed("read", io::Error::other(fault)))?
            .map_err(|source| self.failed("read", source))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> AuditError {
        AuditError { doing, path: self.path.clone(), source }
    }
}

fn record(key: &str, anchor: &Anchor) -> SideRecord {
    // An anchor is a number and a text: it always serialises.
    SideRecord { table: TABLE.to_owned(), key: key.to_owned(), value: serde_json::to_vec(anchor).ok() }
}

impl Snapshot {
    fn of(kept: &Kept) -> io::Result<Self> {
        let mut files = Vec::new();
        for first in &kept.book.closed {
            match File::open(closed_path(&kept.book.folder, *first)) {
                Ok(file) => files.push((closed_name(*first), *first, file.take(u64::MAX))),
                // The check tells that its records are missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error),
            }
        }
        let file = File::open(kept.book.folder.join(FILE))?;
        let length = file.metadata()?.len();
        files.push((FILE.to_owned(), kept.book.first(), file.take(length)));
        Ok(Self { start: kept.start.clone(), anchor: kept.book.anchor.clone(), files })
    }

    fn check(self) -> io::Result<Walk> {
        let mut walk = Walk::behind(self.start);
        for (name, _, file) in self.files {
            walk.read(&name, &mut BufReader::new(file), &self.anchor, |_| ())?;
        }
        Ok(walk.finish(&self.anchor))
    }

    /// From the newest file back, as far as it is needed.
    fn latest(self, since: u64, limit: usize) -> io::Result<Vec<AuditRecord>> {
        let mut found: VecDeque<AuditRecord> = VecDeque::new();
        for (name, first, file) in self.files.into_iter().rev() {
            let room = limit.saturating_sub(found.len());
            let mut of_file = VecDeque::new();
            Walk::behind(Anchor::none()).read(&name, &mut BufReader::new(file), &self.anchor, |record| {
                if record.number > since {
                    of_file.push_back(record);
                    if of_file.len() > room {
                        of_file.pop_front();
                    }
                }
            })?;
            of_file.append(&mut found);
            found = of_file;
            if found.len() >= limit || first <= since.saturating_add(1) {
                break;
            }
        }
        Ok(found.into())
    }
}
