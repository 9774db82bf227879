//! The agent's settings: a file, then flags, then what has been left out. Checked once; from then on they make sense.

mod raw;

use std::path::PathBuf;
use std::time::Duration;

use outrigger_protocol::{DeviceName, GenericResource, Permille};
use thiserror::Error;

pub use crate::images::ImageLimits;
pub use raw::{KEYS, Raw};

/// Where the file is if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/outrigger/agent.toml";
const DEFAULT_HUB: &str = "127.0.0.1:1883";
const DEFAULT_PORT: u16 = 1883;
const DEFAULT_STATE_DIR: &str = "/var/lib/outrigger-agent";
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
    /// Where the broker is.
    pub hub: HubAddress,
    /// Value of the label by which the agent knows its own containers.
    pub scope: String,
    /// Where the agent keeps its state.
    pub state_dir: PathBuf,
    /// Which engine runs the containers.
    pub engine: EngineChoice,
    /// Time between reports.
    pub heartbeat: Duration,
    /// When images that nothing uses are removed; none: never.
    pub images: Option<ImageLimits>,
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
        let device = checks.device(raw.name.as_ref(), around);
        let hub = checks.hub(raw.hub.as_ref());
        let heartbeat = checks.heartbeat(raw.heartbeat.as_ref());
        let engine = checks.engine(&raw, around);
        let images = checks.images(&raw);
        let labels = checks.labels(&raw.labels);
        let generic = checks.generic(&raw.generic);
        let scope = checks.scope(raw.scope.as_ref());
        match (device, hub, heartbeat, engine, checks.problems) {
            (Some(device), Some(hub), Some(heartbeat), Some(engine), problems) if problems.is_empty() => Ok(Self {
                scope: scope.unwrap_or_else(|| device.to_string()),
                device,
                hub,
                state_dir: raw.state_dir.map_or_else(|| DEFAULT_STATE_DIR.into(), |dir| dir.value.into()),
                engine,
                heartbeat,
                images,
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

/// Collects what is wrong.
struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    fn wrong<T>(&mut self, line: Option<usize>, text: String) -> Option<T> {
        self.problems.push(Problem { line, text });
        None
    }

    fn device(&mut self, name: Option<&Placed<String>>, around: &Surroundings) -> Option<DeviceName> {
        if let Some(name) = name {
            return match name.value.parse() {
                Ok(device) => Some(device),
                Err(error) => self.wrong(name.line, format!("{error}")),
            };
        }
        let short = around.host_name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        match short.parse() {
            Ok(device) => Some(device),
            Err(error) => {
                self.wrong(None, format!("the host's name is of no use: {error}; give one by --name or `name`"))
            }
        }
    }

    fn hub(&mut self, hub: Option<&Placed<String>>) -> Option<HubAddress> {
        let (text, line) = hub.map_or((DEFAULT_HUB, None), |hub| (hub.value.as_str(), hub.line));
        match parse_address(text) {
            Some(address) => Some(address),
            None => self.wrong(line, format!("hub (`{text}`) must be HOST or HOST:PORT, such as hub.local:1883")),
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

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT` or an IPv6 address.
fn parse_address(text: &str) -> Option<HubAddress> {
    let address = |host: &str, port: u16| {
        let is_good = !host.is_empty() && port != 0 && !host.contains(['/', ' ', '@']);
        is_good.then(|| HubAddress { host: host.to_owned(), port })
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => address(host, port.parse().ok()?),
            None => address(host, DEFAULT_PORT),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => address(text, DEFAULT_PORT),
        Some((host, port)) => address(host, port.parse().ok()?),
        None => address(text, DEFAULT_PORT),
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
        Surroundings { host_name: "Pi-4.lan".into(), docker_host: None }
    }

    fn check(text: &str) -> Result<Config, ConfigError> {
        Config::check("agent.toml", Raw::parse(text), Raw::default(), &around())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = check("").unwrap();
        assert_eq!((config.device.as_str(), config.scope.as_str()), ("pi-4", "pi-4"));
        assert_eq!(config.hub, HubAddress { host: "127.0.0.1".into(), port: 1883 });
        assert_eq!(config.engine, EngineChoice::Docker(DEFAULT_DOCKER.into()));
        assert_eq!(config.heartbeat, Duration::from_secs(1));
    }

    #[test]
    fn everything_can_be_said_in_the_file() {
        let text = "name = 'attic'\nhub = '[fd00::1]:1884'\nscope = 'a'\nstate_dir = '/s'\nengine = 'podman'\n\
            engine_socket = 'unix:///p'\nheartbeat = '500ms'\n[labels]\nzone = 'roof'\n[generic]\ncamera = 2\n";
        let config = check(text).unwrap();
        assert_eq!(config.hub, HubAddress { host: "fd00::1".into(), port: 1884 });
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
        let lines: Vec<&str> = text.lines().filter_map(|line| line.trim().split(':').next()).skip(1).collect();
        assert_eq!(lines, ["- line 1", "- line 2", "- line 3", "- line 4", "- line 6"], "in the order of the file");
    }

    #[test]
    fn images_are_kept_or_removed_within_limits_that_make_sense() {
        let limits = |text: &str| check(text).map(|config| config.images.map(|l| (l.above.value(), l.down_to.value())));
        assert_eq!(limits("").unwrap(), Some((850, 800)));
        assert_eq!(limits("image_gc_above = 90\n").unwrap(), Some((900, 850)));
        assert_eq!(limits("image_gc_above = '70%'\nimage_gc_to = '60%'\n").unwrap(), Some((700, 600)));
        assert_eq!(limits("image_gc_above = 'off'\n").unwrap(), None);
        for (bad, told) in [
            ("image_gc_above = 100\n", "line 1: image_gc_above (`100`) must be 1% to 99%, or `off`"),
            ("image_gc_to = 90\n", "line 1: image_gc_to (90%) must not be above image_gc_above (85%)"),
        ] {
            let error = limits(bad).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
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
    fn the_environment_names_the_engine_where_nothing_else_does() {
        let around = Surroundings { docker_host: Some("unix:///run/d.sock".into()), ..around() };
        let config = Config::check("x", Raw::default(), Raw::default(), &around).unwrap();
        assert_eq!(config.engine, EngineChoice::Docker("/run/d.sock".into()));
    }

    #[test]
    fn addresses_and_times_have_several_forms() {
        let address = |text| parse_address(text).map(|address| (address.host, address.port));
        assert_eq!(address("hub.local"), Some(("hub.local".into(), 1883)));
        assert_eq!(address("::1"), Some(("::1".into(), 1883)));
        assert_eq!(address("[::1]"), Some(("::1".into(), 1883)));
        for bad in ["", ":1", "a:x", "a:0", "mqtt://a:1", "[::1", "a b"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "1", "s", "1h", "-1s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
