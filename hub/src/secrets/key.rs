//! The key under which secrets rest: a file beside the store that no backup takes along, or one that systemd hands over.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outrigger_trust::{FileError, RestKey, SealError, write_private};
use thiserror::Error;
use tracing::info;

/// Name of the file in the state folder.
pub const FILE: &str = "secrets.key";
/// Name of systemd's credential (`LoadCredential=`, `LoadCredentialEncrypted=`).
pub const CREDENTIAL: &str = "outrigger-secrets-key";

/// There is no key. The hub does not start then: it would encrypt with one that is lost with it.
#[derive(Debug, Error)]
pub enum KeyProblem {
    /// A file that cannot be read.
    #[error("cannot read the key of the secrets, {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is none.
    #[error(
        "{} holds no key of secrets: 43 characters, as the hub writes them. Restore it, or move it away: then a new one is \
         made, and secrets must be set again", path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// A new one cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A new one cannot be made.
    #[error("no key for the secrets can be made")]
    Make(#[from] SealError),
}

/// The key that systemd hands over, else that in the state folder, which is made if it is not there.
pub(super) fn open(state_dir: &Path, credentials: Option<&Path>) -> Result<RestKey, KeyProblem> {
    if let Some(folder) = credentials
        && let Some(key) = read(&folder.join(CREDENTIAL))?
    {
        return Ok(key);
    }
    let path = state_dir.join(FILE);
    if let Some(key) = read(&path)? {
        // Whoever has copied it back may have left it open.
        let private = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        private.map_err(|source| KeyProblem::Read { path, source })?;
        return Ok(key);
    }
    let key = RestKey::fresh()?;
    write_private(&path, &key.reveal())?;
    info!(path = %path.display(), "a key for secrets was made; it is in no backup");
    Ok(key)
}

fn read(path: &Path) -> Result<Option<RestKey>, KeyProblem> {
    let text = match fs::read_to_string(path) {
        Ok(text) => outrigger_trust::Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyProblem::Read { path: path.to_owned(), source }),
    };
    RestKey::from_text(&text).map(Some).ok_or_else(|| KeyProblem::Damaged { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = open(folder.path(), None).unwrap().reveal();
        // As somebody may leave it who has copied it back.
        fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open(folder.path(), None).unwrap().reveal(), made);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn systemds_key_wins_and_nothing_is_written_then() {
        let (folder, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let given = RestKey::fresh().unwrap().reveal();
        fs::write(credentials.path().join(CREDENTIAL), format!("{}\n", *given)).unwrap();
        assert_eq!(open(folder.path(), Some(credentials.path())).unwrap().reveal(), given);
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn a_file_that_is_no_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "half a ke").unwrap();
        assert!(matches!(open(folder.path(), None), Err(KeyProblem::Damaged { .. })));
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), "half a ke");
    }
}
