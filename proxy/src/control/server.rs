//! The proxy's end of the control socket. The newest agent counts: one that has hung is not waited for.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{info, warn};

use super::frame::{FrameError, read, write};
use super::{Observed, Wanted};

/// Listens at `path` for its owner alone. What a proxy that was killed has left there is removed.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err() => {
            fs::remove_file(path)?;
        }
        _ => (),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Who may give orders: root, we ourselves, and whom the socket belongs to (systemd gives it away).
fn may_speak(stream: &UnixStream, owner: Option<u32>) -> io::Result<bool> {
    let uid = stream.peer_cred()?.uid();
    Ok(uid == 0 || uid == rustix::process::geteuid().as_raw() || Some(uid) == owner)
}

/// Takes orders until the end of the program.
pub(crate) async fn serve(
    listener: UnixListener,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    observed: watch::Receiver<Observed>,
) {
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    let owner = path.and_then(|path| fs::symlink_metadata(path).ok()).map(|found| found.uid());
    let mut current: Option<UnixStream> = None;
    loop {
        let spoken = async {
            match current.take() {
                Some(stream) => attend(stream, &wanted, observed.clone()).await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! { // an agent that is cancelled has been replaced; accept loses nothing
            accepted = listener.accept() => accepted,
            ended = spoken => {
                match ended {
                    Ok(()) => info!("the agent has gone; all goes on as it was"),
                    Err(error) => warn!(error = &error as &dyn std::error::Error, "the agent was cut off"),
                }
                continue;
            }
        };
        match accepted.and_then(|(stream, _)| Ok((may_speak(&stream, owner)?, stream))) {
            Ok((true, stream)) => current = Some(stream),
            Ok((false, _)) => warn!("somebody who is not the agent was refused at the control socket"),
            Err(error) => {
                warn!(%error, "cannot accept at the control socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// One agent, until it goes.
async fn attend(
    stream: UnixStream,
    wanted: &watch::Sender<Option<Arc<Wanted>>>,
    mut observed: watch::Receiver<Observed>,
) -> Result<(), FrameError> {
    let (mut hears, mut speaks) = stream.into_split();
    let hear = async {
        while let Some(new) = read::<Wanted>(&mut hears).await? {
            let new = Some(Arc::new(new));
            wanted.send_if_modified(|now| (*now != new).then(|| *now = new).is_some());
        }
        Ok(())
    };
    let tell = async {
        loop {
            let now = observed.borrow_and_update().clone();
            write(&mut speaks, &now).await?;
            if observed.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! { // what ends the one ends the other: the connection is over
        ended = hear => ended,
        ended = tell => ended,
    }
}
