//! Secrets: whether there is memory to put them in that is no disk, and whether it stays that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use outrigger_protocol::Bytes;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Finding;
use super::judge::{fine, note, wrong};
use crate::files;
use crate::probe::Root;

const ABOUT: &str = "secrets";
/// Less room than this is too little for the secrets of a few copies, each of up to 500 KiB.
const LITTLE_SPACE: u64 = 4 << 20;
/// Swap that is compressed memory, and reaches no disk unless somebody gives it one.
const IN_MEMORY: &str = "/dev/zram";

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsSeen {
    /// The folder in which the agent makes its own.
    pub folder: PathBuf,
    /// What it is, or will be made on; none where that cannot be known.
    pub place: Option<Place>,
    /// Whether the agent's own folder is there and others can look into it.
    pub is_open: bool,
    /// Where the kernel may write memory to a disk.
    pub swap: Vec<String>,
}

/// A mounted file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whether it is gone with the power.
    pub is_memory: bool,
    /// Whether it can be written.
    pub is_read_only: bool,
    /// Whether programs and devices in it count for what they claim to be (no `nosuid`, no `nodev`).
    pub is_trusting: bool,
    /// Bytes that can be written.
    pub free: u64,
}

pub(super) fn look(root: &Root, own: &Path) -> SecretsSeen {
    let folder = own.parent().unwrap_or(own).to_owned();
    let swaps = root.read("/proc/swaps").unwrap_or_default();
    let swap = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    SecretsSeen {
        place: own.ancestors().find(|path| path.is_dir()).and_then(place),
        is_open: std::fs::symlink_metadata(own).is_ok_and(|found| !found.is_dir() || found.mode() & 0o077 != 0),
        swap: swap.filter(|name| !name.starts_with(IN_MEMORY)).map(str::to_owned).collect(),
        folder,
    }
}

fn place(path: &Path) -> Option<Place> {
    let of = statvfs(path).ok()?;
    Some(Place {
        is_memory: files::is_in_memory(path).ok()?,
        is_read_only: of.f_flag.contains(StatVfsMountFlags::RDONLY),
        is_trusting: !of.f_flag.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV),
        free: of.f_bavail.saturating_mul(of.f_frsize),
    })
}

/// What is wrong with it, the worst first; if nothing, that it is well.
pub(super) fn findings(seen: &SecretsSeen) -> Vec<Finding> {
    let folder = seen.folder.display();
    let mut findings = vec![];
    match seen.place {
        None => {
            let fix = format!("see what is there: ls -ld {folder}");
            findings.push(note(ABOUT, format!("{folder} cannot be looked at"), fix));
        }
        Some(place) if !place.is_memory => findings.push(wrong(
            ABOUT,
            format!("{folder} is on a disk, so none are written there, and replicas that need some wait"),
            format!(
                "start the agent by its systemd unit, or: sudo mkdir -p {folder} && sudo mount -t tmpfs -o \
                 mode=0700,nosuid,nodev tmpfs {folder}"
            ),
        )),
        Some(place) if place.is_read_only => {
            let text = format!("{folder} cannot be written, and replicas that need some wait");
            findings.push(wrong(ABOUT, text, format!("sudo mount -o remount,rw $(findmnt -nT {folder} -o TARGET)")));
        }
        Some(place) if place.free < LITTLE_SPACE => {
            let text = format!("{} free in {folder}: too little for large ones", Bytes(place.free));
            findings.push(wrong(ABOUT, text, format!("see what fills it: sudo du -xsh {folder}/* /run/*")));
        }
        Some(place) if place.is_trusting => findings.push(note(
            ABOUT,
            format!("in memory, but {folder} is mounted without nosuid and nodev"),
            format!("sudo mount -o remount,nosuid,nodev $(findmnt -nT {folder} -o TARGET)"),
        )),
        Some(_) => (),
    }
    if seen.is_open {
        let text = format!("others can look into the agent's folder in {folder}, so none are written there");
        findings.push(wrong(ABOUT, text, format!("stop the agent, sudo rm -r {folder}/*.files, start the agent")));
    }
    if let Some(first) = seen.swap.first() {
        let text = format!("in memory, which the kernel may write to the swap space {first}, where it stays");
        findings.push(note(ABOUT, text, "use zram for swap, encrypt it, or do without: sudo swapoff -a"));
    }
    match findings.is_empty() {
        true => vec![fine(ABOUT, format!("in memory in {folder}, which is never written to a disk"))],
        false => findings,
    }
}
