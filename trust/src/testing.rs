//! An authority for tests: signs devices as a hub does, and itself as a server.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    missing_docs,
    missing_debug_implementations
)]

use crate::{CertificateDer, PrivateKeyDer};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// An authority whose certificates count for the years 2026 to 2030.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn bounded(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    params
}

impl TestAuthority {
    pub fn new() -> Self {
        let mut params = bounded(CertificateParams::new(vec![]).unwrap());
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The chain for a device's request.
    pub fn device(&self, request: &str) -> Vec<CertificateDer<'static>> {
        self.device_until(request, 2030)
    }

    /// The same, valid until the beginning of this year.
    pub fn device_until(&self, request: &str, year: i32) -> Vec<CertificateDer<'static>> {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        request.params = bounded(request.params);
        request.params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        request.params.not_after = rcgen::date_time_ymd(year, 1, 1);
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        vec![request.signed_by(&self.issuer).unwrap().der().clone(), self.certificate()]
    }

    /// A server's chain and key.
    pub fn server(&self, names: &[&str]) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = bounded(CertificateParams::new(names).unwrap());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate, self.certificate()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// A device's request as PEM, where it came as DER.
pub fn pem_of_request(der: &[u8]) -> String {
    crate::pem::encode("CERTIFICATE REQUEST", der)
}

/// A server's key as PEM, for programs that are not ours.
pub fn pem_of_key(key: &PrivateKeyDer<'_>) -> String {
    crate::pem::encode("PRIVATE KEY", key.secret_der())
}
