//! TLS between two devices of one fleet. Both show the certificate by which the hub knows them, and each judges the
//! other's as the hub does: signed by an authority of the fleet, as a device's. So no device needs a second certificate,
//! the hub's own (which is a server's) passes for no device, and no address or host name counts, only the device's name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DistinguishedName, Error, ServerConfig};

use crate::tls::{client_judged_by, never_resuming, server_of, store_of};
use crate::verify::signatures_of_the_provider;
use crate::{Certificate, Identity, TlsError, provider, trusted_time};

/// How this device speaks with the others.
#[derive(Debug, Clone)]
pub struct PeerTls {
    own: Arc<SingleCertAndKey>,
    usual: Arc<dyn ClientCertVerifier>,
    floor: Option<UnixTime>,
    server: Arc<ServerConfig>,
}

impl PeerTls {
    /// For a device with this identity, in the fleet of these authorities. `floor`: see [`crate::trusted_time`].
    ///
    /// # Errors
    /// If there is no authority, or a certificate or key makes no sense.
    pub fn new(
        identity: Identity,
        authorities: &[CertificateDer<'_>],
        floor: Option<UnixTime>,
    ) -> Result<Self, TlsError> {
        let key = provider().key_provider.load_private_key(identity.key).map_err(TlsError::Identity)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(identity.chain, key)));
        let usual: Arc<dyn ClientCertVerifier> =
            WebPkiClientVerifier::builder_with_provider(store_of(authorities)?, provider()).build()?;
        let verifier = Arc::new(PeerVerifier { usual: Arc::clone(&usual), floor, name: None });
        let server = server_of(own.clone(), Some(verifier))?;
        Ok(Self { own, usual, floor, server: Arc::new(server) })
    }

    /// For whoever calls: any device of the fleet. Which one it is says [`peer_name`].
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a call to the device of this name, and no other.
    ///
    /// # Errors
    /// If the TLS library cannot do what is asked of it.
    pub fn client_for(&self, device: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier =
            PeerVerifier { usual: Arc::clone(&self.usual), floor: self.floor, name: Some(device.to_owned()) };
        let config = client_judged_by(Arc::new(verifier))?.with_client_cert_resolver(self.own.clone());
        let mut config = never_resuming(config);
        // Who is called is nobody's business on the way, and the name of a device is no name of a host.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// What to call the other side in the TLS library, which asks for a host. Nothing depends on it.
    #[must_use]
    pub fn server_name() -> ServerName<'static> {
        ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// The name in the certificate that the other side has shown, after the handshake has verified it.
#[must_use]
pub fn peer_name(chain: Option<&[CertificateDer<'_>]>) -> Option<String> {
    Certificate::read(chain?.first()?).ok()?.common_name
}

/// Judges another device's certificate, whichever side it is on.
#[derive(Debug)]
struct PeerVerifier {
    usual: Arc<dyn ClientCertVerifier>,
    floor: Option<UnixTime>,
    /// Who it must be; none: whoever it is.
    name: Option<String>,
}

impl PeerVerifier {
    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let read = Certificate::read(leaf).map_err(|_| CertificateError::BadEncoding)?;
        self.usual.verify_client_cert(leaf, others, trusted_time(now, self.floor, read.not_before))?;
        if self.name.is_some() && self.name != read.common_name {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    signatures_of_the_provider!();
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.usual.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    signatures_of_the_provider!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceKey;
    use crate::testing::TestAuthority;

    fn device(authority: &TestAuthority, name: &str) -> PeerTls {
        device_until(authority, name, 2030)
    }

    fn device_until(authority: &TestAuthority, name: &str, year: i32) -> PeerTls {
        let key = DeviceKey::fresh().unwrap();
        let chain = authority.device_until(&key.request(name).unwrap(), year);
        PeerTls::new(Identity { chain, key: key.to_der() }, &[authority.certificate()], None).unwrap()
    }

    /// Shakes hands in memory, and says what each side makes of it.
    fn meet(caller: &PeerTls, called: Arc<ServerConfig>, expected: &str) -> Result<Option<String>, Error> {
        let name = PeerTls::server_name();
        let mut client = rustls::ClientConnection::new(caller.client_for(expected).unwrap(), name)?;
        let mut server = rustls::ServerConnection::new(called)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = vec![];
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(peer_name(server.peer_certificates()))
    }

    #[test]
    fn two_devices_of_a_fleet_know_each_other_by_name() {
        let fleet = TestAuthority::new();
        let (a, b) = (device(&fleet, "a"), device(&fleet, "b"));
        assert_eq!(meet(&a, b.server(), "b"), Ok(Some("a".to_owned())));
    }

    #[test]
    fn another_device_in_the_place_of_the_one_that_was_called_is_refused() {
        let fleet = TestAuthority::new();
        let (a, b) = (device(&fleet, "a"), device(&fleet, "b"));
        let refused = meet(&a, b.server(), "c").unwrap_err();
        assert_eq!(refused, CertificateError::NotValidForName.into());
    }

    #[test]
    fn devices_of_two_fleets_and_ended_certificates_are_refused_on_both_sides() {
        let (fleet, other) = (TestAuthority::new(), TestAuthority::new());
        let (a, stranger, ended) = (device(&fleet, "a"), device(&other, "b"), device_until(&fleet, "b", 2026));
        assert!(meet(&a, stranger.server(), "b").is_err());
        assert!(meet(&stranger, a.server(), "a").is_err());
        assert!(meet(&a, ended.server(), "b").is_err());
        assert!(meet(&ended, a.server(), "a").is_err());
    }

    #[test]
    fn a_server_of_the_fleet_passes_for_no_device() {
        let fleet = TestAuthority::new();
        let a = device(&fleet, "a");
        let (chain, key) = fleet.server(&["b"]);
        let hub = PeerTls::new(Identity { chain, key }, &[fleet.certificate()], None).unwrap();
        assert!(meet(&a, hub.server(), "b").is_err());
        assert!(meet(&hub, a.server(), "a").is_err());
    }
}
