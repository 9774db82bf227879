//! Backups: everything in the store at one moment, in a file of our own that can be checked for being whole.
//!
//! A line that names the format, then entries (table, key, value), then their number and a checksum.

use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use outrigger_protocol::{Epoch, FleetId};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::side::SIDE;
use super::{CACHE, EPOCH, EVENTS, FILE, FLEET, HUB, STATE, StoreError, failed, file, prepare};

const MAGIC: &[u8] = b"outrigger-hub backup 2\n";
/// Largest key or value: a specification with its configuration. More is damage, not data.
const MAX_ENTRY: u32 = 64 * 1024 * 1024;

/// Which table an entry belongs to; the first byte of each. 0 is the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    State = 1,
    Events = 2,
    /// Key: the table, a zero byte, the key in it.
    Side = 3,
    /// Key: one of [`FILES`].
    File = 4,
}

/// Files beside the store without which its contents are worth little: the authority, which every device trusts.
const FILES: [&str; 1] = ["pki/authority.pem"];

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Entries put back.
    pub entries: u64,
    /// The fleet whose hub this is again.
    pub fleet: FleetId,
    /// The epoch from now on, higher than any that agents can have seen from this store or the one replaced.
    pub epoch: Epoch,
    /// The file.
    pub path: PathBuf,
}

pub(super) fn dump(database: &Database, folder: &Path, to: &mut dyn Write) -> Result<(), redb::Error> {
    let reading = database.begin_read()?;
    let mut out = Summed::new(BufWriter::with_capacity(64 * 1024, to));
    out.write_all(MAGIC)?;
    let hub = reading.open_table(HUB)?;
    let epoch = hub.get(EPOCH)?.map(|bytes| bytes.value().to_vec()).unwrap_or_default();
    out.write_all(&u32::from_le_bytes(epoch.try_into().unwrap_or_default()).to_le_bytes())?;
    let fleet = hub.get(FLEET)?.map(|bytes| bytes.value().to_vec()).unwrap_or_default();
    out.write_all(&u128::from_le_bytes(fleet.try_into().unwrap_or_default()).to_le_bytes())?;
    let mut count = 0u64;
    for entry in reading.open_table(STATE)?.iter()? {
        let (key, value) = entry?;
        out.entry(Table::State, key.value(), value.value())?;
        count += 1;
    }
    for entry in reading.open_table(EVENTS)?.iter()? {
        let (id, event) = entry?;
        out.entry(Table::Events, &id.value().to_le_bytes(), event.value())?;
        count += 1;
    }
    super::side::each(&reading, |table, key, value| {
        count += 1;
        Ok(out.entry(Table::Side, format!("{table}\0{key}").as_bytes(), value)?)
    })?;
    for name in FILES {
        match fs::read(folder.join(name)) {
            Ok(text) => {
                out.entry(Table::File, name.as_bytes(), &text)?;
                count += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error.into()),
        }
    }
    out.write_all(&[0])?;
    out.write_all(&count.to_le_bytes())?;
    let sum = out.sum;
    out.inner.write_all(&sum.to_le_bytes())?;
    Ok(out.inner.flush()?)
}

/// Makes the store in `folder` anew from a backup and raises the epoch, so that agents obey it although they may have seen
/// later assignments of the hub that was lost.
///
/// # Errors
/// If the backup is not whole, the store cannot be written, a hub runs on it, or there is one and `force` is not given.
pub fn restore(folder: &Path, backup: &Path, force: bool) -> Result<Restored, StoreError> {
    let no_backup = |why: String| StoreError::NoBackup { path: backup.to_owned(), why };
    let path = folder.join(FILE);
    let exists = fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    if exists && !force {
        return Err(StoreError::Exists { path });
    }
    // Read to the end before anything is touched.
    let checked = read(backup, &mut |_, _, _| Ok(())).map_err(|error| no_backup(error.to_string()))?;
    prepare(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    // Held open while the new file is made: a hub that runs on it is noticed, and none can start meanwhile.
    let old = super::open(&path)?;
    let old_epoch = super::read_all(&old).ok().and_then(|raw| raw.epoch).filter(|_| exists).unwrap_or(0);
    let epoch = checked.epoch.max(old_epoch).saturating_add(1);
    let new = folder.join("hub.redb.restoring");
    let made = fill(&new, backup, checked.fleet, epoch).and_then(|()| {
        put_files(folder, backup)?;
        fs::rename(&new, &path)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made.map_err(failed("restore", &path))?;
    Ok(Restored { entries: checked.entries, fleet: FleetId(checked.fleet), epoch: Epoch(epoch), path })
}

fn fill(new: &Path, backup: &Path, fleet: u128, epoch: u32) -> Result<(), redb::Error> {
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(new)?;
    let database = file::create(new, CACHE)?;
    let writing = database.begin_write()?;
    {
        let mut state = writing.open_table(STATE)?;
        let mut events = writing.open_table(EVENTS)?;
        let mut side = writing.open_table(SIDE)?;
        let mut hub = writing.open_table(HUB)?;
        hub.insert(EPOCH, epoch.to_le_bytes().as_slice())?;
        hub.insert(FLEET, fleet.to_le_bytes().as_slice())?;
        read(backup, &mut |table, key, value| {
            let stored = match table {
                Table::State => state.insert(key, value).map(drop),
                Table::Events => {
                    let id =
                        key.try_into().map(u64::from_le_bytes).map_err(|_| damaged("an event without a number"))?;
                    events.insert(id, value).map(drop)
                }
                Table::Side => {
                    let text = std::str::from_utf8(key).map_err(|_| damaged("a record without a name"))?;
                    let name = text.split_once('\0').ok_or_else(|| damaged("a record without a table"))?;
                    side.insert(name, value).map(drop)
                }
                Table::File => Ok(()),
            };
            stored.map_err(io::Error::other)
        })?;
    }
    writing.commit()?;
    Ok(())
}

/// Puts back the files beside the store, each whole or not at all, for nobody else to read.
fn put_files(folder: &Path, backup: &Path) -> io::Result<()> {
    read(backup, &mut |table, key, value| {
        if table != Table::File {
            return Ok(());
        }
        let name = FILES.into_iter().find(|name| name.as_bytes() == key);
        let to = folder.join(name.ok_or_else(|| damaged("a file that this release does not know"))?);
        if let Some(parent) = to.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let new = to.with_extension("restoring");
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(value)?;
        file.sync_all()?;
        fs::rename(&new, &to)
    })
    .map(drop)
}

struct Checked {
    entries: u64,
    fleet: u128,
    epoch: u32,
}

/// Takes one entry: table, key, value.
type Take<'a> = dyn FnMut(Table, &[u8], &[u8]) -> io::Result<()> + 'a;

/// Reads a backup to its end, giving each entry to `take`.
fn read(backup: &Path, take: &mut Take<'_>) -> io::Result<Checked> {
    let mut input = Summed::new(BufReader::with_capacity(64 * 1024, fs::File::open(backup)?));
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(damaged("it does not begin like one"));
    }
    let epoch = u32::from_le_bytes(input.array()?);
    let fleet = u128::from_le_bytes(input.array()?);
    let mut entries = 0u64;
    loop {
        let table = match input.array::<1>()? {
            [0] => break,
            [1] => Table::State,
            [2] => Table::Events,
            [3] => Table::Side,
            [4] => Table::File,
            _ => return Err(damaged("an entry of a table that this release does not know")),
        };
        let key = input.bytes()?;
        let value = input.bytes()?;
        take(table, &key, &value)?;
        entries += 1;
    }
    if u64::from_le_bytes(input.array()?) != entries {
        return Err(damaged("the number of entries is wrong"));
    }
    let sum = input.sum;
    if u64::from_le_bytes(input.array()?) != sum {
        return Err(damaged("the checksum is wrong"));
    }
    Ok(Checked { entries, fleet, epoch })
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Passes bytes on and sums them up (FNV-1a): against damage, not against malice.
struct Summed<T> {
    inner: T,
    sum: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, sum: 0xcbf2_9ce4_8422_2325 }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl<W: Write> Summed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.add(bytes);
        self.inner.write_all(bytes)
    }

    fn entry(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.write_all(&[table as u8])?;
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(|_| damaged("an entry is too large"))?;
            self.write_all(&length.to_le_bytes())?;
            self.write_all(part)?;
        }
        Ok(())
    }
}

impl<R: Read> Summed<R> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.add(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = u32::from_le_bytes(self.array()?);
        if length > MAX_ENTRY {
            return Err(damaged("an entry is too large"));
        }
        // Grown as bytes come, not by what a damaged length says.
        let mut bytes = Vec::new();
        let read = (&mut self.inner).take(u64::from(length)).read_to_end(&mut bytes)?;
        if read != usize::try_from(length).unwrap_or(usize::MAX) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.add(&bytes);
        Ok(bytes)
    }
}
