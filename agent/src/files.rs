//! Where secrets and configs are while containers use them: in memory, one folder for each copy, for nobody but the agent to
//! look into. No name of anybody's becomes a path here: folders and files are numbers.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use outrigger_protocol::{ContainerSpec, FileMount, PlacementId};
use rustix::fs::statfs;
use rustix::process::geteuid;
use thiserror::Error;

use crate::engine::FileBind;
use crate::state::crc32;

/// Folder for what is gone with the boot, where systemd names none.
pub const RUN_DIR: &str = "/run/outrigger-agent";
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Whether what is written there is gone with the power.
///
/// # Errors
/// If it cannot be looked at.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    // The type differs between architectures; the number does not.
    Ok(IN_MEMORY.contains(&(statfs(path)?.f_type as u64 & 0xffff_ffff)))
}

/// Ends the name of a folder that is being filled.
const NEW: &str = ".new";

/// The folder of all of them. Several agents may share a device, so its name says whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesDir {
    root: PathBuf,
}

/// Files cannot be put where containers find them.
#[derive(Debug, Error)]
pub enum FilesError {
    /// The folder is on a disk, where what is written stays.
    #[error("{} is not in memory, so secrets are not written there; mount a tmpfs at it", path.display())]
    OnDisk {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else has made the folder, or lets others in.
    #[error(
        "{} is not the agent's alone, so secrets are not written there; stop the agent, remove it, start the agent",
        path.display()
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// The kernel refuses.
    #[error("cannot {doing} {}", path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Failed { doing, path, source }
}

impl FilesDir {
    /// That of the agent with this name and state folder.
    #[must_use]
    pub fn of(runtime_dir: &Path, name: &str, state_dir: &Path) -> Self {
        let state = crc32(state_dir.as_os_str().as_encoded_bytes());
        Self { root: runtime_dir.join(format!("{name}-{state:08x}.files")) }
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The copies whose files are all there.
    #[must_use]
    pub fn laid(&self) -> BTreeSet<PlacementId> {
        let names = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.parse().ok().map(PlacementId)).collect()
    }

    /// Makes an empty folder to be filled for a copy. It counts from [`Filling::finish`] on.
    ///
    /// # Errors
    /// If it is not in memory, or the kernel refuses.
    pub fn begin(&self, placement: PlacementId) -> Result<Filling, FilesError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(failed("make", &self.root))?;
        // Somebody may have been there first.
        let found = fs::symlink_metadata(&self.root).map_err(failed("look at", &self.root))?;
        let is_ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
        if !is_ours {
            return Err(FilesError::NotOurs { path: self.root.clone() });
        }
        if !is_in_memory(&self.root).map_err(failed("look at", &self.root))? {
            return Err(FilesError::OnDisk { path: self.root.clone() });
        }
        let path = self.root.join(format!("{}{NEW}", placement.0));
        remove(&path)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
        Ok(Filling { finished: self.folder(placement), path, count: 0 })
    }

    /// Takes the files of a copy away. None is no error.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn clear(&self, placement: PlacementId) -> Result<(), FilesError> {
        remove(&self.root.join(format!("{}{NEW}", placement.0)))?;
        remove(&self.folder(placement))
    }

    /// Takes all away.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn clear_all(&self) -> Result<(), FilesError> {
        remove(&self.root)
    }

    /// What is mounted into the container of a copy.
    #[must_use]
    pub fn binds(&self, placement: PlacementId, spec: &ContainerSpec) -> Vec<FileBind> {
        let folder = self.folder(placement);
        let bind = |(number, mount): (usize, &FileMount)| FileBind {
            source: folder.join(number.to_string()),
            target: mount.target.clone(),
        };
        spec.files.iter().enumerate().map(bind).collect()
    }

    /// Where the files of a copy are.
    #[must_use]
    pub fn folder(&self, placement: PlacementId) -> PathBuf {
        self.root.join(placement.0.to_string())
    }
}

fn remove(path: &Path) -> Result<(), FilesError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A folder that is being filled, in the order of the specification. Left unfinished, it does not count.
#[derive(Debug)]
pub struct Filling {
    path: PathBuf,
    finished: PathBuf,
    count: usize,
}

impl Filling {
    /// Adds the next file.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn add(&mut self, mount: &FileMount, content: &[u8]) -> Result<(), FilesError> {
        let path = self.path.join(self.count.to_string());
        self.count += 1;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed("make", &path))?;
        file.write_all(content).map_err(failed("write", &path))?;
        let made = file.metadata().map_err(failed("look at", &path))?;
        // Only where it differs: changing it takes a right that an agent without root does not have.
        if (made.uid(), made.gid()) != (mount.uid, mount.gid) {
            let changed = std::os::unix::fs::fchown(&file, Some(mount.uid), Some(mount.gid));
            changed.map_err(failed("change the owner of", &path))?;
        }
        // Last, and past the umask; never a right to become somebody else.
        let mode = fs::Permissions::from_mode(mount.mode & 0o777);
        file.set_permissions(mode).map_err(failed("set the permissions of", &path))
    }

    /// From now on it counts.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn finish(self) -> Result<(), FilesError> {
        remove(&self.finished)?;
        fs::rename(&self.path, &self.finished).map_err(failed("rename", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(mode: u32) -> FileMount {
        let file = outrigger_protocol::FileRef {
            kind: outrigger_protocol::FileKind::Secret,
            name: "db".parse().unwrap(),
            version: 1,
        };
        let me = fs::metadata("/proc/self").unwrap();
        FileMount { file, target: "/run/secrets/db".into(), uid: me.uid(), gid: me.gid(), mode }
    }

    #[test]
    fn files_have_the_rights_that_were_asked_for_and_their_folder_is_for_nobody_else() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let files = FilesDir::of(memory.path(), "pi", Path::new("/var/lib/x"));
        let mut filling = files.begin(PlacementId(7)).unwrap();
        filling.add(&mount(0o440), b"hunter2").unwrap();
        filling.add(&mount(0o6755), b"other").unwrap();
        assert!(files.laid().is_empty(), "not before all are there");
        filling.finish().unwrap();
        assert_eq!(files.laid(), BTreeSet::from([PlacementId(7)]));
        let spec = ContainerSpec { files: vec![mount(0o440), mount(0o755)], ..ContainerSpec::default() };
        let binds = files.binds(PlacementId(7), &spec);
        assert_eq!(fs::read(&binds[0].source).unwrap(), b"hunter2");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&binds[0].source), 0o440);
        assert_eq!(mode(&binds[1].source), 0o755, "no set-user-id");
        assert_eq!(mode(files.root()), 0o700);
        files.clear(PlacementId(7)).unwrap();
        assert!(files.laid().is_empty() && !binds[0].source.exists());
        files.clear_all().unwrap();
        files.clear_all().unwrap();
    }

    #[test]
    fn what_was_left_half_done_does_not_count_and_is_made_anew() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let files = FilesDir::of(memory.path(), "pi", Path::new("/var/lib/x"));
        files.begin(PlacementId(7)).unwrap().add(&mount(0o400), b"old").unwrap();
        assert!(files.laid().is_empty());
        let mut filling = files.begin(PlacementId(7)).unwrap();
        filling.add(&mount(0o400), b"new").unwrap();
        filling.finish().unwrap();
        files.begin(PlacementId(7)).unwrap().finish().unwrap();
        assert!(fs::read_dir(files.root().join("7")).unwrap().next().is_none(), "the earlier ones are gone");
    }

    #[test]
    fn nothing_is_written_where_others_were_first_or_can_look() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let files = FilesDir::of(memory.path(), "pi", Path::new("/var/lib/x"));
        let refused = || matches!(files.begin(PlacementId(7)), Err(FilesError::NotOurs { .. }));
        fs::create_dir(files.root()).unwrap();
        fs::set_permissions(files.root(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(refused(), "a folder that others can enter");
        fs::remove_dir(files.root()).unwrap();
        let elsewhere = memory.path().join("elsewhere");
        DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, files.root()).unwrap();
        assert!(refused(), "a link");
        assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
        fs::remove_file(files.root()).unwrap();
        assert!(!refused());
    }

    #[test]
    fn nothing_is_written_to_a_disk() {
        // The sources of this crate are on none that forgets.
        let disk = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-such-folder");
        let files = FilesDir::of(&disk, "pi", Path::new("/var/lib/x"));
        let refused = files.begin(PlacementId(7)).map(drop);
        fs::remove_dir_all(&disk).unwrap();
        assert!(matches!(refused, Err(FilesError::OnDisk { .. })), "{refused:?}");
    }
}
