//! What goes on while the hub runs: the server's certificate stays fresh, a new authority is taken over, devices are asked
//! to renew and get what they ask for.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use outrigger_protocol::{Ask, Certificate, DeviceName, DownMessage, Moment};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::authority::{Authority, FILE, is_old};
use super::names::Names;
use super::{Pki, RenewError};
use crate::broker::Outgoing;
use crate::clock;

/// Time between looks at the names of this machine and the authority's file.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A device's further requests within this time are not answered: each costs a signature and a write.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// A replaced authority is kept at least so long, for command lines that know only that one.
const OLDER_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What a device's messages ask of us.
#[derive(Debug)]
pub enum Request {
    /// A device has come in.
    Arrived(DeviceName),
    /// A device asks for a new certificate.
    Renew(DeviceName, Vec<u8>),
}

/// How the authority's file looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Seen {
    pub(super) fn at(folder: &Path) -> Option<Self> {
        let file = fs::metadata(folder.join(FILE)).ok()?;
        Some(Self { modified: file.modified().ok(), bytes: file.len() })
    }
}

impl Pki {
    /// Keeps everything fresh until the hub stops.
    pub async fn keep(self, outgoing: mpsc::Sender<Outgoing>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.take_over() {
                self.cut_off_the_untrusted().await;
                self.ask_all(&outgoing).await;
            }
            self.freshen();
            self.forget_older();
        }
    }

    /// Answers devices until the hub stops.
    pub async fn answer(self, mut requests: mpsc::Receiver<Request>, outgoing: mpsc::Sender<Outgoing>) {
        let mut answered: HashMap<DeviceName, Moment> = HashMap::new();
        while let Some(request) = requests.recv().await {
            let sent = match request {
                Request::Arrived(device) if self.must_renew(&device) => ask(&outgoing, device).await,
                Request::Arrived(_) => continue,
                Request::Renew(device, request) => {
                    let now = clock::now();
                    if answered.get(&device).is_some_and(|at| now.since(*at) < RENEW_EVERY) {
                        continue;
                    }
                    // At most as many as there are devices: others are not heard.
                    answered.insert(device.clone(), now);
                    self.renew_for(device, &request, &outgoing).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn renew_for(&self, device: DeviceName, request: &[u8], outgoing: &mpsc::Sender<Outgoing>) -> Result<(), ()> {
        match self.renew(&device, request).await {
            Ok((chain, authorities)) => {
                info!(%device, "the device has a new certificate");
                let bytes =
                    |all: Vec<outrigger_trust::CertificateDer<'_>>| all.iter().map(|one| one.to_vec()).collect();
                let message =
                    DownMessage::Certificate(Certificate { chain: bytes(chain), authorities: bytes(authorities) });
                outgoing.send(Outgoing::Send { device, message }).await.map_err(drop)
            }
            Err(fault @ (RenewError::KeptOut | RenewError::OtherKey | RenewError::Request(_))) => {
                warn!(%device, %fault, "a device gets no new certificate");
                Ok(())
            }
            Err(RenewError::Save(fault)) => {
                warn!(%device, %fault, "a device's new certificate could not be saved; it will ask again");
                Ok(())
            }
        }
    }

    /// Takes over the authority that `rotate-ca` has put in the folder. Whether there was a new one.
    fn take_over(&self) -> bool {
        let seen = Seen::at(&self.inner.folder);
        {
            let mut known = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == seen {
                return false;
            }
            *known = seen;
        }
        let now = clock::unix_ms() / 1000;
        match Authority::open(&self.inner.folder, true, now) {
            Ok(new) => {
                let was = self.pin();
                let pin = new.pin();
                *self.inner.authority.write().unwrap_or_else(PoisonError::into_inner) = new;
                if let Err(fault) = self.renew_server((*self.inner.tls.names()).clone()) {
                    error!(%fault, "the new authority cannot be used for the hub's ports");
                }
                if was != pin {
                    info!(was = %was, now = %pin, "the hub has a new authority; devices are asked to renew");
                }
                was != pin
            }
            Err(fault) => {
                error!(%fault, "the authority's file has changed and cannot be used; the one in memory goes on");
                false
            }
        }
    }

    /// Where a replaced authority counts no more, its devices do not either, also those that are connected.
    async fn cut_off_the_untrusted(&self) {
        let trusted: Vec<_> = self.trusted().iter().map(|one| outrigger_trust::Pin::of(one).to_string()).collect();
        let all = self.inner.allow.all().into_iter();
        for (device, _) in all.filter(|(_, known)| !trusted.contains(&known.authority)) {
            match self.remove(&device).await {
                Ok(_) => info!(%device, "the device must join anew: its authority counts no more"),
                Err(fault) => error!(%device, %fault, "a device whose authority counts no more could not be cut off"),
            }
        }
    }

    /// Asks every device whose certificate is of a replaced authority for a new request.
    async fn ask_all(&self, outgoing: &mpsc::Sender<Outgoing>) {
        for device in self.inner.allow.all().into_keys().filter(|device| self.must_renew(device)) {
            if ask(outgoing, device).await.is_err() {
                return;
            }
        }
    }

    fn freshen(&self) {
        let names = Names::of_this_machine(&self.inner.named);
        let now = clock::unix_ms() / 1000;
        let made = self.server_made_at().load(Ordering::Relaxed);
        if *self.inner.tls.names() == names && !is_old(made, now) {
            return;
        }
        match self.renew_server(names) {
            Ok(()) => debug!("the server's certificate was renewed"),
            Err(fault) => error!(%fault, "the server's certificate cannot be renewed; the old one goes on"),
        }
    }

    /// Drops the replaced authorities once no device needs them.
    fn forget_older(&self) {
        let now = clock::unix_ms() / 1000;
        let is_due = self.with_authority(|authority| {
            authority.has_older() && authority.made_at().is_some_and(|made| now > made + OLDER_KEPT.as_secs())
        });
        let pin = self.pin().to_string();
        let needs = |known: &super::Known| known.authority != pin && known.not_after > now;
        if !is_due || self.inner.allow.all().values().any(needs) {
            return;
        }
        {
            let mut authority = self.inner.authority.write().unwrap_or_else(PoisonError::into_inner);
            if let Err(fault) = authority.forget_older(&self.inner.folder) {
                return warn!(%fault, "the replaced authorities could not be dropped");
            }
            *self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::at(&self.inner.folder);
        }
        info!("no device needs the replaced authorities any more; they were dropped");
        if let Err(fault) = self.renew_server((*self.inner.tls.names()).clone()) {
            error!(%fault, "the server's certificate cannot be renewed; the old one goes on");
        }
    }
}

async fn ask(outgoing: &mpsc::Sender<Outgoing>, device: DeviceName) -> Result<(), ()> {
    outgoing.send(Outgoing::Send { device, message: DownMessage::Ask(Ask::Renew) }).await.map_err(drop)
}
