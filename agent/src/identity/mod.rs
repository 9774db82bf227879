//! Who this device is: its key, its certificate, whom it trusts, and where the hub is. In the folder `identity` beside the
//! assignment, readable by its owner alone. The key never leaves it.
//!
//! Joining makes a whole new folder and exchanges it for the old one; a renewal replaces files one at a time, the
//! authorities first. So a power cut at any instant leaves an identity that works.

mod hub_file;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use outrigger_protocol::{DeviceName, NameError};
use outrigger_trust::{
    Certificate, CertificateDer, CertificateProblem, DeviceKey, FileError, Identity, KeyError, Pin, TlsError,
    certificates_from_pem, pem_of_certificates, read_certificates, read_key, verify_device_chain, write_private,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;

use crate::core::OwnCertificate;

pub use hub_file::{HubFile, HubFileProblem};

/// Name of the folder.
const FOLDER: &str = "identity";
/// Name of the folder that a join fills. Its key is used again by the next try: so the hub can tell that a device whose
/// join was cut off at the last moment is the same one.
const NEW: &str = "identity.new";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const AUTHORITIES: &str = "authorities.pem";
const HUB: &str = "hub.toml";

/// Where the identity is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityDir {
    state_dir: PathBuf,
}

/// A device that has joined.
#[derive(Debug)]
pub struct Joined {
    /// Its name, from the certificate.
    pub device: DeviceName,
    /// What its certificate says.
    pub certificate: Certificate,
    /// Its certificate, and whoever signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it trusts.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: DeviceKey,
    /// Where the hub is.
    pub hub: HubFile,
}

/// The identity cannot be read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key.
    #[error("the key in {} is of no use", path.display())]
    Key {
        /// Where.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// The certificate belongs to another key.
    #[error("the certificate belongs to another key than the device's")]
    OtherKey,
    /// The certificate names nobody.
    #[error("the certificate names no device")]
    Nameless,
    /// The certificate's name is none.
    #[error("the certificate names no device")]
    Name(#[from] NameError),
    /// The certificate is for another device.
    #[error("the certificate is for the device `{0}`")]
    OtherDevice(DeviceName),
    /// None of its authorities has signed it.
    #[error("the certificate cannot be used with its authorities")]
    Chain(#[source] TlsError),
    /// Where the hub is.
    #[error("{} does not make sense", path.display())]
    Hub {
        /// Which.
        path: PathBuf,
        /// Why.
        source: HubFileProblem,
    },
}

impl IdentityDir {
    /// In this state folder.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state_dir.join(FOLDER)
    }

    /// The identity; none if the device has not joined.
    ///
    /// # Errors
    /// If there is one that is damaged.
    pub fn read(&self) -> Result<Option<Joined>, IdentityError> {
        let path = self.path();
        if !path.join(CERTIFICATE).exists() && !path.join(KEY).exists() {
            return Ok(None);
        }
        let chain = read_certificates(&path.join(CERTIFICATE))?;
        let authorities = read_certificates(&path.join(AUTHORITIES))?;
        let key = key_in(&path)?;
        let hub_path = path.join(HUB);
        let hub = fs::read_to_string(&hub_path).map_err(|source| FileError::Read { path: hub_path.clone(), source })?;
        let hub = hub.parse().map_err(|source| IdentityError::Hub { path: hub_path, source })?;
        Joined::new(chain, authorities, key, hub).map(Some)
    }

    /// The name under which the device has joined; none if it has not.
    ///
    /// # Errors
    /// If there is an identity that is damaged.
    pub fn device(&self) -> Result<Option<DeviceName>, IdentityError> {
        Ok(self.read()?.map(|joined| joined.device))
    }

    /// The key of a join that was cut off, or a new one.
    ///
    /// # Errors
    /// If none can be made or kept.
    pub fn key_for_join(&self) -> Result<DeviceKey, IdentityError> {
        let path = self.state_dir.join(NEW);
        make_folder(&path)?;
        if let Ok(key) = key_in(&path) {
            return Ok(key);
        }
        let file = path.join(KEY);
        let key = DeviceKey::fresh().map_err(|source| IdentityError::Key { path: file.clone(), source })?;
        write_private(&file, &key.reveal_pem())?;
        Ok(key)
    }

    /// Puts a new identity, made with [`Self::key_for_join`], in the place of the old one.
    ///
    /// # Errors
    /// If it cannot be written. The old one is still there then.
    pub fn put(&self, joined: &Joined) -> Result<(), IdentityError> {
        let (new, path) = (self.state_dir.join(NEW), self.path());
        write_private(&new.join(KEY), &joined.key.reveal_pem())?;
        write_private(&new.join(AUTHORITIES), &pem_of_certificates(&joined.authorities))?;
        write_private(&new.join(HUB), &joined.hub.to_string())?;
        write_private(&new.join(CERTIFICATE), &pem_of_certificates(&joined.chain))?;
        let failed = |source: io::Error| IdentityError::Folder { path: path.clone(), source };
        if path.exists() {
            renameat_with(CWD, &new, CWD, &path, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
            fs::remove_dir_all(&new).map_err(failed)?;
        } else {
            fs::rename(&new, &path).map_err(failed)?;
        }
        fs::File::open(&self.state_dir).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Forgets the identity: the device has to join anew. Without one there is nothing to do.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self) -> Result<(), IdentityError> {
        let path = self.path();
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(IdentityError::Folder { path, source }),
            _ => Ok(()),
        }
    }

    /// Puts a new certificate, and whom to trust from now on, in the place of the present ones.
    ///
    /// # Errors
    /// If it is of no use for this device, or cannot be written. The present one is still there then.
    pub fn renew(&self, new: &outrigger_protocol::Certificate) -> Result<Joined, IdentityError> {
        let path = self.path();
        let der = |all: &[Vec<u8>]| all.iter().cloned().map(CertificateDer::from).collect::<Vec<_>>();
        let before = self.read()?.ok_or(IdentityError::Nameless)?;
        let joined = Joined::new(der(&new.chain), der(&new.authorities), before.key, before.hub)?;
        if joined.device != before.device {
            return Err(IdentityError::OtherDevice(joined.device));
        }
        // The other way round a power cut could leave a certificate whose authority is not trusted yet. What is trusted
        // meanwhile includes who signed the present certificate, as long as the hub's bundle does.
        write_private(&path.join(AUTHORITIES), &pem_of_certificates(&joined.authorities))?;
        write_private(&path.join(CERTIFICATE), &pem_of_certificates(&joined.chain))?;
        Ok(joined)
    }
}

fn key_in(folder: &Path) -> Result<DeviceKey, IdentityError> {
    let path = folder.join(KEY);
    DeviceKey::from_der(read_key(&path)?).map_err(|source| IdentityError::Key { path, source })
}

fn make_folder(path: &Path) -> Result<(), IdentityError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| IdentityError::Folder { path: path.to_owned(), source })
}

impl Joined {
    /// An identity whose parts belong together.
    ///
    /// # Errors
    /// If they do not.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        authorities: Vec<CertificateDer<'static>>,
        key: DeviceKey,
        hub: HubFile,
    ) -> Result<Self, IdentityError> {
        let certificate = verify_device_chain(&chain, &authorities).map_err(IdentityError::Chain)?;
        if certificate.key_digest != key.digest() {
            return Err(IdentityError::OtherKey);
        }
        let device = certificate.common_name.as_deref().ok_or(IdentityError::Nameless)?.parse()?;
        Ok(Self { device, certificate, chain, authorities, key, hub })
    }

    /// The same from the texts in a hub's answer.
    ///
    /// # Errors
    /// If they make no sense or do not belong together.
    pub fn from_pem(chain: &str, authorities: &str, key: DeviceKey, hub: HubFile) -> Result<Self, IdentityError> {
        let read = |text| certificates_from_pem(text).map_err(|_| IdentityError::Certificate(CertificateProblem));
        Self::new(read(chain)?, read(authorities)?, key, hub)
    }

    /// For the TLS library.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.to_der() }
    }

    /// For the core, which decides when to ask for the next one.
    ///
    /// # Errors
    /// If the system gives no random numbers for the request.
    pub fn own(&self) -> Result<OwnCertificate, KeyError> {
        let digest = self.chain.first().map(|leaf| Pin::of(leaf).0).unwrap_or_default();
        let serial = digest.iter().take(8).fold(0, |serial, byte| serial << 8 | u64::from(*byte));
        Ok(OwnCertificate {
            not_before_s: self.certificate.not_before.as_secs(),
            not_after_s: self.certificate.not_after.as_secs(),
            serial,
            request: self.key.request_der(self.device.as_str())?,
        })
    }
}

#[cfg(test)]
mod tests;
