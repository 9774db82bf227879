//! The hub as a program: everything that is outside is passed in or opened here, and let go in order at the end.

use std::error::Error as _;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::access::{Access, AccessError, Gate};
use crate::announce::Announcer;
use crate::broker::{self, Answers, Embedded, External, Inbox};
use crate::clock;
use crate::config::{Broker, Config, Security};
use crate::control::Shell;
use crate::core::HubCore;
use crate::handle::{Addresses, EventLog, HubHandle};
use crate::history::Histories;
use crate::http::{self, Door};
use crate::pki::{Pki, PkiError};
use crate::registry::Registry;
use crate::relay;
use crate::secrets::{KeyProblem, Secrets};
use crate::store::{Store, StoreError, Writer};

/// Messages to devices that may wait for the broker.
const OUTGOING: usize = 1024;
/// Requests of devices about certificates that may wait; those beyond ask again.
const REQUESTS: usize = 256;
/// Questions to the control task that may wait.
const CONTROL: usize = 256;

/// Why the hub does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who may do what.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Who is who.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The key of the secrets.
    #[error(transparent)]
    Secrets(#[from] KeyProblem),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// For what.
        purpose: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A part of the hub broke.
    #[error("the control task ended by a fault of its own; this is a bug")]
    Died,
}

/// A running hub. Stop it; dropped, it is cut off.
#[derive(Debug)]
pub struct Running {
    handle: HubHandle,
    access: Access,
    stop: oneshot::Sender<()>,
    control: JoinHandle<()>,
    http: JoinHandle<()>,
    stop_http: oneshot::Sender<()>,
    _link: Link,
    _helpers: JoinSet<()>,
}

/// Held for as long as devices are to be heard.
#[derive(Debug)]
enum Link {
    Embedded { _broker: Embedded },
    External { _client: External },
}

/// Runs a hub until `shutdown` ends, or it cannot go on.
///
/// # Errors
/// If it cannot start, or a part of it breaks.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let mut running = start(config).await?;
    let Addresses { mqtt, http, relay } = running.handle.addresses();
    info!(%http, mqtt = mqtt.map(tracing::field::display), relay = relay.map(tracing::field::display), version = env!("CARGO_PKG_VERSION"), "the hub runs");
    tell_setup_code(&running).await;
    notify(sd_notify::NotifyState::Ready);
    tokio::select! { // both may be cancelled: what ends the other ends the hub
        () = shutdown => (),
        _ = &mut running.control => return Err(RunError::Died),
    }
    info!("the hub stops");
    notify(sd_notify::NotifyState::Stopping);
    running.stop().await;
    Ok(())
}

/// Starts a hub; port 0 is any free one, and [`HubHandle::addresses`] tells which.
///
/// # Errors
/// If the store cannot be opened or an address not listened on.
pub async fn start(config: Config) -> Result<Running, RunError> {
    install_crypto();
    raise_file_limit();
    let mut store = Store::open(&config.state_dir)?;
    let loaded = store.load()?;
    info!(fleet = %loaded.fleet, epoch = %loaded.epoch, records = loaded.records.len(), "the store is open");
    let events = EventLog::new(loaded.events);
    let (mut core, ignored) =
        HubCore::restore(loaded.records, config.policy.clone(), loaded.fleet, loaded.epoch, clock::now());
    for record in ignored {
        warn!(record, "left out of what was saved: it fits nothing else");
    }
    let (writer, written) = Writer::start(store).map_err(RunError::Thread)?;
    let pki = match config.security {
        Security::Tls => Some(Pki::open(&config.state_dir, &config.names, &loaded.side, writer.side()).await?),
        Security::InsecureLocal => None,
    };
    let access = Access::open(pki.clone(), &config.state_dir, &loaded.side, writer.side())?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let secrets = Secrets::open(&config.state_dir, credentials.as_deref(), &loaded.side, writer.side())?;
    let local = listen_locally(&config.state_dir);
    let listener = listen(config.http_listen, "the HTTP API").await?;
    let http_address = listener.local_addr().map_err(|source| no_listen(config.http_listen, "the HTTP API", source))?;

    let answers = Answers::starting_at(clock::unix_ms().saturating_mul(1000));
    let (mut inbox, happenings) = Inbox::new(answers.clone());
    let counters = inbox.counters().clone();
    let (outgoing, to_link) = mpsc::channel(OUTGOING);
    let mut helpers = JoinSet::new();
    let (questions_for_secrets, asked_for_secrets) = mpsc::channel(REQUESTS);
    inbox = inbox.unsealing(questions_for_secrets);
    if let Some(pki) = &pki {
        let (requests, requested) = mpsc::channel(REQUESTS);
        inbox = inbox.guarded(pki.allow().clone(), requests);
        helpers.spawn(pki.clone().answer(requested, outgoing.clone()));
        helpers.spawn(pki.clone().keep(outgoing.clone()));
    }
    let (link, mqtt) = connect(&config.broker, pki.as_ref(), inbox, to_link).await?;

    let relay = match (&pki, config.relay_port) {
        (Some(pki), Some(port)) => relay::start(pki, (http_address.ip(), port).into(), &mut helpers).await,
        _ => None,
    };
    core.set_relay_port(relay.map(|address| address.port()));
    let (control, questions) = mpsc::channel(CONTROL);
    let addresses = Addresses { mqtt, http: http_address, relay };
    let histories = Histories::default();
    let handle = HubHandle {
        control,
        outgoing: outgoing.clone(),
        answers,
        counters,
        events: events.clone(),
        histories: histories.clone(),
        registry: Registry::new(config.insecure_registries.clone()).with_logins(secrets.clone()),
        secrets: secrets.clone(),
        addresses,
        pki: pki.clone(),
        mqtt_at: mqtt_at(&config.broker, mqtt),
        takes_codes: config.joining.by_code,
    };
    let (stop, stopped) = oneshot::channel();
    helpers.spawn(secrets.clone().answer(handle.clone(), asked_for_secrets, outgoing.clone()));
    helpers.spawn(secrets.tidy(handle.clone()));
    let shell = Shell::new(core, events, histories, outgoing, writer, pki.clone());
    let control = tokio::spawn(shell.run(happenings, questions, written, stopped));
    helpers.spawn(handle.clone().learn_when_mixed());
    helpers.spawn(handle.clone().label_newcomers());
    if let Some(pki) = pki.clone().filter(|_| config.joining.announced) {
        match Announcer::start(http_address, &pki) {
            Ok(announcer) => drop(helpers.spawn(announcer.keep(pki))),
            // Who knows the address joins all the same.
            Err(error) => {
                warn!(%error, cause = error.source().map(tracing::field::display), "devices must be told the hub's address")
            }
        }
    }
    let door = pki.map_or(Door::Plain, |pki| Door::Tls(pki.server_tls().clone()));
    let (stop_http, http_stopped) = oneshot::channel::<()>();
    let ended = async move { drop(http_stopped.await) };
    let http = tokio::spawn(http::serve(listener, door, local, handle.clone(), access.clone(), ended));
    Ok(Running { handle, access, stop, control, http, stop_http, _link: link, _helpers: helpers })
}

impl Running {
    /// Reaches the hub.
    #[must_use]
    pub fn handle(&self) -> &HubHandle {
        &self.handle
    }

    /// Lets everything go in order: users first, then devices, then the store, which is written to the end.
    pub async fn stop(self) {
        let _ = self.stop_http.send(());
        let _ = self.http.await;
        let _ = self.stop.send(());
        let _ = self.control.await;
    }
}

/// As long as nobody may make tokens, each start prints a code for whoever sees it. Past the log: it is a secret.
async fn tell_setup_code(running: &Running) {
    let (Gate::Tokens(pin), now) = (running.access.gate(), clock::unix_ms()) else { return };
    if running.access.has_admin(now) {
        return;
    }
    let text = match running.access.tokens().fresh_code(pin, now).await {
        Ok((code, _)) => http::words_with_code(&running.handle, &code),
        Err(error) => return warn!(%error, "no setup code could be made"),
    };
    // Nobody reads it: `outrigger-hub setup-code` makes another.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Only `outrigger-hub` itself uses it, so a hub without it is better than none.
fn listen_locally(state_dir: &Path) -> Option<UnixListener> {
    let listening = http::local::listen(state_dir);
    listening.inspect_err(|error| warn!(%error, "`outrigger-hub backup` and `setup-code` will not reach this hub")).ok()
}

async fn connect(
    broker: &Broker,
    pki: Option<&Pki>,
    inbox: Inbox,
    outgoing: mpsc::Receiver<broker::Outgoing>,
) -> Result<(Link, Option<SocketAddr>), RunError> {
    match broker {
        Broker::Embedded(listen) => {
            let door = pki.cloned().map_or(broker::Door::Plain, broker::Door::Tls);
            let started = broker::start_embedded(*listen, door, inbox, outgoing).await;
            let broker = started.map_err(|source| no_listen(*listen, "MQTT", source))?;
            let address = broker.address;
            Ok((Link::Embedded { _broker: broker }, Some(address)))
        }
        Broker::External(account) => {
            let client = broker::start_external(account.clone(), pki.cloned(), inbox, outgoing);
            Ok((Link::External { _client: client }, None))
        }
    }
}

/// Where devices connect: a host, where it is not the hub itself, and the port.
fn mqtt_at(broker: &Broker, listens: Option<SocketAddr>) -> (Option<String>, u16) {
    match broker {
        Broker::Embedded(asked) => (None, listens.unwrap_or(*asked).port()),
        Broker::External(account) => (Some(account.host.clone()), account.port),
    }
}

async fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| no_listen(address, purpose, source))
}

fn no_listen(address: SocketAddr, purpose: &'static str, source: io::Error) -> RunError {
    RunError::Listen { address, purpose, source }
}

/// The one provider of cryptography. Without it the first TLS connection would panic; with two, too.
pub(crate) fn install_crypto() {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Each device needs a file descriptor, and the usual soft limit of 1024 is for programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Tells systemd, if it is there.
pub(crate) fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
