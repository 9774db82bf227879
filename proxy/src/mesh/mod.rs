//! Between devices: TLS with the certificates that they have, and many streams in one connection, which is kept as long as
//! the other device has copies that this one may ask. A new request pays no handshake.

mod cork;
mod identity;
mod keep;
mod link;
mod open;
mod pool;
mod server;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_protocol::DeviceName;
use outrigger_trust::PeerTls;
use thiserror::Error;
use tokio::time::timeout;

use crate::balance::LineState;
use crate::relay::Relay;
use crate::shared::Shared;
use crate::table::Table;

pub use identity::IdentityError;
pub(crate) use keep::keep;
#[cfg(feature = "fuzz")]
pub(crate) use link::called;
pub(crate) use link::{Link, MeshStream, PIECE, ahead, prepare as keep_awake};
pub(crate) use open::{Answer, Asked, Open};
pub(crate) use server::{Way, attend, meet};

/// A device that the hub no longer speaks of may finish what it has for this long: its last copy may just have been moved.
const GRACE: Duration = Duration::from_secs(30);

/// After this time without an answer it is looked whether the line still carries. Less than the time after which another
/// copy is asked, so that it is looked in any case.
pub(crate) const USUAL: Duration = Duration::from_millis(50);

/// All connections with other devices.
#[derive(Debug)]
pub(crate) struct Mesh {
    identity: identity::Keeper,
    peers: Mutex<HashMap<DeviceName, Arc<pool::Peer>>>,
    lost: Mutex<HashSet<DeviceName>>,
    callers: Callers,
    pub(crate) relay: Relay,
    listening: Mutex<Result<Option<u16>, String>>,
}

/// A connection with a device, as whoever has a stream in it sees it.
#[derive(Debug)]
pub(crate) struct LineTo {
    peer: Arc<pool::Peer>,
    link: Option<Link>,
}

impl LineTo {
    /// An answer is late.
    pub(crate) fn doubt(&self) {
        self.peer.doubt();
    }

    /// Returns once another connection is used instead.
    pub(crate) async fn replaced(&self) {
        match &self.link {
            Some(link) => drop(self.peer.newer(link).await),
            // It has ended, and its streams do the same.
            None => std::future::pending().await,
        }
    }
}

/// Devices that have come here directly, and how often.
type Callers = Arc<Mutex<HashMap<DeviceName, usize>>>;

/// A device is here.
#[derive(Debug)]
struct Here {
    callers: Callers,
    device: DeviceName,
    way: Way,
}

impl Here {
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        if self.way == Way::Relayed {
            return;
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.remove(&self.device).unwrap_or(0);
        match change(count) {
            0 => None,
            count => callers.insert(self.device.clone(), count),
        };
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.count(|count| count.saturating_sub(1));
    }
}

/// Why a stream to another device was not opened.
#[derive(Debug, Error)]
pub(crate) enum MeshError {
    #[error("the hub has not said where the device is")]
    NoPeer,
    #[error("the device could not be reached a moment ago, and its next try is due later")]
    Later,
    #[error("the device did not answer in time")]
    TooSlow,
    #[error("cannot connect to the device")]
    Connect(#[source] io::Error),
    #[error("the device does not let us in")]
    NotLetIn(#[source] io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the device can be reached neither directly ({0}) nor through the hub")]
    Relay(String, #[source] io::Error),
    #[error("too many streams with the device are open")]
    Full(#[source] io::Error),
    #[error("the connection with the device broke")]
    Broken(#[source] io::Error),
    #[error("the device says no: {0:?}")]
    Answer(Answer),
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            identity: identity::Keeper::default(),
            peers: Mutex::default(),
            lost: Mutex::default(),
            callers: Callers::default(),
            relay: Relay::default(),
            listening: Mutex::new(Ok(None)),
        }
    }
}

impl Mesh {
    /// The identity of this device.
    fn tls(&self, table: &Table) -> Result<PeerTls, IdentityError> {
        let mesh = table.wanted.mesh.as_ref().ok_or(IdentityError::None)?;
        self.identity.tls(&mesh.identity)
    }

    /// A stream to a copy on another device.
    pub(crate) async fn open(
        &self,
        shared: &Arc<Shared>,
        device: &DeviceName,
        open: &Open,
    ) -> Result<MeshStream, MeshError> {
        let peer = self.peer(device);
        let mut link = Arc::clone(&peer).link(shared, device).await?;
        loop {
            let newer = {
                let asked = ask(&link, open);
                tokio::pin!(asked);
                if let Ok(answered) = timeout(USUAL, &mut asked).await {
                    return answered;
                }
                peer.doubt();
                tokio::select! { // both may be cancelled: a stream that is dropped is closed
                    answered = &mut asked => return answered,
                    newer = peer.newer(&link) => newer,
                }
            };
            link = newer;
        }
    }

    /// The connection that a stream to this device has just been opened in.
    pub(crate) fn line_to(&self, device: &DeviceName) -> LineTo {
        let peer = self.peer(device);
        let link = peer.current();
        LineTo { peer, link }
    }

    /// Devices that cannot be reached at present.
    pub(crate) fn lost(&self) -> HashSet<DeviceName> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True: that is news.
    pub(crate) fn note_line(&self, device: &DeviceName, state: LineState) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            LineState::Carries => lost.remove(device),
            LineState::Lost => lost.insert(device.clone()),
        }
    }

    /// The port on which devices are listened to; an error: why there is none.
    pub(crate) fn listening(&self) -> Result<Option<u16>, String> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_listening(&self, told: Result<Option<u16>, String>) {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// Devices that are reached through the hub.
    pub(crate) fn relayed(&self) -> Vec<DeviceName> {
        let peers = self.peers();
        let mut relayed: Vec<_> =
            peers.iter().filter(|(_, peer)| peer.is_relayed()).map(|(device, _)| device.clone()).collect();
        relayed.sort_unstable();
        relayed
    }

    /// Devices that have come here directly.
    pub(crate) fn direct_callers(&self) -> HashSet<DeviceName> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The parts of the identity in this folder.
    pub(crate) fn identity_in(&self, folder: &Path) -> Result<identity::Parts, IdentityError> {
        identity::Parts::read(folder)
    }

    fn note_caller(&self, device: &DeviceName, way: Way) -> Here {
        let here = Here { callers: Arc::clone(&self.callers), device: device.clone(), way };
        here.count(|count| count + 1);
        here
    }

    fn peer(&self, device: &DeviceName) -> Arc<pool::Peer> {
        Arc::clone(self.peers().entry(device.clone()).or_default())
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<DeviceName, Arc<pool::Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream in this connection.
async fn ask(link: &Link, open: &Open) -> Result<MeshStream, MeshError> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::QuotaExceeded => MeshError::Full(error),
        _ => MeshError::Broken(error),
    };
    let mut stream = link.open().await.map_err(refused)?;
    Asked::Copy(open.clone()).write(&mut stream).await.map_err(MeshError::Broken)?;
    match Answer::read(&mut stream).await.map_err(MeshError::Broken)? {
        Answer::Ok => Ok(stream),
        no => Err(MeshError::Answer(no)),
    }
}
