//! The two ends of a connection through the proxy, and the bytes between them.

mod join;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::mesh::MeshStream;

pub(crate) use join::join;

/// A peer that says nothing is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// An end of a connection.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// Whether the end that was just read is none: the other side broke off, or is gone.
    fn was_cut(&self) -> bool {
        false
    }

    /// Makes closing it say that something went wrong, so that half an answer does not look whole.
    fn spoil(&mut self);
}

/// A connection with a copy.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// On this device.
    Tcp(TcpStream),
    /// On another.
    Mesh(MeshStream),
}

impl End for TcpStream {
    fn spoil(&mut self) {
        // It is closed next; if the kernel does not want to, it is closed in the usual way.
        let _ = self.set_zero_linger();
    }
}

/// For each connection with a client or a container.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

impl End for Upstream {
    fn was_cut(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.was_cut(),
            Self::Mesh(stream) => stream.was_cut(),
        }
    }

    fn spoil(&mut self) {
        match self {
            Self::Tcp(stream) => stream.spoil(),
            Self::Mesh(stream) => stream.spoil(),
        }
    }
}

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Mesh(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Mesh(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Mesh(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Mesh(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
