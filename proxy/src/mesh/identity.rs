//! The device's certificate as the agent keeps it, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use outrigger_trust::{
    Certificate, CertificateDer, CertificateProblem, FileError, Identity, PeerTls, TlsError, UnixTime,
    read_certificates, read_key,
};
use thiserror::Error;

const FILES: [&str; 3] = ["certificate.pem", "authorities.pem", "key.pem"];

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Nobody has said where it is.
    #[error("this device has no identity to show to others")]
    None,
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// The parts do not belong together.
    #[error("the device's identity cannot be used")]
    Tls(#[from] TlsError),
}

/// Reads it when it is needed.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    folder: PathBuf,
    written: [Option<SystemTime>; 3],
    tls: PeerTls,
}

/// What the files say.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// A time that has certainly passed.
    pub(crate) floor: Option<UnixTime>,
}

impl Parts {
    pub(crate) fn read(folder: &Path) -> Result<Self, IdentityError> {
        let [certificate, authorities, key] = FILES.map(|file| folder.join(file));
        let chain = read_certificates(&certificate)?;
        let floor = chain.first().map(Certificate::read).transpose()?.map(|read| read.not_before);
        let identity = Identity { chain, key: read_key(&key)? };
        Ok(Self { identity, authorities: read_certificates(&authorities)?, floor })
    }
}

impl Keeper {
    /// The identity in this folder, as it is now.
    pub(super) fn tls(&self, folder: &Path) -> Result<PeerTls, IdentityError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let written = FILES.map(|file| std::fs::metadata(folder.join(file)).and_then(|found| found.modified()).ok());
        if let Some(held) = held.as_ref().filter(|held| held.folder == folder && held.written == written) {
            return Ok(held.tls.clone());
        }
        let Parts { identity, authorities, floor } = Parts::read(folder)?;
        let tls = PeerTls::new(identity, &authorities, floor)?;
        *held = Some(Held { folder: folder.to_owned(), written, tls: tls.clone() });
        Ok(tls)
    }
}
