//! What the caller has read: files and variables.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{FileKind, FileName};
use serde::{Deserialize, Serialize};

/// Everything a Compose file may refer to. The caller reads it, because this crate touches no disk and no environment.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Path of the Compose file itself; a key of `files`.
    pub main: String,
    /// Further Compose files over `main`, keys of `files`: each is merged over those before it, as Docker Compose merges
    /// them. Relative paths in them are relative to `main`.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// Profiles that are active; `*`: all. A service with `profiles` counts only if one of them is.
    #[serde(default)]
    pub profiles: BTreeSet<String>,
    /// Texts by path: the Compose file, the files that its services extend, environment files. A `.env` beside the
    /// Compose file gives variables, as Compose has it. Paths are those that [`resolve`] gives.
    pub files: BTreeMap<String, String>,
    /// Variables of the caller's environment; they win over `.env`.
    pub variables: BTreeMap<String, String>,
}

/// Names only: contents of files and variables may be secrets.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { main, overrides, profiles, files, variables } = self;
        f.debug_struct("Sources")
            .field("main", main)
            .field("overrides", overrides)
            .field("profiles", profiles)
            .field("files", &files.keys())
            .field("variables", &variables.keys())
            .finish()
    }
}

/// What is in a secret or config: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct FileBytes(pub Vec<u8>);

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// A secret or config that services of the stack use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFile {
    /// What it is.
    pub kind: FileKind,
    /// Its name in the fleet.
    pub name: FileName,
    /// Its content, where the stack brings it along; none: the hub has it already (`external`).
    pub content: Option<FileBytes>,
}

/// What was referred to and was not among the sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Files, by the path that [`Sources::files`] should have.
    pub files: BTreeSet<String>,
    /// Variables without a value and without a default.
    pub variables: BTreeSet<String>,
}

impl Sources {
    /// One file that refers to nothing.
    #[must_use]
    pub fn of(path: &str, text: &str) -> Self {
        Self { main: path.to_owned(), files: BTreeMap::from([(path.to_owned(), text.to_owned())]), ..Self::default() }
    }

    /// The Compose files in the order in which they are merged.
    pub(crate) fn stack_files(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.main).chain(&self.overrides)
    }

    /// The file to which relative paths in `file` are relative.
    pub(crate) fn base_of<'a>(&'a self, file: &'a str) -> &'a str {
        if self.overrides.iter().any(|path| path == file) { &self.main } else { file }
    }

    /// The text of `path` as `base` refers to it, with the path by which it is known. A caller that did not resolve the
    /// path and sent it as it was written is understood too.
    pub(crate) fn find(&self, base: &str, path: &str) -> Option<(String, &str)> {
        let resolved = resolve(base, path);
        match self.files.get(&resolved) {
            Some(text) => Some((resolved, text)),
            None => self.files.get(path).map(|text| (path.to_owned(), text.as_str())),
        }
    }
}

/// The path of a file that the file `base` refers to as `path`: relative paths are relative to `base`'s folder.
///
/// ```
/// use outrigger_compose::resolve;
/// assert_eq!(resolve("compose.yaml", "./app.env"), "app.env");
/// assert_eq!(resolve("/srv/shop/compose.yaml", "../common/base.yaml"), "/srv/common/base.yaml");
/// assert_eq!(resolve("shop/compose.yaml", "/etc/app.env"), "/etc/app.env");
/// assert_eq!(resolve("/compose.yaml", "../../app.env"), "/app.env");
/// assert_eq!(resolve("shop/compose.yaml", "../../app.env"), "../app.env");
/// ```
#[must_use]
pub fn resolve(base: &str, path: &str) -> String {
    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
    let rooted = path.starts_with('/') || base.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    let before = if path.starts_with('/') { "" } else { folder };
    for part in before.split('/').chain(path.split('/')) {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => (),
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}
