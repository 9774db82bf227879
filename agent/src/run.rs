//! The agent with its surroundings: one task owns the core, everything else reaches it by bounded channels.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{Assignment, ByeReason, Certificate, DownMessage, Moment, RequestId, Stamp, UpMessage};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::core::{Action, ActionId, Core, Effect, Input, ProxyEvent, Settings};
use crate::engine::{Description, Engine, EngineError, EngineEvent};
use crate::files::FilesDir;
use crate::guard::Guard;
use crate::identity::IdentityDir;
use crate::images::{Images, Removal};
use crate::lease_file::LeaseFile;
use crate::logs;
use crate::mqtt::{self, MqttEvent, Route, SendError, Sender, Target};
use crate::policy::Policy;
use crate::probe::{self, OwnFacts, Root, Sampler, UsageSampler};
use crate::state::{ImagesFile, Saver, StateDir, StateError};
use crate::unseal::Unsealer;
use crate::watchdog::Watchdog;

mod images;
mod mesh;
mod perform;

use mesh::MeshLink;
use perform::{Hands, Networking, announce, tell};

/// Messages of the broker not yet looked at.
const MQTT_INBOX: usize = 64;
/// Events of the engine not yet looked at.
const ENGINE_INBOX: usize = 256;
/// Results of actions not yet looked at.
const RESULTS_INBOX: usize = 64;
/// Words of the proxy not yet looked at.
const PROXY_INBOX: usize = 16;
/// How often the progress of a pull is looked at.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How often the usage of replicas is told, or with every so many heartbeats, if that is less often.
const USAGE_EVERY: Duration = Duration::from_secs(10);
const USAGE_BEATS: u32 = 5;
/// Time that the engine has to say what it is before the first hello.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// Time to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// The agent cannot run.
#[derive(Debug, Error)]
pub enum RunError {
    /// Its state folder cannot be used.
    #[error("the state folder cannot be used")]
    State(#[from] StateError),
    /// The kernel does not say which boot this is.
    #[error("cannot read the kernel's name for this boot; is /proc mounted?")]
    Boot,
    /// We have no word for what this device is.
    #[error("this device's architecture has no name that images use")]
    Architecture,
}

/// Runs the agent until `shutdown` says why it ends. Containers go on.
///
/// # Errors
/// If it cannot begin. Once it runs it does not fail: what is broken outside is reported to the hub.
pub async fn run<E: Engine>(
    config: Config,
    policy: Arc<Policy>,
    engine: E,
    shutdown: impl Future<Output = ByeReason>,
) -> Result<(), RunError> {
    let clock = Clock;
    let root = Root::real();
    let state = StateDir::open(&config.state_dir)?;
    let engine = Arc::new(engine);
    // Usually it answers at once, and the first hello is complete. Where it does not, a second hello follows.
    let engine_is = tokio::time::timeout(FIRST_ANSWER, engine.describe()).await.ok().and_then(Result::ok);
    let disk =
        engine_is.as_ref().and_then(|engine| engine.root_dir.clone()).unwrap_or_else(|| config.state_dir.clone());
    let boot = probe::boot_id(&root).ok_or(RunError::Boot)?;
    let mut mesh = MeshLink::begin(&config, boot);
    let kept = mesh.kept();
    let own = OwnFacts {
        engine: engine_is,
        labels: config.labels.clone(),
        generic: config.generic.clone(),
        address: None,
        mesh_port: kept.mesh_port.or(mesh.promised()),
        policy: policy.digest(),
    };
    let facts = probe::facts(&root, own.clone()).ok_or(RunError::Architecture)?;
    let machine = state.machine()?;
    let settings = Settings {
        boot,
        machine,
        device: config.device.clone(),
        heartbeat: config.heartbeat,
        policy: Arc::clone(&policy),
    };
    let lease_file = LeaseFile::of(config.device.as_str(), &config.state_dir, settings.boot);
    let files = FilesDir::of(&config.runtime_dir, config.device.as_str(), &config.state_dir);
    let core =
        Core::new(settings, facts, state.held()).with_lease(lease_file.read()).with_files(files.laid()).with_mesh(kept);
    let route = Route::of(&config);
    let identity = route.identity().cloned();
    let unsealer = Unsealer::new(config.device.clone(), identity.clone());
    let target = Target { device: config.device.clone(), route, heartbeat: config.heartbeat };
    let (mqtt_events, mqtt) = mpsc::channel(MQTT_INBOX);
    let (engine_events, engine_inbox) = mpsc::channel(ENGINE_INBOX);
    let (results, results_inbox) = mpsc::channel(RESULTS_INBOX);
    let (saves, saves_inbox) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_engine(Arc::clone(&engine), engine_events));
    tasks.spawn(save_all(state.saver(), saves_inbox, results.clone()));
    let (image_lists, image_lists_inbox) = watch::channel(Arc::from(""));
    tasks.spawn(save_images(state.images_file(), image_lists_inbox));
    let mut connection = JoinSet::new();
    connection.spawn(mqtt::run(target, clock, mqtt_events));
    let networking = Networking { pool: config.network_pool, machine, root: root.clone() };
    let mut shell = Shell {
        clock,
        core,
        lease_file,
        identity,
        mesh,
        guard: Guard::default(),
        hands: Hands { engine: Arc::clone(&engine), networking, files, unsealer, results: results.clone() },
        engine,
        own,
        sampler: Sampler::new(&root, disk),
        sample_at: Moment::ZERO,
        images: Images::read(config.images, &state.images()),
        image_lists,
        usage: UsageSampler::new(&root),
        usage_at: Moment::ZERO,
        root,
        heartbeat: config.heartbeat,
        sender: None,
        saves,
        results,
        tasks: JoinSet::new(),
        actions: BTreeMap::new(),
        answers: BTreeMap::new(),
    };
    let (proxy_events, proxy) = mpsc::channel(PROXY_INBOX);
    shell.mesh.start(&mut shell.tasks, proxy_events);
    let sender = shell.serve(Inboxes { mqtt, engine: engine_inbox, results: results_inbox, proxy }, shutdown).await;
    if let Some(sender) = sender {
        sender.close();
        let _ = tokio::time::timeout(FAREWELL, connection.join_next()).await;
    }
    Ok(())
}

/// Something that a task of ours has to tell.
enum Told {
    /// To the core.
    Core(Input),
    /// What the engine is.
    Described(Result<Description, EngineError>),
    /// What came of the removal of an image.
    ImageRemoved(Removal, Result<(), EngineError>),
}

/// All that the shell listens to.
struct Inboxes {
    mqtt: mpsc::Receiver<MqttEvent>,
    engine: mpsc::Receiver<EngineEvent>,
    results: mpsc::Receiver<Told>,
    proxy: mpsc::Receiver<ProxyEvent>,
}

async fn watch_engine<E: Engine>(engine: Arc<E>, events: mpsc::Sender<EngineEvent>) {
    engine.watch(events).await;
}

/// Saves assignments one after the other; of those that came meanwhile only the last.
async fn save_all(saver: Saver, mut inbox: watch::Receiver<Option<Arc<Assignment>>>, results: mpsc::Sender<Told>) {
    while inbox.changed().await.is_ok() {
        let Some(assignment) = inbox.borrow_and_update().clone() else { continue };
        let stamp: Stamp = assignment.stamp;
        let saver = saver.clone();
        let saved = tokio::task::spawn_blocking(move || saver.save(&assignment)).await;
        let result = match saved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(error) => Err(error.to_string()),
        };
        if results.send(Told::Core(Input::Saved(stamp, result))).await.is_err() {
            return;
        }
    }
}

/// Saves which images have been pulled; of several lists in a row only the last.
async fn save_images(file: ImagesFile, mut inbox: watch::Receiver<Arc<str>>) {
    while inbox.changed().await.is_ok() {
        let (file, list) = (file.clone(), Arc::clone(&inbox.borrow_and_update()));
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || file.save(&list)).await {
            warn!(error = with_causes(&error), "which images were pulled is not saved; after a restart they stay");
        }
    }
}

/// An error and what it came from, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One answer under way.
struct Answering {
    task: AbortHandle,
    taken: watch::Sender<u32>,
}

/// The task that owns the core.
struct Shell<E> {
    clock: Clock,
    core: Core,
    lease_file: LeaseFile,
    /// Where the identity is; none without TLS.
    identity: Option<IdentityDir>,
    mesh: MeshLink,
    guard: Guard,
    engine: Arc<E>,
    hands: Hands<E>,
    own: OwnFacts,
    sampler: Sampler,
    sample_at: Moment,
    images: Images,
    image_lists: watch::Sender<Arc<str>>,
    usage: UsageSampler,
    usage_at: Moment,
    root: Root,
    heartbeat: Duration,
    sender: Option<Sender>,
    saves: watch::Sender<Option<Arc<Assignment>>>,
    results: mpsc::Sender<Told>,
    /// All that goes on beside; ends with the shell.
    tasks: JoinSet<()>,
    actions: BTreeMap<ActionId, AbortHandle>,
    answers: BTreeMap<RequestId, Answering>,
}

impl<E: Engine> Shell<E> {
    async fn serve(mut self, mut from: Inboxes, shutdown: impl Future<Output = ByeReason>) -> Option<Sender> {
        let mut shutdown = std::pin::pin!(shutdown);
        self.step(Input::Reach(self.mesh.reach()));
        let watchdog = Watchdog::begin();
        loop {
            let now = self.clock.now();
            watchdog.feed(now);
            self.guard.watch(now, &self.core.overdue());
            let wake_at = self.core.wake_at(now).min(self.guard.due_at()).min(self.images_due_at());
            // All may be cancelled: a receive loses nothing, and neither a sleep nor the shutdown holds anything.
            let input = tokio::select! {
                reason = &mut shutdown => {
                    info!(?reason, "the agent ends; containers go on");
                    self.step(Input::Stop(reason));
                    self.mesh.end();
                    return self.sender;
                }
                Some(event) = from.mqtt.recv() => self.hear(event),
                Some(event) = from.engine.recv() => self.hear_engine(event),
                Some(told) = from.results.recv() => match told {
                    Told::Core(input) => self.note_pull(input),
                    Told::Described(description) => self.learn(description),
                    Told::ImageRemoved(removal, outcome) => self.image_removed(&removal, &outcome),
                },
                Some(event) = from.proxy.recv() => self.hear_proxy(event),
                () = self.clock.doze_until(wake_at) => Input::Tick,
            };
            self.sample();
            self.step(input);
            self.tidy_images();
        }
    }

    /// Samples the load once per heartbeat, and what the replicas use now and then. Not without a connection: nobody
    /// would be told.
    fn sample(&mut self) {
        let now = self.clock.now();
        if self.sender.is_none() {
            return;
        }
        if now >= self.sample_at {
            self.sample_at = now + self.heartbeat * 9 / 10;
            let load = self.sampler.sample(now);
            self.step(Input::Load(load));
        }
        if now >= self.usage_at {
            // A clock that was wrong at the start is put right by then, and a certificate grows old by it.
            self.step(Input::Wall(self.clock.unix_ms()));
            self.usage_at = now + USAGE_EVERY.max(self.heartbeat * USAGE_BEATS);
            let containers = self.core.observed().containers.values();
            let running: Vec<_> = containers.filter_map(|one| Some((one.placement, one.pid?))).collect();
            let usage = self.usage.sample(now, running);
            self.step(Input::Usage(usage));
        }
    }

    fn hear_engine(&mut self, event: EngineEvent) -> Input {
        self.step(Input::Wall(self.clock.unix_ms()));
        match &event {
            EngineEvent::Listed(_) => {
                // It may be another version than before.
                let (engine, results) = (Arc::clone(&self.engine), self.results.clone());
                self.tasks.spawn(async move {
                    let _ = results.send(Told::Described(engine.describe().await)).await;
                });
            }
            EngineEvent::Networks(_) | EngineEvent::Lost(_) | EngineEvent::Changed(_) | EngineEvent::Gone(_) => (),
        }
        Input::Engine(event)
    }

    fn learn(&mut self, description: Result<Description, EngineError>) -> Input {
        let Ok(description) = description else { return Input::Tick };
        if let Some(disk) = description.root_dir.clone().filter(|_| self.own.engine.as_ref() != Some(&description)) {
            self.sampler.set_disk(disk);
        }
        self.own.engine = Some(description);
        self.facts()
    }

    fn facts(&self) -> Input {
        probe::facts(&self.root, self.own.clone()).map_or(Input::Tick, |facts| Input::Facts(Box::new(facts)))
    }

    /// What other devices must know of our proxy is a fact of this device.
    fn hear_proxy(&mut self, event: ProxyEvent) -> Input {
        self.step(Input::Proxy(event));
        let port = self.core.mesh_port().or(self.mesh.promised());
        if self.own.mesh_port == port {
            return Input::Tick;
        }
        self.own.mesh_port = port;
        self.facts()
    }

    fn hear(&mut self, event: MqttEvent) -> Input {
        match event {
            MqttEvent::Connected { session, sender, address, certificate } => {
                self.hands.unsealer.connected(sender.clone());
                self.sender = Some(sender);
                self.step(Input::Wall(self.clock.unix_ms()));
                if let Some(certificate) = certificate {
                    self.step(Input::Certificate(certificate));
                }
                self.step(Input::Reach(self.mesh.reach()));
                self.own.address = address;
                let facts = self.facts();
                self.step(facts);
                Input::Connected(session)
            }
            MqttEvent::Disconnected => {
                self.hands.unsealer.disconnected();
                self.sender = None;
                Input::Disconnected
            }
            MqttEvent::Down(DownMessage::Sealed(sealed)) => {
                self.hands.unsealer.heard(sealed);
                Input::Tick
            }
            MqttEvent::Down(message) => Input::Down(message),
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = self.core.step(self.clock.now(), input);
            for remark in self.core.take_remarks() {
                tell(&remark);
            }
            for effect in effects {
                inputs.extend(self.carry_out(effect));
            }
        }
        self.lease_file.keep(self.core.renewed_at());
    }

    /// Carries out an effect; returns what the core must know of it at once.
    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Publish(message) => return self.publish(&message),
            Effect::Adopt(certificate) => self.adopt(certificate),
            Effect::Save(assignment) => {
                self.saves.send_replace(Some(Arc::from(assignment)));
            }
            Effect::Proxy(wanted) => self.mesh.hand(wanted),
            Effect::KeepMesh(kept, keep) => self.mesh.keep(kept, keep),
            Effect::Act(id, action) => self.act(id, action),
            Effect::Abort(id) => {
                if let Some(task) = self.actions.remove(&id) {
                    task.abort();
                }
            }
            Effect::Logs(request, _, container, wish) => {
                let sender = self.sender.clone()?;
                let (taken, inbox) = watch::channel(0);
                let (engine, results, clock) = (Arc::clone(&self.engine), self.results.clone(), self.clock);
                while self.tasks.try_join_next().is_some() {}
                let task = self.tasks.spawn(async move {
                    logs::answer(engine, clock, sender, request, container, wish, inbox).await;
                    let _ = results.send(Told::Core(Input::Answered(request))).await;
                });
                self.answers.retain(|_, answering| !answering.task.is_finished());
                self.answers.insert(request, Answering { task, taken });
            }
            Effect::Taken(request, sequence) => {
                if let Some(answering) = self.answers.get(&request) {
                    answering.taken.send_replace(sequence.saturating_add(1));
                }
            }
            Effect::Cancel(request) => {
                if let Some(answering) = self.answers.remove(&request) {
                    answering.task.abort();
                }
            }
        }
        None
    }

    /// Beside everything else: the disk may be slow.
    fn adopt(&mut self, certificate: Box<Certificate>) {
        let Some(identity) = self.identity.clone() else { return };
        let results = self.results.clone();
        self.tasks.spawn(async move {
            let renewed = tokio::task::spawn_blocking(move || {
                let joined = identity.renew(&certificate).map_err(|error| with_causes(&error))?;
                joined.own().map_err(|error| error.to_string())
            });
            let renewed = renewed.await.unwrap_or_else(|error| Err(error.to_string()));
            let _ = results.send(Told::Core(Input::Renewed(renewed))).await;
        });
    }

    fn publish(&mut self, message: &UpMessage) -> Option<Input> {
        let sender = self.sender.as_ref()?;
        let channel = message.channel();
        match sender.try_send(message) {
            Ok(()) => None,
            Err(SendError::Full) => {
                // It has just ended, or is stuck; the connection itself says which.
                debug!(?channel, "the connection takes no message");
                Some(Input::Unsent(channel))
            }
            Err(error @ SendError::Encode { .. }) => {
                warn!(error = with_causes(&error), "a message is not sent");
                None
            }
        }
    }

    fn act(&mut self, id: ActionId, action: Action) {
        announce(&action);
        let hands = self.hands.clone();
        self.actions.retain(|_, task| !task.is_finished());
        while self.tasks.try_join_next().is_some() {}
        let task = self.tasks.spawn(async move {
            let outcome = hands.perform(id, &action).await;
            if let Err(error) = &outcome {
                debug!(action = action.kind(), placement = ?action.placement(), %error, "an action has failed");
            }
            let _ = hands.results.send(Told::Core(Input::Done(id, outcome))).await;
        });
        self.actions.insert(id, task);
    }
}
