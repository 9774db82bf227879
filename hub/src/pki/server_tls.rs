//! What the hub's ports show and ask for in TLS, exchanged while they are open.

use std::sync::{Arc, PoisonError, RwLock};

use outrigger_trust::{Identity, TlsError, provider, server_config};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use thiserror::Error;

use super::authority::Authority;
use super::names::Names;

/// TLS of both ports. Cheap to clone; ask it anew for each connection.
#[derive(Debug, Clone)]
pub struct ServerTls {
    current: Arc<RwLock<Arc<Current>>>,
}

#[derive(Debug)]
struct Current {
    http: Arc<ServerConfig>,
    mqtt: Arc<ServerConfig>,
    names: Arc<Names>,
}

/// Why there are no settings for TLS.
#[derive(Debug, Error)]
pub enum ServerTlsError {
    /// The certificate cannot be made.
    #[error("cannot make the server's certificate")]
    Make(#[from] rcgen::Error),
    /// Or not be used.
    #[error("cannot use the server's certificate")]
    Key(#[from] rustls::Error),
    /// Or nobody could be trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ServerTls {
    /// For a hub with this authority and these names.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(authority: &Authority, names: Names, now: u64) -> Result<Self, ServerTlsError> {
        Ok(Self { current: Arc::new(RwLock::new(Arc::new(Current::new(authority, names, now)?))) })
    }

    /// Makes a new certificate; connections from now on see it.
    ///
    /// # Errors
    /// If it cannot be made; the old one stays.
    pub fn renew(&self, authority: &Authority, names: Names, now: u64) -> Result<(), ServerTlsError> {
        let new = Arc::new(Current::new(authority, names, now)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// For the HTTPS port: asks nobody for a certificate.
    #[must_use]
    pub fn http(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().http)
    }

    /// For the devices' port: asks everybody for a certificate of our authority.
    #[must_use]
    pub fn mqtt(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().mqtt)
    }

    /// What the hub is called at present.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.now().names)
    }

    fn now(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Current {
    fn new(authority: &Authority, names: Names, now: u64) -> Result<Self, ServerTlsError> {
        let Identity { chain, key } = authority.server(&names, now)?;
        let key = provider().key_provider.load_private_key(key)?;
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let mut http = server_config(shown.clone(), None)?;
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mqtt = server_config(shown, Some(&authority.trusted()))?;
        Ok(Self { http: Arc::new(http), mqtt: Arc::new(mqtt), names: Arc::new(names) })
    }
}
