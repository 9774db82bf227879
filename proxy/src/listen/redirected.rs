//! Virtual addresses. The kernel leads every port of them to one listener (see [`crate::kernel`]), which learns from the
//! kernel what the container has asked for. Decision 0019 says why this is not TPROXY.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use outrigger_protocol::PortProtocol;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{accept, listener, refuse};
use crate::dial::Request;
use crate::limits::Source;
use crate::serve::serve as serve_client;
use crate::shared::Shared;
use crate::udp::{self, Leads, Port};

/// Ports that the kernel chooses for TCP may be in use for UDP; then another is asked for.
const TRIES: usize = 16;

/// The listeners to which the kernel leads connections and datagrams.
#[derive(Debug)]
pub(crate) struct Redirected {
    v4: (TcpListener, Port),
    v6: Option<(TcpListener, Port)>,
}

/// Their ports, the same for TCP and UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) v4: u16,
    pub(crate) v6: Option<u16>,
}

impl Redirected {
    /// On ports that the kernel chooses.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { v4: both(Ipv4Addr::UNSPECIFIED.into())?, v6: both(Ipv6Addr::UNSPECIFIED.into()).ok() })
    }

    pub(crate) fn ports(&self) -> io::Result<Ports> {
        let port = |both: &(TcpListener, Port)| both.0.local_addr().map(|address| address.port());
        Ok(Ports { v4: port(&self.v4)?, v6: self.v6.as_ref().map(port).transpose()? })
    }
}

fn both(address: IpAddr) -> io::Result<(TcpListener, Port)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let tcp = listener((address, 0).into())?;
        match Port::open(tcp.local_addr()?) {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Serves containers until it is cancelled.
pub(crate) async fn serve(shared: Arc<Shared>, listeners: Redirected) {
    let mut tasks = JoinSet::new();
    for (tcp, udp) in [Some(listeners.v4), listeners.v6].into_iter().flatten() {
        if let Ok(address) = udp.local_addr() {
            tasks.spawn(udp::serve(Arc::clone(&shared), udp, Leads::Redirected(address.port())));
        }
        tasks.spawn(serve_streams(Arc::clone(&shared), tcp));
    }
    while tasks.join_next().await.is_some() {}
}

async fn serve_streams(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let (stream, client) = accept(&listener).await;
        let Some((dialled, found)) = asked(&shared, &stream, client) else {
            refuse(stream);
            continue;
        };
        let Some(permit) = shared.limits.permit(Source::Address(client.ip())) else {
            refuse(stream);
            continue;
        };
        let port = dialled.port();
        let request = Request { client, dialled, network: Some(found.network), protocol: PortProtocol::Tcp, port };
        tokio::spawn(serve_client(Arc::clone(&shared), stream, found.service, request, permit));
    }
}

/// What the container has asked for. None: it may not, or it has not come by way of a virtual address.
fn asked(shared: &Shared, stream: &TcpStream, client: SocketAddr) -> Option<(SocketAddr, crate::table::Virtual)> {
    let here = stream.local_addr().ok()?.ip();
    let socket = SockRef::from(stream);
    let original = if here.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let dialled: SocketAddr = original.ok()?.as_socket()?;
    // The kernel changes the port and nothing else; any other change is somebody else's.
    if dialled.ip() != here || is_unusable(client.ip()) {
        return None;
    }
    Some((dialled, shared.table().at_address(dialled.ip(), client.ip())?))
}

fn is_unusable(client: IpAddr) -> bool {
    client.is_loopback() || client.is_unspecified() || client.is_multicast()
}
