//! The called side: lets in devices of the fleet, and leads their streams to copies on this device.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{DeviceName, PortProtocol};
use outrigger_trust::peer_name;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::link::{self, MeshStream, Wire};
use super::open::{Answer, Asked};
use crate::dial::connect_here;
use crate::limits::{Limits, Source};
use crate::shared::Shared;
use crate::stream::join;
use crate::table::{Table, address_in};

/// How long one may take, and how long a stream may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a device wants before the hub has told us that it may: its routes have come earlier than ours, and so long a request
/// waits rather than fails. On a busy machine that is some hundred milliseconds.
const EARLY: Duration = Duration::from_secs(1);
/// Streams of one device that wait to be looked at.
const WAITING: usize = 256;

/// Listens on all addresses.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    let both = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    both.or_else(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::AFNOSUPPORT.raw_os_error() => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        _ => Err(error),
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Lets devices in until it is cancelled.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let (handshakes, connections) = (Limits::of_handshakes(), Limits::of_devices());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Without a turn it is closed at once; a device comes again.
                let Some(turn) = handshakes.permit(Source::Address(from.ip().to_canonical())) else { continue };
                let (shared, connections) = (Arc::clone(&shared), connections.clone());
                tokio::spawn(async move {
                    let met = timeout(PATIENCE, meet_directly(&shared, stream)).await;
                    drop(turn);
                    match met {
                        Ok(Ok((caller, wire))) => match connections.permit(Source::Device(caller.clone())) {
                            Some(_place) => attend(shared, caller, wire, Way::Direct).await,
                            None => debug!(%from, %caller, "a device has too many connections"),
                        },
                        Ok(Err(error)) => debug!(%from, %error, "somebody was not let in as a device"),
                        Err(_) => debug!(%from, "somebody took too long to say who they are"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept connections of devices");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How a device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Relayed,
}

async fn meet_directly(shared: &Shared, stream: TcpStream) -> io::Result<(DeviceName, impl Wire)> {
    link::prepare(&stream)?;
    meet(shared, stream).await
}

/// The handshake. Whoever comes out of it is a device of this fleet, of this name.
pub(crate) async fn meet(shared: &Shared, wire: impl Wire) -> io::Result<(DeviceName, impl Wire)> {
    let tls = shared.mesh.tls(&shared.table()).map_err(io::Error::other)?;
    let stream = TlsAcceptor::from(tls.server()).accept(link::ahead(wire)).await?;
    let name = peer_name(stream.get_ref().1.peer_certificates()).and_then(|name| name.parse().ok());
    let name: DeviceName = name.ok_or_else(|| io::Error::other("the certificate names no device"))?;
    if !once(shared, |table| table.admits(&name)).await.admits(&name) {
        return Err(io::Error::other(format!("the device {name} has no business here")));
    }
    Ok((name, stream))
}

/// A device's streams, until it goes.
pub(crate) async fn attend(shared: Arc<Shared>, caller: DeviceName, wire: impl Wire, way: Way) {
    let (give, mut streams) = mpsc::channel(WAITING);
    let here = shared.mesh.note_caller(&caller, way);
    shared.mesh.relay.changed.notify_one();
    let looked = async {
        while let Some(stream) = streams.recv().await {
            tokio::spawn(answer(Arc::clone(&shared), caller.clone(), stream));
        }
    };
    // The device may be none of ours any more: then nothing of its goes on.
    let dismissed = async {
        let mut tables = shared.tables();
        while tables.wait_for(|table| !table.admits(&caller)).await.is_ok() {
            tokio::time::sleep(super::GRACE).await;
            if !tables.borrow_and_update().admits(&caller) {
                return;
            }
        }
    };
    tokio::select! { // each ends the others: the connection is over
        () = link::called(wire, give) => (),
        () = looked => (),
        () = dismissed => debug!(%caller, "a device that has no business here any more was cut off"),
    }
    drop(here);
    shared.mesh.relay.changed.notify_one();
}

/// One stream.
async fn answer(shared: Arc<Shared>, caller: DeviceName, mut stream: MeshStream) {
    let open = match timeout(PATIENCE, Asked::read(&mut stream)).await {
        Ok(Ok(Some(Asked::Copy(open)))) => open,
        Ok(Ok(Some(Asked::Line))) => return drop(Answer::Ok.write(&mut stream).await),
        Ok(Ok(None)) => return drop(Answer::Unknown.write(&mut stream).await),
        Ok(Err(_)) | Err(_) => return,
    };
    let Some(_permit) = shared.limits.permit(Source::Device(caller.clone())) else {
        return drop(Answer::Busy.write(&mut stream).await);
    };
    let may = |table: &Table| table.for_caller(&caller, open.placement, open.protocol, open.port).is_some();
    let table = tokio::select! { // both may be cancelled
        biased; // nearly always it may
        table = once(&shared, may) => table,
        () = gone(&mut stream) => return,
    };
    let found = table.for_caller(&caller, open.placement, open.protocol, open.port);
    let Some((copy, service)) = found else {
        debug!(%caller, placement = open.placement.0, port = open.port, "a device may not reach this");
        return drop(Answer::Refused.write(&mut stream).await);
    };
    let address = address_in(&copy.addresses, open.network.as_ref());
    if open.protocol == PortProtocol::Udp {
        let Some(address) = address else { return drop(Answer::NoCopy.write(&mut stream).await) };
        drop(table);
        if Answer::Ok.write(&mut stream).await.is_ok() {
            crate::udp::carry(stream, SocketAddr::new(address, open.port)).await;
        }
        return;
    }
    let request = open.request();
    let mut connecting = Box::pin(connect_here(&shared, address, &request, service));
    let connected = tokio::select! { // both may be cancelled: nothing of either is needed any more
        biased; // nearly always it has connected at once
        connected = &mut connecting => connected,
        () = gone(&mut stream) => return,
    };
    drop(connecting);
    drop(table);
    match connected {
        Ok(mut copy) => {
            if Answer::Ok.write(&mut stream).await.is_ok() {
                join(&mut stream, &mut copy, |_| ()).await;
            }
        }
        Err(error) => {
            debug!(%caller, error = &error as &dyn std::error::Error, "a copy here does not answer");
            drop(Answer::Unreachable.write(&mut stream).await);
        }
    }
}

/// The table as soon as this holds in it, or the newest after [`EARLY`].
async fn once(shared: &Shared, holds: impl Fn(&Table) -> bool) -> Arc<Table> {
    let table = shared.table();
    if holds(&table) {
        return table;
    }
    drop(table);
    let mut tables = shared.tables();
    let _ = timeout(EARLY, tables.wait_for(|table| holds(table))).await; // whoever asks looks for himself
    shared.table()
}

/// Returns once the caller waits no longer. A caller may have few streams that nobody has acknowledged, and this one takes
/// longer than others: it must not keep them waiting.
async fn gone(stream: &mut MeshStream) {
    // Acknowledges the stream, and says nothing in it. A caller says nothing before it has an answer.
    if stream.write(&[]).await.is_ok() {
        let _ = stream.read(&mut [0]).await;
    }
}
