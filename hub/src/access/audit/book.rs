//! Writes the log: one line at a time, each on the disk before anybody is told. A file that has grown large is closed, and the
//! next one goes on with its chain; of the closed ones the latest are kept.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use outrigger_api::AuditRecord;

use super::Entry;
use super::walk::{Anchor, Walk, first_record, hex};

/// Name of the file that is written to.
pub(super) const FILE: &str = "audit.log";
/// Characters of one text in a record.
const MAX_TEXT: usize = 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Bytes after which a file is closed.
    pub(super) file_bytes: u64,
    /// Closed files.
    pub(super) files: usize,
}

/// 17 files of 4 MiB at most: some 230 000 records.
pub(super) const USUAL: Keep = Keep { file_bytes: 4 * 1024 * 1024, files: 16 };

/// The files.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) folder: PathBuf,
    pub(super) keep: Keep,
    pub(super) file: File,
    bytes: u64,
    /// The record before the first one of this file.
    before: Anchor,
    /// First records of the closed files.
    pub(super) closed: BTreeSet<u64>,
    pub(super) last: Anchor,
    /// As the store has it.
    pub(super) anchor: Anchor,
    /// The last attempt to write failed, and may have left a part of a line.
    pub(super) is_torn: bool,
}

/// A closed file that is to go, and the record behind which the log begins then.
#[derive(Debug)]
pub(super) struct Surplus {
    pub(super) first: u64,
    pub(super) start: Anchor,
}

impl Book {
    /// Opens what is in the folder. `start` is the record behind which the log begins, `anchor` the last one. Also says what is
    /// wrong with the file that is written to.
    pub(super) fn open(
        folder: &Path,
        keep: Keep,
        start: &Anchor,
        anchor: Anchor,
    ) -> io::Result<(Self, Option<String>)> {
        let mut closed = closed_in(folder)?;
        // The hub went down after it had been noted that these go, and before they went.
        for first in closed.range(..=start.number).copied().collect::<Vec<_>>() {
            fs::remove_file(closed_path(folder, first))?;
            closed.remove(&first);
        }
        let mut file = open(&folder.join(FILE))?;
        let before = match first_record(&mut BufReader::new(&file))? {
            // Whether it is true is for the check, which walks through all files.
            Some(first) if !closed.is_empty() || start.number > 0 => {
                Anchor { number: first.number.saturating_sub(1), digest: first.previous }
            }
            Some(_) => Anchor::none(),
            None if closed.is_empty() && start.number == 0 => Anchor::none(),
            // The hub went down between closing a file and the next line.
            None => anchor.clone(),
        };
        let walk = walk_of(&file, &before, &anchor)?;
        let mut fault = None;
        if walk.torn_bytes > 0 && walk.last.number >= anchor.number {
            // The machine went down in the middle of a line that nobody was told is there.
            file.set_len(file.metadata()?.len().saturating_sub(walk.torn_bytes))?;
        } else if let Some(problem) = walk.problems.first() {
            fault = Some(problem.clone());
            if walk.torn_bytes > 0 {
                // What follows begins on a line of its own.
                file.write_all(b"\n")?;
            }
        }
        let last = if walk.last.number >= anchor.number { walk.last } else { anchor.clone() };
        let bytes = file.metadata()?.len();
        let folder = folder.to_owned();
        Ok((Self { folder, keep, file, bytes, before, closed, last, anchor, is_torn: false }, fault))
    }

    /// Writes one record; it is on the disk when this returns.
    pub(super) fn append(&mut self, entry: Entry, at_unix_ms: u64) -> io::Result<()> {
        self.mend()?;
        self.close_if_large()?;
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
        self.bytes += line.len() as u64;
        self.last = Anchor { number: record.number, digest };
        Ok(())
    }

    /// The first record of the file that is written to.
    pub(super) fn first(&self) -> u64 {
        self.before.number + 1
    }

    /// Takes away what a failed write may have left.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        if !self.is_torn {
            return Ok(());
        }
        let walk = walk_of(&self.file, &self.before, &self.anchor)?;
        let mut length = self.file.metadata()?.len().saturating_sub(walk.torn_bytes);
        if walk.last.number > self.last.number {
            // The whole line is there although that was not said. It is ours: nobody was told of it, so it goes.
            length = length.saturating_sub(walk.last_bytes);
        }
        self.file.set_len(length)?;
        self.file.sync_data()?;
        self.bytes = length;
        self.is_torn = false;
        Ok(())
    }

    fn close_if_large(&mut self) -> io::Result<()> {
        if self.bytes < self.keep.file_bytes {
            return Ok(());
        }
        let first = self.before.number + 1;
        fs::rename(self.folder.join(FILE), closed_path(&self.folder, first))?;
        self.file = open(&self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()?;
        self.closed.insert(first);
        (self.before, self.bytes) = (self.last.clone(), 0);
        Ok(())
    }

    /// The oldest file, if there are more than are kept. It goes once the store has the new beginning.
    pub(super) fn surplus(&self) -> io::Result<Option<Surplus>> {
        if self.closed.len() <= self.keep.files {
            return Ok(None);
        }
        let mut closed = self.closed.iter();
        let (Some(first), Some(second)) = (closed.next(), closed.next()) else { return Ok(None) };
        let next = File::open(closed_path(&self.folder, *second))?;
        let next = first_record(&mut BufReader::new(next))?;
        // One that somebody has spoilt stays, and the check tells of it.
        Ok(next.map(|next| Surplus { first: *first, start: Anchor { number: second - 1, digest: next.previous } }))
    }

    /// Lets a file go.
    pub(super) fn drop_file(&mut self, first: u64) -> io::Result<()> {
        self.closed.remove(&first);
        fs::remove_file(closed_path(&self.folder, first))
    }
}

fn walk_of(file: &File, before: &Anchor, anchor: &Anchor) -> io::Result<Walk> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut walk = Walk::behind(before.clone());
    walk.read(FILE, &mut reader, anchor, |_| ())?;
    Ok(walk.finish(anchor))
}

/// Where the closed file is that begins with this record.
pub(super) fn closed_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(closed_name(first))
}

/// Its name.
pub(super) fn closed_name(first: u64) -> String {
    format!("audit-{first:012}.log")
}

fn closed_in(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".log")?.parse().ok());
        // Only what we would call so.
        found.extend(number.filter(|first| name.to_str() == Some(&closed_name(*first))));
    }
    Ok(found)
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
