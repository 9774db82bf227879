//! Between the streams' frames and TLS: frames that are written together leave together. Each frame comes as a head and a
//! body, with a flush behind it; as they come, each of them would be a TLS record and a system call of its own.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gathered at most, before it is written all the same. Four records of TLS.
const FULL: usize = 64 * 1024;
/// Nothing that is gathered waits for more than this to be read first.
const LATEST: usize = 256 * 1024;

/// One handle is given to the connection, which writes and flushes; the other stays with its task, which calls
/// [`Cork::poll_out`] when the connection has nothing more to do.
#[derive(Debug)]
pub(super) struct Cork<W> {
    inner: Arc<Mutex<Inner<W>>>,
}

#[derive(Debug)]
struct Inner<W> {
    wire: W,
    gathered: Vec<u8>,
    written: usize,
    read_since: usize,
}

impl<W> Clone for Cork<W> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> Cork<W> {
    pub(super) fn new(wire: W) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { wire, gathered: vec![], written: 0, read_since: 0 })) }
    }

    /// Writes what has been gathered.
    pub(super) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_out(cx)
    }

    // Only one task has handles, so nobody ever waits here.
    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: AsyncWrite + Unpin> Inner<W> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.wire).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.written += length,
            }
        }
        // The buffer is kept: taken from the system anew for each answer, it costs more time than memory.
        self.gathered.clear();
        (self.written, self.read_since) = (0, 0);
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let before = buf.filled().len();
        let done = Pin::new(&mut inner.wire).poll_read(cx, buf);
        inner.read_since += buf.filled().len() - before;
        done
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cork<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.gathered.len() >= FULL {
            ready!(inner.poll_drain(cx))?;
        }
        if inner.gathered.is_empty() {
            inner.read_since = 0;
        }
        let taken = buf.len().min(FULL - inner.gathered.len());
        inner.gathered.extend_from_slice(buf.get(..taken).unwrap_or_default());
        Poll::Ready(Ok(taken))
    }

    /// Says that it is done, because the connection's task sees to it.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if !inner.gathered.is_empty() && inner.read_since > LATEST {
            return inner.poll_out(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_written_leaves_together_when_it_is_asked_to_and_in_order_when_there_is_much() {
        let (near, mut far) = duplex(1024);
        let mut cork = Cork::new(near);
        let handle = cork.clone();
        for piece in [b"head".as_slice(), b"body"] {
            cork.write_all(piece).await.unwrap();
            cork.flush().await.unwrap();
        }
        let mut seen = [0; 64];
        let early = tokio::time::timeout(std::time::Duration::from_millis(1), far.read(&mut seen));
        assert!(early.await.is_err(), "it waits for more");
        std::future::poll_fn(|cx| handle.poll_out(cx)).await.unwrap();
        assert_eq!((far.read(&mut seen).await.unwrap(), &seen[..8]), (8, b"headbody".as_slice()));

        let much: Vec<u8> = (0..3 * FULL).map(|index| (index % 251) as u8).collect();
        let sent = much.clone();
        let writing = tokio::spawn(async move {
            cork.write_all(&sent).await.unwrap();
            cork.shutdown().await.unwrap();
        });
        let mut got = vec![];
        far.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == much, "{} of {} bytes came", got.len(), much.len());
    }

    #[tokio::test]
    async fn what_is_gathered_does_not_wait_until_all_is_read() {
        let (near, mut far) = duplex(2 * LATEST);
        let mut cork = Cork::new(near);
        far.write_all(&vec![7; LATEST + 1]).await.unwrap();
        cork.write_all(b"urgent").await.unwrap();
        cork.flush().await.unwrap();
        cork.read_exact(&mut vec![0; LATEST + 1]).await.unwrap();
        cork.flush().await.unwrap();
        assert_eq!(far.read(&mut [0; 64]).await.unwrap(), 6);
    }
}
