//! The command line of `outrigger-agent`.

use std::fmt;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, DEFAULT_PATH, DEFAULT_STATE_DIR, Placed, Raw, Surroundings};
use crate::identity::IdentityDir;

/// Runs on each device: says what the device is, and runs the containers that the hub assigns to it.
#[derive(Debug, Parser)]
#[command(name = "outrigger-agent", version, max_term_width = 100)]
pub struct Args {
    /// Settings file; may be missing unless it is named here [default: /etc/outrigger/agent.toml]
    #[arg(global = true, long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Name of the device in the fleet [default: the host's name]
    #[arg(global = true, long)]
    pub name: Option<String>,
    /// Where the hub's broker is [default: where the device has joined]
    #[arg(global = true, long, value_name = "HOST:PORT")]
    pub hub: Option<String>,
    /// Without TLS and without joining, to a hub on this very device; for trying things out
    #[arg(global = true, long)]
    pub insecure_local: bool,
    /// Tells the containers of several agents on one engine apart [default: the device's name]
    #[arg(global = true, long)]
    pub scope: Option<String>,
    /// Where the agent keeps its assignment [default: /var/lib/outrigger-agent]
    #[arg(global = true, long, value_name = "DIR")]
    pub state_dir: Option<String>,
    /// What runs the containers: docker, podman, or memory for nothing real [default: docker]
    #[arg(global = true, long)]
    pub engine: Option<String>,
    /// The engine's socket [default: DOCKER_HOST, else /var/run/docker.sock]
    #[arg(global = true, long, value_name = "PATH")]
    pub engine_socket: Option<String>,
    /// What the owner of this device allows [default: /etc/outrigger/policy.toml]
    #[arg(global = true, long, value_name = "PATH")]
    pub policy: Option<String>,
    /// Time between reports [default: 1s]
    #[arg(global = true, long, value_name = "TIME")]
    pub heartbeat: Option<String>,
    /// From how much of the disk in use on images that it pulled and nothing uses are removed, or off [default: 85%]
    #[arg(global = true, long, value_name = "PERCENT")]
    pub image_gc_above: Option<String>,
    /// Down to how much of the disk [default: 80%]
    #[arg(global = true, long, value_name = "PERCENT")]
    pub image_gc_to: Option<String>,
    /// Private addresses that networks of containers are made from [default: 10.212.0.0/14]
    #[arg(global = true, long, value_name = "RANGE")]
    pub network_pool: Option<String>,
    /// Where the proxies of other devices reach this one's [default: 7643]
    #[arg(global = true, long, value_name = "PORT")]
    pub network_port: Option<String>,
    /// The socket of a proxy that the service manager starts [default: the agent starts one where it needs it]
    #[arg(global = true, long, value_name = "PATH")]
    pub proxy_socket: Option<String>,
    /// A label of the device; can be given again
    #[arg(global = true, long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// A countable thing that the device has; can be given again
    #[arg(global = true, long = "generic", value_name = "KIND=COUNT", value_parser = pair)]
    pub generic: Vec<(String, String)>,
    /// What to do instead of running
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Join the fleet of a hub: with the line that `outrigger device invite` prints, or by a code that it shows
    Join(JoinArgs),
    /// Look for what would keep this device from its work, and say how to put it right
    Doctor,
    /// Leave the fleet: end and remove the replicas here and forget whose they were, so that another hub can have the device
    Leave {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Move the bytes of the service network: the agent, or the service manager, starts this
    Proxy(ProxyArgs),
    /// Print the version
    Version,
}

/// How to join.
#[derive(Clone, PartialEq, Eq, clap::Args)]
pub struct JoinArgs {
    /// The hub, such as <https://hub.local:7640> [default: the one that answers in the local network]
    pub url: Option<String>,
    /// The invite; `-` reads it from standard input [default: a code is shown, for `outrigger device approve`]
    #[arg(long)]
    pub token: Option<String>,
    /// Join anew, although the device has joined already: with a new key, and perhaps another hub
    #[arg(long)]
    pub again: bool,
}

/// Without the invite.
impl fmt::Debug for JoinArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinArgs").field("url", &self.url).field("again", &self.again).finish_non_exhaustive()
    }
}

/// How the proxy is started.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ProxyArgs {
    /// Where the agent speaks to it [default: the socket that the service manager hands over]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Start it as a process that does not end with this one
    #[arg(long, requires = "socket")]
    pub detach: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
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
