//! The first look at a hub: its chain of certificates, and whether the pinned authority stands behind it. Nothing but the
//! handshake is sent; where the pin does not match, not even the end of that.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};
use thiserror::Error;

use crate::clock::instant;
use crate::tls::{client_judged_by, never_resuming, store_of};
use crate::verify::{algorithms, signatures_of_the_provider};
use crate::{Certificate, Pin, TlsError, trusted_time};

/// Time that a server has to refuse our certificate.
const REFUSAL: Duration = Duration::from_secs(1);

/// The first look went wrong.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The host is no name and no address.
    #[error("`{0}` is no name and no address of a host")]
    Name(String),
    /// It has no address.
    #[error("the name {host} cannot be resolved")]
    Resolve {
        /// Which.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("cannot connect to {host} on port {port}")]
    Connect {
        /// Where.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The connection ended, or was too slow.
    #[error("{host} on port {port} does not finish the TLS handshake; is it the hub's HTTPS port?")]
    Broken {
        /// Where.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The other side speaks no TLS that we speak.
    #[error("{host} on port {port} does not speak TLS 1.3 as a hub does")]
    Tls {
        /// Where.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: Error,
    },
    /// Another authority stands behind this server.
    #[error(
        "the server at {host}:{port} is not the hub of this token: none of its certificates has the fingerprint {pin}. \
         Nothing was sent to it. Either the token is of another hub, or somebody stands between"
    )]
    OtherAuthority {
        /// Where.
        host: String,
        /// On which port.
        port: u16,
        /// What the token says.
        pin: Pin,
    },
    /// The authority is shown, and has not signed what the server uses.
    #[error(
        "the server at {host}:{port} shows the hub's authority, which has not signed its certificate; nothing was sent to it"
    )]
    NotSigned {
        /// Where.
        host: String,
        /// On which port.
        port: u16,
        /// Why.
        source: Error,
    },
    /// We cannot even try.
    #[error(transparent)]
    Settings(#[from] TlsError),
}

/// The certificate with this pin, if it stands behind the server at `host`.
///
/// # Errors
/// If nobody answers in time, or the pinned authority has not signed the server's certificate.
pub fn authority_behind(
    host: &str,
    port: u16,
    pin: Pin,
    timeout: Duration,
) -> Result<CertificateDer<'static>, ConnectError> {
    let look = Arc::new(Look::new(Some(pin)));
    let shaken = handshake(host, port, &look, timeout);
    let judged = look.authority.lock().unwrap_or_else(PoisonError::into_inner).take();
    let place = || (host.to_owned(), port);
    match judged {
        Some(Judged::Signed(authority)) => shaken.map(|_| authority),
        Some(Judged::NotShown) => {
            let (host, port) = place();
            Err(ConnectError::OtherAuthority { host, port, pin })
        }
        Some(Judged::NotSigned(source)) => {
            let (host, port) = place();
            Err(ConnectError::NotSigned { host, port, source })
        }
        None => {
            let (host, port) = place();
            let source = io::Error::other("the server showed no certificate");
            Err(shaken.err().unwrap_or(ConnectError::Broken { host, port, source }))
        }
    }
}

/// The chain that the server shows, its own certificate first. It proves nothing: show the last one's pin to a person.
///
/// # Errors
/// If nobody answers in time.
pub fn chain_of(host: &str, port: u16, timeout: Duration) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    handshake(host, port, &Arc::new(Look::new(None)), timeout)
}

/// What we found about the pinned authority.
#[derive(Debug)]
enum Judged {
    Signed(CertificateDer<'static>),
    NotShown,
    NotSigned(Error),
}

/// Looks at a chain instead of trusting it.
#[derive(Debug)]
struct Look {
    pin: Option<Pin>,
    authority: Mutex<Option<Judged>>,
}

impl Look {
    fn new(pin: Option<Pin>) -> Self {
        Self { pin, authority: Mutex::new(None) }
    }

    fn judge(pin: Pin, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Judged {
        let Some(authority) = others.iter().find(|certificate| Pin::of(certificate) == pin) else {
            return Judged::NotShown;
        };
        let signed = || {
            let bad = |_| Error::from(CertificateError::BadEncoding);
            // The pin vouches for the authority, so its beginning has certainly passed, whatever our clock says.
            let floor = Certificate::read(authority).map_err(bad)?.not_before;
            let now = trusted_time(now, Some(floor), Certificate::read(leaf).map_err(bad)?.not_before);
            let roots = store_of(std::slice::from_ref(authority)).map_err(|_| CertificateError::BadEncoding)?;
            let leaf = ParsedCertificate::try_from(leaf)?;
            verify_server_cert_signed_by_trust_anchor(&leaf, &roots, others, now, algorithms().all)
        };
        match signed() {
            Ok(()) => Judged::Signed(authority.clone().into_owned()),
            Err(error) => Judged::NotSigned(error),
        }
    }
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(pin) = self.pin else { return Ok(ServerCertVerified::assertion()) };
        let judged = Self::judge(pin, end_entity, intermediates, now);
        let is_signed = matches!(judged, Judged::Signed(_));
        *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
        if is_signed { Ok(ServerCertVerified::assertion()) } else { Err(Error::General("not the pinned hub".into())) }
    }

    signatures_of_the_provider!();
}

/// A whole handshake with these settings, and a moment for the server to refuse our certificate: it does so behind the
/// handshake. Nothing else is sent.
///
/// # Errors
/// If nobody answers in time, or the two do not trust each other.
pub fn shake_hands(host: &str, port: u16, config: Arc<ClientConfig>, timeout: Duration) -> Result<(), ConnectError> {
    let (mut connection, mut socket) = shake(host, port, config, timeout)?;
    let broken = |source| ConnectError::Broken { host: host.to_owned(), port, source };
    socket.set_read_timeout(Some(REFUSAL.min(timeout))).map_err(broken)?;
    let refused = |source| ConnectError::Tls { host: host.to_owned(), port, source };
    match connection.read_tls(&mut socket) {
        // Silence is consent: the server waits for us to speak.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(broken(error)),
        Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => connection.process_new_packets().map(|_| ()).map_err(refused),
    }
}

fn handshake(
    host: &str,
    port: u16,
    look: &Arc<Look>,
    timeout: Duration,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let judge: Arc<Look> = Arc::clone(look);
    let config = never_resuming(client_judged_by(judge)?.with_no_client_auth());
    let (connection, _socket) = shake(host, port, Arc::new(config), timeout)?;
    let chain = connection.peer_certificates().unwrap_or_default();
    Ok(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

fn shake(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    timeout: Duration,
) -> Result<(ClientConnection, TcpStream), ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Name(host.to_owned()))?;
    let tls = |source| ConnectError::Tls { host: host.to_owned(), port, source };
    let mut tls_connection = ClientConnection::new(config, name).map_err(tls)?;
    let deadline = instant() + timeout;
    let mut socket = connect(host, port, deadline)?;
    let broken = |source| ConnectError::Broken { host: host.to_owned(), port, source };
    while tls_connection.is_handshaking() || tls_connection.wants_write() {
        if tls_connection.wants_write() {
            socket.set_write_timeout(Some(left(deadline).map_err(broken)?)).map_err(broken)?;
            tls_connection.write_tls(&mut socket).map_err(broken)?;
        } else {
            socket.set_read_timeout(Some(left(deadline).map_err(broken)?)).map_err(broken)?;
            if tls_connection.read_tls(&mut socket).map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            // On an error nothing more is written, not even the alert: whoever this is learns nothing more of us.
            tls_connection.process_new_packets().map_err(tls)?;
        }
    }
    Ok((tls_connection, socket))
}

/// Tries the host's addresses in turn.
fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let resolve = |source| ConnectError::Resolve { host: host.to_owned(), source };
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(resolve)?.collect();
    let mut last = io::Error::other("it has no address");
    for (index, address) in addresses.iter().enumerate() {
        // What leads nowhere must leave time for the others.
        let share = left(deadline).map(|left| left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX));
        match share.and_then(|time| TcpStream::connect_timeout(address, time)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Connect { host: host.to_owned(), port, source: last })
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(instant());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
