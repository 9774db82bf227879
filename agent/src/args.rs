//! The command line of `outrigger-agent`.

use std::fmt;
use std::path::PathBuf;

use crate::config::{Config, ConfigError, DEFAULT_PATH, DEFAULT_STATE_DIR, Placed, Raw, Surroundings};
use crate::identity::IdentityDir;

mod words;

pub use words::{WordsError, read};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// To do something.
    Run(Box<Args>),
    /// This text.
    Help(String),
    /// The version.
    Version,
}

/// The settings that the command line makes, as they are written there, and what to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// Settings file; may be missing unless it is named here.
    pub config: Option<PathBuf>,
    /// Name of the device in the fleet.
    pub name: Option<String>,
    /// Where the hub's broker is.
    pub hub: Option<String>,
    /// Without TLS and without joining.
    pub insecure_local: bool,
    /// Tells the containers of several agents on one engine apart.
    pub scope: Option<String>,
    /// Where the agent keeps its assignment.
    pub state_dir: Option<String>,
    /// What runs the containers.
    pub engine: Option<String>,
    /// The engine's socket.
    pub engine_socket: Option<String>,
    /// What the owner of this device allows.
    pub policy: Option<String>,
    /// Time between reports.
    pub heartbeat: Option<String>,
    /// From how much of the disk in use on images are removed.
    pub image_gc_above: Option<String>,
    /// Down to how much of the disk.
    pub image_gc_to: Option<String>,
    /// Private addresses that networks of containers are made from.
    pub network_pool: Option<String>,
    /// Where the proxies of other devices reach this one's.
    pub network_port: Option<String>,
    /// The socket of a proxy that the service manager starts.
    pub proxy_socket: Option<String>,
    /// Labels of the device.
    pub labels: Vec<(String, String)>,
    /// Countable things that the device has.
    pub generic: Vec<(String, String)>,
    /// What to do instead of running.
    pub command: Option<Command>,
}

/// What to do instead of running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Join the fleet of a hub.
    Join(JoinArgs),
    /// Look for what would keep this device from its work.
    Doctor,
    /// Leave the fleet.
    Leave {
        /// Without asking.
        yes: bool,
    },
}

/// How to join.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JoinArgs {
    /// The hub; without it the one that answers in the local network.
    pub url: Option<String>,
    /// The invite; `-` reads it from standard input. Without it a code is shown.
    pub token: Option<String>,
    /// Join anew, although the device has joined already.
    pub again: bool,
}

/// Without the invite.
impl fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinArgs").field("url", &self.url).field("again", &self.again).finish_non_exhaustive()
    }
}

impl Args {
    /// The settings that file and flags make together.
    ///
    /// # Errors
    /// If the file cannot be read, or something makes no sense.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let (path, file) = self.file()?;
        let raw = file.clone().overlaid_by(self.flags());
        let state_dir = raw.state_dir.map_or_else(|| DEFAULT_STATE_DIR.into(), |dir| PathBuf::from(dir.value));
        let joined = IdentityDir::of(&state_dir).device()?;
        Config::check(&path.display().to_string(), file, self.flags(), &Self::surroundings(joined))
    }

    /// The settings of a device that is about to join: under the name that is said, else the one that it has, else the
    /// host's.
    ///
    /// # Errors
    /// If the file cannot be read, or something makes no sense.
    pub fn config_for_join(&self) -> Result<Config, ConfigError> {
        let (path, file) = self.file()?;
        let from = path.display().to_string();
        let named = Config::check(&from, file.clone(), self.flags(), &Self::surroundings(None))?;
        if self.name.is_some() {
            return Ok(named);
        }
        let joined = IdentityDir::of(&named.state_dir).device().ok().flatten();
        Ok(Config { device: joined.unwrap_or_else(|| named.device.clone()), ..named })
    }

    fn file(&self) -> Result<(PathBuf, Raw), ConfigError> {
        let path = self.config.clone().unwrap_or_else(|| DEFAULT_PATH.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => Raw::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.config.is_none() => Raw::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Ok((path, file))
    }

    fn surroundings(joined: Option<outrigger_protocol::DeviceName>) -> Surroundings {
        Surroundings {
            joined,
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            docker_host: std::env::var("DOCKER_HOST").ok(),
        }
    }

    fn flags(&self) -> Raw {
        let flag = |value: &String| Placed { value: value.clone(), line: None };
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(key, value)| (key.clone(), flag(value))).collect();
        Raw {
            name: self.name.as_ref().map(flag),
            hub: self.hub.as_ref().map(flag),
            insecure_local: self.insecure_local.then(|| Placed { value: "true".to_owned(), line: None }),
            scope: self.scope.as_ref().map(flag),
            state_dir: self.state_dir.as_ref().map(flag),
            engine: self.engine.as_ref().map(flag),
            engine_socket: self.engine_socket.as_ref().map(flag),
            policy: self.policy.as_ref().map(flag),
            heartbeat: self.heartbeat.as_ref().map(flag),
            image_gc_above: self.image_gc_above.as_ref().map(flag),
            image_gc_to: self.image_gc_to.as_ref().map(flag),
            network_pool: self.network_pool.as_ref().map(flag),
            network_port: self.network_port.as_ref().map(flag),
            proxy_socket: self.proxy_socket.as_ref().map(flag),
            labels: pairs(&self.labels),
            generic: pairs(&self.generic),
            problems: Vec::new(),
        }
    }
}
