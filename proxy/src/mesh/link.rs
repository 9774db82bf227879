//! Many streams in one connection between two devices.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, Mode, Stream};

use super::cork::Cork;
use super::open::{Answer, Asked};
use crate::stream::End;

/// Streams in one connection. A further one ends the connection with all others (yamux), so we stop at half of it: what has
/// ended here may not have ended on the other side yet.
const MAX_STREAMS: usize = 8192;
/// Requests for a stream that may wait for the connection's task.
const OPENS: usize = 64;
/// Largest piece of one stream before another gets its turn: small enough for others not to wait, large enough to cost
/// little.
pub(crate) const PIECE: usize = 64 * 1024;
/// What is read at once from a connection, below TLS, which alone would ask for a quarter of a record at a time.
const AHEAD: usize = 32 * 1024;
/// What all streams of a connection together may hold for readers that are slow, beyond what each may in any case.
const WINDOWS: usize = 16 * 1024 * 1024;
/// Bytes on their way that nobody has acknowledged for this long: the other device is gone.
const UNHEARD: Duration = Duration::from_secs(4);
/// A connection on which nothing happens is tried after this long, and given up [`PROBES`] seconds later.
const QUIET: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// Whatever carries bytes between two devices.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// One connection. It lasts as long as somebody holds it or a stream of it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    opens: mpsc::Sender<oneshot::Sender<MeshStream>>,
    task: AbortHandle,
    /// One for the connection's task, one for each stream.
    alive: Weak<()>,
    /// Streams that we open at most.
    most: usize,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct MeshStream {
    inner: Compat<Stream>,
    is_shut: bool,
    /// Keeps the connection.
    _alive: Arc<()>,
}

/// Makes the kernel notice soon that the other device is gone.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNHEARD))?;
    let second = Duration::from_secs(1);
    let keepalive = socket2::TcpKeepalive::new().with_time(QUIET).with_interval(second).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// What TLS is to be spoken on.
pub(crate) fn ahead<W: Wire>(wire: W) -> BufReader<W> {
    BufReader::with_capacity(AHEAD, wire)
}

impl Link {
    /// As the side that opens streams.
    pub(crate) fn calling(wire: impl Wire) -> Self {
        Self::start(wire, Mode::Client, MAX_STREAMS, None)
    }

    /// As one of two sides that both open streams: what the other opens is handed over.
    pub(crate) fn both(wire: impl Wire, mode: Mode, most: usize, streams: mpsc::Sender<MeshStream>) -> Self {
        Self::start(wire, mode, most, Some(streams))
    }

    fn start(wire: impl Wire, mode: Mode, most: usize, inbound: Option<mpsc::Sender<MeshStream>>) -> Self {
        let (opens, asked) = mpsc::channel(OPENS);
        let alive = Arc::new(());
        let held = Arc::downgrade(&alive);
        let task = tokio::spawn(drive(wire, mode, most, Some(asked), inbound, alive)).abort_handle();
        Self { opens, task, alive: held, most: most / 2 }
    }

    /// Ends the connection with all its streams.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    /// A new stream; an error of the kind `QuotaExceeded` if there are too many.
    pub(crate) async fn open(&self) -> io::Result<MeshStream> {
        if self.alive.strong_count() > self.most {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("there are {} streams already", self.most),
            ));
        }
        self.open_in_any_case().await
    }

    async fn open_in_any_case(&self) -> io::Result<MeshStream> {
        let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "the connection with the device has ended");
        let (give, take) = oneshot::channel();
        self.opens.send(give).await.map_err(|_| gone())?;
        take.await.map_err(|_| gone())
    }

    /// Returns once the other device has answered a question that it answers at once.
    pub(super) async fn is_heard(&self) -> io::Result<()> {
        let mut stream = self.open_in_any_case().await?;
        Asked::Line.write(&mut stream).await?;
        Answer::read(&mut stream).await.map(drop)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.opens.same_channel(&other.opens)
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        self.opens.closed().await;
    }

    pub(super) fn stop_handle(&self) -> AbortHandle {
        self.task.clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.opens.is_closed()
    }
}

/// Hands over the streams that the other side opens, until it has gone.
pub(crate) async fn called(wire: impl Wire, streams: mpsc::Sender<MeshStream>) {
    drive(wire, Mode::Server, MAX_STREAMS, None, Some(streams), Arc::new(())).await;
}

async fn drive(
    wire: impl Wire,
    mode: Mode,
    most: usize,
    mut asked: Option<mpsc::Receiver<oneshot::Sender<MeshStream>>>,
    inbound: Option<mpsc::Sender<MeshStream>>,
    alive: Arc<()>,
) {
    let mut config = Config::default();
    // Without the limit that is set at first, which does not go with more streams.
    config.set_max_connection_receive_window(None);
    // A stream that nobody reads holds at most what its window allows; the windows of all together have a limit too.
    config.set_max_num_streams(most).set_split_send_size(PIECE);
    config.set_max_connection_receive_window(Some(WINDOWS.max(most * yamux::DEFAULT_CREDIT as usize)));
    let ends_unheld = asked.is_some();
    let cork = Cork::new(wire);
    let mut connection = Connection::new(cork.clone().compat(), config, mode);
    let stream_of = |inner: Stream| MeshStream { inner: inner.compat(), is_shut: false, _alive: Arc::clone(&alive) };
    let mut waiting: Option<oneshot::Sender<MeshStream>> = None;
    poll_fn(|cx| {
        loop {
            if waiting.is_none()
                && let Some(receiver) = asked.as_mut()
            {
                match receiver.poll_recv(cx) {
                    Poll::Ready(Some(give)) => waiting = Some(give).filter(|give| !give.is_closed()),
                    Poll::Ready(None) => asked = None,
                    Poll::Pending => (),
                }
            }
            if ends_unheld && asked.is_none() && Arc::strong_count(&alive) == 1 {
                return connection.poll_close(cx).map(|_| ());
            }
            if waiting.is_some() {
                match connection.poll_new_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        if let Some(give) = waiting.take() {
                            let _ = give.send(stream_of(stream)); // who asked may have gone meanwhile
                        }
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => (),
                }
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => match &inbound {
                    // A caller that opens faster than we can look is refused: the stream is dropped.
                    Some(inbound) => drop(inbound.try_send(stream_of(stream))),
                    None => drop(stream),
                },
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                // All that could be written has been, as far as it goes.
                Poll::Pending => match cork.poll_out(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                },
            }
        }
    })
    .await;
}

impl End for MeshStream {
    fn was_cut(&self) -> bool {
        // A stream that was reset is closed both ways. One whose end came properly is still open for what we send,
        // unless we had ended that ourselves.
        !self.is_shut && self.inner.get_ref().is_closed()
    }

    fn spoil(&mut self) {
        // Dropped without having been closed, it is reset.
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Sends back what comes in any stream.
    async fn echo(mut stream: MeshStream) {
        let mut piece = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            stream.write_all(&piece[..length]).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    async fn is_answered(stream: &mut MeshStream) -> bool {
        let asked = async {
            stream.write_all(b"?").await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        asked.await.is_ok()
    }

    #[tokio::test]
    async fn a_stream_too_many_is_refused_and_ends_no_other() {
        const MOST: usize = 16;
        let (near, far) = duplex(PIECE);
        let (give, mut streams) = mpsc::channel(MOST);
        tokio::spawn(drive(far, Mode::Server, MOST, None, Some(give), Arc::new(())));
        tokio::spawn(async move {
            while let Some(stream) = streams.recv().await {
                tokio::spawn(echo(stream));
            }
        });
        let link = Link::start(near, Mode::Client, MOST, None);
        let mut held = vec![];
        let refused = loop {
            match link.open().await {
                Ok(mut stream) => {
                    assert!(is_answered(&mut stream).await, "the connection broke with {} streams", held.len());
                    held.push(stream);
                }
                Err(error) => break error,
            }
        };
        assert_eq!((refused.kind(), held.len()), (io::ErrorKind::QuotaExceeded, MOST / 2));
        for stream in &mut held {
            assert!(is_answered(stream).await, "the others go on");
        }
        held.pop();
        assert!(is_answered(&mut link.open().await.unwrap()).await, "there is room again");
    }
}
