//! Leads bytes both ways until both sides have ended. One buffer serves all connections of a thread: a connection that
//! waits holds none, and one whose reader is slow holds what that reader has not taken, and reads no more. Between two
//! sockets, what comes in large pieces is not copied at all: see [`super::pipe`].

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::End;
use super::pipe::Pipe;
use crate::clock;
use crate::mesh::PIECE;

/// What is read at once at first: enough for most requests, and all that a slow reader makes us hold.
const SMALL: usize = 16 * 1024;
/// What is read at once when a lot comes and goes.
const LARGE: usize = 128 * 1024;
/// From pieces of this size on a pipe costs less than a copy; for an answer of 64 KiB they cost the same (BENCHMARKS.md).
const PIPED: usize = 64 * 1024;
/// Reads in a row before others get their turn.
const TURN: usize = 16;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(vec![]) };
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// One side broke off.
    pub(crate) is_broken: bool,
    /// The copy ended it without having answered a byte to what it was sent.
    pub(crate) is_mute: bool,
}

/// Copies until both have ended. `first` hears how long after the client's first byte the copy's came.
pub(crate) async fn join<C: End, U: End>(client: &mut C, copy: &mut U, mut first: impl FnMut(Duration)) -> Ended {
    let (mut up, mut down) = (Half::default(), Half::default());
    let mut asked_at: Option<Instant> = None;
    let result = poll_fn(|cx| {
        let going = up.poll(cx, client, copy, down.is_shut);
        if asked_at.is_none() && up.moved > 0 {
            asked_at = Some(clock::instant());
        }
        let was_silent = down.moved == 0;
        let coming = down.poll(cx, copy, client, up.is_shut);
        if was_silent
            && down.moved > 0
            && let Some(asked_at) = asked_at
        {
            first(asked_at.elapsed());
        }
        match (going, coming) {
            (Poll::Ready(Err(Fault::Read)), _) | (_, Poll::Ready(Err(Fault::Write))) => Poll::Ready(Err(Side::Client)),
            (Poll::Ready(Err(Fault::Write)), _) | (_, Poll::Ready(Err(Fault::Read))) => Poll::Ready(Err(Side::Copy)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    })
    .await;
    if result.is_err() {
        client.spoil();
        copy.spoil();
    }
    let copy_ended = down.is_read || result == Err(Side::Copy);
    let is_mute = up.moved > 0 && down.moved == 0 && copy_ended && !up.is_read;
    Ended { is_broken: result.is_err(), is_mute }
}

/// Who broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Copy,
}

/// At which end of a direction something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Read,
    Write,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// Read and not yet written.
    held: Vec<u8>,
    written: usize,
    /// Holds something that was read and not yet written.
    pipe: Option<Pipe>,
    moved: u64,
    /// Size of the last piece, as far as all of it went through.
    last: usize,
    is_read: bool,
    is_flushed: bool,
    is_shut: bool,
}

impl Half {
    /// Goes as far as it can. Ready: this direction is over. A socket that is not needed for the other direction any more is
    /// not told so but closed, which is next.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        is_last: bool,
    ) -> Poll<Result<(), Fault>> {
        if self.is_shut {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..TURN {
            ready!(self.poll_held(cx, to))?;
            if self.is_read {
                if !is_last || to.socket().is_none() {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Fault::Write)?;
                }
                self.is_shut = true;
                return Poll::Ready(Ok(()));
            }
            let through = match (from.socket(), to.socket()) {
                (Some(source), Some(sink)) if self.last >= PIPED => self.poll_pipe(cx, source, sink),
                _ => None,
            };
            match through.unwrap_or_else(|| self.poll_through(cx, from, to)) {
                Poll::Ready(done) => done?,
                Poll::Pending => {
                    if !self.is_flushed {
                        self.is_flushed = Pin::new(&mut *to).poll_flush(cx).map_err(|_| Fault::Write)?.is_ready();
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what could not be written before.
    fn poll_held(&mut self, cx: &mut Context<'_>, to: &mut impl End) -> Poll<Result<(), Fault>> {
        while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, rest)).map_err(|_| Fault::Write)?;
            if n == 0 {
                return Poll::Ready(Err(Fault::Write));
            }
            self.written += n;
        }
        (self.held, self.written) = (vec![], 0);
        if let (Some(pipe), Some(sink)) = (&mut self.pipe, to.socket()) {
            ready!(pipe.poll_drain(cx, sink)).map_err(|_| Fault::Write)?;
        }
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// The same as [`Self::poll_through`] without a copy; none: there is no pipe for it.
    fn poll_pipe(&mut self, cx: &mut Context<'_>, from: &TcpStream, to: &TcpStream) -> Option<Poll<Result<(), Fault>>> {
        let mut pipe = Pipe::take()?;
        let filled = pipe.poll_fill(cx, from, LARGE);
        let result = match filled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(Err(Fault::Read)),
            Poll::Ready(Ok(0)) => {
                self.is_read = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(length)) => {
                self.moved += length as u64;
                self.last = length;
                match pipe.poll_drain(cx, to) {
                    Poll::Ready(Err(_)) => Poll::Ready(Err(Fault::Write)),
                    // What is left in it is written by `poll_held`, when the reader takes it.
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
                }
            }
        };
        if pipe.is_empty() {
            pipe.give_back()
        } else {
            self.pipe = Some(pipe)
        }
        Some(result)
    }

    /// Reads once and writes what was read, as far as the reader takes it.
    fn poll_through(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
    ) -> Poll<Result<(), Fault>> {
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.is_empty() {
                buffer.resize(LARGE, 0);
            }
            let most = match self.last {
                0..SMALL => SMALL,
                // A stream between devices takes so much at once; what it does not take would have to be kept.
                _ if to.socket().is_none() => PIECE,
                _ => LARGE,
            };
            let mut read = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(&mut *from).poll_read(cx, &mut read)).map_err(|_| Fault::Read)?;
            let filled = read.filled();
            if filled.is_empty() {
                self.is_read = true;
                return Poll::Ready(if from.was_cut() { Err(Fault::Read) } else { Ok(()) });
            }
            self.moved += filled.len() as u64;
            self.is_flushed = false;
            let mut rest = filled;
            while !rest.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, rest).map_err(|_| Fault::Write)? {
                    Poll::Ready(0) => return Poll::Ready(Err(Fault::Write)),
                    Poll::Ready(n) => rest = rest.get(n..).unwrap_or_default(),
                    Poll::Pending => {
                        self.held = rest.to_vec();
                        self.last = 0;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            self.last = filled.len();
            Poll::Ready(Ok(()))
        })
    }
}
