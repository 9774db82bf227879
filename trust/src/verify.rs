//! Whether a server is the hub: the chain leads to an authority that we trust, at a time that we can trust.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};

use crate::Certificate;

/// What each of our verifiers leaves to the provider: whether the other side has the key of the certificate that it shows.
macro_rules! signatures_of_the_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = $crate::verify::algorithms();
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = $crate::verify::algorithms();
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::verify::algorithms().supported_schemes()
        }
    };
}
pub(crate) use signatures_of_the_provider;

/// Those of [`crate::provider`].
pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    default_provider().signature_verification_algorithms
}

/// The time at which certificates are judged.
///
/// A small board has no clock of its own and wakes up in 1970, where every certificate is *not yet* valid. `floor` is a
/// time that has certainly passed (the beginning of the device's own certificate, or of the authority that a token
/// pins). A clock that stands before it is wrong, and what takes its place is the later of the floor and the beginning
/// of the server's certificate, which the authority has signed. A certificate that ended before the floor stays refused.
#[must_use]
pub fn trusted_time(clock: UnixTime, floor: Option<UnixTime>, server_not_before: UnixTime) -> UnixTime {
    match floor {
        Some(floor) if clock < floor => floor.max(server_not_before),
        Some(_) | None => clock,
    }
}

/// Verifies as everybody does, but at the [`trusted_time`].
#[derive(Debug)]
pub(crate) struct HubVerifier {
    pub(crate) usual: Arc<WebPkiServerVerifier>,
    pub(crate) floor: Option<UnixTime>,
    /// What the certificate must name, where that is not what was dialled: our MQTT crate dials addresses.
    pub(crate) name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let read = Certificate::read(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let now = trusted_time(now, self.floor, read.not_before);
        let server_name = self.name.as_ref().unwrap_or(server_name);
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    signatures_of_the_provider!();
}

/// Why two programs do not trust each other, in kinds that a person can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server's certificate has ended.
    ServerExpired,
    /// The server's certificate begins later, by our clock.
    ServerNotYetValid,
    /// The server's certificate was not signed by an authority that we trust.
    ServerUnknown,
    /// The server's certificate is for other names.
    ServerOtherName,
    /// The server says that our certificate has ended.
    OursExpired,
    /// The server does not accept our certificate.
    OursRefused,
    /// The server wants a certificate, and we have none.
    OursMissing,
    /// Something else.
    Other,
}

/// What kind of trouble an error of the TLS library is.
#[must_use]
pub fn trouble_of(error: &Error) -> Trouble {
    match error {
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Trouble::ServerExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Trouble::ServerNotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Trouble::ServerOtherName
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::ServerUnknown,
            _ => Trouble::Other,
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => Trouble::OursExpired,
            AlertDescription::CertificateRequired => Trouble::OursMissing,
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Trouble::OursRefused,
            _ => Trouble::Other,
        },
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_clock_in_1970_is_replaced_by_what_is_known_to_have_passed() {
        assert_eq!(trusted_time(at(5), Some(at(100)), at(150)), at(150));
        assert_eq!(trusted_time(at(5), Some(at(100)), at(50)), at(100));
    }

    /// What a device with this clock and floor makes of a hub whose certificate counts from 2026 to 2030.
    fn verdict(clock: UnixTime, floor: Option<UnixTime>) -> Result<(), Trouble> {
        let authority = crate::testing::TestAuthority::new();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate()).unwrap();
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crate::provider()).build().unwrap();
        let name = ServerName::try_from("hub").unwrap();
        let verifier = HubVerifier { usual, floor, name: Some(name) };
        let (chain, _) = authority.server(&["hub"]);
        let dialled = ServerName::try_from("10.0.0.1").unwrap();
        let judged = verifier.verify_server_cert(&chain[0], &chain[1..], &dialled, &[], clock);
        judged.map(|_| ()).map_err(|error| trouble_of(&error))
    }

    #[test]
    fn a_board_without_a_clock_is_not_locked_out_and_an_ended_certificate_stays_ended() {
        let (in_2025, in_2027, in_2031) = (at(1_750_000_000), at(1_800_000_000), at(1_930_000_000));
        assert_eq!(verdict(in_2027, None), Ok(()));
        assert_eq!(verdict(at(0), None), Err(Trouble::ServerNotYetValid), "without a floor the clock is all there is");
        assert_eq!(verdict(at(0), Some(in_2025)), Ok(()), "a hub that has renewed its certificate since");
        assert_eq!(verdict(at(0), Some(in_2027)), Ok(()));
        assert_eq!(verdict(at(0), Some(in_2031)), Err(Trouble::ServerExpired));
        assert_eq!(verdict(in_2031, Some(in_2027)), Err(Trouble::ServerExpired), "expiry still counts");
    }

    proptest! {
        #[test]
        fn a_clock_that_can_be_right_is_believed(clock: u32, floor: Option<u32>, begins: u32) {
            let (clock, floor, begins) = (at(clock.into()), floor.map(|floor| at(floor.into())), at(begins.into()));
            let time = trusted_time(clock, floor, begins);
            prop_assert!(time >= clock, "time never goes back");
            if floor.is_none_or(|floor| clock >= floor) {
                prop_assert_eq!(time, clock);
            } else {
                prop_assert!(Some(time) >= floor && time >= begins);
            }
        }
    }
}
