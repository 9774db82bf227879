//! The hub's settings: a file and flags, checked once, all problems told at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_planner::{LabelRule, Policy};
use outrigger_trust::CertificateDer;

use crate::broker::Account;

mod joining;
mod raw;

pub use joining::Joining;
pub use raw::{Origin, Raw};

/// Where the file is if nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/outrigger/hub.toml";

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the store.
    pub state_dir: PathBuf,
    /// Where the HTTP API listens.
    pub http_listen: SocketAddr,
    /// Port on which devices meet that cannot reach each other, on the address of the HTTP API; none: they do not.
    pub relay_port: Option<u16>,
    /// How devices are heard.
    pub broker: Broker,
    /// How the fleet is judged.
    pub policy: Policy,
    /// Further names and addresses by which users and devices reach the hub.
    pub names: Vec<String>,
    /// Who is asked who he is.
    pub security: Security,
    /// Registries that are asked over plain HTTP; loopback ones always are.
    pub insecure_registries: Vec<String>,
    /// How devices without an invite find the hub and come in.
    pub joining: Joining,
}

/// Who is asked who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Everybody: certificates for devices, tokens for users, all by TLS.
    Tls,
    /// Nobody: for this machine alone.
    InsecureLocal,
}

/// How devices are heard.
#[derive(Debug, Clone)]
pub enum Broker {
    /// By our own broker, listening there.
    Embedded(SocketAddr),
    /// Through another one.
    External(Account),
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, if one was read.
    pub file: Option<PathBuf>,
    /// Each with its place.
    pub problems: Vec<String>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} does not make sense:", file.display())?,
            None => f.write_str("the settings do not make sense:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

/// What can be set, with what is taken if it is not. The flags have the same names with dashes.
pub const KEYS: &[(&str, &str)] = &[
    ("state_dir", "/var/lib/outrigger-hub"),
    ("mqtt_listen", "0.0.0.0:8883"),
    ("http_listen", "0.0.0.0:7640"),
    ("relay_port", "7642"),
    ("names", ""),
    ("external_broker", ""),
    ("external_broker_user", ""),
    ("external_broker_password_file", ""),
    ("external_broker_ca", ""),
    ("heartbeat", "1s"),
    ("suspect_after", "3s"),
    ("lost_after", "4s"),
    ("lost_after_will", "2s"),
    ("lost_after_of", ""),
    ("pull_stall", "10m"),
    ("insecure_local", "false"),
    ("insecure_registries", ""),
    ("join_codes", "true"),
    ("mdns", "true"),
];

/// Where a hub listens that asks nobody who he is.
const INSECURE_DEFAULTS: [(&str, &str); 2] = [("mqtt_listen", "127.0.0.1:1883"), ("http_listen", "127.0.0.1:7640")];

/// Keys of earlier releases, and what became of them.
const GONE: [(&str, &str); 2] = [
    ("http_names", "it is called `names` now, and its names stand in the hub's certificate"),
    (
        "insecure_listen",
        "the hub asks everybody who he is now, and may listen everywhere; `insecure_local` is for trying things out on one \
         machine",
    ),
];

impl Config {
    /// Reads the file, if there is one, lets the flags override it, and checks everything.
    ///
    /// # Errors
    /// With all problems. A file that was named must be there; the default one need not.
    pub fn load(file: Option<&Path>, flags: Raw) -> Result<Self, Problems> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let read = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let problems = vec![format!("it cannot be read: {error}")];
                return Err(Problems { file: Some(path.to_owned()), problems });
            }
        };
        let (mut raw, mut problems) = read.as_ref().map(|text| Raw::parse(text, KEYS, &GONE)).unwrap_or_default();
        raw.overridden_by(flags);
        let config = Checks { raw: &raw, problems: &mut problems }.config();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Problems { file: read.map(|_| path.to_owned()), problems: by_line(problems) }),
        }
    }
}

/// Turns texts into values and collects what is wrong with them.
struct Checks<'a> {
    raw: &'a Raw,
    problems: &'a mut Vec<String>,
}

impl Checks<'_> {
    fn config(&mut self) -> Option<Config> {
        for (key, instead) in GONE {
            if self.raw.origin(key).is_some() {
                self.wrong(key, &format!("{key} is gone: {instead}"));
            }
        }
        let policy = self.policy();
        let insecure = self.flag("insecure_local")?;
        let security = if insecure { Security::InsecureLocal } else { Security::Tls };
        let http_listen = self.listen("http_listen", security);
        let (by_code, mdns) = (self.flag("join_codes"), self.flag("mdns"));
        let broker = match self.raw.text("external_broker") {
            Some(_) => self.external(security).map(Broker::External),
            None => self.listen("mqtt_listen", security).map(Broker::Embedded),
        };
        let relay_port = self.relay_port();
        let names = self.raw.list("names");
        for name in &names {
            if !crate::pki::is_host(name) && name.parse::<std::net::IpAddr>().is_err() {
                self.wrong("names", &format!("names: `{name}` is no host name and no address"));
            }
        }
        let http_listen = http_listen?;
        // On loopback nobody else could come.
        let announced = mdns? && security == Security::Tls && !http_listen.ip().is_loopback();
        Some(Config {
            state_dir: PathBuf::from(self.text("state_dir")),
            http_listen,
            relay_port: relay_port?,
            broker: broker?,
            policy: policy?,
            names,
            security,
            insecure_registries: self.raw.list("insecure_registries"),
            joining: Joining { by_code: by_code?, announced },
        })
    }

    fn policy(&mut self) -> Option<Policy> {
        let heartbeat = self.duration("heartbeat");
        let suspect_after = self.duration("suspect_after");
        let lost_after = self.duration("lost_after");
        let lost_after_will = self.duration("lost_after_will");
        let rules = self.rules();
        let pull_stall = self.duration("pull_stall");
        let (heartbeat, suspect_after, lost_after) = (heartbeat?, suspect_after?, lost_after?);
        if suspect_after <= heartbeat {
            let [long, short] = [suspect_after, heartbeat].map(said);
            self.wrong("suspect_after", &format!("suspect_after ({long}) must be longer than heartbeat ({short})"));
        }
        if lost_after <= suspect_after {
            let [long, short] = [lost_after, suspect_after].map(said);
            self.wrong("lost_after", &format!("lost_after ({long}) must be longer than suspect_after ({short})"));
        }
        let shutdown = lost_after_will?;
        let default = Policy::default();
        Some(Policy {
            suspect_after,
            lost_after,
            lost_after_of: rules?,
            lost_after_will: shutdown,
            longest_learnt: default.longest_learnt.max(lost_after * 4),
            start_grace: default.start_grace.max(lost_after * 3),
            pull_stall: pull_stall?,
            ..default
        })
    }

    /// `lost_after_of = ["link=wifi 10s"]`.
    fn rules(&mut self) -> Option<Vec<LabelRule>> {
        let mut rules = Vec::new();
        let mut all_good = true;
        for text in self.raw.list("lost_after_of") {
            let parts = text.split_once(' ').and_then(|(label, time)| {
                let (key, value) = label.split_once('=')?;
                Some(LabelRule { key: key.to_owned(), value: value.to_owned(), lost_after: duration(time)? })
            });
            match parts {
                Some(rule) => rules.push(rule),
                None => {
                    all_good = false;
                    let problem =
                        format!("lost_after_of: `{text}` is not LABEL=VALUE DURATION, such as `link=wifi 10s`");
                    self.wrong("lost_after_of", &problem);
                }
            }
        }
        all_good.then_some(rules)
    }

    fn external(&mut self, security: Security) -> Option<Account> {
        let text = self.text("external_broker");
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse::<u16>().ok()?)));
        let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
            let problem = format!("external_broker: `{text}` is not HOST:PORT, such as mqtt.lan:1883");
            self.wrong("external_broker", &problem);
            return None;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let login = match (self.raw.text("external_broker_user"), self.raw.text("external_broker_password_file")) {
            (None, None) => None,
            (Some(user), Some(file)) => match std::fs::read_to_string(file) {
                Ok(password) => Some((user.to_owned(), password.trim_end().to_owned())),
                Err(error) => {
                    let problem = format!("external_broker_password_file: cannot read {file}: {error}");
                    self.wrong("external_broker_password_file", &problem);
                    return None;
                }
            },
            _ => {
                let problem = "external_broker_user and external_broker_password_file go together";
                self.wrong("external_broker_user", problem);
                return None;
            }
        };
        let client_id = "outrigger-hub".to_owned();
        match security {
            Security::InsecureLocal if !is_here(&host) => {
                let problem = format!(
                    "external_broker: {host} is not on this machine, and insecure_local is for this machine alone"
                );
                self.wrong("external_broker", &problem);
                None
            }
            Security::InsecureLocal => Some(Account { host, port, client_id, login, tls: None }),
            Security::Tls => Some(Account { host, port, client_id, login, tls: Some(self.authorities()?) }),
        }
    }

    /// Who may have signed the external broker's certificate, besides the hub's own authority.
    fn authorities(&mut self) -> Option<Vec<CertificateDer<'static>>> {
        let Some(file) = self.raw.text("external_broker_ca").map(str::to_owned) else { return Some(vec![]) };
        match outrigger_trust::read_certificates(Path::new(&file)) {
            Ok(found) => Some(found),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                self.wrong("external_broker_ca", &format!("external_broker_ca: {error}{cause}"));
                None
            }
        }
    }

    fn listen(&mut self, key: &str, security: Security) -> Option<SocketAddr> {
        let usual = match security {
            Security::Tls => default(key),
            Security::InsecureLocal => {
                INSECURE_DEFAULTS.iter().find(|(name, _)| *name == key).map_or("", |(_, address)| *address)
            }
        };
        let text = self.raw.text(key).unwrap_or(usual).to_owned();
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.wrong(key, &format!("{key}: `{text}` is not ADDRESS:PORT, such as {} or [::1]:7640", default(key)));
            return None;
        };
        if security == Security::InsecureLocal && !address.ip().is_loopback() {
            let problem = format!(
                "{key}: {address} can be reached from other machines, and insecure_local is for this machine alone: nobody \
                 is asked who he is. Leave insecure_local out, and everybody is"
            );
            self.wrong(key, &problem);
            return None;
        }
        Some(address)
    }

    fn relay_port(&mut self) -> Option<Option<u16>> {
        match self.text("relay_port") {
            "off" => Some(None),
            text => match text.parse() {
                Ok(port) => Some(Some(port)),
                Err(_) => {
                    let problem = format!("relay_port: `{text}` is neither a port, such as 7642, nor `off`");
                    self.wrong("relay_port", &problem);
                    None
                }
            },
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        match self.text(key) {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let problem = format!("{key}: `{other}` is neither true nor false");
                self.wrong(key, &problem);
                None
            }
        }
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key).to_owned();
        let parsed = duration(&text);
        if parsed.is_none() {
            self.wrong(key, &format!("{key}: `{text}` is no duration, such as 500ms, 4s or 2m"));
        }
        parsed
    }

    /// The text as set, or the default.
    fn text(&self, key: &str) -> &str {
        self.raw.text(key).unwrap_or_else(|| default(key))
    }

    fn wrong(&mut self, key: &str, problem: &str) {
        self.problems.push(match self.raw.origin(key) {
            Some(Origin::Line(line)) => format!("line {line}: {problem}"),
            Some(Origin::Flag) => {
                let problem = problem.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(problem);
                format!("--{}: {problem}", key.replace('_', "-"))
            }
            None => problem.to_owned(),
        });
    }
}

/// Whether this names the machine itself.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// In the order of the file's lines; what has none, such as a flag, comes last.
fn by_line(mut problems: Vec<String>) -> Vec<String> {
    let line = |problem: &String| problem.strip_prefix("line ")?.split_once(':')?.0.parse::<u64>().ok();
    problems.sort_by_key(|problem| line(problem).unwrap_or(u64::MAX));
    problems
}

fn default(key: &str) -> &'static str {
    KEYS.iter().find(|(name, _)| *name == key).map_or("", |(_, default)| *default)
}

/// `500ms`, `4s`, `2m`, `1h`; longer than nothing and at most a day.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let total = number.checked_mul(ms).filter(|total| (1..=86_400_000).contains(total))?;
    Some(Duration::from_millis(total))
}

fn said(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests;
