//! The hub's own authority: one key in one file, and what it signs.
//!
//! The file holds the key, the authority's certificate, and for each authority that it has replaced two more: itself as
//! signed by that one, and that one. It is written whole or not at all, and anything in it that does not fit is an error:
//! a hub whose authority is damaged does not start, because with a new one it would lock its fleet out.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::{Certificate, CertificateDer, FileError, Identity, PemProblem, Pin, write_private};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use thiserror::Error;

use super::names::Names;

/// The file, in the folder of the store. Backups know it by this name.
pub const FILE: &str = "pki/authority.pem";
/// The hub's name at an external broker. No device can have it.
pub const HUB_NAME: &str = "$hub";
const DAY: Duration = Duration::from_secs(86_400);
/// Longer than the boards live; the authority is replaced by `rotate-ca`, not by the calendar.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// The server's certificate is made anew at each start, and in its last third.
pub(super) const SERVER_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// A device renews at 50–80 % of this.
pub const DEVICE_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Clocks in a fleet differ; what is signed now counts a little earlier.
const SLACK: Duration = Duration::from_secs(3600);
/// No hub runs before this release was made (2026-01-01): a clock that says so has not been set yet.
const EARLIEST: u64 = 1_767_225_600;
/// Authorities that were replaced and still count. Each costs bytes in every handshake.
const MAX_OLDER: usize = 4;
const END_OF_KEY: &str = "-----END PRIVATE KEY-----\n";

/// Why there is no authority. The hub does not start then.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder cannot be made.
    #[error("cannot prepare {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was there once.
    #[error(
        "{} is missing, and the devices of this fleet trust what was in it; put it back from a backup \
         (`outrigger-hub restore`)",
        path.display()
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It is there, and no use.
    #[error("{} is damaged ({why}); put it back from a backup (`outrigger-hub restore`)", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// Too many at once.
    #[error(
        "{MAX_OLDER} authorities have been replaced and are still in use by devices; wait until these have renewed"
    )]
    TooMany,
    /// Nothing can be signed.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// A request to sign that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It makes no sense.
    #[error("the certificate request cannot be used: {0}")]
    Malformed(String),
    /// A key that we do not take.
    #[error("the key is of a sort that is not taken here; use ECDSA P-256 or Ed25519")]
    Key,
}

/// A request for a certificate, as it comes.
#[derive(Debug, Clone, Copy)]
pub enum Csr<'a> {
    /// In a JSON body.
    Pem(&'a str),
    /// Over MQTT.
    Der(&'a [u8]),
}

/// What becomes of the authority that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It vouches for the new one, and its devices are let in until they have renewed.
    Keep,
    /// Somebody else may have its key: nothing of it counts any more, and every device joins anew.
    Forget,
}

/// Certificates for a device, its own first.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What the device shows from now on.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// Seconds since 1970 until which it counts.
    pub not_after: u64,
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    older: Vec<Older>,
}

/// An authority that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Older {
    /// The one that replaced it, as signed by it.
    cross: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin()).field("older", &self.older.len()).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority of the hub in `folder`. `was_made`: there was one, and a new one would lock everybody out.
    ///
    /// # Errors
    /// If it was there and is not whole any more, or a new one cannot be written.
    pub fn open(folder: &Path, was_made: bool, now: u64) -> Result<Self, AuthorityError> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                // Whoever has copied it here may have let others read it.
                let private = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
                private.map_err(|source| AuthorityError::Folder { path: path.clone(), source })?;
                Self::parse(&text).map_err(|why| AuthorityError::Damaged { path, why })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && was_made => Err(AuthorityError::Missing { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authority = Self::make(now)?;
                authority.write(folder)?;
                Ok(authority)
            }
            Err(source) => Err(FileError::Read { path, source }.into()),
        }
    }

    fn make(now: u64) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = authority_params(now);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, older: vec![] })
    }

    /// Puts a new authority in place of the one in `folder`. Devices that know only the old one still trust the new one,
    /// because the old one has signed it, until they have renewed.
    ///
    /// # Errors
    /// If there is none, or the new one cannot be written. The old one is still in place then.
    pub fn rotate(folder: &Path, old: Old, now: u64) -> Result<Self, AuthorityError> {
        let replaced = Self::open(folder, true, now)?;
        if old == Old::Forget {
            let new = Self::make(now)?;
            new.write(folder)?;
            return Ok(new);
        }
        if replaced.older.len() >= MAX_OLDER {
            return Err(AuthorityError::TooMany);
        }
        let mut new = Self::make(now)?;
        let mut params = authority_params(now);
        // The name must be that of the new one: it is one authority with two certificates.
        params.distinguished_name = name_of(&new.certificate)?;
        let cross = params.signed_by(new.issuer.key(), &replaced.issuer)?.der().clone();
        new.older = [Older { cross, certificate: replaced.certificate }].into_iter().chain(replaced.older).collect();
        new.write(folder)?;
        Ok(new)
    }

    /// The same without those that were replaced.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn forget_older(&mut self, folder: &Path) -> Result<(), AuthorityError> {
        let older = std::mem::take(&mut self.older);
        self.write(folder).inspect_err(|_| self.older = older)
    }

    fn write(&self, folder: &Path) -> Result<(), AuthorityError> {
        let path = folder.join(FILE);
        if let Some(parent) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|source| AuthorityError::Folder { path: parent.to_owned(), source })?;
        }
        let all =
            [&self.certificate].into_iter().chain(self.older.iter().flat_map(|old| [&old.cross, &old.certificate]));
        let all: Vec<_> = all.cloned().collect();
        let text = self.issuer.key().serialize_pem() + &outrigger_trust::pem_of_certificates(&all);
        Ok(write_private(&path, &text)?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let at = text.find(END_OF_KEY).ok_or("it does not begin with a whole key")? + END_OF_KEY.len();
        let (key, certificates) = text.split_at(at);
        let key = KeyPair::from_pem(key).map_err(|_| "its key cannot be read")?;
        let certificates =
            outrigger_trust::certificates_from_pem(certificates).map_err(|why: PemProblem| why.to_string())?;
        let (certificate, pairs) = certificates.split_first().ok_or("it holds no certificate")?;
        if !is_of(&key, certificate) {
            return Err("its key is not that of its first certificate".to_owned());
        }
        if pairs.len() % 2 != 0 {
            return Err("a certificate of a replaced authority is missing".to_owned());
        }
        let mut older: Vec<Older> = Vec::new();
        for pair in pairs.chunks_exact(2) {
            let newer = older.last().map_or(certificate, |old| &old.certificate);
            let [cross, old] = pair else { continue };
            if digest_of(cross) != digest_of(newer) {
                return Err("the certificates of replaced authorities are in disorder".to_owned());
            }
            older.push(Older { cross: cross.clone(), certificate: old.clone() });
        }
        let issuer = Issuer::from_ca_cert_der(certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, certificate: certificate.clone(), older })
    }

    /// Digest of its certificate.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Those that sign what devices may show: itself, then those that it has replaced.
    #[must_use]
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        let older = self.older.iter().map(|old| old.certificate.clone());
        [self.certificate.clone()].into_iter().chain(older).collect()
    }

    /// Seconds since 1970 at which it was made.
    #[must_use]
    pub fn made_at(&self) -> Option<u64> {
        Certificate::read(&self.certificate).ok().map(|read| read.not_before.as_secs() + SLACK.as_secs())
    }

    /// Whether there are devices that may still know only an older one.
    #[must_use]
    pub fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    /// A certificate for the hub's ports, with the chain to each authority that somebody may know. It ends in this one.
    ///
    /// # Errors
    /// If a name cannot stand in a certificate.
    pub fn server(&self, names: &Names, now: u64) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = leaf("outrigger-hub", ExtendedKeyUsagePurpose::ServerAuth, now, SERVER_LIFE);
        for name in &names.hosts {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(names.addresses.iter().map(|address| SanType::IpAddress(*address)));
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let crosses = self.older.iter().map(|old| old.cross.clone());
        let older = self.older.iter().map(|old| old.certificate.clone());
        let chain = [certificate].into_iter().chain(crosses).chain(older).chain([self.certificate.clone()]).collect();
        Ok(Identity { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }

    /// A certificate by which the hub is known at an external broker.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn client(&self, now: u64) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = leaf(HUB_NAME, ExtendedKeyUsagePurpose::ClientAuth, now, SERVER_LIFE);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Identity { chain: vec![certificate, self.certificate.clone()], key })
    }

    /// Signs a device's request. Only the key is taken from it: what the certificate says is what we know.
    ///
    /// # Errors
    /// If the request makes no sense, is not signed by its key, or the key is of a sort that is not taken.
    pub fn sign(
        &self,
        device: &DeviceName,
        request: &Csr<'_>,
        now: u64,
        life: Duration,
    ) -> Result<Issued, RequestError> {
        let request = read(request)?;
        let params = leaf(device.as_str(), ExtendedKeyUsagePurpose::ClientAuth, now, life);
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(malformed)?.der().clone();
        let read = Certificate::read(&certificate).map_err(|error| RequestError::Malformed(error.to_string()))?;
        let not_after = read.not_after.as_secs();
        Ok(Issued { key: read.key_digest, not_after, chain: vec![certificate, self.certificate.clone()] })
    }
}

/// SHA-256 of the public key that a request is for. Its signature shows that whoever made it has the key.
///
/// # Errors
/// If it makes no sense.
pub fn key_of(request: &Csr<'_>) -> Result<[u8; 32], RequestError> {
    let public = read(request)?.public_key.subject_public_key_info();
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &public).as_ref());
    Ok(digest)
}

fn read(request: &Csr<'_>) -> Result<CertificateSigningRequestParams, RequestError> {
    let request = match request {
        Csr::Pem(text) => CertificateSigningRequestParams::from_pem(text),
        Csr::Der(bytes) => CertificateSigningRequestParams::from_der(&(*bytes).into()),
    };
    let request = request.map_err(malformed)?;
    let taken = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
    match taken.into_iter().any(|sort| request.public_key.algorithm() == sort) {
        true => Ok(request),
        false => Err(RequestError::Key),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` passes")]
fn malformed(error: rcgen::Error) -> RequestError {
    RequestError::Malformed(error.to_string())
}

/// Seconds since 1970, or the earliest that they can be.
fn sane(now: u64) -> Duration {
    Duration::from_secs(now.max(EARLIEST))
}

fn validity(params: &mut CertificateParams, now: u64, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (sane(now) - SLACK);
    params.not_after = epoch + (sane(now) + life);
    let mut serial = [0; 16];
    let random = outrigger_trust::provider().secure_random;
    // Without random numbers no key could have been made either; a serial number of zeros harms nobody.
    let _ = random.fill(&mut serial);
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn authority_params(now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    validity(&mut params, now, AUTHORITY_LIFE);
    // Each has a name of its own, so that a chain is looked for in one way only.
    let tail: String =
        params.serial_number.iter().flat_map(SerialNumber::to_bytes).take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name = named(&format!("Outrigger authority {tail}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::try_from(MAX_OLDER).unwrap_or(u8::MAX)));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose, now: u64, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    validity(&mut params, now, life);
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn name_of(certificate: &CertificateDer<'_>) -> Result<DistinguishedName, rcgen::Error> {
    let read = Certificate::read(certificate).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    Ok(named(&read.common_name.ok_or(rcgen::Error::CouldNotParseCertificate)?))
}

fn digest_of(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    Certificate::read(certificate).ok().map(|read| read.key_digest)
}

fn is_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    let public = key.subject_public_key_info();
    digest_of(certificate).is_some_and(|digest| digest == Pin::of(&CertificateDer::from(public)).0)
}

/// When to make a server's certificate anew that was made at `made`.
#[must_use]
pub(super) fn is_old(made: u64, now: u64) -> bool {
    // A clock that was set back far counts too: the certificate may be of the future.
    now.saturating_sub(made) > (SERVER_LIFE - 30 * DAY).as_secs() || now + SLACK.as_secs() < made
}
