//! What the owner of this device allows, whatever the hub says. One file, `/etc/outrigger/policy.toml`; without it, or where
//! it cannot be read or makes no sense, the strict default holds.
//!
//! What a container asks for ([`Demand`]) is taken from its whole specification, and again from what the engine has made
//! of it, and everything that is not plainly harmless needs the owner's word. So an option that nobody thought of is
//! refused rather than let through.

mod bind;
mod check;
mod demand;
mod engine_made;
mod judge;
mod load;
mod pattern;
pub mod place;
mod raw;
mod show;

pub use bind::{Bind, Guarded};
pub use demand::{Demand, Host, bare_capability, demands};
pub use engine_made::{Made, MadeMount, made_demands};
pub use judge::Refusal;
pub use load::{DEFAULT_PATH, Origin, Policy};
pub use pattern::Pattern;
pub use raw::{KEYS, Raw};

use std::collections::BTreeSet;

#[cfg(test)]
mod tests;

/// What a container has without asking: enough for a process that begins as root, hands its files over, opens a low port and
/// becomes somebody else. Docker's list without `NET_RAW` (forged packets on the owner's network), `MKNOD`, `AUDIT_WRITE`
/// and `SYS_CHROOT`, which hardly anything needs.
pub const DEFAULT_CAPABILITIES: [&str; 10] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID"];
/// What a container may ask for without the owner's word: Docker gives these to everybody.
pub const HARMLESS_CAPABILITIES: [&str; 3] = ["AUDIT_WRITE", "MKNOD", "SYS_CHROOT"];
/// Processes and threads of a container whose file names no number.
pub const DEFAULT_PIDS: i64 = 2048;

/// What the owner allows beyond what is harmless. The default is the strict one: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Containers may have all privileges.
    pub privileged: bool,
    /// Namespaces of the device that containers may share.
    pub host: BTreeSet<Host>,
    /// Capabilities that may be added.
    pub capabilities: Vec<String>,
    /// Paths of the device that may be mounted.
    pub binds: Vec<Bind>,
    /// Devices that may be passed through.
    pub devices: Vec<Pattern>,
    /// GPUs may be passed through.
    pub gpus: bool,
    /// Kernel parameters that may be set.
    pub sysctls: Vec<Pattern>,
    /// Limits of processes that may be set, beyond the harmless ones.
    pub ulimits: Vec<String>,
    /// Security options that may be set, such as `seccomp=unconfined`.
    pub security_options: Vec<Pattern>,
    /// Runtimes that may be chosen.
    pub runtimes: Vec<String>,
    /// Cgroups under which containers may be put.
    pub cgroup_parents: Vec<Pattern>,
    /// Volume drivers that may be named, and `local` for options of the local one.
    pub volume_drivers: Vec<String>,
    /// Volumes of others that may be used.
    pub volumes: Vec<Pattern>,
    /// Log drivers that may be chosen, with any options.
    pub log_drivers: Vec<String>,
    /// Images that may be run; none: all.
    pub images: Vec<Pattern>,
    /// Commands may be run in containers from afar.
    pub exec: bool,
    /// The hub may replace the agent by a newer one.
    pub self_update: bool,
}
