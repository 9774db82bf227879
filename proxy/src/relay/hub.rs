//! The hub's half: knows which devices are here and joins their streams.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::Certificate;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{Met, STREAMS, read_name, write_name};
use crate::limits::{Limits, Source};
use crate::mesh::{Link, MeshStream, ahead, keep_awake};
use crate::stream::join;

/// How long one may take, and a stream may take to say where it wants to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the device with this name and this digest of its key may be here.
pub type Admission = Arc<dyn Fn(&DeviceName, &[u8; 32]) -> bool + Send + Sync>;

/// Who is let in, and how.
#[derive(Clone)]
pub struct Door {
    /// The hub's TLS at present; must ask for certificates of devices.
    pub tls: Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>,
    /// Asked at the beginning of a connection and whenever `changes` says so.
    pub admission: Admission,
    /// Wakes when the admission of somebody may have ended.
    pub changes: watch::Receiver<()>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

/// Devices that are here. The newest connection of each counts.
#[derive(Debug, Default)]
struct Present {
    devices: Mutex<HashMap<DeviceName, Link>>,
}

impl Present {
    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceName, Link>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, device: &DeviceName) -> Option<Link> {
        self.devices().get(device).filter(|link| !link.has_ended()).cloned()
    }
}

/// Joins devices until it is cancelled. Connections go on until their devices end them or are not admitted any more.
pub async fn serve(listener: TcpListener, door: Door) {
    let present = Arc::new(Present::default());
    let (handshakes, connections) = (Limits::of_handshakes(), Limits::of_devices());
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                // Without a turn it is closed at once; a device comes again.
                let Some(turn) = handshakes.permit(Source::Address(from.ip().to_canonical())) else { continue };
                let (present, door, connections) = (Arc::clone(&present), door.clone(), connections.clone());
                tasks.spawn(async move {
                    let met = timeout(PATIENCE, meet(stream, &door)).await;
                    drop(turn);
                    match met {
                        Ok(Ok(device)) => match connections.permit(Source::Device(device.name.clone())) {
                            Some(_place) => attend(&present, device, door).await,
                            None => debug!(%from, device = %device.name, "a device has too many connections"),
                        },
                        Ok(Err(error)) => debug!(%from, %error, "somebody was not let in to be relayed"),
                        Err(_) => debug!(%from, "somebody took too long to say who they are"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept connections of devices that are to be relayed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A device with its connection.
struct Device {
    name: DeviceName,
    key: [u8; 32],
    link: Link,
    streams: mpsc::Receiver<MeshStream>,
}

async fn meet(stream: TcpStream, door: &Door) -> io::Result<Device> {
    keep_awake(&stream)?;
    let stream = TlsAcceptor::from((door.tls)()).accept(ahead(stream)).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.ok_or_else(|| io::Error::other("no certificate"))?;
    let read = Certificate::read(shown).map_err(io::Error::other)?;
    let name: DeviceName = read.common_name.unwrap_or_default().parse().map_err(io::Error::other)?;
    let key = read.key_digest;
    if !(door.admission)(&name, &key) {
        return Err(io::Error::other(format!("the device {name} is not admitted")));
    }
    let (give, streams) = mpsc::channel(STREAMS);
    Ok(Device { name, key, link: Link::both(stream, yamux::Mode::Server, STREAMS, give), streams })
}

async fn attend(present: &Arc<Present>, device: Device, mut door: Door) {
    let Device { name, key, link, mut streams } = device;
    present.devices().insert(name.clone(), link.clone());
    let room = Arc::new(Semaphore::new(STREAMS));
    let serve = async {
        while let Some(stream) = streams.recv().await {
            // Without room it is dropped, which the device sees at once.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let (present, from) = (Arc::clone(present), name.clone());
            tokio::spawn(async move {
                lead(&present, &from, stream).await;
                drop(place);
            });
        }
    };
    let dismissed = async {
        loop {
            if door.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if !(door.admission)(&name, &key) {
                return;
            }
        }
    };
    tokio::select! { // each ends the others: the connection is over
        () = serve => (),
        () = dismissed => debug!(device = %name, "a device that is not admitted any more was cut off"),
    }
    link.stop();
    let mut devices = present.devices();
    if devices.get(&name).is_some_and(Link::has_ended) {
        devices.remove(&name);
    }
}

/// One stream, to the device that it names.
async fn lead(present: &Present, from: &DeviceName, mut stream: MeshStream) {
    let Ok(Ok(to)) = timeout(PATIENCE, read_name(&mut stream)).await else { return };
    let met = async {
        let link = present.find(&to).ok_or(Met::Away)?;
        let mut other = timeout(PATIENCE, link.open()).await.map_err(|_| Met::Busy)?.map_err(|_| Met::Away)?;
        write_name(&mut other, from).await.map_err(|_| Met::Away)?;
        Ok::<_, Met>(other)
    };
    match met.await {
        Ok(mut other) => {
            debug!(%from, %to, "two devices are joined");
            if Met::Here.write(&mut stream).await.is_ok() {
                join(&mut stream, &mut other, |_| ()).await;
            }
        }
        Err(no) => drop(no.write(&mut stream).await),
    }
}
