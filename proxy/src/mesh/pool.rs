//! The calling side: one connection with each device that has copies for us, made before it is needed and made anew when it
//! breaks.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outrigger_protocol::{DeviceName, Moment};
use outrigger_trust::PeerTls;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use super::link::{self, Link, Wire};
use super::{GRACE, MeshError, Way, server};
use crate::clock;
use crate::shared::Shared;
use crate::table::Table;

/// A device that answers does so in this time, also over a slow radio.
const PATIENCE: Duration = Duration::from_secs(3);
/// The next address of a device is tried this much later (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Time before the second try; doubled with each further one.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// How often a device that is reached through the hub is tried directly.
const DIRECT_AGAIN: Duration = Duration::from_secs(20);
/// Devices with which a connection is kept. With more of them a request may have to wait for a handshake.
const MOST_KEPT: usize = 256;

/// One other device.
#[derive(Debug, Default)]
pub(super) struct Peer {
    link: Mutex<Option<(Link, Way)>>,
    dialling: tokio::sync::Mutex<Tries>,
}

#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    not_before: Moment,
    /// What the hub said of the device at the last try.
    known: Option<outrigger_protocol::Peer>,
}

impl Peer {
    fn current(&self) -> Option<Link> {
        self.held().map(|(link, _)| link)
    }

    fn held(&self) -> Option<(Link, Way)> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|(link, _)| !link.has_ended()).cloned()
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.held().is_some_and(|(_, way)| way == Way::Relayed)
    }

    /// From now on this connection is used. What goes on in the one before goes on.
    fn put(&self, shared: &Shared, link: Link, way: Way) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some((link, way));
        shared.changed.notify_one();
        shared.mesh.relay.changed.notify_one();
    }

    /// The connection with the device; made, if there is none. Whoever stops waiting for it does not stop it.
    pub(super) async fn link(self: Arc<Self>, shared: &Arc<Shared>, device: &DeviceName) -> Result<Link, MeshError> {
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let (shared, device) = (Arc::clone(shared), device.clone());
        let made = tokio::spawn(async move { self.make(&shared, &device).await });
        made.await.unwrap_or(Err(MeshError::Later))
    }

    async fn make(&self, shared: &Arc<Shared>, device: &DeviceName) -> Result<Link, MeshError> {
        let mut tries = self.dialling.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let known = shared.table().peer(device).cloned().ok_or(MeshError::NoPeer)?;
        if tries.known.as_ref() == Some(&known) && clock::now() < tries.not_before {
            return Err(MeshError::Later);
        }
        match dial(shared, &known).await {
            Ok((link, way)) => {
                *tries = Tries::default();
                self.put(shared, link.clone(), way);
                info!(%device, ?way, "connected with the device");
                Ok(link)
            }
            Err(error) => {
                let wait = FIRST.saturating_mul(1 << tries.failed.min(16)).min(LONGEST).mul_f64(0.5 + fastrand::f64());
                let failed = tries.failed.saturating_add(1);
                *tries = Tries { failed, not_before: clock::now() + wait, known: Some(known) };
                if failed == 1 {
                    warn!(%device, error = &error as &dyn std::error::Error, "cannot connect with the device");
                }
                Err(error)
            }
        }
    }

    async fn next_try(&self) -> Moment {
        self.dialling.lock().await.not_before
    }
}

/// Connects with a device by whatever way there is.
async fn dial(shared: &Arc<Shared>, peer: &outrigger_protocol::Peer) -> Result<(Link, Way), MeshError> {
    let tls = shared.mesh.tls(&shared.table())?;
    let direct = match in_time(directly(&tls, peer)).await {
        Ok(link) => return Ok((link, Way::Direct)),
        Err(error) => error,
    };
    if shared.table().wanted.routes.relay_port.is_none() {
        return Err(direct);
    }
    let reached = shared.mesh.relay.reach(shared, &peer.device).await;
    let stream = reached.map_err(|error| MeshError::Relay(direct.to_string(), error))?;
    Ok((in_time(shake(&tls, &peer.device, stream)).await?, Way::Relayed))
}

async fn in_time(dialled: impl Future<Output = Result<Link, MeshError>>) -> Result<Link, MeshError> {
    timeout(PATIENCE, dialled).await.unwrap_or(Err(MeshError::TooSlow))
}

/// All addresses, each a little later than the one before; the first that answers as this device counts.
async fn directly(tls: &PeerTls, peer: &outrigger_protocol::Peer) -> Result<Link, MeshError> {
    let mut last = MeshError::NoPeer;
    let tries: FuturesUnordered<_> = peer
        .addresses
        .iter()
        .zip(0_u32..)
        .map(|(address, number)| async move {
            tokio::time::sleep(STAGGER * number).await;
            let stream = TcpStream::connect(SocketAddr::new(*address, peer.port)).await.map_err(MeshError::Connect)?;
            link::prepare(&stream).map_err(MeshError::Connect)?;
            shake(tls, &peer.device, stream).await
        })
        .collect();
    let mut tries = tries;
    while let Some(tried) = tries.next().await {
        match tried {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The handshake. It fails if the other side is not this very device.
async fn shake(tls: &PeerTls, device: &DeviceName, wire: impl Wire) -> Result<Link, MeshError> {
    let config = tls.client_for(device.as_str()).map_err(super::IdentityError::Tls)?;
    let shaken = TlsConnector::from(config).connect(PeerTls::server_name(), link::ahead(wire)).await;
    Ok(Link::calling(shaken.map_err(MeshError::Connect)?))
}

/// Keeps the listener and the connections as the table wants them, until it is cancelled.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut tables = shared.tables();
    let mut kept: HashMap<DeviceName, AbortHandle> = HashMap::new();
    let mut listening: Option<(u16, AbortHandle)> = None;
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let retry = keep_listening(&shared, &table, &mut listening);
        keep_connections(&shared, &table, &mut kept);
        drop(table);
        tokio::select! { // both may be cancelled
            changed = tables.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LONGEST), if retry => (),
        }
    }
}

/// True: it is to be tried again.
fn keep_listening(shared: &Arc<Shared>, table: &Table, listening: &mut Option<(u16, AbortHandle)>) -> bool {
    let wanted = table.wanted.mesh.as_ref().map(|mesh| mesh.port);
    if listening.as_ref().map(|(port, _)| *port) == wanted {
        return false;
    }
    if let Some((_, task)) = listening.take() {
        task.abort();
        shared.mesh.note_listening(Ok(None));
        shared.changed.notify_one();
    }
    let Some(port) = wanted else { return false };
    let bound = server::listen(port).and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let told = match bound {
        Ok((bound, listener)) => {
            let task = tokio::spawn(server::serve(Arc::clone(shared), listener));
            *listening = Some((port, task.abort_handle()));
            Ok(Some(bound))
        }
        Err(error) => Err(format!("cannot listen on port {port} for other devices: {error}")),
    };
    let failed = told.is_err();
    shared.mesh.note_listening(told);
    shared.changed.notify_one();
    failed
}

fn keep_connections(shared: &Arc<Shared>, table: &Table, kept: &mut HashMap<DeviceName, AbortHandle>) {
    let called = table.called();
    kept.retain(|device, task| {
        let stays = called.contains(device);
        if !stays {
            task.abort();
            shared.mesh.let_go(shared, device);
        }
        stays
    });
    for device in called {
        if kept.len() < MOST_KEPT && !kept.contains_key(device) {
            let task = tokio::spawn(keep_one(Arc::clone(shared), device.clone()));
            kept.insert(device.clone(), task.abort_handle());
        }
    }
}

/// Connects again whenever the connection breaks.
async fn keep_one(shared: Arc<Shared>, device: DeviceName) {
    let mut tables = shared.tables();
    loop {
        let peer = shared.mesh.peer(&device);
        match Arc::clone(&peer).link(&shared, &device).await {
            Ok(link) => tokio::select! { // both may be cancelled
                () = link.ended() => {
                    shared.changed.notify_one();
                    shared.mesh.relay.changed.notify_one();
                }
                () = direct_again(&shared, &device, &peer) => (),
            },
            Err(_) => {
                let wait = peer.next_try().await.since(clock::now());
                tokio::select! { // both may be cancelled
                    () = tokio::time::sleep(wait.max(FIRST)) => (),
                    // The hub may know a new address.
                    _ = tables.changed() => (),
                }
            }
        }
    }
}

/// Returns once a device that was reached through the hub is reached directly.
async fn direct_again(shared: &Shared, device: &DeviceName, peer: &Peer) {
    if !peer.is_relayed() {
        std::future::pending::<()>().await;
    }
    let mut tables = shared.tables();
    let mut tried = shared.table().peer(device).cloned();
    loop {
        tokio::select! { // both may be cancelled
            () = tokio::time::sleep(DIRECT_AGAIN.mul_f64(0.5 + fastrand::f64())) => (),
            // The hub may know a new address; anything else is no reason.
            _ = tables.wait_for(|table| table.peer(device) != tried.as_ref()) => (),
        }
        let table = shared.table();
        tried = table.peer(device).cloned();
        let (Some(known), Ok(tls)) = (table.peer(device), shared.mesh.tls(&table)) else { return };
        if let Ok(link) = in_time(directly(&tls, known)).await {
            info!(%device, "the device is reached directly again");
            return peer.put(shared, link, Way::Direct);
        }
    }
}

impl super::Mesh {
    /// The device has nothing for us any more. What goes on there may end by itself, for a while.
    fn let_go(&self, shared: &Arc<Shared>, device: &DeviceName) {
        let Some(peer) = self.peers().remove(device) else { return };
        let Some(link) = peer.current() else { return };
        debug!(%device, "the device has nothing for us any more");
        let (shared, device) = (Arc::downgrade(shared), device.clone());
        let stop = link.stop_handle();
        drop(link);
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            let is_peer = shared.upgrade().is_some_and(|shared| shared.table().peer(&device).is_some());
            if !is_peer {
                stop.abort();
            }
        });
    }
}
