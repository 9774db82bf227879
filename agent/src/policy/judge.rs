//! Whether the owner allows what is asked, and if not, in which words and by which line he could.

use std::fmt;

use outrigger_protocol::ContainerSpec;

use super::bind::{Guarded, plain};
use super::demand::{Demand, Host, demands};
use super::{Policy, Rules};

/// Refusals that are told of one container; the others follow once these are settled.
const MOST_TOLD: usize = 3;
/// Characters of a text of the hub that are shown.
const MOST_SHOWN: usize = 80;

/// Why a container is not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In one sentence, with what to add to which file.
    pub reason: String,
    /// Whether one that runs already is stopped: not while the file cannot be read, because then nobody has said so.
    pub stops: bool,
}

impl Policy {
    /// Why such a container is not run here; none: it is allowed. Paths are judged by their text alone.
    #[must_use]
    pub fn refuses(&self, spec: &ContainerSpec) -> Option<Refusal> {
        self.judge(&demands(spec))
    }

    /// Why what asks for all this is not run here.
    #[must_use]
    pub fn judge(&self, demands: &[Demand]) -> Option<Refusal> {
        let refused: Vec<String> = demands.iter().filter_map(|demand| self.refused(demand)).collect();
        if refused.is_empty() {
            return None;
        }
        let more = refused.len().saturating_sub(MOST_TOLD);
        let mut told = refused.into_iter().take(MOST_TOLD).collect::<Vec<_>>().join("; ");
        if more > 0 {
            told = format!("{told}; and {more} more");
        }
        Some(self.refusal(&told))
    }

    /// A refusal with these words, and where to change that.
    #[must_use]
    pub fn refusal(&self, told: &str) -> Refusal {
        let path = self.path.display();
        let broken = match self.is_broken() {
            true => {
                format!("; that file cannot be used, so nothing beyond the default is allowed ({})", self.trouble())
            }
            false => String::new(),
        };
        Refusal {
            reason: format!("the owner of the device does not allow {told} [{path} there{broken}]"),
            stops: !self.is_broken(),
        }
    }

    fn refused(&self, demand: &Demand) -> Option<String> {
        let never = self.never(demand);
        if never.is_none() && self.rules.allows(demand) {
            return None;
        }
        match (never, line(demand)) {
            (None, Some(line)) => Some(format!("{demand} (to allow it add: {line})")),
            (Some(why), _) => Some(format!("{demand}, never: {why}")),
            (None, None) => Some(format!("{demand}, never")),
        }
    }

    /// Why no line could allow this.
    fn never(&self, demand: &Demand) -> Option<String> {
        match demand {
            Demand::Bind { source, .. } => {
                plain(source).err().map(|why| shown(&why)).or_else(|| self.guarded.covers(source))
            }
            Demand::Device(path) if !path.starts_with("/dev/") => Some("it is no device".to_owned()),
            Demand::Device(path) => plain(path).err().map(|why| shown(&why)),
            _ => None,
        }
    }
}

impl Rules {
    /// Whether a line of the owner's allows it.
    #[must_use]
    pub fn allows(&self, demand: &Demand) -> bool {
        let lists = |list: &[String], name: &String| list.contains(name);
        match demand {
            Demand::Privileged => self.privileged,
            Demand::Host(host) => self.host.contains(host),
            Demand::Capability(name) => {
                self.privileged || lists(&self.capabilities, name) || lists(&self.capabilities, &"ALL".into())
            }
            Demand::Bind { source, writable } => self.binds.iter().any(|bind| bind.allows(source, *writable)),
            Demand::Device(path) => self.devices.iter().any(|pattern| pattern.fits_path(path)),
            Demand::Gpu => self.gpus,
            Demand::Sysctl(name) => self.sysctls.iter().any(|pattern| pattern.fits(name)),
            Demand::Ulimit(name) => lists(&self.ulimits, name),
            Demand::SecurityOption(option) => {
                self.privileged || self.security_options.iter().any(|pattern| pattern.fits(option))
            }
            Demand::Runtime(name) => lists(&self.runtimes, name),
            Demand::CgroupParent(path) => self.cgroup_parents.iter().any(|pattern| pattern.fits(path)),
            Demand::VolumeDriver(name) => lists(&self.volume_drivers, name),
            Demand::Volume(name) => self.volumes.iter().any(|pattern| pattern.fits(name)),
            Demand::LogDriver(name) => lists(&self.log_drivers, name),
            Demand::Image(name) => self.runs_image(name),
            Demand::Never(_) => false,
        }
    }

    /// A pattern with a tag is held against the name with its tag, one without against the bare name.
    fn runs_image(&self, image: &str) -> bool {
        let full = full_name(image);
        let bare = without_tag(&full);
        self.images.is_empty() || self.images.iter().any(|pattern| pattern.fits(&full) || pattern.fits(bare))
    }
}

/// An image's name with its registry, as engines complete it.
fn full_name(image: &str) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let has_registry = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_registry {
        image.to_owned()
    } else if image.contains('/') {
        format!("docker.io/{image}")
    } else {
        format!("docker.io/library/{image}")
    }
}

fn without_tag(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

/// The line of the policy file that would allow it; none: there is none.
fn line(demand: &Demand) -> Option<String> {
    let list = |key: &str, value: &str| Some(format!("{key} = [{}]", quoted(value)));
    match demand {
        Demand::Privileged => Some("privileged = true".to_owned()),
        Demand::Host(host) => list("host", host.word()),
        Demand::Capability(name) => list("capabilities", name),
        Demand::Bind { source, writable: true } => list("binds", source),
        Demand::Bind { source, writable: false } => list("binds", &format!("{source}:ro")),
        Demand::Device(path) => list("devices", path),
        Demand::Gpu => Some("gpus = true".to_owned()),
        Demand::Sysctl(name) => list("sysctls", name),
        Demand::Ulimit(name) => list("ulimits", name),
        Demand::SecurityOption(option) => list("security_options", option),
        Demand::Runtime(name) => list("runtimes", name),
        Demand::CgroupParent(path) => list("cgroup_parents", path),
        Demand::VolumeDriver(name) => list("volume_drivers", name),
        Demand::Volume(name) => list("volumes", name),
        Demand::LogDriver(name) => list("log_drivers", name),
        Demand::Image(name) => list("images", without_tag(&full_name(name))),
        Demand::Never(_) => None,
    }
}

/// A TOML string. What is long is cut: the hub chose it, and the line is for a person to read.
fn quoted(value: &str) -> String {
    let text = shown(value);
    if text.contains(['"', '\\']) && !text.contains('\'') { format!("'{text}'") } else { format!("{text:?}") }
}

/// A text of the hub, short and without control characters.
pub(super) fn shown(text: &str) -> String {
    let clean: String = text.chars().take(MOST_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MOST_SHOWN).is_some() { format!("{clean}…") } else { clean }
}

impl Host {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Network, Self::Pid, Self::Ipc, Self::Uts, Self::User];

    /// Its word in the policy file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("privileged containers"),
            Self::Host(host) => write!(f, "the device's own {} namespace", host.word()),
            Self::Capability(name) => write!(f, "the capability {}", shown(name)),
            Self::Bind { source, writable } => {
                write!(f, "the mount of `{}` {}", shown(source), if *writable { "to be written" } else { "to be read" })
            }
            Self::Device(path) => write!(f, "the device `{}`", shown(path)),
            Self::Gpu => f.write_str("GPUs"),
            Self::Sysctl(name) => write!(f, "the sysctl `{}`", shown(name)),
            Self::Ulimit(name) => write!(f, "the ulimit `{}`", shown(name)),
            Self::SecurityOption(option) => write!(f, "the security option `{}`", shown(option)),
            Self::Runtime(name) => write!(f, "the runtime `{}`", shown(name)),
            Self::CgroupParent(path) => write!(f, "the cgroup parent `{}`", shown(path)),
            Self::VolumeDriver(name) => write!(f, "volumes of the driver `{}` or with options of it", shown(name)),
            Self::Volume(name) => write!(f, "the volume `{}`, which is not the fleet's", shown(name)),
            Self::LogDriver(name) => write!(f, "the log driver `{}` with these options", shown(name)),
            Self::Image(name) => write!(f, "the image `{}`", shown(name)),
            Self::Never(what) => write!(f, "{}", shown(what)),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::strict(super::DEFAULT_PATH.into(), Guarded::default())
    }
}
