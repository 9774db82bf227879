//! Secrets and configs: files that containers find beside what their image has. What stands in a specification is which
//! file and where, never what is in it. The content goes to the device that runs the copy when that device asks, sealed so
//! that only it can read it; how is decision 0016.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::FileName;

/// Whether a file is a secret. Both go the same road; they differ in where they are found and who may see their sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Compose's `secrets`
    Secret,
    /// Compose's `configs`
    Config,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Secret => "secret",
            Self::Config => "config",
        })
    }
}

/// One version of a secret or config. Its content never changes: other content is another version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// What it is.
    pub kind: FileKind,
    /// Its name in the fleet.
    pub name: FileName,
    /// Grows with each change, and is never given twice; 0 until the hub has looked which one is the newest.
    pub version: u64,
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// A secret or config as a container finds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileMount {
    /// Which.
    pub file: FileRef,
    /// Absolute path in the container.
    pub target: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permissions, such as 0o444.
    pub mode: u32,
}

/// Something that the hub keeps encrypted and gives to devices that need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Item {
    /// The content of a secret or config.
    File(FileRef),
    /// Name and password for a registry, by [`registry_of`] an image.
    Login(String),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Login(registry) => write!(f, "login for `{registry}`"),
        }
    }
}

/// Name and password for a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A device asks for an item. The key to which the answer is sealed is made for this one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseal {
    /// Told back in the answer.
    pub request: u64,
    /// What it wants.
    pub item: Item,
    /// Public half of the key (X25519) to which the answer is to be sealed.
    pub to: [u8; 32],
    /// Public half of the device's own key, an uncompressed point on P-256; empty where devices have no identity.
    pub signer: Vec<u8>,
    /// That key's signature over all this ([`crate::sealed_context`] and `to`).
    pub signature: Vec<u8>,
}

/// The answer to an [`Unseal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which question.
    pub request: u64,
    /// What was asked for, or why not.
    pub content: SealedContent,
}

/// What was asked for, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealedContent {
    /// Here it is, for whoever has made the key.
    Here {
        /// Public half of the hub's key, made for this one answer.
        from: [u8; 32],
        /// The content, encrypted.
        bytes: Vec<u8>,
    },
    /// The device does not get it; why.
    Withheld(String),
}

/// Docker Hub's other names.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The registry that an image comes from, as people write it: `host` or `host:port`.
///
/// ```
/// use outrigger_protocol::registry_of;
/// assert_eq!(registry_of("nginx:1"), "docker.io");
/// assert_eq!(registry_of("library/nginx"), "docker.io");
/// assert_eq!(registry_of("hub.lan:5000/shop/web:2"), "hub.lan:5000");
/// assert_eq!(registry_of("localhost/web"), "localhost");
/// ```
#[must_use]
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => canonical_registry(host),
        _ => "docker.io",
    }
}

/// One name for a registry that has several.
#[must_use]
pub fn canonical_registry(host: &str) -> &str {
    if DOCKER_HUB.contains(&host) { "docker.io" } else { host }
}
