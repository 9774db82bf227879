//! Paths of the device that containers may see.
//!
//! A path is allowed exactly, never with all that is beneath. So nothing that may be mounted has a part that another
//! container could replace by a link while the agent looks at it: what lies above a mountable path is not mountable to be
//! written (that is checked when the file is read), and what is not mounted no container can change.

use std::fmt;

use super::pattern::Pattern;

/// Trees that no container ever sees: they are the device itself.
const TREES: [&str; 5] = ["/proc", "/sys", "/dev", "/etc", "/boot"];
/// Where engines keep their sockets, images and volumes, wherever this one has them.
const ENGINES: [&str; 12] = [
    "/run/docker.sock", "/run/docker", "/run/containerd", "/run/podman", "/var/run/docker.sock", "/var/run/docker",
    "/var/run/containerd", "/var/run/podman", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers",
    "/etc/outrigger",
];

/// One path that may be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The path; `*` stands for any name of one part.
    pub path: Pattern,
    /// Whether containers may write there.
    pub writable: bool,
}

/// Paths of this agent and its engine that are never mounted, nor anything above or beneath them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded(pub Vec<String>);

impl Bind {
    /// `PATH` or `PATH:ro`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str, guarded: &Guarded) -> Result<Self, String> {
        let (path, writable) = match text.rsplit_once(':') {
            Some((path, "ro")) => (path, false),
            Some((path, "rw")) => (path, true),
            _ => (text, true),
        };
        plain(path)?;
        match guarded.covers(path) {
            Some(why) => Err(format!("`{path}` can never be allowed: {why}")),
            None => Ok(Self { path: Pattern::new(path), writable }),
        }
    }

    /// Whether it allows this.
    #[must_use]
    pub fn allows(&self, source: &str, writable: bool) -> bool {
        (self.writable || !writable) && plain(source).is_ok() && self.path.fits_path(source)
    }

    /// Whether a container that may write here could replace a part of the other's path.
    #[must_use]
    pub fn undermines(&self, other: &Self) -> bool {
        let (above, below): (Vec<_>, Vec<_>) = (parts(self.path.text()).collect(), parts(other.path.text()).collect());
        let may_be_same = |(a, b): (&&str, &&str)| a.contains('*') || b.contains('*') || a == b;
        self.writable && above.len() < below.len() && above.iter().zip(&below).all(may_be_same)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.writable { "" } else { ":ro" })
    }
}

impl Guarded {
    /// Why this path is never mounted, if so. Only the text is looked at; [`super::place`] looks at the path itself.
    #[must_use]
    pub fn covers(&self, path: &str) -> Option<String> {
        if parts(path).next().is_none() {
            return Some("it is the whole device".to_owned());
        }
        if let Some(tree) = TREES.iter().find(|tree| is_at_or_beneath(path, tree)) {
            return Some(format!("{tree} belongs to the device itself"));
        }
        let is_near = |guarded: &&str| is_at_or_beneath(path, guarded) || is_above(path, guarded);
        let own = self.0.iter().map(String::as_str);
        let guarded = own.chain(ENGINES).find(is_near)?;
        Some(format!("{guarded} lies there, and whoever has that has the device"))
    }

    /// All that is guarded, wherever from.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).chain(ENGINES).chain(TREES)
    }
}

/// The parts of a path.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Whether a path is a folder or lies in it. `*` in it may be any name.
fn is_at_or_beneath(path: &str, folder: &str) -> bool {
    let mut inner = parts(path);
    parts(folder).all(|part| inner.next().is_some_and(|one| Pattern::new(one).fits(part) || one == part))
}

/// Whether a path, in which `*` may be any name, is a folder above the other.
fn is_above(path: &str, other: &str) -> bool {
    let mut outer = parts(other);
    parts(path).all(|part| outer.next().is_some_and(|one| Pattern::new(part).fits(one)))
}

/// A path that says where it leads: absolute, without `.`, `..`, doubled slashes and control characters.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn plain(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else { return Err(format!("`{path}` must be an absolute path")) };
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if rest.is_empty() {
        return Err("`/` is the whole device".to_owned());
    }
    if rest.split('/').any(is_odd) {
        return Err(format!("`{path}` must be written without `.`, `..`, `//` and a `/` at its end"));
    }
    if path.chars().any(char::is_control) || path.contains(':') {
        return Err(format!("`{}` has a colon or a control character in it", path.escape_debug()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Bind, String> {
        Bind::parse(text, &Guarded(vec!["/var/lib/outrigger-agent".into(), "/srv/engine.sock".into()]))
    }

    #[test]
    fn what_would_give_the_device_away_can_never_be_allowed() {
        for path in [
            "/",
            "/proc",
            "/proc/1/root",
            "/sys",
            "/etc",
            "/etc/passwd",
            "/dev",
            "/dev/sda",
            "/var",
            "/var/run",
            "/run",
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/var/lib",
            "/var/lib/docker/volumes/x",
            "/var/lib/outrigger-agent",
            "/var/lib/outrigger-agent/identity",
            "/srv",
            "/srv/engine.sock",
            "/boot/firmware",
            "/*",
            "/*/lib",
            "/var/*",
            "/p*c",
            "/srv/*.sock",
            "relative",
            "/srv/../etc",
            "/srv//x",
            "/srv/x/",
            "/srv/./x",
            "/srv/a:b",
            "/srv/a\n",
        ] {
            assert!(parse(path).is_err(), "{path}");
            assert!(parse(&format!("{path}:ro")).is_err(), "{path}:ro");
        }
        for path in ["/srv/media", "/srv/apps/*", "/run/dbus", "/home/pi/data", "/var/lib/homeassistant", "/opt/x"] {
            assert!(parse(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_allows_itself_and_nothing_beneath() {
        let bind = parse("/srv/apps/*").unwrap();
        for (path, allowed) in [
            ("/srv/apps/ha", true),
            ("/srv/apps", false),
            ("/srv/apps/", false),
            ("/srv/apps/ha/x", false),
            ("/srv/apps/ha/..", false),
            ("/srv/apps/ha/", false),
            ("/srv/appsx/a", false),
        ] {
            assert_eq!(bind.allows(path, true), allowed, "{path}");
        }
    }

    #[test]
    fn what_may_only_be_read_may_not_be_written() {
        let bind = parse("/srv/media:ro").unwrap();
        assert!(bind.allows("/srv/media", false));
        assert!(!bind.allows("/srv/media", true));
    }

    #[test]
    fn a_writable_path_above_another_undermines_it() {
        for (above, below, does) in [
            ("/srv/a", "/srv/a/b", true),
            ("/srv/a:ro", "/srv/a/b", false),
            ("/srv/*", "/srv/a/b", true),
            ("/srv/a", "/srv/*/b", true),
            ("/srv/a", "/srv/a", false),
            ("/srv/a", "/srv/ab/c", false),
            ("/srv/a/b", "/srv/a", false),
            ("/srv/*", "/srv/a", false),
        ] {
            let bind = |text| Bind::parse(text, &Guarded::default()).unwrap();
            assert_eq!(bind(above).undermines(&bind(below)), does, "{above} {below}");
        }
    }
}
