//! Looking at the device. Nothing is changed by it, not even a file written.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_protocol::{CgroupVersion, MemoryLimits, Moment, Throttling};
use rustix::fs::{Access, access, statvfs};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::network::{self, NetworkSeen, Networking};
use super::secrets::{self, SecretsSeen};
use super::trust::{self, Trust};
use crate::config::HubAddress;
use crate::engine::{Description, Engine, EngineError};
use crate::mqtt::Route;
use crate::policy::Policy;
use crate::probe::{Root, Sampler, cgroup_version, memory_limits};

/// Longest wait for the hub, for a name server, or for the time service to say whether it is synchronised.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The file system.
    pub root: Root,
    /// The wall clock, in seconds since 1970.
    pub unix: u64,
    /// The way to the hub.
    pub route: Route,
    /// Where the agent keeps its state.
    pub state_dir: PathBuf,
    /// The engine's socket; none for the engine in memory.
    pub socket: Option<PathBuf>,
    /// What the owner allows.
    pub policy: Policy,
    /// The service network's part.
    pub networking: Networking,
    /// Where secrets are put ([`crate::files::FilesDir::root`]).
    pub files: PathBuf,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The wall clock, in seconds since 1970.
    pub unix: u64,
    /// Whether the clock is synchronised; none where nobody says.
    pub is_synchronised: Option<bool>,
    /// Which cgroup interface there is.
    pub cgroup: CgroupVersion,
    /// Whether memory limits work.
    pub memory_limits: MemoryLimits,
    /// The file with the kernel's command line, on a board whose firmware reads one.
    pub command_line: Option<PathBuf>,
    /// What the firmware says about power and heat.
    pub throttling: Throttling,
    /// The engine.
    pub engine: Result<Description, EngineError>,
    /// Its socket.
    pub socket: Option<PathBuf>,
    /// Space where it keeps images; none where that is not known.
    pub engine_space: Option<Space>,
    /// The agent's state directory.
    pub state_dir: PathBuf,
    /// Whether it can be written.
    pub state: StateDir,
    /// Space there.
    pub state_space: Option<Space>,
    /// What there is to trust, and whether it works.
    pub trust: Trust,
    /// The hub; none: the device has not joined one.
    pub hub: Option<HubAddress>,
    /// What the owner allows.
    pub policy: Policy,
    /// Whether it is reached.
    pub reach: Reach,
    /// What the service network has and lacks.
    pub network: NetworkSeen,
    /// Whether secrets can be had.
    pub secrets: SecretsSeen,
}

/// Space of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Where.
    pub path: PathBuf,
    /// Bytes that can be written.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// Whether a directory can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateDir {
    /// It can.
    Writable,
    /// It does not exist, and its parent lets us make it.
    CanBeMade,
    /// It cannot, or cannot be made; what the system says.
    Refused(String),
}

/// Whether the hub is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Its port accepts connections.
    Accepts,
    /// Nothing listens there.
    Refused,
    /// Its name is not known.
    NoSuchName(String),
    /// Nobody answers, or there is no way there.
    NoAnswer(String),
}

/// Looks at everything.
pub async fn inspect(subject: &Subject, engine: &impl Engine) -> Inspection {
    let root = &subject.root;
    let hub = trust::hub_of(&subject.route);
    let reached = async {
        match &hub {
            Some(hub) => reach(hub).await,
            None => Reach::NoAnswer("no hub is known".to_owned()),
        }
    };
    let trusted = trust::look(&subject.route, hub.clone());
    let (engine, reach, is_synchronised, trust) =
        tokio::join!(engine.describe(), reached, is_synchronised(root), trusted);
    let images = engine.as_ref().ok().and_then(|description| description.root_dir.clone());
    Inspection {
        unix: subject.unix,
        is_synchronised,
        cgroup: cgroup_version(root),
        memory_limits: memory_limits(root),
        command_line: command_line(root),
        throttling: Sampler::new(root, PathBuf::from("/")).sample(Moment::ZERO).throttling,
        engine,
        socket: subject.socket.clone(),
        engine_space: images.as_deref().and_then(space),
        state_dir: subject.state_dir.clone(),
        state: state_dir(&subject.state_dir),
        state_space: nearest(&subject.state_dir).and_then(space),
        trust,
        hub,
        policy: subject.policy.clone(),
        reach,
        network: network::look(root, &subject.networking),
        secrets: secrets::look(root, &subject.files),
    }
}

/// Newer Raspberry Pi OS has it in `firmware`.
fn command_line(root: &Root) -> Option<PathBuf> {
    ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"]
        .into_iter()
        .find(|path| root.read(path).is_some())
        .map(PathBuf::from)
}

fn space(path: &Path) -> Option<Space> {
    let of = statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
    Some(Space { path: path.to_owned(), free: bytes(of.f_bavail), total: bytes(of.f_blocks) })
}

/// The folder itself or the nearest one above it that exists.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.is_dir())
}

fn state_dir(path: &Path) -> StateDir {
    let Some(existing) = nearest(path) else { return StateDir::Refused("no such directory".to_owned()) };
    match access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if existing == path => StateDir::Writable,
        Ok(()) => StateDir::CanBeMade,
        Err(error) => StateDir::Refused(format!("{}: {}", existing.display(), io::Error::from(error))),
    }
}

/// systemd's time service leaves a file; others are asked through `timedatectl`, which asks the kernel.
async fn is_synchronised(root: &Root) -> Option<bool> {
    if root.read("/run/systemd/timesync/synchronized").is_some() {
        return Some(true);
    }
    let ask = tokio::task::spawn_blocking(|| {
        let mut command = std::process::Command::new("timedatectl");
        command.args(["show", "--property=NTPSynchronized", "--value"]).output()
    });
    let output = timeout(PATIENCE, ask).await.ok()?.ok()?.ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

async fn reach(hub: &HubAddress) -> Reach {
    let addresses = match timeout(PATIENCE, tokio::net::lookup_host((hub.host.as_str(), hub.port))).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return Reach::NoSuchName(error.to_string()),
        Err(_) => return Reach::NoSuchName("the name server does not answer".to_owned()),
    };
    match timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => Reach::Accepts,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reach::Refused,
        Ok(Err(error)) => Reach::NoAnswer(error.to_string()),
        Err(_) => Reach::NoAnswer(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
