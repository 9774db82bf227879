//! What the agent keeps on its disk: the assignment, a number made once, and which images it has pulled. Nothing else is
//! ever written.
//!
//! The assignment is replaced whole: a new file is written and synced, takes the old one's name, and the folder is synced.
//! A power cut at any instant leaves the old one or the new one. A checksum tells a file that the disk has spoilt.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use atomic_write_file::OpenOptions;
use atomic_write_file::unix::OpenOptionsExt;
use outrigger_protocol::{Assignment, FleetId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::core::Held;

/// First byte of the file. Another form gets another number.
const VERSION: u8 = 2;
/// Bytes before the assignment: version and checksum.
const HEADER: usize = 5;
/// Name of the assignment's file.
const ASSIGNMENT: &str = "assignment";
/// Name under which an unreadable one is kept for whoever wants to know why.
const QUARANTINED: &str = "assignment.unreadable";
/// Name of the file that says which images the agent has pulled.
const IMAGES: &str = "images";
/// Name of the file with the number that tells two installations apart.
const MACHINE: &str = "machine";
/// A source of random numbers that every Linux has.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";

/// The folder that the agent keeps its state in.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// The state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// It cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent uses it.
    #[error("another agent runs with the state folder {}; give each its own by --state-dir", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A file in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The number that tells installations apart is none.
    #[error("{} does not hold a number; remove it if this device is not a copy of another", path.display())]
    Machine {
        /// Which.
        path: PathBuf,
    },
}

impl StateDir {
    /// The folder at this path, made where it is missing, and locked until this is dropped.
    ///
    /// # Errors
    /// If it cannot be made, or another agent has it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make.map_err(|source| StateError::Make { path: path.to_owned(), source })?;
        // The folder itself is locked: that works on a file system that has become read-only, too.
        let lock = File::open(path).map_err(|source| StateError::Read { path: path.to_owned(), source })?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StateError::InUse { path: path.to_owned() })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The fleet of the assignment in this folder; also while an agent runs with it. Nothing is changed.
    #[must_use]
    pub fn fleet_in(path: &Path) -> Option<FleetId> {
        decode::<Assignment>(&fs::read(path.join(ASSIGNMENT)).ok()?).map(|assignment| assignment.fleet)
    }

    /// The assignment that was saved last. One that cannot be read is put aside.
    pub fn held(&self) -> Held {
        let path = self.path.join(ASSIGNMENT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Held::Nothing,
            Err(_) => return Held::Unreadable,
        };
        if let Some(assignment) = decode(&bytes) {
            return Held::Assignment(assignment);
        }
        // It stays where it is if even that fails: it will be unreadable next time, too.
        let _ = fs::rename(&path, self.path.join(QUARANTINED));
        Held::Unreadable
    }

    /// Forgets the assignment, and with it the fleet. Returns when it would not come back after a power cut.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn forget(&self) -> Result<(), StateError> {
        let path = self.path.join(ASSIGNMENT);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let synced = removed.and_then(|()| File::open(&self.path)?.sync_all());
        synced.map_err(|source| StateError::Write { path, source })
    }

    /// The number that tells this installation from another one that claims the same name; made where there is none.
    ///
    /// # Errors
    /// If its file can be neither read nor made.
    pub fn machine(&self) -> Result<u128, StateError> {
        let path = self.path.join(MACHINE);
        match fs::read_to_string(&path) {
            Ok(text) => u128::from_str_radix(text.trim(), 16).map_err(|_| StateError::Machine { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let machine = random()?;
                replace(&path, format!("{machine:032x}\n").as_bytes())
                    .map_err(|source| StateError::Write { path, source })?;
                Ok(machine)
            }
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Which images earlier agents have pulled; empty where nobody knows, and then none is removed.
    #[must_use]
    pub fn images(&self) -> String {
        fs::read_to_string(self.path.join(IMAGES)).unwrap_or_default()
    }

    /// Where to save which images have been pulled.
    #[must_use]
    pub fn images_file(&self) -> ImagesFile {
        ImagesFile { path: self.path.join(IMAGES) }
    }

    /// Where to save to; can be given to another thread.
    #[must_use]
    pub fn saver(&self) -> Saver {
        Saver { path: self.path.join(ASSIGNMENT) }
    }
}

/// Saves assignments.
#[derive(Debug, Clone)]
pub struct Saver {
    path: PathBuf,
}

impl Saver {
    /// Replaces the saved assignment. Returns when it would survive a power cut.
    ///
    /// # Errors
    /// If the disk refuses. The old one is still there then.
    pub fn save(&self, assignment: &Assignment) -> Result<(), StateError> {
        let write = |source| StateError::Write { path: self.path.clone(), source };
        let bytes = encode(assignment).map_err(|error| write(io::Error::other(error)))?;
        replace(&self.path, &bytes).map_err(write)
    }
}

/// Saves which images have been pulled.
#[derive(Debug, Clone)]
pub struct ImagesFile {
    path: PathBuf,
}

impl ImagesFile {
    /// Replaces the file.
    ///
    /// # Errors
    /// If the disk refuses. The old one is still there then.
    pub fn save(&self, text: &str) -> Result<(), StateError> {
        replace(&self.path, text.as_bytes()).map_err(|source| StateError::Write { path: self.path.clone(), source })
    }
}

/// Replaces a file as a whole. Returns when it would survive a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The environment of containers is in it: for its owner alone, whatever the umask.
    let mut file = OpenOptions::new().mode(0o600).preserve_mode(false).preserve_owner(false).open(path)?;
    file.write_all(bytes)?;
    file.commit()
}

fn random() -> Result<u128, StateError> {
    let path = PathBuf::from(RANDOM);
    let text = fs::read_to_string(&path).map_err(|source| StateError::Read { path: path.clone(), source })?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|_| StateError::Machine { path })
}

/// A file's content: version, checksum, value.
pub(crate) fn encode<T: Serialize>(value: &T) -> postcard::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(value, vec![VERSION, 0, 0, 0, 0])?;
    let (header, body) = bytes.split_at_mut(HEADER);
    let sum = crc32(body).to_le_bytes();
    for (to, from) in header.iter_mut().skip(1).zip(sum) {
        *to = from;
    }
    Ok(bytes)
}

/// The value in a file's content; none where the disk has spoilt it, or another release has written it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let (&version, sum) = header.split_first()?;
    if version != VERSION || sum != crc32(body).to_le_bytes() {
        return None;
    }
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(value)
}

/// CRC-32 as in IEEE 802.3. Bit by bit: it reads a few kilobytes once per change of the assignment.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use outrigger_protocol::{
        Assigned, ContainerSpec, Epoch, FleetId, Generation, Goal, LossPolicy, PlacementId, Stamp,
    };

    use super::*;

    fn assignment(generation: u64) -> Assignment {
        let spec = ContainerSpec { image: "web:1".into(), ..ContainerSpec::default() };
        let one = Assigned {
            placement: PlacementId(generation),
            replica: "shop/web.1".parse().unwrap(),
            spec: 0,
            goal: Goal::Run,
            loss: LossPolicy::Available,
        };
        let stamp = Stamp { epoch: Epoch(1), generation: Generation(generation) };
        Assignment { fleet: FleetId(1), stamp, specs: vec![spec], replicas: vec![one], networks: vec![] }
    }

    fn open(folder: &tempfile::TempDir) -> StateDir {
        StateDir::open(folder.path()).unwrap()
    }

    #[test]
    fn the_checksum_is_the_one_of_ieee() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_was_saved_last_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(&folder);
        assert_eq!(state.held(), Held::Nothing);
        for generation in 1..4 {
            state.saver().save(&assignment(generation)).unwrap();
            assert_eq!(state.held(), Held::Assignment(assignment(generation)));
        }
    }

    #[test]
    fn only_its_owner_can_read_an_assignment() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        open(&folder).saver().save(&assignment(1)).unwrap();
        let mode = fs::metadata(folder.path().join(ASSIGNMENT)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_power_cut_before_the_rename_leaves_the_old_assignment() {
        let folder = tempfile::tempdir().unwrap();
        open(&folder).saver().save(&assignment(1)).unwrap();
        // What a cut leaves: a part of the new file under a name of its own.
        let new = encode(&assignment(2)).unwrap();
        for length in 0..=new.len() {
            fs::write(folder.path().join(".assignment.x7Yz"), new.get(..length).unwrap()).unwrap();
            assert_eq!(open(&folder).held(), Held::Assignment(assignment(1)));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_lost_end_is_noticed() {
        let good = encode(&assignment(7)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            *bad.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            assert_eq!(decode::<Assignment>(&bad), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(decode::<Assignment>(good.get(..length).unwrap()), None, "length {length}");
        }
    }

    #[test]
    fn an_unreadable_assignment_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(&folder);
        fs::write(folder.path().join(ASSIGNMENT), b"\0\0\0").unwrap();
        assert_eq!(state.held(), Held::Unreadable);
        assert_eq!(fs::read(folder.path().join(QUARANTINED)).unwrap(), b"\0\0\0");
        assert_eq!(state.held(), Held::Nothing);
    }

    #[test]
    fn a_machine_keeps_its_number_and_two_differ() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = open(&a).machine().unwrap();
        assert_eq!(open(&a).machine().unwrap(), first);
        assert_ne!(open(&b).machine().unwrap(), first);
    }

    #[test]
    fn two_agents_cannot_share_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = open(&folder);
        assert!(matches!(StateDir::open(folder.path()), Err(StateError::InUse { .. })));
    }

    #[test]
    fn a_disk_that_refuses_keeps_the_old_assignment() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Saver { path: folder.path().join("gone/assignment") };
        assert!(matches!(missing.save(&assignment(1)), Err(StateError::Write { .. })));
    }
}
