//! Virtual addresses. The kernel leads every port of them to one listener (see [`crate::kernel`]), which learns from the
//! kernel what the container has asked for. Decision 0019 says why this is not TPROXY.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use outrigger_protocol::PortProtocol;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::{accept, listener, refuse};
use crate::dial::Request;
use crate::limits::Source;
use crate::serve::serve as serve_client;
use crate::shared::Shared;

/// The listeners to which the kernel leads connections.
#[derive(Debug)]
pub(crate) struct Redirected {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

/// Their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) v4: u16,
    pub(crate) v6: Option<u16>,
}

impl Redirected {
    /// On ports that the kernel chooses.
    pub(crate) fn open() -> io::Result<Self> {
        let v4 = listener((Ipv4Addr::UNSPECIFIED, 0).into())?;
        Ok(Self { v4, v6: listener((Ipv6Addr::UNSPECIFIED, 0).into()).ok() })
    }

    pub(crate) fn ports(&self) -> io::Result<Ports> {
        let v6 = self.v6.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Ports { v4: self.v4.local_addr()?.port(), v6: v6.map(|address| address.port()) })
    }
}

/// Serves containers until it is cancelled.
pub(crate) async fn serve(shared: Arc<Shared>, listeners: Redirected) {
    loop {
        let v6 = async {
            match &listeners.v6 {
                Some(listener) => accept(listener).await,
                None => std::future::pending().await,
            }
        };
        let (stream, client) = tokio::select! { // both may be cancelled: accept loses nothing
            accepted = accept(&listeners.v4) => accepted,
            accepted = v6 => accepted,
        };
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
