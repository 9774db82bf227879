//! What an agent keeps of the service network for the one after it: at each change in memory, by way of a file on `/run`, and
//! on the disk as seldom as the core says. So an agent that restarts goes on with the newest routes, a device that boots
//! without the hub with somewhat older ones, and flash is not worn out by endpoints that come and go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use outrigger_protocol::BootId;
use tracing::debug;

use crate::core::{Keep, KeptMesh};
use crate::state::{self, crc32};

/// Folder for what is gone with the boot, where systemd names none.
const RUN_DIR: &str = "/run/outrigger-agent";
/// Its name in the state folder.
const NAME: &str = "mesh";

/// The two files.
#[derive(Debug, Clone)]
pub struct MeshFile {
    boot: BootId,
    run: PathBuf,
    disk: PathBuf,
}

/// A path on `/run` of the agent with this name and state folder: several may share the device.
#[must_use]
pub fn run_path(name: &str, state_dir: &Path, what: &str) -> PathBuf {
    let folder = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| RUN_DIR.into(), PathBuf::from);
    let state = crc32(state_dir.as_os_str().as_encoded_bytes());
    folder.join(format!("{name}-{state:08x}.{what}"))
}

impl MeshFile {
    /// The files of the agent with this name and state folder.
    #[must_use]
    pub fn of(name: &str, state_dir: &Path, boot: BootId) -> Self {
        Self { boot, run: run_path(name, state_dir, NAME), disk: state_dir.join(NAME) }
    }

    /// What was kept last; nothing where neither file can be read. Then the hub says it anew.
    #[must_use]
    pub fn read(&self) -> KeptMesh {
        let of_boot = fs::read(&self.run).ok().and_then(|bytes| state::decode::<(BootId, KeptMesh)>(&bytes));
        let of_boot = of_boot.filter(|(boot, _)| *boot == self.boot).map(|(_, kept)| kept);
        let on_disk = || fs::read(&self.disk).ok().and_then(|bytes| state::decode(&bytes));
        of_boot.or_else(on_disk).unwrap_or_default()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// If the disk refuses. What was there is still there then.
    pub fn save(&self, kept: &KeptMesh, keep: Keep) -> io::Result<()> {
        if let Err(error) = self.save_for_boot(kept) {
            // The next agent begins with what is on the disk, and the hub tells it the rest.
            debug!(path = %self.run.display(), %error, "routes are not kept for a restart");
        }
        match keep {
            Keep::Boot => Ok(()),
            Keep::Disk => state::replace(&self.disk, &state::encode(kept).map_err(io::Error::other)?),
        }
    }

    /// A rename is enough: this file is gone with the power anyway.
    fn save_for_boot(&self, kept: &KeptMesh) -> io::Result<()> {
        if let Some(folder) = self.run.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = self.run.with_extension("new");
        fs::write(&new, state::encode(&(self.boot, kept)).map_err(io::Error::other)?)?;
        fs::rename(&new, &self.run)
    }
}

#[cfg(test)]
mod tests {
    use outrigger_protocol::Routes;

    use super::*;

    fn kept(number: u64) -> KeptMesh {
        let routes = Some(Routes { number, ..Routes::default() });
        let addresses = [("lan".parse().unwrap(), [("shop/web".parse().unwrap(), 7)].into())].into();
        KeptMesh { routes, addresses, mesh_port: Some(7643) }
    }

    fn files(folder: &Path, boot: u128) -> MeshFile {
        MeshFile { boot: BootId(boot), run: folder.join("run/pi.mesh"), disk: folder.join(NAME) }
    }

    #[test]
    fn a_restart_finds_the_newest_and_a_boot_what_was_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = files(folder.path(), 1);
        assert_eq!(file.read(), KeptMesh::default());
        file.save(&kept(1), Keep::Disk).unwrap();
        file.save(&kept(2), Keep::Boot).unwrap();
        assert_eq!(file.read(), kept(2));
        assert_eq!(files(folder.path(), 2).read(), kept(1));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = files(folder.path(), 1);
        file.save(&kept(1), Keep::Disk).unwrap();
        fs::write(&file.run, b"\x02junk").unwrap();
        assert_eq!(file.read(), kept(1), "the other file does");
        fs::write(&file.disk, b"").unwrap();
        assert_eq!(file.read(), KeptMesh::default());
    }
}
