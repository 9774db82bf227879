//! The lease, where it survives the agent but not the boot: in memory, by way of a file on `/run`. No disk is written.
//!
//! Without it an agent that restarts would not know how long its exclusive replicas may still run, and would have to end
//! them at once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use outrigger_protocol::{BootId, Moment};
use tracing::warn;

use crate::state::crc32;

/// Folder for what is gone with the boot, where systemd names none.
const RUN_DIR: &str = "/run/outrigger-agent";
/// Bytes of the file: boot, moment, checksum.
const LENGTH: usize = 28;
const BODY: usize = 24;

/// The file. Where it cannot be had, nothing is kept; without exclusive replicas there is none.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    boot: BootId,
    kept: Option<Moment>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Nothing has had to be kept yet.
    Unopened,
    Open(File),
    Refused,
}

impl LeaseFile {
    /// The file of the agent with this name and state folder: several may share the device.
    #[must_use]
    pub fn of(name: &str, state_dir: &Path, boot: BootId) -> Self {
        let folder = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| RUN_DIR.into(), PathBuf::from);
        let state = crc32(state_dir.as_os_str().as_encoded_bytes());
        Self::at(folder.join(format!("{name}-{state:08x}.lease")), boot)
    }

    fn at(path: PathBuf, boot: BootId) -> Self {
        Self { path, boot, kept: None, place: Place::Unopened }
    }

    /// What an agent before this one kept in this boot.
    #[must_use]
    pub fn read(&self) -> Option<Moment> {
        let bytes = fs::read(&self.path).ok().filter(|bytes| bytes.len() == LENGTH)?;
        let (body, sum) = bytes.split_at_checked(BODY)?;
        let (boot, moment) = body.split_at_checked(size_of::<u128>())?;
        let is_ours = boot == self.boot.0.to_le_bytes() && sum == crc32(body).to_le_bytes();
        is_ours.then(|| moment.try_into().map(u64::from_le_bytes).map(Moment).ok()).flatten()
    }

    /// Keeps the lease, if it has changed.
    pub fn keep(&mut self, renewed_at: Option<Moment>) {
        let Some(moment) = renewed_at else { return };
        if self.kept == renewed_at || matches!(self.place, Place::Refused) {
            return;
        }
        match self.write(moment) {
            Ok(()) => self.kept = renewed_at,
            Err(error) => {
                let path = self.path.display();
                warn!(%path, %error, "the lease cannot be kept; a restart of the agent will end exclusive replicas");
                self.place = Place::Refused;
            }
        }
    }

    fn write(&mut self, moment: Moment) -> io::Result<()> {
        let mut bytes = self.boot.0.to_le_bytes().to_vec();
        bytes.extend(moment.0.to_le_bytes());
        bytes.extend(crc32(&bytes).to_le_bytes());
        if let Place::Open(file) = &self.place {
            return file.write_all_at(&bytes, 0);
        }
        fs::create_dir_all(self.path.parent().unwrap_or(&self.path))?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        file.write_all_at(&bytes, 0)?;
        self.place = Place::Open(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_found_again_in_the_same_boot_and_in_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/pi.lease");
        let mut file = LeaseFile::at(path.clone(), BootId(1));
        assert_eq!(file.read(), None);
        for moment in [5, 6, u64::MAX] {
            file.keep(Some(Moment(moment)));
            assert_eq!(LeaseFile::at(path.clone(), BootId(1)).read(), Some(Moment(moment)));
        }
        assert_eq!(LeaseFile::at(path.clone(), BootId(2)).read(), None);
    }

    #[test]
    fn a_file_that_holds_something_else_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pi.lease");
        LeaseFile::at(path.clone(), BootId(1)).keep(Some(Moment(5)));
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            *bad.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert_eq!(LeaseFile::at(path.clone(), BootId(1)).read(), None);
        }
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nothing_fails() {
        let mut file = LeaseFile::at("/proc/none/pi.lease".into(), BootId(1));
        file.keep(Some(Moment(5)));
        assert_eq!(file.read(), None);
    }
}
