//! The agent's settings: a file, then flags, then what has been left out. Checked once; from then on they make sense.

mod raw;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_protocol::{DeviceName, GenericResource};
use thiserror::Error;

pub use raw::{KEYS, Raw};

use crate::policy::{Guarded, Policy};

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
    /// Which engine runs the containers.
    pub engine: EngineChoice,
    /// The file with what the owner of the device allows.
    pub policy: PathBuf,
    /// Time between reports.
    pub heartbeat: Duration,
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
    #[error("{from} does not make sense:{}", list(problems))]
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
        let labels = checks.labels(&raw.labels);
        let generic = checks.generic(&raw.generic);
        let scope = checks.scope(raw.scope.as_ref());
        match (device, hub, heartbeat, engine, checks.problems) {
            (Some(device), Some(hub), Some(heartbeat), Some(engine), problems) if problems.is_empty() => Ok(Self {
                scope: scope.unwrap_or_else(|| device.to_string()),
                device,
                hub,
                insecure_local,
                state_dir: raw.state_dir.map_or_else(|| DEFAULT_STATE_DIR.into(), |dir| dir.value.into()),
                engine,
                policy: raw.policy.map_or_else(|| crate::policy::DEFAULT_PATH.into(), |path| path.value.into()),
                heartbeat,
                labels,
                generic,
            }),
            (.., problems) => Err(ConfigError::Nonsense { from: from.to_owned(), problems }),
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
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings { host_name: "Pi-4.lan".into(), ..Surroundings::default() }
    }

    fn check(text: &str) -> Result<Config, ConfigError> {
        Config::check("agent.toml", Raw::parse(text), Raw::default(), &around())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = check("").unwrap();
        assert_eq!((config.device.as_str(), config.scope.as_str()), ("pi-4", "pi-4"));
        assert_eq!((config.hub, config.insecure_local), (None, false));
        assert_eq!(config.engine, EngineChoice::Docker(DEFAULT_DOCKER.into()));
        assert_eq!(config.heartbeat, Duration::from_secs(1));
    }

    #[test]
    fn everything_can_be_said_in_the_file() {
        let text = "name = 'attic'\nhub = '[fd00::1]:1884'\nscope = 'a'\nstate_dir = '/s'\nengine = 'podman'\n\
            engine_socket = 'unix:///p'\nheartbeat = '500ms'\n[labels]\nzone = 'roof'\n[generic]\ncamera = 2\n";
        let config = check(text).unwrap();
        assert_eq!(config.hub, Some(HubAddress { host: "fd00::1".into(), port: 1884 }));
        assert_eq!(config.engine, EngineChoice::Podman("/p".into()));
        assert_eq!(config.labels, [("zone".to_owned(), "roof".to_owned())]);
        assert_eq!(config.generic, [GenericResource { kind: "camera".into(), count: 2 }]);
        assert_eq!(config.heartbeat, Duration::from_millis(500));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_line() {
        let error =
            check("hubb = 'x'\nheartbeat = '0s'\nname = 'A b'\nengine = 'lxc'\n[generic]\ncam = 'x'\n").unwrap_err();
        let text = error.to_string();
        for part in [
            "line 1: unknown key `hubb`; did you mean `hub`?",
            "line 2: heartbeat (0s) must be between 100ms and 5m",
            "line 3: `A b` cannot be the name of a device",
            "line 4: engine (`lxc`) must be docker, podman or memory",
            "line 6: ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn text_that_is_no_toml_is_told_with_its_line() {
        let text = check("name = 'a'\nhub = = 3\n").unwrap_err().to_string();
        assert!(text.contains("line 2"), "{text}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let flag = |text: &str| Some(Placed { value: text.to_owned(), line: None });
        let flags = Raw { name: flag("b"), labels: vec![("zone".into(), flag("cellar").unwrap())], ..Raw::default() };
        let file = Raw::parse("name = 'a'\n[labels]\nzone = 'roof'\nrack = '1'\n");
        let config = Config::check("agent.toml", file, flags, &around()).unwrap();
        assert_eq!(config.device.as_str(), "b");
        assert_eq!(config.labels, [("rack".into(), "1".into()), ("zone".into(), "cellar".into())]);
    }

    #[test]
    fn the_name_of_the_certificate_is_the_name_of_the_device() {
        let around = Surroundings { joined: Some("attic".parse().unwrap()), ..around() };
        let check = |text: &str| Config::check("agent.toml", Raw::parse(text), Raw::default(), &around);
        assert_eq!(check("").unwrap().device.as_str(), "attic");
        let error = check("name = 'cellar'").unwrap_err().to_string();
        assert!(error.contains("line 1: name (cellar) is not the name under which this device has joined (attic)"));
        assert_eq!(check("name = 'cellar'\ninsecure_local = true").unwrap().device.as_str(), "cellar");
    }

    #[test]
    fn without_tls_there_is_no_hub_but_one_on_this_device() {
        let config = check("insecure_local = true").unwrap();
        assert_eq!(config.hub.unwrap().to_string(), "127.0.0.1:1883");
        for hub in ["localhost", "127.0.0.7:1", "[::1]:1884"] {
            assert!(check(&format!("insecure_local = true\nhub = '{hub}'")).is_ok(), "{hub}");
        }
        for hub in ["hub.local", "10.0.0.1:1883", "localhost.evil.example", "0.0.0.0"] {
            let error = check(&format!("insecure_local = true\nhub = '{hub}'")).unwrap_err().to_string();
            assert!(error.contains("is not on this device"), "{error}");
        }
        assert!(check("insecure_local = 'perhaps'").unwrap_err().to_string().contains("must be true or false"));
        assert_eq!(check("hub = 'hub.local'").unwrap().hub.unwrap().to_string(), "hub.local:8883");
    }

    #[test]
    fn the_environment_names_the_engine_where_nothing_else_does() {
        let around = Surroundings { docker_host: Some("unix:///run/d.sock".into()), ..around() };
        let config = Config::check("x", Raw::default(), Raw::default(), &around).unwrap();
        assert_eq!(config.engine, EngineChoice::Docker("/run/d.sock".into()));
    }

    #[test]
    fn addresses_and_times_have_several_forms() {
        let address = |text| parse_address(text, Some(1883)).map(|address| (address.host, address.port));
        assert_eq!(address("hub.local"), Some(("hub.local".into(), 1883)));
        assert_eq!(address("::1"), Some(("::1".into(), 1883)));
        assert_eq!(address("[::1]"), Some(("::1".into(), 1883)));
        assert_eq!(parse_address("hub.local", None), None);
        for bad in ["", ":1", "a:x", "a:0", "mqtt://a:1", "[::1]x", "[::1", "a b"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "1", "s", "1h", "-1s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
