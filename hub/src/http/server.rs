//! Accepts connections and serves them: so many at a time, none for ever without a request, all let go at the end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use outrigger_api::{Problem, ProblemKind};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::admit::Peer;
use crate::pki::ServerTls;
use crate::sockets::{Bounds, Place, Sockets};

/// Connections at one time; more wait in the kernel's queue. Each may hold [`MAX_HEAD`] bytes.
const MAX_CONNECTIONS: usize = 512;
/// Of these one address may have a part, so that one stranger does not keep everybody else waiting.
const MAX_PER_ADDRESS: usize = 128;
const SOCKETS: Bounds = Bounds {
    all: MAX_CONNECTIONS,
    per_address: MAX_PER_ADDRESS,
    strangers: MAX_CONNECTIONS,
    strangers_per_address: MAX_PER_ADDRESS,
    spares_loopback: true,
};
/// The same of the socket in the state folder.
const MAX_LOCAL: usize = 16;
/// Time for a client to prove that it speaks TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Time for the head of a request to come, and for a kept connection to be used again.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of the head of a request.
const MAX_HEAD: usize = 32 * 1024;
/// Time for answers under way when the hub stops. Live streams are cut sooner: their readers come back.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause after an accept that failed, which is for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// First byte of everything that a TLS client sends first: a record with a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What clients are spoken to with.
#[derive(Debug, Clone)]
pub enum Door {
    /// Plain HTTP: on loopback only.
    Plain,
    /// HTTPS.
    Tls(ServerTls),
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// The network.
    Network(TcpListener, Door),
    /// The socket in the state folder.
    Local(UnixListener),
}

/// One connection, not greeted yet.
enum Accepted {
    Network(TcpStream, Peer, Door),
    Local(UnixStream),
}

impl Accepted {
    /// Its place among the sockets of its address, if it comes from one; an error: that one has too many.
    fn socket(&self, sockets: &Sockets) -> Result<Option<Place>, ()> {
        let Self::Network(_, Peer::Address(from), _) = self else { return Ok(None) };
        sockets.admit(*from).map(Some).ok_or(())
    }
}

impl Listener {
    fn places(&self) -> usize {
        match self {
            Self::Network(..) => MAX_CONNECTIONS,
            Self::Local(_) => MAX_LOCAL,
        }
    }

    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Network(listener, door) => {
                let (stream, from) = listener.accept().await?;
                // Small answers and live streams: waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Network(stream, Peer::Address(from.ip()), door.clone()))
            }
            Self::Local(listener) => Ok(Accepted::Local(listener.accept().await?.0)),
        }
    }
}

/// Serves until `shutdown` ends.
pub async fn serve(listener: Listener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_within(Sockets::new(SOCKETS), listener, router, shutdown).await;
}

async fn serve_within(sockets: Sockets, listener: Listener, router: Router, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(listener.places()));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        // All may be cancelled: an accept or a place that is not taken is lost to nobody.
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((accepted, place)) = accepted else { continue };
        let Ok(socket) = accepted.socket(&sockets) else { continue };
        let (router, stopped) = (router.clone(), stopped.clone());
        connections.spawn(async move {
            greet(accepted, router, stopped).await;
            drop((place, socket));
        });
    }
    drop(listener);
    drop(stop);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        debug!("http connections were cut at the end");
    }
}

async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok(accepted) => Some((accepted, place)),
        Err(fault) => {
            warn!(%fault, "cannot accept a connection to the HTTP API");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn greet(accepted: Accepted, router: Router, mut stopped: watch::Receiver<()>) {
    match accepted {
        Accepted::Local(stream) => serve_one(stream, Peer::Socket, router, stopped).await,
        Accepted::Network(stream, peer, Door::Plain) => serve_one(stream, peer, router, stopped).await,
        Accepted::Network(stream, peer, Door::Tls(tls)) => {
            // Both may be cancelled: a connection that is not greeted yet has asked for nothing.
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(HANDSHAKE_WITHIN, handshake(stream, tls.http())) => greeted,
                _ = stopped.changed() => return,
            };
            match greeted {
                Ok(Ok(Some(stream))) => serve_one(stream, peer, router, stopped).await,
                Ok(Ok(None)) => debug!(from = %peer, "plain HTTP came to the HTTPS port"),
                Ok(Err(fault)) => debug!(from = %peer, %fault, "a TLS handshake failed"),
                Err(_) => debug!(from = %peer, "a TLS handshake took too long"),
            }
        }
    }
}

/// Greets a client; none if it does not speak TLS, which it is told in plain HTTP.
async fn handshake(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first != [TLS_HANDSHAKE] {
        tell_plain(&mut stream).await?;
        return Ok(None);
    }
    TlsAcceptor::from(config).accept(stream).await.map(Some)
}

async fn tell_plain(stream: &mut TcpStream) -> std::io::Result<()> {
    // Read before it is closed: unread bytes would make the kernel throw the answer away.
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    let problem = Problem::new(ProblemKind::Malformed, "this port speaks HTTPS, and plain HTTP came")
        .with_hint("begin the address with https://; `outrigger login` keeps it");
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn serve_one<S>(stream: S, peer: Peer, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Every request says where it comes from; nobody on the other side can say it.
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Both may be cancelled: the connection is polled on right after.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(fault) = ended {
        debug!(%fault, "an HTTP connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Serves one route until the test ends.
    async fn served() -> (std::net::SocketAddr, tokio::sync::oneshot::Sender<()>) {
        served_within(SOCKETS).await
    }

    async fn served_within(bounds: Bounds) -> (std::net::SocketAddr, tokio::sync::oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let router = Router::new().route("/", get(async || "here"));
        let listener = Listener::Network(listener, Door::Plain);
        tokio::spawn(serve_within(Sockets::new(bounds), listener, router, async { drop(stopped.await) }));
        (address, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_finishes_its_request_is_let_go() {
        let (address, _stop) = served().await;
        for begun in ["", "GET / HTTP/1.1\r\nHost: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut answered = String::new();
            stream.read_to_string(&mut answered).await.unwrap();
            assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 408"), "{answered}");
        }
    }

    #[tokio::test]
    async fn a_stop_closes_idle_connections_and_the_port() {
        let (address, stop) = served().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        drop(stop);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn one_address_with_many_connections_leaves_room_for_others() {
        let bounds = Bounds { per_address: 2, strangers_per_address: 2, spares_loopback: false, ..SOCKETS };
        let (address, _stop) = served_within(bounds).await;
        let from = async |last: u8| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((std::net::Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
            socket.connect(address).await.unwrap()
        };
        let _held = [from(2).await, from(2).await];
        assert_eq!(from(2).await.read(&mut [0]).await.unwrap_or(0), 0, "it is sent away at once");
        let mut other = from(3).await;
        other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        other.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
}
