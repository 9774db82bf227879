//! `outrigger-hub backup`: from the store itself, or from the hub that has it open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Config;
use crate::http::local::{self, LocalError};
use crate::store::{Store, StoreError};

/// Why there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The file cannot be made or written.
    #[error("cannot write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A hub has the store open, and does not hand it out.
    #[error(transparent)]
    Hub(#[from] LocalError),
    /// It began to hand it out and broke off.
    #[error("the hub broke off in the middle of the backup")]
    BrokeOff(#[source] reqwest::Error),
}

/// Writes everything in the store to `file` and says how many bytes that are. The file is new, ours alone, and on the disk
/// when this returns; after an error there is none.
///
/// # Errors
/// If the file is there already or cannot be written, or neither the store nor its hub can be read.
pub async fn backup(config: &Config, file: &Path) -> Result<u64, BackupError> {
    let cannot_write = |source| BackupError::File { path: file.to_owned(), source };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(cannot_write)?;
    let done = match Store::open_existing(&config.state_dir) {
        Ok(mut store) => store.backup(&mut out).map_err(BackupError::from),
        Err(StoreError::InUse { .. }) => from_hub(&config.state_dir, file, &mut out).await,
        Err(error) => Err(error.into()),
    };
    let done = done.and_then(|()| {
        out.sync_all().map_err(cannot_write)?;
        Ok(out.metadata().map_err(cannot_write)?.len())
    });
    if done.is_err() {
        let _ = fs::remove_file(file);
    }
    done
}

async fn from_hub(state_dir: &Path, file: &Path, out: &mut File) -> Result<(), BackupError> {
    let mut answer = local::ask(state_dir, reqwest::Method::GET, "/v1/backup").await?;
    while let Some(chunk) = answer.chunk().await.map_err(BackupError::BrokeOff)? {
        out.write_all(&chunk).map_err(|source| BackupError::File { path: file.to_owned(), source })?;
    }
    Ok(())
}
