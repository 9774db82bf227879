//! How everything else in the hub reaches the control task: by bounded channels.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use outrigger_api::Event;
use outrigger_planner::{Liveness, Wish};
use outrigger_protocol::{
    AnswerBody, Ask, DeviceName, DownMessage, LogChunk, LogsRequest, Moment, PlacementId, RequestId, StackSpec, WINDOW,
};
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::broker::{Answers, Counters, Open, Outgoing, Totals};
use crate::clock;
use crate::core::{HubCore, Remark, WishError};
use crate::history::Histories;
use crate::pki::Pki;
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::store::SideError;

/// Events that are kept for queries, in memory and in the store.
pub const MAX_EVENTS: usize = 10_000;
/// Events that a slow reader of the live stream may be behind; then it is told how many it missed.
const LIVE_EVENTS: usize = 512;

/// Reaches the control task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HubHandle {
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    pub(crate) answers: Answers,
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: EventLog,
    pub(crate) histories: Histories,
    pub(crate) registry: Registry,
    pub(crate) addresses: Addresses,
    pub(crate) secrets: Secrets,
    pub(crate) pki: Option<Pki>,
    pub(crate) mqtt_at: (Option<String>, u16),
    pub(crate) takes_codes: bool,
}

/// Whether there is more than one sort of processors in the fleet.
fn is_mixed(core: &HubCore) -> bool {
    let mut archs = core.fleet().devices().filter_map(|device| Some(device.facts?.arch));
    let first = archs.next();
    archs.any(|arch| Some(arch) != first)
}

/// Where a hub listens, with the ports as bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// MQTT; none with an external broker.
    pub mqtt: Option<SocketAddr>,
    /// The HTTP API.
    pub http: SocketAddr,
    /// Where devices meet that cannot reach each other; none: they do not.
    pub relay: Option<SocketAddr>,
}

/// A look at the hub's state, on the control task.
pub(crate) type View = Box<dyn FnOnce(&HubCore, Moment) + Send>;

/// What the control task is asked.
pub(crate) enum Control {
    Wish { wish: Wish, reply: oneshot::Sender<Result<(), WishError>> },
    Remark(Remark),
    View(View),
    Backup { chunks: mpsc::Sender<std::io::Result<Bytes>> },
}

/// The hub is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the hub is stopping")]
pub struct Stopping;

/// Why a wish was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HubError {
    /// By the core.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// Nobody is there to grant it.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Why output cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogsError {
    /// No such copy.
    #[error("there is no copy {0}")]
    NoCopy(PlacementId),
    /// Its device cannot be asked.
    #[error("device `{device}` is {liveness}")]
    Unreachable {
        /// Which device.
        device: DeviceName,
        /// What it is instead of up.
        liveness: Liveness,
    },
    /// Too many streams are open.
    #[error("too many log streams are open; close one and try again")]
    TooMany,
    /// The hub is stopping.
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// Why a device did not get the labels of its invite.
#[derive(Debug, Error)]
pub(crate) enum LabelsError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Side(#[from] SideError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

impl HubHandle {
    /// Asks for something. When it returns, the wish is durable and counts; its consequences follow.
    ///
    /// # Errors
    /// If it makes no sense, cannot be saved, or the hub stops. Nothing has changed then.
    pub async fn wish(&self, wish: Wish) -> Result<(), HubError> {
        if let Wish::Apply { stack, .. } = &wish {
            self.learn_platforms(stack).await?;
        }
        self.wish_as_is(wish).await
    }

    /// Learns for which platforms the images of a stack exist, in a fleet of different processors. Where all are alike it
    /// would change nothing but the words of a failed pull, and cost ten megabytes of certificates and a registry's
    /// patience.
    async fn learn_platforms(&self, stack: &StackSpec) -> Result<(), Stopping> {
        let images = stack.services.iter().map(|service| service.container.image.clone()).collect();
        if self.view(|core, _| is_mixed(core)).await? {
            // In a task, so that it goes on if who asked goes away. A panic in there is logged, and no reason not to go on.
            let _ = tokio::spawn(self.clone().learn(images)).await;
        }
        Ok(())
    }

    async fn learn(self, images: BTreeSet<String>) {
        let unknown = images.into_iter().filter(|image| !self.registry.knows(image)).collect();
        for (image, platforms) in self.registry.platforms(unknown).await {
            let told = match platforms {
                Ok(platforms) => self.wish_as_is(Wish::ImagePlatforms { image, platforms }).await,
                Err(error) => {
                    let remark = Remark::image_unknown(&image, &error.to_string());
                    self.control.send(Control::Remark(remark)).await.map_err(|_| Stopping.into())
                }
            };
            if let Err(error) = told {
                tracing::debug!(%error, "what a registry said was not taken");
            }
        }
    }

    /// Learns about all images once the fleet has different processors: until then nobody asked. Ends with the hub.
    pub(crate) async fn learn_when_mixed(self) {
        let mut events = self.events.subscribe();
        loop {
            match events.recv().await {
                Ok(event) if event.kind != "device_joined" => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => (),
                Err(RecvError::Closed) => return,
            }
            let unknown = |core: &HubCore, _| {
                let services = core.fleet().services().filter(|service| service.spec.platforms.is_none());
                is_mixed(core).then(|| services.map(|service| service.spec.container.image.clone()).collect())
            };
            match self.view(unknown).await {
                Ok(Some(images)) => self.clone().learn(images).await,
                Ok(None) => (),
                Err(Stopping) => return,
            }
        }
    }

    /// Gives a device the labels of its invite, if it is known already and still has to get some.
    pub(crate) async fn give_labels(&self, device: &DeviceName) -> Result<(), LabelsError> {
        let Some(pki) = &self.pki else { return Ok(()) };
        let asked = device.clone();
        if pki.allow().read(device).is_none_or(|known| known.labels.is_empty())
            || !self.view(move |core, _| core.fleet().device(&asked).is_some()).await?
        {
            return Ok(());
        }
        for (key, value) in pki.take_labels(device).await? {
            self.wish_as_is(Wish::Label { device: device.clone(), key, value: Some(value) }).await?;
        }
        Ok(())
    }

    /// Gives devices the labels of their invites when they are first heard. Ends with the hub.
    pub(crate) async fn label_newcomers(self) {
        let mut events = self.events.subscribe();
        loop {
            let newcomers = match events.recv().await {
                Ok(event) if event.kind == "device_joined" => {
                    event.device.iter().filter_map(|name| name.parse().ok()).collect()
                }
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => self.pki.iter().flat_map(|pki| pki.allow().all().into_keys()).collect(),
                Err(RecvError::Closed) => return,
            };
            let newcomers: Vec<DeviceName> = newcomers;
            for device in newcomers {
                if let Err(fault) = self.give_labels(&device).await {
                    tracing::warn!(%device, %fault, "the labels of its invite could not be given to a device");
                }
            }
        }
    }

    async fn wish_as_is(&self, wish: Wish) -> Result<(), HubError> {
        let (reply, answer) = oneshot::channel();
        self.control.send(Control::Wish { wish, reply }).await.map_err(|_| Stopping)?;
        Ok(answer.await.map_err(|_| Stopping)??)
    }

    /// Looks at the hub's state, on the control task: copy what is needed and be quick, for nothing else happens meanwhile.
    ///
    /// # Errors
    /// If the hub stops.
    pub async fn view<T: Send + 'static>(
        &self,
        look: impl FnOnce(&HubCore, Moment) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |core: &HubCore, now: Moment| {
            // Nobody waits for it any more: fine.
            let _ = reply.send(look(core, now));
        });
        self.control.send(Control::View(look)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// What has happened, and what happens from now on.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// How loaded the devices were.
    #[must_use]
    pub fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Where the hub listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Who is who; none where nobody is asked.
    #[must_use]
    pub fn pki(&self) -> Option<&Pki> {
        self.pki.as_ref()
    }

    /// Whether devices without an invite may wait with a code.
    #[must_use]
    pub fn takes_codes(&self) -> bool {
        self.takes_codes
    }

    /// What is kept for containers and told nobody.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where devices connect: the host, where it is not the hub itself, and the port.
    #[must_use]
    pub fn mqtt_at(&self) -> (Option<&str>, u16) {
        (self.mqtt_at.0.as_deref(), self.mqtt_at.1)
    }

    /// What the broker's side has counted.
    #[must_use]
    pub fn broker_totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Everything in the store at one moment, as a file for `outrigger-hub restore`, in pieces.
    ///
    /// # Errors
    /// If the hub stops. An error while reading comes as a piece.
    pub async fn backup(&self) -> Result<mpsc::Receiver<std::io::Result<Bytes>>, Stopping> {
        let (chunks, pieces) = mpsc::channel(4);
        self.control.send(Control::Backup { chunks }).await.map_err(|_| Stopping)?;
        Ok(pieces)
    }

    /// Output of one copy, from its device.
    ///
    /// # Errors
    /// If there is no such copy, its device cannot be asked, or too many streams are open.
    pub async fn logs(&self, request: LogsRequest) -> Result<Logs, LogsError> {
        let placement = request.placement;
        let found = self
            .view(move |core, _| core.fleet().copy(placement).map(|copy| (copy.device.clone(), copy.liveness)))
            .await?;
        let (device, liveness) = found.ok_or(LogsError::NoCopy(placement))?;
        if !matches!(liveness, Liveness::Up | Liveness::Suspect) {
            return Err(LogsError::Unreachable { device, liveness });
        }
        let open = self.answers.open(&device).ok_or(LogsError::TooMany)?;
        let logs = Logs { device, open, outgoing: self.outgoing.clone(), next: 0, ended: false };
        logs.ask(Ask::Logs(logs.open.request, request)).await?;
        Ok(logs)
    }
}

/// Output of one copy. The device stops when this is dropped.
#[derive(Debug)]
pub struct Logs {
    device: DeviceName,
    open: Open,
    outgoing: mpsc::Sender<Outgoing>,
    next: u32,
    ended: bool,
}

impl Logs {
    /// The next pieces; none at the end, an error as the device says it. A client that takes slowly slows only itself:
    /// the device sends no more than [`WINDOW`] pieces ahead. Waits for ever if the device has gone silent.
    pub async fn next(&mut self) -> Option<Result<Vec<LogChunk>, String>> {
        while !self.ended {
            let Some(answer) = self.open.next().await else {
                self.ended = true;
                return Some(Err("the device sent more than it may".to_owned()));
            };
            if answer.sequence < self.next {
                // A repeated delivery.
                continue;
            }
            if answer.sequence > self.next {
                self.ended = true;
                return Some(Err("pieces of the output were lost on the way; ask again".to_owned()));
            }
            self.next += 1;
            match answer.body {
                AnswerBody::Logs(chunks) => {
                    self.acknowledge(answer.sequence).await;
                    return Some(Ok(chunks));
                }
                AnswerBody::End => self.ended = true,
                AnswerBody::Error(reason) => {
                    self.ended = true;
                    return Some(Err(reason));
                }
            }
        }
        None
    }

    /// The device that is asked.
    #[must_use]
    pub fn device(&self) -> &DeviceName {
        &self.device
    }

    /// The question's name.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.open.request
    }

    async fn acknowledge(&self, taken: u32) {
        // Every half window: fewer messages, and the device never waits.
        if taken % (WINDOW / 2) == WINDOW / 2 - 1 {
            let _ = self.ask(Ask::Taken(self.open.request, taken)).await;
        }
    }

    async fn ask(&self, ask: Ask) -> Result<(), Stopping> {
        let message = DownMessage::Ask(ask);
        self.outgoing.send(Outgoing::Send { device: self.device.clone(), message }).await.map_err(|_| Stopping)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if !self.ended {
            let message = DownMessage::Ask(Ask::Cancel(self.open.request));
            // If the way is full the device stops by itself: nobody takes what it sends.
            let _ = self.outgoing.try_send(Outgoing::Send { device: self.device.clone(), message });
        }
    }
}

/// What has happened: the latest events in memory, and a live stream.
#[derive(Debug, Clone)]
pub struct EventLog {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl EventLog {
    pub(crate) fn new(earlier: Vec<Event>) -> Self {
        let kept = earlier.into_iter().map(Arc::new).collect();
        Self { kept: Arc::new(Mutex::new(kept)), live: broadcast::channel(LIVE_EVENTS).0 }
    }

    /// What happens from now on. A reader that is too slow misses the oldest and is told so.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }

    /// The latest events that `matches`, at most `limit`, the oldest first.
    pub fn latest(&self, limit: usize, matches: impl Fn(&Event) -> bool) -> Vec<Arc<Event>> {
        let kept = self.lock();
        let mut found: Vec<_> = kept.iter().rev().filter(|event| matches(event)).take(limit).cloned().collect();
        found.reverse();
        found
    }

    /// The lowest number that is still kept; none if nothing is.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.lock().front().map(|event| event.id)
    }

    /// The highest number given; 0 if nothing has happened yet.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.lock().back().map_or(0, |event| event.id)
    }

    pub(crate) fn push(&self, event: Event) -> Arc<Event> {
        let event = Arc::new(event);
        let mut kept = self.lock();
        kept.push_back(Arc::clone(&event));
        if kept.len() > MAX_EVENTS {
            kept.pop_front();
        }
        // Sent under the lock, so that who reads the list and then the stream sees each event once or twice, never not.
        let _ = self.live.send(Arc::clone(&event));
        event
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for which [`HubHandle::view`] may hold the control task before it is worth a warning.
pub(crate) const LONG_VIEW: std::time::Duration = std::time::Duration::from_millis(100);

/// Answers questions on the control task.
pub(crate) fn look(view: View, core: &HubCore) {
    let began = clock::now();
    // A fault in what somebody wants to see must not end what everybody needs. It only reads, so nothing is half done.
    if catch_unwind(AssertUnwindSafe(|| view(core, began))).is_err() {
        tracing::error!("a look at the fleet panicked; this is a bug");
    }
    let took = clock::now().since(began);
    if took > LONG_VIEW {
        tracing::warn!(took_ms = took.as_millis(), "a look at the fleet held everything else up");
    }
}
