//! What the device is and how loaded it is.
//!
//! sysinfo says what all computers have: processors, memory, load average, network, operating system. What it does not
//! say is read from `/proc`, `/sys` and `/dev`: cgroups of replicas, the board, what is attached, heat and power. Every
//! such path goes through a [`Root`], so that tests read recorded files.

use std::io;
use std::path::{Path, PathBuf};

mod board;
mod cgroup;
mod devices;
mod facts;
mod flash;
mod load;
mod network;
mod sensors;
mod usage;

pub use cgroup::{cgroup_version, memory_limits};
pub use facts::{OwnFacts, boot_id, facts};
pub use load::Sampler;
pub use usage::UsageSampler;

/// Where the file system begins: `/`, or a folder of recorded files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The device itself.
    #[must_use]
    pub fn real() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A folder that stands for it.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The path that an absolute path means.
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// A small text file without the space around it; none where it cannot be read, as is normal for most of them.
    #[must_use]
    pub fn read(&self, absolute: &str) -> Option<String> {
        let text = std::fs::read(self.path(absolute)).ok()?;
        // Files of the device tree end with a zero byte.
        Some(String::from_utf8_lossy(&text).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
    }

    /// Names in a folder, sorted; none where there is none.
    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.take(MAX_NAMES).collect();
        names.sort_unstable();
        names
    }

    fn link(&self, absolute: &str) -> io::Result<PathBuf> {
        std::fs::read_link(self.path(absolute))
    }

    fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }
}

/// Entries of one folder that are looked at; `/dev` of a large server has a few hundred.
const MAX_NAMES: usize = 4_096;

#[cfg(test)]
mod recorded;
