//! The proxy as a program: everything that is outside is passed in or opened here.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::control::{self, Observed, Wanted};
use crate::dns;
use crate::kernel::{self, Trouble};
use crate::limits::Limits;
use crate::listen::{self, Taken};
use crate::mesh;
use crate::relay;
use crate::shared::Shared;
use crate::table::Table;

/// A proxy that nobody has needed for this long ends. Long enough for a stack that is replaced as a whole.
const IDLE: Duration = Duration::from_secs(60);

/// Where the agent speaks to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// At this path, which we make.
    Path(PathBuf),
    /// At the socket that systemd has handed to us.
    Handed,
}

/// How the proxy runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the agent speaks to us.
    pub control: Control,
    /// Names our rules in the kernel among those of other agents on this machine.
    pub scope: String,
    /// A proxy that nobody has needed for this long ends.
    pub idle: Duration,
    /// Connections at most, of which one source may have a quarter; none: as many as the limit of open files allows.
    pub connections: Option<usize>,
}

impl Settings {
    /// The usual ones.
    #[must_use]
    pub fn new(control: Control, scope: String) -> Self {
        Self { control, scope, idle: IDLE, connections: None }
    }
}

/// Why the proxy does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The agent could not speak to us.
    #[error("cannot listen for the agent at {}", path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no socket.
    #[error("systemd has handed over no socket; start the proxy's socket unit, or give a path")]
    NoSocket,
    /// A socket of systemd is of no use.
    #[error("the socket that systemd has handed over cannot be used")]
    Handed(#[source] io::Error),
}

/// Runs until `shutdown` ends, or nobody has needed it for a while.
///
/// # Errors
/// If it cannot start.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = listen_for_agent(&settings.control)?;
    let (orders, wanted) = watch::channel(None);
    let observed = watch::Sender::new(Observed::default());
    let limits = settings.connections.map_or_else(Limits::of_this_process, Limits::of_connections);
    let shared = Arc::new(Shared::new(Table::empty(), limits));
    let (taken, trouble) = (Taken::default(), Trouble::default());

    let (unnamed, names) = watch::channel(None);
    let mut tasks = JoinSet::new(); // dropped with us, and with it all that these have opened
    tasks.spawn(control::serve(listener, orders, observed.subscribe()));
    tasks.spawn(listen::keep_published(Arc::clone(&shared), taken.clone()));
    tasks.spawn(mesh::keep(Arc::clone(&shared)));
    tasks.spawn(relay::keep(Arc::clone(&shared)));
    tasks.spawn(kernel::keep(Arc::clone(&shared), settings.scope.clone(), trouble.clone()));
    tasks.spawn(dns::run(wanted.clone(), unnamed));
    tasks.spawn(observe(Arc::clone(&shared), taken, trouble, names, observed));
    info!("the proxy runs");
    tokio::select! { // both may be cancelled: what ends the one ends all
        () = shutdown => info!("the proxy stops"),
        () = obey(&shared, wanted, settings.idle) => info!("nothing needs the proxy; it ends"),
    }
    drop(tasks);
    kernel::clear(settings.scope).await;
    if let Control::Path(path) = &settings.control {
        let _ = std::fs::remove_file(path); // if it stays, the next one removes it
    }
    Ok(())
}

fn listen_for_agent(control: &Control) -> Result<UnixListener, RunError> {
    match control {
        Control::Path(path) => control::listen(path).map_err(|source| RunError::Control { path: path.clone(), source }),
        Control::Handed => {
            let taken = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(RunError::Handed)?;
            let listener = taken.ok_or(RunError::NoSocket)?;
            listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)).map_err(RunError::Handed)
        }
    }
}

/// Takes each order over. Ends when nobody has needed us for `idle`.
async fn obey(shared: &Arc<Shared>, mut wanted: watch::Receiver<Option<Arc<Wanted>>>, idle: Duration) {
    loop {
        let is_needed = shared.table().is_needed() || shared.limits.all() > 0;
        tokio::select! { // both may be cancelled
            changed = wanted.changed() => if changed.is_err() { return },
            // With something to do, this only looks again whether there still is.
            () = tokio::time::sleep(idle), if !shared.table().is_needed() => {
                if !is_needed && shared.limits.all() == 0 {
                    return;
                }
                continue;
            }
        }
        if let Some(new) = wanted.borrow_and_update().clone() {
            shared.replace(Table::new(new));
        }
    }
}

/// Tells the agent how we do, whenever that has changed.
async fn observe(
    shared: Arc<Shared>,
    taken: Taken,
    trouble: Trouble,
    mut names: watch::Receiver<Option<String>>,
    observed: watch::Sender<Observed>,
) {
    loop {
        let table = shared.table();
        let listening = shared.mesh.listening();
        let new = Observed {
            held: (!table.is_empty()).then_some(table.wanted.routes.number),
            mesh_port: listening.clone().ok().flatten(),
            taken: taken.ports(),
            relayed: shared.mesh.relayed(),
            ejected: shared.ejected(),
            trouble: trouble.text().or(listening.err()).or_else(|| names.borrow_and_update().clone()),
        };
        drop(table);
        observed.send_if_modified(|now| (*now != new).then(|| *now = new).is_some());
        tokio::select! { // both may be cancelled: neither forgets what has happened
            () = shared.changed.notified() => (),
            Ok(()) = names.changed() => (),
        }
    }
}
