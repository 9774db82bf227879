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

use outrigger_proxy::control::{Observed, Wanted};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::core::{Mesh, ProxyEvent};

/// Time that a proxy which was just started has until it answers; an SD card takes its time.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for until then.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Most bytes of a message: somewhat above the largest routes ([`outrigger_protocol::MAX_WANT`]).
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// A proxy that takes nothing for so long hangs.
const TAKES_WITHIN: Duration = Duration::from_secs(10);

/// Where the proxy is, and who starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The service manager listens there and starts it with the first connection.
    Managed(PathBuf),
    /// This agent starts it, from its own program.
    Own(PathBuf),
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
    #[error("the proxy cannot be started: {0}")]
    Start(io::Error),
    /// It broke off.
    #[error("the proxy has ended: {0}")]
    Broken(io::Error),
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

async fn connect(place: &Place, wanted: &watch::Receiver<Option<Arc<Wanted>>>) -> Result<UnixStream, LinkError> {
    let path = match place {
        Place::Managed(path) | Place::Own(path) => path,
    };
    let silent = |source| LinkError::Silent { path: path.clone(), source };
    let is_needed = wanted.borrow().as_deref().is_some_and(Mesh::is_needed);
    match (UnixStream::connect(path).await, place) {
        (Ok(stream), _) => return Ok(stream),
        (Err(error), Place::Managed(_)) => return Err(silent(error)),
        (Err(error), Place::Own(_)) if !is_needed => return Err(silent(error)),
        (Err(_), Place::Own(_)) => start(path).await?,
    }
    let deadline = tokio::time::Instant::now() + STARTS_WITHIN;
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(silent(error)),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Starts the proxy from this very program, as a process that does not end with this one. It detaches itself, so what is
/// waited for here ends at once.
async fn start(socket: &Path) -> Result<(), LinkError> {
    let program = std::env::current_exe().map_err(LinkError::Start)?;
    let mut command = Command::new(program);
    command.arg("proxy").arg("--detach").arg("--socket").arg(socket);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    let status = status.map_err(|error| LinkError::Start(io::Error::other(error)))?.map_err(LinkError::Start)?;
    if !status.success() {
        return Err(LinkError::Start(io::Error::other(format!("it ended with {status}; see its log"))));
    }
    info!(socket = %socket.display(), "the proxy is started");
    Ok(())
}

/// Serves one connection. Without an error: nobody wants it any more.
async fn serve(
    stream: UnixStream,
    wanted: &mut watch::Receiver<Option<Arc<Wanted>>>,
    events: &mpsc::Sender<ProxyEvent>,
) -> Result<(), LinkError> {
    let (read, mut write) = stream.into_split();
    // Beside: reading a part of a message must not be cancelled by something to send.
    let (heard, mut inbox) = mpsc::channel(1);
    let mut reading = tokio::task::JoinSet::new();
    reading.spawn(listen(read, heard));
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
                    send(&mut write, &newest).await.map_err(LinkError::Broken)?;
                    debug!(services = newest.routes.services.len(), copies = newest.copies.len(), "told the proxy");
                }
            }
            message = inbox.recv() => match message {
                Some(Ok(observed)) => {
                    if events.send(ProxyEvent::Told(Box::new(observed))).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(LinkError::Broken(error)),
                None => return Err(LinkError::Broken(io::ErrorKind::UnexpectedEof.into())),
            },
        }
    }
}

async fn send(to: &mut OwnedWriteHalf, wanted: &Wanted) -> io::Result<()> {
    let bytes = postcard::to_stdvec(wanted).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let sending = async {
        to.write_all(&length.to_be_bytes()).await?;
        to.write_all(&bytes).await
    };
    tokio::time::timeout(TAKES_WITHIN, sending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn listen(mut from: OwnedReadHalf, heard: mpsc::Sender<io::Result<Observed>>) {
    loop {
        let observed = read(&mut from).await;
        let is_over = observed.is_err();
        if heard.send(observed).await.is_err() || is_over {
            return;
        }
    }
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<Observed> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("it says {length} bytes, more than any message has")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}
