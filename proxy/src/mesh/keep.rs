//! Keeps connections with the devices that have copies for us: made before they are needed, made anew when they break or
//! nothing is heard any more, taken back from the hub when there is a direct way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::DeviceName;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::link::Link;
use super::pool::{FIRST as SHORTEST, LONGEST, Peer, directly, in_time};
use super::{GRACE, USUAL, Way, server};
use crate::balance::LineState;
use crate::clock;
use crate::shared::Shared;
use crate::table::Table;

/// How often a device that is reached through the hub is tried directly.
const DIRECT_AGAIN: Duration = Duration::from_secs(20);
/// Devices with which a connection is kept. With more of them a request may have to wait for a handshake.
const MOST_KEPT: usize = 256;

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
            // Nobody looks any more whether it is there.
            shared.note_line(device, LineState::Carries);
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

/// Connects again whenever the connection breaks or stalls.
async fn keep_one(shared: Arc<Shared>, device: DeviceName) {
    let mut tables = shared.tables();
    let peer = shared.mesh.peer(&device);
    loop {
        match Arc::clone(&peer).link(&shared, &device).await {
            Ok(link) => {
                shared.note_line(&device, LineState::Carries);
                tokio::select! { // all may be cancelled
                    () = link.ended() => {
                        shared.note_line(&device, LineState::Lost);
                        shared.changed.notify_one();
                        shared.mesh.relay.changed.notify_one();
                    }
                    () = replaced(&shared, &device, &peer, &link) => (),
                    () = direct_again(&shared, &device, &peer) => (),
                }
            }
            Err(_) => {
                shared.note_line(&device, LineState::Lost);
                wait_for_next_try(&peer, &mut tables).await;
            }
        }
    }
}

async fn wait_for_next_try(peer: &Peer, tables: &mut watch::Receiver<Arc<Table>>) {
    let wait = peer.next_try().await.since(clock::now());
    tokio::select! { // both may be cancelled
        () = tokio::time::sleep(wait.max(SHORTEST)) => (),
        // The hub may know a new address.
        _ = tables.changed() => (),
    }
}

/// Returns once another connection is there than this one, on which nothing is heard any more. That is found out when a
/// request waits: the kernel gives a connection up after seconds only, and when a line carries again after a cut it lets
/// pass as much time once more as the cut has lasted.
async fn replaced(shared: &Arc<Shared>, device: &DeviceName, peer: &Arc<Peer>, link: &Link) {
    loop {
        peer.doubted().await;
        let begun = clock::instant();
        let patience = peer.line().patience();
        let asked = link.is_heard();
        tokio::pin!(asked);
        let heard = match timeout(patience, &mut asked).await {
            Ok(heard) => heard,
            Err(_) => {
                warn!(%device, "nothing is heard of the device; another connection is tried");
                shared.note_line(device, LineState::Lost);
                tokio::select! { // both may be cancelled: what was made is used in any case
                    heard = &mut asked => heard,
                    () = renewed(shared, device, peer, link) => return,
                }
            }
        };
        if heard.is_err() {
            // It ends by itself.
            std::future::pending::<()>().await;
        }
        peer.line().answered(begun.elapsed());
        if begun.elapsed() >= USUAL {
            // It was the line that was slow for a moment, and not the copies there.
            shared.note_line(device, LineState::Lost);
        }
        shared.note_line(device, LineState::Carries);
        // One that is slow again and again is not asked all the time.
        tokio::time::sleep(patience).await;
    }
}

/// Returns once there is another connection with the device.
async fn renewed(shared: &Arc<Shared>, device: &DeviceName, peer: &Arc<Peer>, stalled: &Link) {
    let mut tables = shared.tables();
    while Arc::clone(peer).fresh(shared, device, Some(stalled.clone())).await.is_err() {
        wait_for_next_try(peer, &mut tables).await;
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
