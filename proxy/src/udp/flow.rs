//! One flow of datagrams, with a copy on this device or on another.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::PlacementId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::LONGEST;
use crate::balance::{Cause, Need};
use crate::clock;
use crate::dial::Request;
use crate::mesh::{LineTo, MeshStream, Open, USUAL};
use crate::shared::{Lease, Shared};
use crate::table::{Place, Service, address_in};

/// A flow in which nobody has said anything for this long is over; what conntrack gives those that have been answered.
const QUIET: Duration = Duration::from_secs(120);
/// How long another device may take to be reached.
const PATIENCE: Duration = Duration::from_secs(2);
/// Copies that are tried for one flow.
const ATTEMPTS: usize = 4;

thread_local! {
    /// A flow that waits holds no room for a datagram.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(vec![]) };
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nobody has said anything, or the client's port is closed.
    Quiet,
    /// The copy refuses, or its device is gone.
    Failed,
    /// There is a newer connection with the copy's device; the one that it went by may have stalled.
    Moved,
}

/// Leads the client's datagrams to a copy and the answers back, until the flow is over. A copy that refuses is left for
/// another one, which gets what the client sends from then on: only the client knows what to repeat.
pub(super) async fn run(
    shared: Arc<Shared>,
    service: Arc<Service>,
    request: Request,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    mut answer: impl FnMut(&[u8]),
) {
    let mut tried: Vec<PlacementId> = vec![];
    while tried.len() < ATTEMPTS {
        let Some(lease) = shared.lease(&service, request.client.ip(), &tried, Need::Known) else { return };
        tried.push(lease.placement);
        let ended = loop {
            let begun = clock::instant();
            let ended = match reach(&shared, &lease, &request).await {
                Ok(With::Here(socket)) => here(&socket, &lease, &mut datagrams, &mut answer).await,
                Ok(With::There(stream, line)) => {
                    lease.tell(|balancer, placement| balancer.connected(placement, begun.elapsed(), clock::now()));
                    there(stream, &line, &mut datagrams, &mut answer).await
                }
                Err(_) => Ended::Failed,
            };
            if ended != Ended::Moved {
                break ended;
            }
        };
        if ended == Ended::Quiet {
            return;
        }
        lease.tell(|balancer, placement| balancer.failed(placement, Cause::Line, clock::now()));
    }
}

enum With {
    Here(UdpSocket),
    There(MeshStream, LineTo),
}

async fn reach(shared: &Arc<Shared>, lease: &Lease, request: &Request) -> io::Result<With> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let target = lease.service.target(lease.placement).ok_or_else(gone)?;
    match &target.place {
        Place::Here(addresses) => {
            let address = address_in(addresses, request.network.as_ref()).ok_or_else(gone)?;
            connect(SocketAddr::new(address, request.port)).await.map(With::Here)
        }
        Place::On(device) => {
            let open = Open::new(lease.placement, request);
            let opened = timeout(PATIENCE, shared.mesh.open(shared, device, &open)).await;
            let opened = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let line = shared.mesh.line_to(device);
            opened.map(|stream| With::There(stream, line)).map_err(io::Error::other)
        }
    }
}

async fn connect(copy: SocketAddr) -> io::Result<UdpSocket> {
    let any = if copy.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(copy).await?;
    Ok(socket)
}

async fn here(
    socket: &UdpSocket,
    lease: &Lease,
    datagrams: &mut mpsc::Receiver<Vec<u8>>,
    answer: &mut impl FnMut(&[u8]),
) -> Ended {
    let mut asked_at = Some(clock::instant());
    loop {
        let step = tokio::select! { // all may be cancelled: none holds a datagram
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => socket.send(&datagram).await.map(drop),
                None => return Ended::Quiet,
            },
            ready = socket.readable() => ready.and_then(|()| take(socket, &mut *answer)).map(|answered| {
                if let Some(asked_at) = asked_at.take_if(|_| answered) {
                    // There is no connecting; the first answer is what shows that the copy is well.
                    lease.tell(|balancer, placement| balancer.connected(placement, asked_at.elapsed(), clock::now()));
                }
            }),
            () = tokio::time::sleep(QUIET) => return Ended::Quiet,
        };
        if step.is_err() {
            return Ended::Failed;
        }
    }
}

/// Takes one datagram; false: there was none.
fn take(socket: &UdpSocket, mut give: impl FnMut(&[u8])) -> io::Result<bool> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(LONGEST, 0);
        match socket.try_recv(buffer) {
            Ok(length) => give(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    })
}

/// In a stream, each datagram comes after its length in two bytes (little endian).
async fn there(
    stream: MeshStream,
    line: &LineTo,
    datagrams: &mut mpsc::Receiver<Vec<u8>>,
    answer: &mut impl FnMut(&[u8]),
) -> Ended {
    let (reads, mut writes) = tokio::io::split(stream);
    let (give, mut answers) = mpsc::channel::<Vec<u8>>(super::WAITING);
    let reading = read_all(reads, give);
    let replaced = line.replaced();
    tokio::pin!(reading, replaced);
    // Some time after a datagram that nobody has answered it is looked whether the line still carries.
    let mut doubt_at = None;
    loop {
        let step = tokio::select! { // a half-read datagram stays in `reading`, which is not dropped before the end
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => {
                    doubt_at.get_or_insert_with(|| clock::instant() + USUAL);
                    tokio::select! { // a line that takes nothing any more is left with what it has taken
                        written = write(&mut writes, &datagram) => written,
                        () = &mut replaced => return Ended::Moved,
                    }
                }
                None => return Ended::Quiet,
            },
            () = &mut reading => return Ended::Failed,
            Some(datagram) = answers.recv() => {
                doubt_at = None;
                answer(&datagram);
                Ok(())
            }
            () = &mut replaced => return Ended::Moved,
            () = sleep_until(doubt_at.unwrap_or_else(clock::instant)), if doubt_at.is_some() => {
                doubt_at = None;
                line.doubt();
                Ok(())
            }
            () = tokio::time::sleep(QUIET) => return Ended::Quiet,
        };
        if step.is_err() {
            return Ended::Failed;
        }
    }
}

async fn read_all(mut reads: ReadHalf<MeshStream>, give: mpsc::Sender<Vec<u8>>) {
    while let Ok(length) = reads.read_u16_le().await {
        let mut datagram = vec![0; usize::from(length)];
        if reads.read_exact(&mut datagram).await.is_err() {
            return;
        }
        let _ = give.try_send(datagram); // a full queue loses it
    }
}

async fn write(writes: &mut WriteHalf<MeshStream>, datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    let mut framed = length.to_le_bytes().to_vec();
    framed.extend(datagram);
    writes.write_all(&framed).await?;
    writes.flush().await
}

/// The called side: a flow that has come in a stream, to a copy on this device.
pub(crate) async fn carry(stream: MeshStream, copy: SocketAddr) {
    let Ok(socket) = connect(copy).await else { return };
    let (reads, mut writes) = tokio::io::split(stream);
    let (give, mut datagrams) = mpsc::channel(super::WAITING);
    let reading = read_all(reads, give);
    tokio::pin!(reading);
    loop {
        let mut answer = None;
        let step = tokio::select! { // as above
            () = &mut reading => return,
            Some(datagram) = datagrams.recv() => socket.send(&datagram).await.map(drop),
            ready = socket.readable() => {
                ready.and_then(|()| take(&socket, |datagram| answer = Some(datagram.to_vec()))).map(drop)
            }
            // The calling side is the first to find a flow quiet; this is for one that has forgotten.
            () = tokio::time::sleep(QUIET * 2) => return,
        };
        let step = match (step, answer) {
            (Ok(()), Some(answer)) => write(&mut writes, &answer).await,
            (step, _) => step,
        };
        if step.is_err() {
            return; // the stream ends, and the calling side turns to another copy
        }
    }
}
