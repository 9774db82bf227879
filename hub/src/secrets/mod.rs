//! What the hub keeps for containers and must not tell anybody: secrets, configs, logins of registries. Encrypted from the
//! moment that they come until they are sealed to the one device that needs them. The design is decision 0016.

mod devices;
mod kept;
mod key;
mod stack;
mod tidy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use outrigger_protocol::{
    FileKind, FileRef, Login, MAX_FILE, NameError, StackName, canonical_registry, login_from_bytes,
};
use outrigger_trust::{RestKey, SealError, Zeroizing};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::warn;

use kept::{Kept, Version};
pub use key::{CREDENTIAL, FILE, KeyProblem};
pub(crate) use stack::ForStack;
pub use stack::StackFileProblem;

use crate::store::{Side, SideError, SideRecord, SideTables};

/// Name of their side table.
pub(crate) const TABLE: &str = "secrets";
/// Secrets, configs and logins in all.
const MAX_KEPT: usize = 2000;
/// Bytes of all of them. They are in memory, encrypted.
const MAX_TOTAL: usize = 64 * 1024 * 1024;

/// What sort of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shelf {
    /// Secrets and configs.
    Files(FileKind),
    /// Logins of registries.
    Logins,
}

impl Shelf {
    fn text(self) -> &'static str {
        match self {
            Self::Files(FileKind::Secret) => "secret",
            Self::Files(FileKind::Config) => "config",
            Self::Logins => "login",
        }
    }
}

impl std::fmt::Display for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// Something that is to be kept.
#[derive(Debug)]
pub struct New<'a> {
    /// What sort.
    pub shelf: Shelf,
    /// Its name, checked.
    pub name: &'a str,
    /// What nobody is told.
    pub content: &'a Content,
    /// The stack whose file defines it; none: somebody has set it by hand.
    pub stack: Option<&'a StackName>,
    /// What may be told of it: the user name of a login.
    pub about: &'a str,
    /// Who sets it.
    pub by: &'a str,
    /// When.
    pub now_unix_ms: u64,
}

/// Bytes that are never printed, and wiped when they are let go.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What may be told of something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// The stack whose file defines it.
    pub stack: Option<StackName>,
    /// The user name of a login.
    pub about: String,
    /// When it was set last.
    pub set_unix_ms: u64,
    /// By whom.
    pub set_by: String,
    /// Its newest version.
    pub version: u64,
    /// Whether it can be decrypted; if not, it was restored without its key.
    pub is_readable: bool,
}

/// Why something was not kept or removed. Nothing has changed then.
#[derive(Debug, Error)]
pub enum SecretProblem {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A registry that is none.
    #[error("`{0}` is no registry: write it as images do, such as `registry.lan:5000`, without `https://`")]
    Registry(String),
    /// There is one whose name differs only in capitals: on some file systems the two would be one.
    #[error("there is a {shelf} `{other}` already, and the names differ only in capitals")]
    Twin {
        /// What sort.
        shelf: Shelf,
        /// The other's name.
        other: String,
    },
    /// It is somebody else's.
    #[error("the {shelf} `{name}` {}", owner(stack.as_ref()))]
    Owner {
        /// What sort.
        shelf: Shelf,
        /// Its name.
        name: String,
        /// The stack that it belongs to.
        stack: Option<StackName>,
    },
    /// Too large.
    #[error("{bytes} bytes are more than the {MAX_FILE} that a {shelf} may have")]
    TooLarge {
        /// What sort.
        shelf: Shelf,
        /// How many.
        bytes: usize,
    },
    /// All together are too much.
    #[error("there are too many secrets and configs already; remove some first")]
    TooMany,
    /// There is no such thing.
    #[error("there is no {shelf} `{name}`")]
    None {
        /// What sort.
        shelf: Shelf,
        /// The name.
        name: String,
    },
    /// Something needs it.
    #[error("the {shelf} `{name}` is used by {}", users.join(", "))]
    InUse {
        /// What sort.
        shelf: Shelf,
        /// Its name.
        name: String,
        /// Services that use it.
        users: Vec<String>,
    },
    /// It cannot be encrypted.
    #[error("it cannot be encrypted")]
    Seal(#[source] SealError),
    /// It could not be saved.
    #[error(transparent)]
    Side(#[from] SideError),
}

fn owner(stack: Option<&StackName>) -> String {
    match stack {
        Some(stack) => format!("belongs to the stack `{stack}`, whose Compose file says what is in it"),
        None => "was set by hand; give the file's one another `name:`, or use it with `external: true`".to_owned(),
    }
}

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadProblem {
    /// It is not there any more.
    #[error("there is no {0} of this version any more")]
    None(FileRef),
    /// It was encrypted with another key.
    #[error("the {0} was encrypted with another key: the hub was restored without it. Set it again")]
    OtherKey(String),
}

/// Secrets, configs and logins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Secrets {
    inner: Arc<Inner>,
}

type Names = BTreeMap<(Shelf, String), Kept>;

struct Inner {
    key: RestKey,
    side: Side,
    kept: RwLock<Names>,
    /// Held while something is saved, so that two changes cannot rest on the same past.
    changing: Mutex<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Opens what was saved. `credentials`: the folder of systemd's credentials.
    ///
    /// # Errors
    /// If there is no key and none can be made.
    pub fn open(
        state_dir: &Path,
        credentials: Option<&Path>,
        saved: &SideTables,
        side: Side,
    ) -> Result<Self, KeyProblem> {
        let key = key::open(state_dir, credentials)?;
        let mut kept = Names::new();
        for (name, value) in saved.get(TABLE).into_iter().flatten() {
            match kept::read(name, value) {
                Some((place, one)) => drop(kept.insert(place, one)),
                None => warn!(name, "a saved secret cannot be read: it was written by another release, or is damaged"),
            }
        }
        let secrets = Self { inner: Arc::new(Inner { key, side, kept: RwLock::new(kept), changing: Mutex::new(()) }) };
        let other_key: Vec<String> = secrets.all().filter(|(_, one)| !one.is_readable).map(|(what, _)| what).collect();
        if !other_key.is_empty() {
            let names = other_key.join(", ");
            warn!(names, "encrypted with another key: put the old `{FILE}` back, or set these again");
        }
        Ok(secrets)
    }

    fn all(&self) -> impl Iterator<Item = (String, Summary)> {
        let shelves = [Shelf::Files(FileKind::Secret), Shelf::Files(FileKind::Config), Shelf::Logins];
        shelves
            .into_iter()
            .flat_map(|shelf| self.list(shelf).into_iter().map(move |one| (format!("{shelf} `{}`", one.name), one)))
    }

    /// All of one sort, by name. Never what is in them.
    #[must_use]
    pub fn list(&self, shelf: Shelf) -> Vec<Summary> {
        let kept = self.kept();
        let here = kept.iter().filter(|((on, _), _)| *on == shelf);
        here.map(|((_, name), one)| self.summary(shelf, name, one)).collect()
    }

    fn summary(&self, shelf: Shelf, name: &str, one: &Kept) -> Summary {
        Summary {
            name: name.to_owned(),
            stack: one.stack.clone(),
            about: one.about.clone(),
            set_unix_ms: one.set_unix_ms,
            set_by: one.set_by.clone(),
            version: one.newest(),
            is_readable: one.versions.last().is_some_and(|version| self.decrypt(shelf, name, version).is_ok()),
        }
    }

    /// The newest version of a secret or config, and the stack that it belongs to.
    #[must_use]
    pub fn newest(&self, kind: FileKind, name: &str) -> Option<(u64, Option<StackName>)> {
        let kept = self.kept();
        let one = kept.get(&(Shelf::Files(kind), name.to_owned()))?;
        Some((one.newest(), one.stack.clone()))
    }

    /// What is in a secret or config. Only to be sealed to a device.
    fn content(&self, file: &FileRef) -> Result<Content, ReadProblem> {
        let shelf = Shelf::Files(file.kind);
        let kept = self.kept();
        let one = kept.get(&(shelf, file.name.to_string()));
        let version = one.and_then(|one| one.versions.iter().find(|version| version.number == file.version));
        let version = version.ok_or_else(|| ReadProblem::None(file.clone()))?;
        let opened = self.decrypt(shelf, file.name.as_str(), version);
        opened.map_err(|_| ReadProblem::OtherKey(file.to_string()))
    }

    /// The login for this registry, if there is one that can be read.
    #[must_use]
    pub fn login(&self, registry: &str) -> Option<Login> {
        let kept = self.kept();
        let name = canonical_registry(registry);
        let version = kept.get(&(Shelf::Logins, name.to_owned()))?.versions.last()?;
        login_from_bytes(&self.decrypt(Shelf::Logins, name, version).ok()?.0)
    }

    /// Keeps something, as a new version of what is there already. When it returns, that is durable.
    ///
    /// # Errors
    /// If it makes no sense or cannot be saved.
    pub async fn set(&self, new: New<'_>) -> Result<u64, SecretProblem> {
        let _alone = self.inner.changing.lock().await;
        self.set_alone(new).await
    }

    async fn set_alone(&self, new: New<'_>) -> Result<u64, SecretProblem> {
        let (shelf, place) = (new.shelf, (new.shelf, new.name.to_owned()));
        let before = {
            let kept = self.kept();
            self.check(&new, &kept)?;
            kept.get(&place).cloned()
        };
        // Time rather than a count: a hub that is restored from an older backup never gives a number twice.
        let newest = before.as_ref().map_or(0, Kept::newest);
        let number = new.now_unix_ms.max(newest.saturating_add(1));
        let what = kept::purpose(shelf, new.name, number);
        let sealed = self.inner.key.seal(&what, &new.content.0).map_err(SecretProblem::Seal)?;
        let mut versions = before.map(|before| before.versions).unwrap_or_default();
        if shelf == Shelf::Logins {
            versions.clear();
        }
        versions.push(Version { number, sealed });
        let one = Kept {
            stack: new.stack.cloned(),
            about: new.about.to_owned(),
            set_unix_ms: new.now_unix_ms,
            set_by: new.by.to_owned(),
            versions,
        };
        self.save(vec![(place, Some(one))]).await?;
        Ok(number)
    }

    fn check(&self, new: &New<'_>, kept: &Names) -> Result<(), SecretProblem> {
        let (shelf, name) = (new.shelf, new.name);
        let bytes = new.content.0.len();
        if bytes > MAX_FILE {
            return Err(SecretProblem::TooLarge { shelf, bytes });
        }
        match kept.get(&(shelf, name.to_owned())) {
            Some(one) if one.stack.as_ref() != new.stack => {
                Err(SecretProblem::Owner { shelf, name: name.to_owned(), stack: one.stack.clone() })
            }
            Some(_) => Ok(()),
            None => {
                let is_twin = |(on, other): &&(Shelf, String)| *on == shelf && other.eq_ignore_ascii_case(name);
                if let Some((_, other)) = kept.keys().find(is_twin) {
                    return Err(SecretProblem::Twin { shelf, other: other.clone() });
                }
                Ok(())
            }
        }?;
        let total: usize = kept.values().map(Kept::bytes).sum();
        if kept.len() >= MAX_KEPT || total.saturating_add(bytes) > MAX_TOTAL {
            return Err(SecretProblem::TooMany);
        }
        Ok(())
    }

    /// Removes something that nothing uses: `users` says what does.
    ///
    /// # Errors
    /// If there is no such thing, it is in use, or that cannot be saved.
    pub async fn remove(&self, shelf: Shelf, name: &str, users: Vec<String>) -> Result<Summary, SecretProblem> {
        let _alone = self.inner.changing.lock().await;
        let place = (shelf, name.to_owned());
        let found = self.kept().get(&place).map(|one| self.summary(shelf, name, one));
        let found = found.ok_or_else(|| SecretProblem::None { shelf, name: name.chars().take(80).collect() })?;
        if !users.is_empty() {
            return Err(SecretProblem::InUse { shelf, name: name.to_owned(), users });
        }
        self.save(vec![(place, None)]).await?;
        Ok(found)
    }

    /// Forgets versions that nothing needs any more, and what belongs to stacks that are gone. `needed`: what anything
    /// needs. What was set a moment ago stays: somebody may be about to use it.
    async fn forget_unneeded(
        &self,
        needed: &BTreeSet<FileRef>,
        now_unix_ms: u64,
        rest_ms: u64,
    ) -> Result<usize, SideError> {
        let _alone = self.inner.changing.lock().await;
        let changes = kept::unneeded(&self.kept(), needed, now_unix_ms.saturating_sub(rest_ms));
        let count = changes.len();
        if count > 0 {
            self.save(changes).await?;
        }
        Ok(count)
    }

    async fn save(&self, changes: Vec<((Shelf, String), Option<Kept>)>) -> Result<(), SideError> {
        let record = |((shelf, name), one): &((Shelf, String), Option<Kept>)| SideRecord {
            table: TABLE.to_owned(),
            key: kept::key(*shelf, name),
            value: one.as_ref().map(kept::write),
        };
        self.inner.side.save_all(changes.iter().map(record).collect()).await?;
        let mut kept = self.inner.kept.write().unwrap_or_else(PoisonError::into_inner);
        for (place, one) in changes {
            match one {
                Some(one) => drop(kept.insert(place, one)),
                None => drop(kept.remove(&place)),
            }
        }
        Ok(())
    }

    fn decrypt(&self, shelf: Shelf, name: &str, version: &Version) -> Result<Content, SealError> {
        self.inner.key.open(&kept::purpose(shelf, name, version.number), &version.sealed).map(Content)
    }

    fn kept(&self) -> RwLockReadGuard<'_, Names> {
        self.inner.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registry as images name it, in the one way that we keep it.
///
/// # Errors
/// If it is none.
pub fn registry(text: &str) -> Result<String, SecretProblem> {
    let lower = text.to_ascii_lowercase();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let is_host = lower.contains(['.', ':']) || lower == "localhost";
    if !is_host || lower.len() > 255 || !lower.chars().all(is_plain) || lower.starts_with(['.', '-', ':']) {
        return Err(SecretProblem::Registry(text.chars().take(80).collect()));
    }
    Ok(canonical_registry(&lower).to_owned())
}
