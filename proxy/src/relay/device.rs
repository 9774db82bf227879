//! The device's half: one connection with the hub, held while another device needs it or we do.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::client_config;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::{debug, info};

use super::{Met, STREAMS, read_name, write_name};
use crate::mesh::{Link, MeshStream, Way, ahead, attend, keep_awake, meet};
use crate::shared::Shared;

/// How long the hub may take to be reached, and to find the other device.
const PATIENCE: Duration = Duration::from_secs(5);
/// Devices that may call get this long to come directly, before we wait for them at the hub.
const DIRECT_FIRST: Duration = Duration::from_secs(3);
/// Between two tries to reach the hub.
const AGAIN: Duration = Duration::from_secs(5);
/// A connection that is not needed any more is kept this long: needs come and go while devices connect.
const LINGER: Duration = Duration::from_secs(30);

/// Our connection with the hub.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    link: Mutex<Option<Link>>,
    dialling: tokio::sync::Mutex<()>,
    /// Somebody has come directly, or gone, or is reached through the hub now.
    pub(crate) changed: Notify,
}

impl Relay {
    fn current(&self) -> Option<Link> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|link| !link.has_ended()).cloned()
    }

    async fn link(&self, shared: &Arc<Shared>) -> io::Result<Link> {
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let _alone = self.dialling.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let link = timeout(PATIENCE, connect(shared)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        Ok(link)
    }

    /// A stream to another device by way of the hub.
    pub(crate) async fn reach(&self, shared: &Arc<Shared>, device: &DeviceName) -> io::Result<MeshStream> {
        let link = self.link(shared).await?;
        let met = async {
            let mut stream = link.open().await?;
            write_name(&mut stream, device).await?;
            match Met::read(&mut stream).await? {
                Met::Here => Ok(stream),
                Met::Away => Err(io::Error::other("the device does not wait at the hub")),
                Met::Busy => Err(io::Error::other("the device has too many streams at the hub")),
            }
        };
        timeout(PATIENCE, met).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    fn let_go(&self) {
        // It ends once its last stream has.
        drop(self.link.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

async fn connect(shared: &Arc<Shared>) -> io::Result<Link> {
    let table = shared.table();
    let nowhere = || io::Error::other("the hub joins no devices");
    let (mesh, port) = table.wanted.mesh.as_ref().zip(table.wanted.routes.relay_port).ok_or_else(nowhere)?;
    let parts = shared.mesh.identity_in(&mesh.identity).map_err(io::Error::other)?;
    let config = client_config(&parts.authorities, Some(parts.identity), parts.floor).map_err(io::Error::other)?;
    let name = ServerName::try_from(mesh.hub.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((mesh.hub.as_str(), port)).await?;
    keep_awake(&stream)?;
    let stream = TlsConnector::from(config).connect(name, ahead(stream)).await?;
    let (give, mut streams) = mpsc::channel::<MeshStream>(STREAMS);
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let Some(shared) = weak.upgrade() else { return };
            tokio::spawn(let_in(shared, stream));
        }
    });
    info!("connected with the hub, to be reached through it");
    Ok(Link::both(stream, yamux::Mode::Client, STREAMS, give))
}

/// A device that comes by way of the hub is looked at like any other.
async fn let_in(shared: Arc<Shared>, mut stream: MeshStream) {
    let met = async {
        let from = read_name(&mut stream).await?;
        let (caller, wire) = meet(&shared, stream).await?;
        if caller != from {
            return Err(io::Error::other(format!("{caller} came under the name of {from}")));
        }
        Ok((caller, wire))
    };
    match timeout(PATIENCE, met).await {
        Ok(Ok((caller, wire))) => attend(shared, caller, wire, Way::Relayed).await,
        Ok(Err(error)) => debug!(%error, "somebody was not let in through the hub"),
        Err(_) => debug!("somebody took too long at the hub"),
    }
}

/// Whether somebody who may come has not come directly.
fn is_awaited(shared: &Shared) -> bool {
    let table = shared.table();
    let is_possible = table.wanted.mesh.is_some() && table.wanted.routes.relay_port.is_some();
    let direct: HashSet<DeviceName> = shared.mesh.direct_callers();
    is_possible && table.callers().iter().any(|caller| !direct.contains(*caller))
}

/// Holds the connection while it is needed, until it is cancelled.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut tables = shared.tables();
    let relay = &shared.mesh.relay;
    loop {
        tables.mark_unchanged();
        let (awaited, held) = (is_awaited(&shared), relay.current());
        let is_used = !shared.mesh.relayed().is_empty();
        let wait = match (awaited, &held) {
            (true, None) => Some(DIRECT_FIRST),
            (false, Some(_)) if !is_used => Some(LINGER),
            _ => None,
        };
        let ended = async {
            match &held {
                Some(link) => link.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { // all may be cancelled
            changed = tables.changed() => if changed.is_err() { return },
            () = relay.changed.notified() => (),
            () = ended => (),
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                if !is_awaited(&shared) {
                    if !is_used {
                        relay.let_go();
                    }
                } else if let Err(error) = relay.link(&shared).await {
                    debug!(%error, "cannot wait for other devices at the hub");
                    tokio::time::sleep(AGAIN.mul_f64(0.5 + fastrand::f64())).await;
                }
            }
        }
    }
}
