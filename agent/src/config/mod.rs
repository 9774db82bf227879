//! The agent's settings: a file, then flags, then what has been left out. Checked once; from then on they make sense.

mod raw;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_protocol::{DeviceName, GenericResource, Permille};
use thiserror::Error;

pub use crate::images::ImageLimits;
pub use raw::{KEYS, Raw};

use crate::files::RUN_DIR;
use crate::policy::{Guarded, Policy};
use crate::pool::Pool;

/// Where the file is if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/outrigger/agent.toml";
/// The hub of `--insecure-local`.
const LOCAL_HUB: &str = "127.0.0.1:1883";
const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
/// Where the state is if nobody says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/outrigger-agent";
const DEFAULT_DOCKER: &str = "/var/run/docker.sock";
const DEFAULT_PODMAN: &str = "/run/podman/podman.sock";
/// Where other devices' proxies find this one's.
pub const DEFAULT_NETWORK_PORT: u16 = 7643;
/// Shorter heartbeats cost more than they tell.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Longer ones leave a hub in the dark.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(300);
/// Labels that a device may have: its hello is bounded.
const MAX_LABELS: usize = 64;
/// Characters of a label's key or value.
const MAX_LABEL: usize = 128;

/// Settings that make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The device's name.
    pub device: DeviceName,
    /// Where the broker is; none: where the device has joined.
    pub hub: Option<HubAddress>,
    /// Whether to speak without TLS and without an identity, to a hub on this very device.
    pub insecure_local: bool,
    /// Value of the label by which the agent knows its own containers.
    pub scope: String,
    /// Where the agent keeps its state.
    pub state_dir: PathBuf,
    /// Where it keeps what must be gone with the boot. In memory; systemd names it.
    pub runtime_dir: PathBuf,
    /// Which engine runs the containers.
    pub engine: EngineChoice,
    /// The file with what the owner of the device allows.
    pub policy: PathBuf,
    /// Time between reports.
    pub heartbeat: Duration,
    /// When images that nothing uses are removed; none: never.
    pub images: Option<ImageLimits>,
    /// Where networks get their addresses from.
    pub network_pool: Pool,
    /// The port on which the proxy listens for other devices; 0 lets the kernel choose.
    pub network_port: u16,
    /// The socket of a proxy that the service manager starts; none: the agent starts one where it needs it.
    pub proxy_socket: Option<PathBuf>,
    /// Labels of the device, in the order of their keys.
    pub labels: Vec<(String, String)>,
    /// Countable things that the device has.
    pub generic: Vec<GenericResource>,
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Which engine runs the containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// Docker Engine, at this socket.
    Docker(PathBuf),
    /// Podman's service, at this socket.
    Podman(PathBuf),
    /// One in memory: nothing really runs.
    Memory,
}

/// Settings that do not make sense.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the device joined with is damaged.
    #[error("the identity of this device cannot be used; join anew: outrigger-agent join … --again")]
    Identity(#[from] crate::identity::IdentityError),
    /// Something in it, or in the flags, is wrong. All that is wrong is told at once.
    #[error("{} not make sense:{}", subject(from, problems), list(problems))]
    Nonsense {
        /// What was read.
        from: String,
        /// What is wrong, each with its place.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file; none for a flag, and for what is missing.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// The file is at fault only if a line of it is: a mistake in a flag must not send anybody to a file, which need not exist.
fn subject(from: &str, problems: &[Problem]) -> String {
    if problems.iter().any(|problem| problem.line.is_some()) {
        format!("{from} does")
    } else {
        "the settings do".to_owned()
    }
}

fn list(problems: &[Problem]) -> String {
    let line = |problem: &Problem| match problem.line {
        Some(line) => format!("\n  - line {line}: {}", problem.text),
        None => format!("\n  - {}", problem.text),
    };
    problems.iter().map(line).collect()
}

/// A value with the line it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its line; none where it was a flag.
    pub line: Option<usize>,
}

/// What surrounds the agent and stands in for what nobody has said.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The host's name.
    pub host_name: String,
    /// The name under which the device has joined.
    pub joined: Option<DeviceName>,
    /// The environment's `DOCKER_HOST`.
    pub docker_host: Option<String>,
}

impl Config {
    /// Checks what the file and the flags say; flags win.
    ///
    /// # Errors
    /// If anything is wrong: all of it.
    pub fn check(from: &str, file: Raw, flags: Raw, around: &Surroundings) -> Result<Self, ConfigError> {
        let raw = file.overlaid_by(flags);
        let mut checks = Checks { problems: raw.problems.clone() };
        let insecure_local = checks.insecure_local(raw.insecure_local.as_ref());
        let device = checks.device(raw.name.as_ref(), around.joined.as_ref().filter(|_| !insecure_local), around);
        let hub = checks.hub(raw.hub.as_ref(), insecure_local);
        let heartbeat = checks.heartbeat(raw.heartbeat.as_ref());
        let engine = checks.engine(&raw, around);
        let images = checks.images(&raw);
        let network_pool = checks.network_pool(raw.network_pool.as_ref());
        let network_port = checks.network_port(raw.network_port.as_ref());
        let labels = checks.labels(&raw.labels);
        let generic = checks.generic(&raw.generic);
        let scope = checks.scope(raw.scope.as_ref());
        match (device, hub, heartbeat, engine, checks.problems) {
            (Some(device), Some(hub), Some(heartbeat), Some(engine), problems) if problems.is_empty() => Ok(Self {
                scope: scope.unwrap_or_else(|| device.to_string()),
                device,
                hub,
                insecure_local,
                runtime_dir: std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| RUN_DIR.into(), PathBuf::from),
                state_dir: raw.state_dir.map_or_else(|| DEFAULT_STATE_DIR.into(), |dir| dir.value.into()),
                engine,
                policy: raw.policy.map_or_else(|| crate::policy::DEFAULT_PATH.into(), |path| path.value.into()),
                heartbeat,
                images,
                network_pool,
                network_port,
                proxy_socket: raw.proxy_socket.map(|path| path.value.into()),
                labels,
                generic,
            }),
            (.., mut problems) => {
                // In the order of the file's lines; what has none, such as a flag, comes last.
                problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
                Err(ConfigError::Nonsense { from: from.to_owned(), problems })
            }
        }
    }
}

impl Config {
    /// Reads what the owner of the device allows. What is broken there is the strict default, and says so.
    #[must_use]
    pub fn load_policy(&self) -> Policy {
        let socket = match &self.engine {
            EngineChoice::Docker(socket) | EngineChoice::Podman(socket) => Some(socket.as_path()),
            EngineChoice::Memory => None,
        };
        let own = [Some(self.state_dir.as_path()), socket, self.policy.parent()];
        let own = own.into_iter().flatten().map(|path| path.display().to_string());
        Policy::load(&self.policy, Guarded(own.collect()))
    }
}

/// Collects what is wrong.
struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    fn wrong<T>(&mut self, line: Option<usize>, text: String) -> Option<T> {
        self.problems.push(Problem { line, text });
        None
    }

    /// A device that has joined has the name of its certificate: saying another one would be of no use.
    fn device(
        &mut self,
        name: Option<&Placed<String>>,
        joined: Option<&DeviceName>,
        around: &Surroundings,
    ) -> Option<DeviceName> {
        if let Some(name) = name {
            return match (name.value.parse(), joined) {
                (Ok(device), Some(joined)) if &device != joined => {
                    let text = format!(
                        "name ({device}) is not the name under which this device has joined ({joined}); leave it out, or \
                         join anew: outrigger-agent join … --name {device} --again"
                    );
                    self.wrong(name.line, text)
                }
                (Ok(device), _) => Some(device),
                (Err(error), _) => self.wrong(name.line, format!("{error}")),
            };
        }
        if let Some(joined) = joined {
            return Some(joined.clone());
        }
        let short = around.host_name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        match short.parse() {
            Ok(device) => Some(device),
            Err(error) => {
                self.wrong(None, format!("the host's name is of no use: {error}; give one by --name or `name`"))
            }
        }
    }

    /// The outer none: it is wrong.
    fn hub(&mut self, hub: Option<&Placed<String>>, insecure_local: bool) -> Option<Option<HubAddress>> {
        let (text, line) = match hub {
            Some(hub) => (hub.value.as_str(), hub.line),
            None if insecure_local => (LOCAL_HUB, None),
            None => return Some(None),
        };
        let port = if insecure_local { PLAIN_PORT } else { TLS_PORT };
        match parse_address(text, Some(port)) {
            Some(address) if insecure_local && !address.is_loopback() => {
                let text = format!(
                    "hub (`{text}`) is not on this device, and --insecure-local is for that alone; \
                     leave it out and join the hub: outrigger-agent join"
                );
                self.wrong(line, text)
            }
            Some(address) => Some(Some(address)),
            None => self.wrong(line, format!("hub (`{text}`) must be HOST or HOST:PORT, such as hub.local:{TLS_PORT}")),
        }
    }

    fn insecure_local(&mut self, value: Option<&Placed<String>>) -> bool {
        match value.map(|value| (value.value.as_str(), value.line)) {
            None | Some(("false", _)) => false,
            Some(("true", _)) => true,
            Some((other, line)) => {
                self.wrong::<()>(line, format!("insecure_local (`{other}`) must be true or false"));
                false
            }
        }
    }

    fn heartbeat(&mut self, heartbeat: Option<&Placed<String>>) -> Option<Duration> {
        let Some(Placed { value, line }) = heartbeat else { return Some(Duration::from_secs(1)) };
        match parse_duration(value) {
            Some(time) if (SHORTEST_HEARTBEAT..=LONGEST_HEARTBEAT).contains(&time) => Some(time),
            Some(_) => self.wrong(*line, format!("heartbeat ({value}) must be between 100ms and 5m")),
            None => self.wrong(*line, format!("heartbeat (`{value}`) must be a time such as 1s, 500ms or 2m")),
        }
    }

    fn engine(&mut self, raw: &Raw, around: &Surroundings) -> Option<EngineChoice> {
        let socket = raw.engine_socket.as_ref().map(|socket| socket.value.clone());
        let (name, line) = raw.engine.as_ref().map_or(("docker", None), |name| (name.value.as_str(), name.line));
        match name {
            "docker" => {
                let from_environment = around.docker_host.as_ref().filter(|host| host.starts_with("unix://")).cloned();
                Some(EngineChoice::Docker(path_of(socket.or(from_environment), DEFAULT_DOCKER)))
            }
            "podman" => Some(EngineChoice::Podman(path_of(socket, DEFAULT_PODMAN))),
            "memory" => Some(EngineChoice::Memory),
            other => self.wrong(line, format!("engine (`{other}`) must be docker, podman or memory")),
        }
    }

    fn scope(&mut self, scope: Option<&Placed<String>>) -> Option<String> {
        let scope = scope?;
        match scope.value.parse::<DeviceName>() {
            Ok(name) => Some(name.to_string()),
            Err(_) => self.wrong(scope.line, format!("scope (`{}`) must be 1 to 63 of a-z, 0-9 and -", scope.value)),
        }
    }

    fn images(&mut self, raw: &Raw) -> Option<ImageLimits> {
        let default = ImageLimits::default();
        if raw.image_gc_above.as_ref().is_some_and(|above| matches!(above.value.as_str(), "off" | "false")) {
            return None;
        }
        let mut limit = |key: &str, said: Option<&Placed<String>>, default| {
            let Some(Placed { value, line }) = said else { return Some(default) };
            match value.trim_end_matches('%').parse::<u16>() {
                Ok(percent @ 1..=99) => Some(Permille::new(percent * 10)),
                Ok(_) | Err(_) => self.wrong(*line, format!("{key} (`{value}`) must be 1% to 99%, or `off`")),
            }
        };
        let above = limit("image_gc_above", raw.image_gc_above.as_ref(), default.above)?;
        // Who says only where it begins means the usual distance.
        let distance = default.above.value() - default.down_to.value();
        let usual = Permille::new(above.value().saturating_sub(distance));
        let down_to = limit("image_gc_to", raw.image_gc_to.as_ref(), usual)?;
        if down_to > above {
            let line = raw.image_gc_to.as_ref().and_then(|to| to.line);
            let [to, from] = [down_to, above].map(|limit| limit.value() / 10);
            self.wrong::<()>(line, format!("image_gc_to ({to}%) must not be above image_gc_above ({from}%)"));
        }
        Some(ImageLimits { above, down_to })
    }

    fn network_pool(&mut self, pool: Option<&Placed<String>>) -> Pool {
        let Some(Placed { value, line }) = pool else { return Pool::default() };
        let wrong = |error| self.wrong(*line, format!("network_pool (`{value}`): {error}"));
        value.parse().map_or_else(wrong, Some).unwrap_or_default()
    }

    fn network_port(&mut self, port: Option<&Placed<String>>) -> u16 {
        let Some(Placed { value, line }) = port else { return DEFAULT_NETWORK_PORT };
        let wrong = |_| self.wrong(*line, format!("network_port (`{value}`) must be 0 to 65535"));
        value.parse().map_or_else(wrong, Some).unwrap_or(DEFAULT_NETWORK_PORT)
    }

    fn labels(&mut self, labels: &[(String, Placed<String>)]) -> Vec<(String, String)> {
        if labels.len() > MAX_LABELS {
            self.wrong::<()>(None, format!("{} labels, where {MAX_LABELS} are allowed", labels.len()));
        }
        for (key, value) in labels {
            let is_good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            if key.is_empty() || key.len() > MAX_LABEL || !key.chars().all(is_good) {
                self.wrong::<()>(value.line, format!("label `{key}` must be made of a-z, A-Z, 0-9 and any of . _ - /"));
            }
            if value.value.len() > MAX_LABEL {
                self.wrong::<()>(value.line, format!("label `{key}` is longer than {MAX_LABEL} characters"));
            }
        }
        labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect()
    }

    fn generic(&mut self, generic: &[(String, Placed<String>)]) -> Vec<GenericResource> {
        let mut all = Vec::new();
        for (kind, count) in generic {
            match count.value.parse() {
                Ok(count) => all.push(GenericResource { kind: kind.clone(), count }),
                Err(_) => {
                    let text = format!("generic `{kind}` (`{}`) must be a number", count.value);
                    self.wrong::<()>(count.line, text);
                }
            }
        }
        all
    }
}

fn path_of(text: Option<String>, default: &str) -> PathBuf {
    let text = text.unwrap_or_else(|| default.to_owned());
    text.strip_prefix("unix://").unwrap_or(&text).into()
}

impl HubAddress {
    /// Whether it cannot be anywhere but on this device.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// An IPv6 address stands in brackets, so that its port can be told from it.
impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT` or an IPv6 address; without a port only where there is a usual one.
pub(crate) fn parse_address(text: &str, usual_port: Option<u16>) -> Option<HubAddress> {
    let address = |host: &str, port: u16| {
        let is_good = !host.is_empty() && port != 0 && !host.contains(['/', ' ', '@']);
        is_good.then(|| HubAddress { host: host.to_owned(), port })
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => address(host, port.parse().ok()?),
            None if port.is_empty() => address(host, usual_port?),
            None => None,
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => address(text, usual_port?),
        Some((host, port)) => address(host, port.parse().ok()?),
        None => address(text, usual_port?),
    }
}

/// A whole number and `ms`, `s` or `m`.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
