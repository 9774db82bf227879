//! Where a path really leads. Each part is opened from the one before and must not be a link, so nothing that happens
//! meanwhile can lead elsewhere: what was looked at is what was opened.
//!
//! The engine takes paths as text and opens them once more by itself. That it arrived at the same place is asked after the
//! start ([`seen_by`]); `bind.rs` says why no container can make a difference in between.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, stat};
use rustix::io::Errno;

use super::bind::{Guarded, parts, plain};

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To this: file system and number there.
    Here(u64, u64),
    /// To nothing yet. The engine makes a folder.
    Missing,
}

/// Looks where a path leads.
///
/// # Errors
/// Says in words why it must not be mounted: a link, a folder in which anybody may swap it, or what is guarded.
pub fn find(path: &str, guarded: &Guarded) -> Result<Place, String> {
    plain(path)?;
    let never = guarded.identities();
    let mut here = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("`/` cannot be opened: {error}"))?;
    let mut above = about(&here, "/")?;
    let mut walked = String::new();
    for part in parts(path) {
        walked = format!("{walked}/{part}");
        let next = match openat(&here, part, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if !is_open_to_all(&above) => return Ok(Place::Missing),
            Err(Errno::NOENT) => return Err(format!("`{walked}` does not exist, and anybody may make it")),
            Err(Errno::NOTDIR) => return Err(format!("`{walked}` lies in what is no folder")),
            Err(error) => return Err(format!("`{walked}` cannot be looked at: {error}")),
        };
        let found = about(&next, &walked)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Err(format!("`{walked}` is a link; name the place it leads to"));
        }
        if is_open_to_all(&above) && !(is_sticky(&above) && is_ours(&found)) {
            return Err(format!("anybody on the device may put something else in the place of `{walked}`"));
        }
        if never.contains(&identity(&found)) {
            return Err(format!("`{walked}` is what no container may see"));
        }
        (here, above) = (next, found);
    }
    let (device, number) = identity(&above);
    Ok(Place::Here(device, number))
}

/// What a process sees at a path of its own, as file system and number; none where the kernel does not let us look.
#[must_use]
pub fn seen_by(pid: i64, path: &str) -> Option<Place> {
    let root =
        openat(CWD, format!("/proc/{pid}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // Links in the container lead on within the container.
    let found = openat2(root.ok()?, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let (device, number) = identity(&fstat(found).ok()?);
    Some(Place::Here(device, number))
}

fn about(opened: &OwnedFd, walked: &str) -> Result<Stat, String> {
    fstat(opened).map_err(|error| format!("`{walked}` cannot be looked at: {error}"))
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "their types differ between processors")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, u64::from(stat.st_ino))
}

fn is_open_to_all(folder: &Stat) -> bool {
    folder.st_mode & 0o002 != 0
}

fn is_sticky(folder: &Stat) -> bool {
    folder.st_mode & 0o1000 != 0
}

fn is_ours(file: &Stat) -> bool {
    file.st_uid == 0 || file.st_uid == rustix::process::geteuid().as_raw()
}

impl Guarded {
    /// What is guarded, by file system and number: a path may have more than one name.
    fn identities(&self) -> Vec<(u64, u64)> {
        self.all().filter_map(|path| stat(path).ok()).map(|found| identity(&found)).collect()
    }
}

#[cfg(test)]
mod tests;
