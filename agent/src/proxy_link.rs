//! The way to the proxy: finds the one that runs, or has one started where something needs it, hands it what is wanted and
//! hears how it does.
//!
//! The proxy outlives the agent, so a new agent first looks whether one answers at the socket. Who starts it: the service
//! manager, which listens at the socket in its place (`proxy_socket` in the settings), else this agent, detached.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use outrigger_proxy::control::{Client, FrameError, Observed, Speaking, Wanted};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::core::{Mesh, ProxyEvent};
use crate::mesh_file;

/// Its program.
const PROGRAM: &str = "outrigger-proxy";
/// Time that a proxy which was just started has until it answers; an SD card takes its time.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for until then.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A proxy that takes nothing for so long hangs.
const TAKES_WITHIN: Duration = Duration::from_secs(10);

/// Where the proxy is, and who starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The service manager listens there and starts it with the first connection.
    Managed(PathBuf),
    /// This agent starts it.
    Own {
        /// Where it is to listen.
        socket: PathBuf,
        /// What tells its rules in the kernel from those of other agents on this device.
        scope: String,
    },
}

impl Place {
    /// As the settings say.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let own = || Self::Own {
            socket: mesh_file::run_path(config.device.as_str(), &config.state_dir, "proxy.sock"),
            scope: config.scope.clone(),
        };
        config.proxy_socket.clone().map_or_else(own, Self::Managed)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self {
            Self::Managed(socket) | Self::Own { socket, .. } => socket,
        }
    }
}

/// There is no way to the proxy.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Nobody answers.
    #[error("the proxy does not answer at {}: {source}", path.display())]
    Silent {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be started.
    #[error("the proxy cannot be started: {}: {source}; it belongs beside outrigger-agent", program.display())]
    Start {
        /// Its program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is gone, or another agent has taken this one's place with it.
    #[error("the proxy has ended")]
    Ended,
    /// It takes nothing.
    #[error("the proxy hangs: it has taken nothing for {} s", TAKES_WITHIN.as_secs())]
    Stuck,
    /// It cannot be understood.
    #[error("the proxy cannot be understood: {0}")]
    Broken(FrameError),
}

/// Keeps the proxy told of the newest `wanted`, until nobody listens.
///
/// `may_run`: an agent before this one may have left a proxy, which must hear that nothing is wanted any more.
pub async fn run(
    place: Place,
    mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
    may_run: bool,
    events: mpsc::Sender<ProxyEvent>,
) {
    let mut backoff = Backoff::new(u64::from(std::process::id()));
    let mut may_run = may_run;
    let mut told = String::new();
    loop {
        let is_needed =
            |wanted: &Option<Arc<Wanted>>| wanted.as_deref().is_some_and(|one| may_run || Mesh::is_needed(one));
        if wanted.wait_for(is_needed).await.is_err() {
            return;
        }
        let outcome = match connect(&place, &wanted).await {
            Ok(stream) => {
                told.clear();
                backoff.reset();
                serve(stream, &mut wanted, &events).await
            }
            Err(error) => Err(error),
        };
        let is_needed = wanted.borrow().as_deref().is_some_and(Mesh::is_needed);
        may_run = false;
        let event = match outcome {
            Ok(()) => return,
            Err(_) if !is_needed => ProxyEvent::Ended,
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    warn!(error = text, "the service network does not work; trying on");
                    told.clone_from(&text);
                }
                ProxyEvent::Lost(text)
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

async fn connect(
    place: &Place,
    wanted: &watch::Receiver<Option<Arc<Wanted>>>,
) -> Result<(Client, Speaking), LinkError> {
    let path = place.socket();
    let silent = |source| LinkError::Silent { path: path.to_owned(), source };
    let is_needed = wanted.borrow().as_deref().is_some_and(Mesh::is_needed);
    match (Client::connect(path).await, place) {
        (Ok(stream), _) => return Ok(stream),
        (Err(error), Place::Managed(_)) => return Err(silent(error)),
        (Err(error), Place::Own { .. }) if !is_needed => return Err(silent(error)),
        (Err(_), Place::Own { socket, scope }) => start(socket, scope).await?,
    }
    let looking = async {
        loop {
            match Client::connect(path).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    let found = tokio::time::timeout(STARTS_WITHIN, looking).await;
    found.map_err(|_| silent(io::ErrorKind::TimedOut.into()))
}

/// Starts the proxy, as a process that does not end with this one. It detaches itself, so what is waited for here ends at
/// once.
async fn start(socket: &Path, scope: &str) -> Result<(), LinkError> {
    let program = program().map_err(|source| LinkError::Start { program: PROGRAM.into(), source })?;
    let failed = |source| LinkError::Start { program: program.clone(), source };
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut command = Command::new(&program);
    // The socket first: whoever looks for the proxies of an agent finds them by it.
    command.arg("--socket").arg(socket).args(["--scope", scope, "--detach"]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    let status = status.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    if !status.success() {
        return Err(failed(io::Error::other(format!("it ended with {status}; see its log"))));
    }
    info!(socket = %socket.display(), "the proxy is started");
    Ok(())
}

/// The proxy's program, which is installed beside this one. Also when this one has been replaced meanwhile: the folder stays.
fn program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

/// Serves one connection. Without an error: nobody wants it any more.
async fn serve(
    (hears, mut speaks): (Client, Speaking),
    wanted: &mut watch::Receiver<Option<Arc<Wanted>>>,
    events: &mpsc::Sender<ProxyEvent>,
) -> Result<(), LinkError> {
    // Beside: reading a part of a message must not be cancelled by something to send.
    let (heard, mut inbox) = mpsc::channel(1);
    let mut reading = JoinSet::new();
    reading.spawn(listen(hears, heard));
    wanted.mark_changed();
    loop {
        // All may be cancelled: a change stays marked, and a message that was not received stays in its channel.
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let newest = wanted.borrow_and_update().clone();
                if let Some(newest) = newest {
                    say(&mut speaks, &newest).await?;
                    debug!(services = newest.routes.services.len(), copies = newest.copies.len(), "told the proxy");
                }
            }
            message = inbox.recv() => match message.unwrap_or(Ok(None)) {
                Ok(Some(observed)) => {
                    if events.send(ProxyEvent::Told(Box::new(observed))).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Err(LinkError::Ended),
                Err(error) => return Err(LinkError::Broken(error)),
            },
        }
    }
}

async fn say(to: &mut Speaking, wanted: &Wanted) -> Result<(), LinkError> {
    let saying = tokio::time::timeout(TAKES_WITHIN, to.say(wanted)).await;
    saying.map_err(|_| LinkError::Stuck)?.map_err(LinkError::Broken)
}

async fn listen(mut from: Client, heard: mpsc::Sender<Result<Option<Observed>, FrameError>>) {
    loop {
        let observed = from.next().await;
        let is_over = !matches!(observed, Ok(Some(_)));
        if heard.send(observed).await.is_err() || is_over {
            return;
        }
    }
}
