//! The socket in the hub's state folder: `outrigger-hub` speaks through it to the hub that has the store open. Whoever can
//! open it has the folder, and with that everything; so nobody is asked for a token there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Name of the socket in the state folder.
const SOCKET: &str = "hub.sock";

/// Where the socket of a hub with this state folder is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// Listens there. Call it with the store open: then no other hub does.
///
/// # Errors
/// If the socket cannot be made, as when its path is longer than 107 bytes.
pub fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    let path = path(state_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let listener = UnixListener::bind(&path)?;
    // Before this line the folder's own mode (0700) keeps others out.
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Why a running hub did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It was not reached.
    #[error("the hub that has the store open does not answer at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: reqwest::Error,
    },
    /// It said no.
    #[error("the hub refuses: {0}")]
    Refused(String),
}

/// Asks the hub that runs with this state folder.
///
/// # Errors
/// If it is not reached or says no.
pub async fn ask(state_dir: &Path, method: reqwest::Method, route: &str) -> Result<reqwest::Response, LocalError> {
    crate::run::install_crypto();
    let path = path(state_dir);
    let unreachable = |source| LocalError::Unreachable { path: path.clone(), source };
    let client = reqwest::Client::builder().unix_socket(path.clone()).build().map_err(unreachable)?;
    let answer = client.request(method, format!("http://localhost{route}")).send().await.map_err(unreachable)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let problem = answer.json::<outrigger_api::Problem>().await;
    Err(LocalError::Refused(problem.map_or_else(|_| status.to_string(), |problem| problem.to_string())))
}
