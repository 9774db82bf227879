//! The hub's settings: a file and flags, checked once, all problems told at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_planner::{LabelRule, Policy};

use crate::broker::Account;

mod raw;

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
    /// How devices are heard.
    pub broker: Broker,
    /// How the fleet is judged.
    pub policy: Policy,
    /// Further host names by which users reach the HTTP API.
    pub http_names: Vec<String>,
    /// Registries that are asked over plain HTTP; loopback ones always are.
    pub insecure_registries: Vec<String>,
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
    ("mqtt_listen", "127.0.0.1:1883"),
    ("http_listen", "127.0.0.1:7640"),
    ("http_names", ""),
    ("external_broker", ""),
    ("external_broker_user", ""),
    ("external_broker_password_file", ""),
    ("heartbeat", "1s"),
    ("suspect_after", "3s"),
    ("lost_after", "4s"),
    ("lost_after_will", "2s"),
    ("lost_after_of", ""),
    ("pull_stall", "10m"),
    ("insecure_listen", "false"),
    ("insecure_registries", ""),
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
        let (mut raw, mut problems) = read.as_ref().map(|text| Raw::parse(text, KEYS)).unwrap_or_default();
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
        let policy = self.policy();
        let insecure = self.flag("insecure_listen");
        let http_listen = self.listen("http_listen", insecure);
        let broker = match self.raw.text("external_broker") {
            Some(_) => self.external().map(Broker::External),
            None => self.listen("mqtt_listen", insecure).map(Broker::Embedded),
        };
        Some(Config {
            state_dir: PathBuf::from(self.text("state_dir")),
            http_listen: http_listen?,
            broker: broker?,
            policy: policy?,
            http_names: self.raw.list("http_names"),
            insecure_registries: self.raw.list("insecure_registries"),
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

    fn external(&mut self) -> Option<Account> {
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
        Some(Account { host, port, client_id: "outrigger-hub".to_owned(), login })
    }

    fn listen(&mut self, key: &str, insecure: Option<bool>) -> Option<SocketAddr> {
        let text = self.text(key).to_owned();
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.wrong(key, &format!("{key}: `{text}` is not ADDRESS:PORT, such as {} or [::1]:7640", default(key)));
            return None;
        };
        if !address.ip().is_loopback() && !insecure? {
            let problem = format!(
                "{key}: {address} can be reached from other machines, and nobody is asked who he is yet: whoever reaches \
                 it commands the fleet. Set insecure_listen = true (--insecure-listen) if that network is yours alone"
            );
            self.wrong(key, &problem);
            return None;
        }
        Some(address)
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
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), Raw::default())
    }

    fn problems(text: &str) -> Vec<String> {
        load(text).unwrap_err().problems
    }

    #[test]
    fn an_empty_file_gives_the_promised_defaults() {
        let config = load("").unwrap();
        assert_eq!(config.http_listen, "127.0.0.1:7640".parse().unwrap());
        assert!(matches!(config.broker, Broker::Embedded(address) if address.port() == 1883));
        assert_eq!(config.policy.lost_after, Duration::from_secs(4));
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_line() {
        let text =
            "heartbeat = \"3s\"\nsuspect_after = \"2s\"\nbrocker = \"x\"\nlost_after = 4\nlost_after_will = \"soon\"\n";
        assert_eq!(
            problems(text),
            [
                "line 2: suspect_after (2s) must be longer than heartbeat (3s)",
                "line 3: unknown key `brocker`; did you mean `external_broker`?",
                "line 4: lost_after must be a text in quotes",
                "line 5: lost_after_will: `soon` is no duration, such as 500ms, 4s or 2m",
            ]
        );
    }

    #[test]
    fn an_address_that_others_reach_needs_consent() {
        let refused = problems("http_listen = \"0.0.0.0:7640\"");
        assert!(refused[0].starts_with("line 1: http_listen: 0.0.0.0:7640 can be reached from other machines"));
        assert!(load("http_listen = \"0.0.0.0:7640\"\ninsecure_listen = true").is_ok());
    }

    #[test]
    fn flags_go_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, "lost_after = \"9s\"\nstate_dir = \"/here\"").unwrap();
        let mut flags = Raw::default();
        flags.set("lost_after", "7s", Origin::Flag);
        let config = Config::load(Some(&file), flags).unwrap();
        assert_eq!((config.policy.lost_after.as_secs(), config.state_dir), (7, PathBuf::from("/here")));
    }

    #[test]
    fn devices_with_a_label_have_their_own_limit() {
        let config = load("lost_after_of = [\"link=wifi 10s\"]").unwrap();
        assert_eq!(config.policy.lost_after_of[0].lost_after, Duration::from_secs(10));
        assert_eq!(problems("lost_after_of = [\"wifi\"]").len(), 1);
    }

    #[test]
    fn broken_text_is_told_with_its_line() {
        assert!(problems("\nx = = 1")[0].starts_with("line 2: "));
    }
}
