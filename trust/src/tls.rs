//! The TLS settings of all our programs: version 1.3 only, one provider (ring), no resumption.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, version};
use thiserror::Error;

use crate::Certificate;
use crate::verify::HubVerifier;

/// A certificate with its chain, and the key that goes with it.
#[derive(Debug)]
pub struct Identity {
    /// Our certificate first, then whoever signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Settings that cannot be made. Without them there is no connection: nothing fails open.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Nobody to trust.
    #[error("there is no authority to trust")]
    NoAuthority,
    /// An authority's certificate makes no sense.
    #[error("an authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    /// The authorities cannot be used.
    #[error("the authorities cannot be used")]
    Verifier(#[from] VerifierBuilderError),
    /// Certificate and key do not belong together, or make no sense.
    #[error("the certificate and its key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// No certificate where there must be one.
    #[error("there is no certificate")]
    NoCertificate,
    /// None of the authorities has signed it.
    #[error("none of the authorities has signed the certificate")]
    NotSigned(#[source] rustls::Error),
    /// The host is no name and no address.
    #[error("`{0}` is no name and no address of a host")]
    Name(String),
    /// The provider cannot do what we ask of it.
    #[error("the TLS library cannot do version 1.3")]
    Version(#[source] rustls::Error),
}

/// Whether this processor has instructions for AES. A Raspberry Pi 4 has none, and ChaCha20 is several times faster there.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Ring, with what we use of it. The server follows the client's order of ciphers, so the weaker of the two chooses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let aes = cipher_suite::TLS13_AES_128_GCM_SHA256;
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let cipher_suites = if has_aes() { vec![aes, chacha] } else { vec![chacha, aes] };
    Arc::new(CryptoProvider {
        cipher_suites,
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
}

pub(crate) fn store_of(authorities: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(authority.clone().into_owned()).map_err(TlsError::Authority)?;
    }
    if store.is_empty() { Err(TlsError::NoAuthority) } else { Ok(Arc::new(store)) }
}

/// For a connection to the hub: trusts these authorities and nobody else, and shows `identity` where there is one.
/// `floor` is a time that has certainly passed, see [`crate::trusted_time`].
///
/// # Errors
/// If there is no authority, or a certificate or key makes no sense.
pub fn client_config(
    authorities: &[CertificateDer<'_>],
    identity: Option<Identity>,
    floor: Option<UnixTime>,
) -> Result<Arc<ClientConfig>, TlsError> {
    config_of(None, authorities, identity, floor)
}

/// The same, for a library that dials an address: the server's certificate must name `host` all the same.
///
/// # Errors
/// If `host` is no name and no address, there is no authority, or a certificate or key makes no sense.
pub fn client_config_for(
    host: &str,
    authorities: &[CertificateDer<'_>],
    identity: Option<Identity>,
    floor: Option<UnixTime>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
    config_of(Some(name), authorities, identity, floor)
}

/// Whether one of these authorities has signed this certificate of a device, by way of what stands behind it in the chain.
/// Judged at its own beginning: whether it counts *now* is for the hub to say, whose clock is right.
///
/// # Errors
/// If none has, or a certificate makes no sense.
pub fn verify_device_chain(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
) -> Result<Certificate, TlsError> {
    let damaged = |_| TlsError::Authority(rustls::CertificateError::BadEncoding.into());
    let (leaf, others) = chain.split_first().ok_or(TlsError::NoCertificate)?;
    let read = Certificate::read(leaf).map_err(damaged)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(store_of(authorities)?, provider()).build()?;
    verifier.verify_client_cert(leaf, others, read.not_before).map_err(TlsError::NotSigned)?;
    Ok(read)
}

/// The beginning of every client of ours.
pub(crate) fn client_judged_by(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13]);
    Ok(config.map_err(TlsError::Version)?.dangerous().with_custom_certificate_verifier(verifier))
}

/// One that lasts: a resumed connection would save little, and keep its memory.
pub(crate) fn never_resuming(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

/// The beginning and the end of every server of ours. Nothing is resumed, so each connection is judged anew.
pub(crate) fn server_of(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13]);
    let config = config.map_err(TlsError::Version)?;
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn config_of(
    name: Option<ServerName<'static>>,
    authorities: &[CertificateDer<'_>],
    identity: Option<Identity>,
    floor: Option<UnixTime>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let usual = WebPkiServerVerifier::builder_with_provider(store_of(authorities)?, provider()).build()?;
    let config = client_judged_by(Arc::new(HubVerifier { usual, floor, name }))?;
    let config = match identity {
        Some(identity) => config.with_client_auth_cert(identity.chain, identity.key).map_err(TlsError::Identity)?,
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(never_resuming(config)))
}

/// For the hub's ports. With `clients`, everybody must show a certificate that one of these authorities has signed;
/// no authorities at all is an error, not an open door.
///
/// # Errors
/// If there is no authority where one is wanted, or one makes no sense.
pub fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
    clients: Option<&[CertificateDer<'_>]>,
) -> Result<ServerConfig, TlsError> {
    let usual = |authorities| -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        Ok(WebPkiClientVerifier::builder_with_provider(store_of(authorities)?, provider()).build()?)
    };
    server_of(certificate, clients.map(usual).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_to_trust_is_an_error_and_no_open_door() {
        assert!(matches!(client_config(&[], None, None), Err(TlsError::NoAuthority)));
        let nobody = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        assert!(matches!(server_config(nobody, Some(&[])), Err(TlsError::NoAuthority)));
        let damaged = CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(client_config(&[damaged], None, None), Err(TlsError::Authority(_))));
    }
}
