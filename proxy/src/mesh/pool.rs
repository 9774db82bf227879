//! The calling side: one connection with each device that has copies for us.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outrigger_protocol::{DeviceName, Moment};
use outrigger_trust::PeerTls;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use super::link::{self, Link, Wire};
use super::{MeshError, Way};
use crate::balance::Line;
use crate::clock;
use crate::shared::Shared;

/// A device that answers does so in this time, also over a slow radio.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take to accept a connection; the rest is for the handshake. A first packet that was lost is repeated by
/// the kernel after one second, then after ever longer times; a new try is there sooner.
const CONNECTING: Duration = Duration::from_millis(1500);
/// The next address of a device is tried this much later (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Time before the second try; doubled with each further one.
pub(super) const FIRST: Duration = Duration::from_millis(250);
/// At most this and [`CONNECTING`] after a device is back it is connected with.
pub(super) const LONGEST: Duration = Duration::from_millis(1500);

/// One other device.
#[derive(Debug, Default)]
pub(super) struct Peer {
    link: watch::Sender<Option<(Link, Way)>>,
    dialling: tokio::sync::Mutex<Tries>,
    /// Somebody has waited for an answer for longer than usual.
    doubts: Notify,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    not_before: Moment,
    /// What the hub said of the device at the last try.
    known: Option<outrigger_protocol::Peer>,
}

impl Peer {
    pub(super) fn current(&self) -> Option<Link> {
        self.held().map(|(link, _)| link)
    }

    fn held(&self) -> Option<(Link, Way)> {
        self.link.borrow().as_ref().filter(|(link, _)| !link.has_ended()).cloned()
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.held().is_some_and(|(_, way)| way == Way::Relayed)
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has waited for longer than usual for the device to answer.
    pub(super) fn doubt(&self) {
        self.doubts.notify_one();
    }

    pub(super) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// From now on this connection is used. What goes on in the one before goes on.
    pub(super) fn put(&self, shared: &Shared, link: Link, way: Way) {
        self.link.send_replace(Some((link, way)));
        shared.changed.notify_one();
        shared.mesh.relay.changed.notify_one();
    }

    /// Waits for a connection that is used instead of this one.
    pub(super) async fn newer(&self, than: &Link) -> Link {
        let mut links = self.link.subscribe();
        loop {
            if let Some((link, _)) = links.borrow_and_update().as_ref().filter(|(link, _)| !link.is_same(than)) {
                return link.clone();
            }
            if links.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The connection with the device; made, if there is none. Whoever stops waiting for it does not stop it.
    pub(super) async fn link(self: Arc<Self>, shared: &Arc<Shared>, device: &DeviceName) -> Result<Link, MeshError> {
        match self.current() {
            Some(link) => Ok(link),
            None => self.fresh(shared, device, None).await,
        }
    }

    /// A connection other than this one, which is of no use.
    pub(super) async fn fresh(
        self: Arc<Self>,
        shared: &Arc<Shared>,
        device: &DeviceName,
        stalled: Option<Link>,
    ) -> Result<Link, MeshError> {
        let (shared, device) = (Arc::clone(shared), device.clone());
        let made = tokio::spawn(async move { self.make(&shared, &device, stalled).await });
        made.await.unwrap_or(Err(MeshError::Later))
    }

    async fn make(&self, shared: &Arc<Shared>, device: &DeviceName, stalled: Option<Link>) -> Result<Link, MeshError> {
        let mut tries = self.dialling.lock().await;
        let is_other = |link: &Link| stalled.as_ref().is_none_or(|stalled| !link.is_same(stalled));
        if let Some(link) = self.current().filter(is_other) {
            return Ok(link);
        }
        let known = shared.table().peer(device).cloned().ok_or(MeshError::NoPeer)?;
        if tries.known.as_ref() == Some(&known) && clock::now() < tries.not_before {
            return Err(MeshError::Later);
        }
        let begun = clock::instant();
        match dial(shared, &known).await {
            Ok((link, way)) => {
                *tries = Tries::default();
                self.line().connected(begun.elapsed());
                self.put(shared, link.clone(), way);
                info!(%device, ?way, "connected with the device");
                Ok(link)
            }
            Err(error) => {
                let wait =
                    FIRST.saturating_mul(1 << tries.failed.min(16)).min(LONGEST).mul_f64(0.5 + 0.5 * fastrand::f64());
                let failed = tries.failed.saturating_add(1);
                *tries = Tries { failed, not_before: clock::now() + wait, known: Some(known) };
                if failed == 1 {
                    warn!(%device, error = &error as &dyn std::error::Error, "cannot connect with the device");
                }
                Err(error)
            }
        }
    }

    /// When another try is due.
    pub(super) async fn next_try(&self) -> Moment {
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

pub(super) async fn in_time(dialled: impl Future<Output = Result<Link, MeshError>>) -> Result<Link, MeshError> {
    timeout(PATIENCE, dialled).await.unwrap_or(Err(MeshError::TooSlow))
}

/// All addresses, each a little later than the one before; the first that answers as this device counts.
pub(super) async fn directly(tls: &PeerTls, peer: &outrigger_protocol::Peer) -> Result<Link, MeshError> {
    let mut last = MeshError::NoPeer;
    let tries: FuturesUnordered<_> = peer
        .addresses
        .iter()
        .zip(0_u32..)
        .map(|(address, number)| async move {
            tokio::time::sleep(STAGGER * number).await;
            let connected = timeout(CONNECTING, TcpStream::connect(SocketAddr::new(*address, peer.port))).await;
            let stream = connected.map_err(|_| MeshError::TooSlow)?.map_err(MeshError::Connect)?;
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

/// The handshake. It fails if the other side is not this very device, or does not let us in: in TLS 1.3 it judges us only
/// after we are done, so it is asked. Without that we would come again and again, as if each time we had been let in.
async fn shake(tls: &PeerTls, device: &DeviceName, wire: impl Wire) -> Result<Link, MeshError> {
    let config = tls.client_for(device.as_str()).map_err(super::IdentityError::Tls)?;
    let shaken = TlsConnector::from(config).connect(PeerTls::server_name(), link::ahead(wire)).await;
    let link = Link::calling(shaken.map_err(MeshError::Connect)?);
    link.is_heard().await.map_err(MeshError::NotLetIn)?;
    Ok(link)
}
