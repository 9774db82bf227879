//! Where clients come in: published ports, and the virtual addresses of the networks.

mod published;
mod redirected;

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::stream::{self, End as _};

pub(crate) use published::{Taken, keep as keep_published};
pub(crate) use redirected::{Ports, Redirected, serve as serve_redirected};

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 4096;

/// A listener of one address family alone.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections that have ended not long ago are no reason to refuse.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    stream::prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next client. Running out of files is waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, SocketAddr::new(from.ip().to_canonical(), from.port())),
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Says no, at once.
fn refuse(mut stream: TcpStream) {
    stream.spoil();
}
