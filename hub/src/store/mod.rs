//! What survives: the fleet's records and the latest events, in one redb file.
//!
//! The seam that a second store will fill is narrow on purpose: [`Store::load`] once, then [`Store::save`] for each batch,
//! all or nothing and durable when it returns.

mod dump;
mod file;
mod side;
mod writer;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_api::Event;
use outrigger_planner::{Record, Value};
use outrigger_protocol::{Epoch, FleetId};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use thiserror::Error;

pub use dump::{Restored, restore};
pub use side::{Side, SideError, SideRecord, SideTables};
pub use writer::{Writer, Written};

use crate::handle::MAX_EVENTS;

/// Name of the file in the state folder.
pub const FILE: &str = "hub.redb";
/// Version of the values; the first byte of each.
const VERSION: u8 = 2;
/// Memory for pages. The whole state is also in the fleet, so the store is only read at the start.
const CACHE: usize = 2 * 1024 * 1024;

const STATE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
const HUB: TableDefinition<&str, &[u8]> = TableDefinition::new("hub");
const EPOCH: &str = "epoch";
const FLEET: &str = "fleet";
/// Where random bytes come from.
const RANDOM: &str = "/dev/urandom";

/// The open store. One process at a time: the file is locked.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after a failure, until it is opened anew: redb refuses all further work on a file that failed once.
    database: Option<Arc<Database>>,
}

/// The store for reading. The file stays open while this is held.
#[derive(Debug)]
struct Snapshot {
    database: Arc<Database>,
    path: PathBuf,
}

impl Snapshot {
    fn write(&self, to: &mut dyn Write) -> Result<(), StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        dump::dump(&self.database, folder, to).map_err(failed("back up", &self.path))
    }
}

/// What a store held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The fleet's records.
    pub records: Vec<Record>,
    /// The latest events, the oldest first.
    pub events: Vec<Event>,
    /// The fleet's name for ever, made when the store was.
    pub fleet: FleetId,
    /// Counts takeovers and restores; at least 1.
    pub epoch: Epoch,
    /// What is no part of the fleet.
    pub side: SideTables,
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be made or its rights set.
    #[error("cannot prepare the state folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process; is a hub running?", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be opened, read or written.
    #[error("cannot {doing} {}", path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// An entry that this release cannot read.
    #[error("{}: an entry cannot be read ({what}); it was written by another release, or is damaged", path.display())]
    Unreadable {
        /// In which file.
        path: PathBuf,
        /// What sort.
        what: &'static str,
    },
    /// A backup that is damaged, or no backup.
    #[error("{} is no complete backup: {why}", path.display())]
    NoBackup {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is none, and it is not to be made.
    #[error("there is no store at {}; `--state-dir` names its folder", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// There is a store already.
    #[error("{} exists; --force replaces it", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
}

impl Store {
    /// Opens the store in `folder`, making both if they are not there.
    ///
    /// # Errors
    /// If the folder or the file cannot be made or opened, or another process has it open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        prepare(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let mut store = Self { path: folder.join(FILE), database: None };
        store.database()?;
        Ok(store)
    }

    /// Opens the store in `folder`, which must be there: who wants to read one does not want an empty one.
    ///
    /// # Errors
    /// If it is not there or cannot be opened, or another process has it open.
    pub fn open_existing(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        match fs::metadata(&path) {
            Ok(_) => Self::open(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { path }),
            Err(source) => Err(StoreError::Folder { path: folder.to_owned(), source }),
        }
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// If the file cannot be read, or an entry is none that this release knows.
    pub fn load(&mut self) -> Result<Loaded, StoreError> {
        let path = self.path.clone();
        let raw = read_all(self.database()?).map_err(failed("read", &path))?;
        let unreadable = |what| StoreError::Unreadable { path: path.clone(), what };
        let record = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Some(Record { key: postcard::from_bytes(key).ok()?, value: Some(decode(value)?) })
        };
        Ok(Loaded {
            records: raw.state.iter().map(record).collect::<Option<_>>().ok_or_else(|| unreadable("state"))?,
            // An event that cannot be read is no reason not to start.
            events: raw.events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect(),
            fleet: FleetId(raw.fleet.ok_or_else(|| unreadable("fleet"))?),
            epoch: Epoch(raw.epoch.ok_or_else(|| unreadable("epoch"))?),
            side: raw.side,
        })
    }

    /// Makes a batch durable, all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written. Nothing has changed then, and the next attempt opens the file anew.
    pub fn save(&mut self, records: &[Record], events: &[impl AsRef<Event>]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let done = write(self.database()?, records, events);
        if done.is_err() {
            self.database = None;
        }
        done.map_err(failed("write to", &path))
    }

    /// Makes side records durable, all or none.
    ///
    /// # Errors
    /// If they cannot be written. Nothing has changed then.
    pub fn save_side(&mut self, records: &[SideRecord]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let done = side::write(self.database()?, records);
        if done.is_err() {
            self.database = None;
        }
        done.map_err(failed("write to", &path))
    }

    /// Writes everything at one moment as a file for [`restore`].
    ///
    /// # Errors
    /// If the store cannot be read or `to` not written.
    pub fn backup(&mut self, to: &mut dyn Write) -> Result<(), StoreError> {
        self.snapshot()?.write(to)
    }

    /// For a backup that goes on beside saves: who reads it may be slow.
    fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        let path = self.path.clone();
        Ok(Snapshot { database: Arc::clone(self.database()?), path })
    }

    fn database(&mut self) -> Result<&Arc<Database>, StoreError> {
        if self.database.is_none() {
            self.database = Some(Arc::new(open(&self.path)?));
        }
        Ok(self.database.as_ref().expect("it was opened just now"))
    }
}

/// Only we may read what is in it: stacks have passwords in their environment.
fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    let file = folder.join(FILE);
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&file)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    fs::File::open(folder)?.sync_all()
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let opened = file::create(path, CACHE);
    let database = opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        other => failed("open", path)(other.into()),
    })?;
    begin(&database).map_err(failed("prepare", path))?;
    Ok(database)
}

/// Makes the tables, the first epoch and the fleet's name in a new file; writes nothing in an old one.
fn begin(database: &Database) -> Result<(), redb::Error> {
    let reading = database.begin_read()?;
    let is_new = match reading.open_table(HUB) {
        Ok(hub) => hub.get(EPOCH)?.is_none(),
        Err(redb::TableError::TableDoesNotExist(_)) => true,
        Err(error) => return Err(error.into()),
    };
    drop(reading);
    if is_new {
        let writing = database.begin_write()?;
        writing.open_table(STATE)?;
        writing.open_table(EVENTS)?;
        let mut hub = writing.open_table(HUB)?;
        hub.insert(EPOCH, 1u32.to_le_bytes().as_slice())?;
        hub.insert(FLEET, random()?.to_le_bytes().as_slice())?;
        drop(hub);
        writing.commit()?;
    }
    Ok(())
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    fs::File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

struct Raw {
    state: Vec<(Vec<u8>, Vec<u8>)>,
    events: Vec<Vec<u8>>,
    epoch: Option<u32>,
    side: SideTables,
    fleet: Option<u128>,
}

fn read_all(database: &Database) -> Result<Raw, redb::Error> {
    let reading = database.begin_read()?;
    let mut raw = Raw { state: vec![], events: vec![], epoch: None, fleet: None, side: side::read(database)? };
    for entry in reading.open_table(STATE)?.iter()? {
        let (key, value) = entry?;
        raw.state.push((key.value().to_vec(), value.value().to_vec()));
    }
    for entry in reading.open_table(EVENTS)?.iter()? {
        raw.events.push(entry?.1.value().to_vec());
    }
    let hub = reading.open_table(HUB)?;
    let fleet = hub.get(FLEET)?;
    raw.fleet = fleet.and_then(|bytes| Some(u128::from_le_bytes(bytes.value().try_into().ok()?)));
    let epoch = hub.get(EPOCH)?;
    raw.epoch = epoch.and_then(|bytes| Some(u32::from_le_bytes(bytes.value().try_into().ok()?)));
    Ok(raw)
}

fn write(database: &Database, records: &[Record], events: &[impl AsRef<Event>]) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut state = writing.open_table(STATE)?;
        for record in records {
            let key = encode_key(&record.key);
            match &record.value {
                Some(value) => drop(state.insert(key.as_slice(), encode(value).as_slice())?),
                None => drop(state.remove(key.as_slice())?),
            }
        }
        let mut kept = writing.open_table(EVENTS)?;
        for event in events.iter().map(AsRef::as_ref) {
            // An event is texts and numbers: it always serialises.
            kept.insert(event.id, serde_json::to_vec(event).unwrap_or_default().as_slice())?;
        }
        while usize::try_from(kept.len()?).unwrap_or(usize::MAX) > MAX_EVENTS {
            kept.pop_first()?;
        }
    }
    writing.commit()?;
    Ok(())
}

fn encode_key(key: &outrigger_planner::Key) -> Vec<u8> {
    postcard::to_stdvec(key).expect("a key is made of names and numbers, which always serialise")
}

fn encode(value: &Value) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("a value has no part that cannot be serialised")
}

fn decode(bytes: &[u8]) -> Option<Value> {
    let (version, body) = bytes.split_first()?;
    (*version == VERSION).then(|| postcard::from_bytes(body).ok())?
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(redb::Error) -> StoreError {
    move |source| StoreError::Failed { doing, path: path.to_owned(), source: Box::new(source) }
}
