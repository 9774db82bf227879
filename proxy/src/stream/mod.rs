//! The two ends of a connection through the proxy, and the bytes between them.

mod join;
mod pipe;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::mesh::MeshStream;

pub(crate) use join::join;
pub(crate) use pipe::MOST as MOST_PIPES;

/// A peer that says nothing is asked after this long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// An end of a connection.
pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {
    /// Whether the end that was just read is none: the other side broke off, or is gone.
    fn was_cut(&self) -> bool {
        false
    }

    /// The socket, where there is nothing between it and the bytes.
    fn socket(&self) -> Option<&TcpStream> {
        None
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
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn spoil(&mut self) {
        // It is closed next; if the kernel does not want to, it is closed in the usual way.
        let _ = self.set_zero_linger();
    }
}

/// For a listener of clients: the connections that it accepts have it from there, without a system call for each.
pub(crate) fn prepare(listener: &socket2::Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4);
    listener.set_tcp_keepalive(&keepalive)
}

impl End for Upstream {
    fn was_cut(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.was_cut(),
            Self::Mesh(stream) => stream.was_cut(),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Mesh(_) => None,
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
