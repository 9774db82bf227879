//! `outrigger-hub backup`: from the store itself, or from the hub that has it open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Config;
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
    #[error("the hub that has the store open does not answer at {url}")]
    Hub {
        /// What was asked.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
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
        Err(StoreError::InUse { .. }) => from_hub(config.http_listen, file, &mut out).await,
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

async fn from_hub(listen: SocketAddr, file: &Path, out: &mut File) -> Result<(), BackupError> {
    crate::run::install_crypto();
    let url = format!("http://{}/v1/backup", reachable(listen));
    let fail = |source| BackupError::Hub { url: url.clone(), source };
    let mut answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status).map_err(fail)?;
    while let Some(chunk) = answer.chunk().await.map_err(fail)? {
        out.write_all(&chunk).map_err(|source| BackupError::File { path: file.to_owned(), source })?;
    }
    Ok(())
}

/// "All addresses" is where a hub listens, not where it can be asked.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}
