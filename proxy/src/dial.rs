//! From a request to a connection with a copy that takes it. A copy that does not answer costs the client nothing:
//! a failure moves on to the next copy at once, and one that is slow is raced by another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outrigger_protocol::{NetworkName, PlacementId, PortProtocol};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::balance::{Cause, Need};
use crate::clock;
use crate::mesh::{MeshError, Open};
use crate::proxy_header;
use crate::shared::{Lease, Shared};
use crate::stream::Upstream;
use crate::table::{Place, Service, address_in};

/// Copies that are tried for one request.
const ATTEMPTS: usize = 6;
/// Copies that are tried at the same time.
const AT_ONCE: usize = 2;
/// How long one copy may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the client waits at most.
const DEADLINE: Duration = Duration::from_secs(10);

/// Somebody wants to speak with a service.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Who.
    pub(crate) client: SocketAddr,
    /// The address that the client has connected to.
    pub(crate) dialled: SocketAddr,
    /// Through which network; none: through a published port.
    pub(crate) network: Option<NetworkName>,
    pub(crate) protocol: PortProtocol,
    /// The port of the copy.
    pub(crate) port: u16,
}

/// A copy that has answered.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) stream: Upstream,
    pub(crate) lease: Lease,
}

/// Why a copy was not reached.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    #[error("the service has no copy that takes requests")]
    NoCopy,
    #[error("none of the {0} copies that were tried answered")]
    AllFailed(usize, #[source] Box<DialError>),
    #[error("none of {0} copies answered the request")]
    Mute(usize),
    #[error("no copy has answered within {} s", DEADLINE.as_secs())]
    TooSlow,
    #[error("the copy cannot be reached at {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("the copy has no address")]
    NoAddress,
    #[error("port {0} is our own; a copy behind it would be asked in circles")]
    Ourselves(u16),
    #[error("the copy's device cannot be reached")]
    Mesh(#[from] MeshError),
}

impl DialError {
    /// What is known of the need for another attempt: the copy may still be at work where only we have lost patience.
    fn leaves(&self) -> Need {
        match self {
            Self::Connect(_, source) if source.kind() == std::io::ErrorKind::TimedOut => Need::Guessed,
            Self::Mesh(MeshError::TooSlow) | Self::TooSlow | Self::Mute(_) | Self::AllFailed(..) => Need::Guessed,
            Self::Connect(..) | Self::Mesh(_) | Self::NoCopy | Self::NoAddress | Self::Ourselves(_) => Need::Known,
        }
    }

    /// Whether the copy itself is known to have failed.
    fn cause(&self) -> Cause {
        match self {
            Self::Mesh(MeshError::Answer(_)) | Self::Connect(..) | Self::NoAddress | Self::Ourselves(_) => Cause::Copy,
            Self::Mesh(_) | Self::NoCopy | Self::AllFailed(..) | Self::Mute(_) | Self::TooSlow => Cause::Line,
        }
    }
}

/// A connection with a copy that is not one of `tried`; those that are tried here are added to it.
pub(crate) async fn reach(
    shared: &Arc<Shared>,
    service: &Arc<Service>,
    request: &Request,
    tried: &mut Vec<PlacementId>,
) -> Result<Reached, DialError> {
    let begun = clock::instant();
    let hedge = shared.balance(&service.name, |balancer| balancer.hedge_after()).unwrap_or_default();
    let mut running = FuturesUnordered::new();
    let mut open: Vec<(PlacementId, Instant)> = vec![];
    let mut last = None;
    let mut next_at = begun;
    let mut need = Need::Known;
    loop {
        if running.is_empty() || (next_at <= clock::instant() && running.len() < AT_ONCE) {
            let need = std::mem::replace(&mut need, Need::Guessed);
            let may = tried.len() < ATTEMPTS;
            let lease = if may { shared.lease(service, request.client.ip(), tried, need) } else { None };
            match lease {
                Some(lease) => {
                    let now = clock::instant();
                    tried.push(lease.placement);
                    open.push((lease.placement, now));
                    running.push(attempt(shared, lease, request));
                    next_at = now + hedge;
                }
                None if running.is_empty() => return Err(gave_up(last, tried.len())),
                None => next_at = begun + DEADLINE,
            }
        }
        tokio::select! { // all may be cancelled: an attempt that is dropped closes its connection
            biased; // an attempt that succeeds at once sets no timers
            Some((lease, result)) = running.next() => {
                let started = open.iter().find(|(placement, _)| *placement == lease.placement).map_or(begun, |found| found.1);
                open.retain(|(placement, _)| *placement != lease.placement);
                match result {
                    Ok(stream) => {
                        lease.tell(|balancer, placement| balancer.connected(placement, started.elapsed(), clock::now()));
                        for (placement, since) in open.into_iter().filter(|(_, since)| since.elapsed() >= hedge) {
                            shared.tell(&service.name, placement, |balancer| balancer.late(placement, since.elapsed(), clock::now()));
                        }
                        return Ok(Reached { stream, lease });
                    }
                    Err(error) => {
                        lease.tell(|balancer, placement| balancer.failed(placement, error.cause(), clock::now()));
                        let why: &dyn std::error::Error = &error;
                        debug!(service = %service.name, placement = lease.placement.0, error = why, "a copy was not reached");
                        need = error.leaves();
                        last = Some(error);
                        next_at = clock::instant();
                    }
                }
            }
            () = sleep_until(next_at), if running.len() < AT_ONCE => (),
            () = sleep_until(begun + DEADLINE) => return Err(DialError::TooSlow),
        }
    }
}

fn gave_up(last: Option<DialError>, tried: usize) -> DialError {
    last.map_or(DialError::NoCopy, |error| DialError::AllFailed(tried, Box::new(error)))
}

/// One copy.
async fn attempt(shared: &Arc<Shared>, lease: Lease, request: &Request) -> (Lease, Result<Upstream, DialError>) {
    let Some(target) = lease.service.target(lease.placement) else { return (lease, Err(DialError::NoAddress)) };
    let result = match &target.place {
        Place::Here(addresses) => {
            let address = address_in(addresses, request.network.as_ref());
            connect_here(shared, address, request, &lease.service).await.map(Upstream::Tcp)
        }
        Place::On(device) => {
            let open = Open::new(lease.placement, request);
            match timeout(PATIENCE, shared.mesh.open(shared, device, &open)).await {
                Ok(opened) => opened.map(Upstream::Mesh).map_err(DialError::Mesh),
                Err(_) => Err(DialError::Mesh(MeshError::TooSlow)),
            }
        }
    };
    (lease, result)
}

/// A copy on this device, told who the client is if it wants to know.
pub(crate) async fn connect_here(
    shared: &Shared,
    address: Option<IpAddr>,
    request: &Request,
    service: &Service,
) -> Result<TcpStream, DialError> {
    let address = SocketAddr::new(address.ok_or(DialError::NoAddress)?, request.port);
    let is_open_here = || shared.table().at_port(PortProtocol::Tcp, request.port).is_some();
    if address.ip().is_loopback() && is_open_here() {
        return Err(DialError::Ourselves(request.port));
    }
    let failed = |source| DialError::Connect(address, source);
    let mut stream = match begin(address).map_err(failed)? {
        Begun::Connected(stream) => stream,
        Begun::UnderWay(stream) => {
            let writable = timeout(PATIENCE, stream.writable()).await;
            writable.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
            match stream.take_error().map_err(failed)? {
                Some(error) => return Err(failed(error)),
                None => stream,
            }
        }
    };
    if service.traffic.proxy_protocol {
        stream.write_all(&proxy_header::of(request.client, request.dialled)).await.map_err(failed)?;
    }
    Ok(stream)
}

/// A connection, or one that is going to be.
enum Begun {
    Connected(TcpStream),
    UnderWay(TcpStream),
}

/// Within a device the kernel has nearly always connected by the time that it says it is about to. Then nothing has to be
/// waited for, and no timer to be set: each of those is a system call, which a short connection feels.
fn begin(address: SocketAddr) -> std::io::Result<Begun> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let connected = match socket.connect(&address.into()) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => is_connected(&socket)?,
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(socket.into())?;
    Ok(if connected { Begun::Connected(stream) } else { Begun::UnderWay(stream) })
}

fn is_connected(socket: &Socket) -> std::io::Result<bool> {
    let mut ready = [PollFd::new(socket, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    if rustix::event::poll(&mut ready, Some(&at_once))? == 0 {
        return Ok(false);
    }
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(true),
    }
}
