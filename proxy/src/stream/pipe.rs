//! Bytes that go from socket to socket without being copied into the program and out again (`splice(2)`).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Pipes at most. Each is two open files, and holds what its reader has not taken; with all in use, bytes are copied.
pub(crate) const MOST: usize = 64;
/// Empty pipes that are kept for the next one.
const SPARE: usize = 4;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(vec![]) };
}

/// A pipe with what has been read and not yet written.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one; none: there are too many, or no files are left.
    pub(super) fn take() -> Option<Self> {
        EMPTY.with_borrow_mut(Vec::pop).or_else(|| {
            if OPEN.fetch_add(1, Ordering::Relaxed) < MOST
                && let Ok((out, into)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            {
                return Some(Self { out, into, held: 0 });
            }
            OPEN.fetch_sub(1, Ordering::Relaxed);
            None
        })
    }

    /// No longer needed. With something in it, it is closed.
    pub(super) fn give_back(self) {
        EMPTY.with_borrow_mut(|empty| {
            if self.held == 0 && empty.len() < SPARE {
                empty.push(self);
            }
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what the socket has; 0: it has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream, most: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || moved(splice(from, None, &self.into, None, most, FLAGS))) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                done => {
                    self.held += *done.as_ref().unwrap_or(&0);
                    return Poll::Ready(done);
                }
            }
        }
    }

    /// Gives the socket what it takes. Ready: the pipe is empty.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || moved(splice(&self.out, None, to, None, self.held, FLAGS))) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(length) => self.held -= length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn moved(result: rustix::io::Result<usize>) -> io::Result<usize> {
    result.map_err(io::Error::from)
}
