//! What the device is, put together for its hello.

use std::net::IpAddr;

use outrigger_protocol::{Arch, BootId, Bytes, CgroupVersion, Engine, Facts, GenericResource, MemoryLimits, MilliCpu};

use super::{Root, board, cgroup, devices, flash, load};
use crate::engine::Description;

/// What the device does not know from its own files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFacts {
    /// The engine, if it answers.
    pub engine: Option<Description>,
    /// Labels from the configuration.
    pub labels: Vec<(String, String)>,
    /// Countable things from the configuration.
    pub generic: Vec<GenericResource>,
    /// The address that the connection to the hub comes from.
    pub address: Option<IpAddr>,
}

/// What the device is. `None` where the processor is none that images exist for.
#[must_use]
pub fn facts(root: &Root, own: OwnFacts) -> Option<Facts> {
    let system = rustix::system::uname();
    let arch = arch(&system.machine().to_string_lossy(), own.engine.as_ref().and_then(|engine| engine.arch))?;
    let memory = root.read("/proc/meminfo").and_then(|text| load::meminfo_kib(&text, "MemTotal")).unwrap_or(0);
    let limits_work = own.engine.as_ref().is_none_or(|engine| engine.memory_limit);
    let cgroup = match own.engine.as_ref().map(|engine| engine.cgroup) {
        Some(CgroupVersion::Unknown) | None => cgroup::cgroup_version(root),
        Some(of_engine) => of_engine,
    };
    Some(Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch,
        also_runs: also_runs(arch),
        os: os_name(root),
        kernel: system.release().to_string_lossy().into_owned(),
        board: board::board(root),
        cpu: MilliCpu(cores(root) * 1_000),
        memory: Bytes(memory * 1024),
        engine: own.engine.map(|engine| Engine { kind: engine.kind, version: engine.version }),
        cgroup,
        memory_limits: if limits_work { cgroup::memory_limits(root) } else { MemoryLimits::Off },
        labels: own.labels,
        generic: own.generic,
        devices: devices::attached(root),
        root_on_flash: flash::root_on_flash(root),
        address: own.address,
    })
}

/// The kernel's name for this boot; none where there is no `/proc`.
#[must_use]
pub fn boot_id(root: &Root) -> Option<BootId> {
    let text = root.read("/proc/sys/kernel/random/boot_id")?;
    u128::from_str_radix(&text.replace('-', ""), 16).ok().map(BootId)
}

/// Images run for the engine, which may be smaller than the kernel: a 32-bit Raspberry Pi OS has a 64-bit kernel on newer
/// boards. It says `arm` for all of 32 bits; the kernel knows which.
fn arch(machine: &str, of_engine: Option<Arch>) -> Option<Arch> {
    let of_kernel: Option<Arch> = match machine {
        "armv8l" => Some(Arch::ArmV7),
        // Without an engine we are the best witness: a 32-bit agent was installed on a 32-bit system.
        "aarch64" if cfg!(target_arch = "arm") => Some(Arch::ArmV7),
        other => other.parse().ok(),
    };
    match (of_engine, of_kernel) {
        (Some(Arch::ArmV7 | Arch::ArmV6), Some(Arch::ArmV6)) => Some(Arch::ArmV6),
        (of_engine, of_kernel) => of_engine.or(of_kernel),
    }
}

/// Some 64-bit ARM processors run 32-bit programs and some do not, and kernels may be built without. The kernel refuses
/// the 32-bit personality where it cannot; `lscpu` finds out in the same way.
#[cfg(target_arch = "aarch64")]
fn also_runs(arch: Arch) -> Vec<Arch> {
    use nix::sys::personality::{self, Persona};
    /// `PER_LINUX32` of `<linux/personality.h>`.
    const LINUX32: i32 = 8;
    if arch != Arch::Arm64 {
        return Vec::new();
    }
    let Ok(before) = personality::set(Persona::from_bits_retain(LINUX32)) else { return Vec::new() };
    let _ = personality::set(before);
    vec![Arch::ArmV7, Arch::ArmV6]
}

/// What else an x86 or smaller ARM processor runs follows from its architecture alone.
#[cfg(not(target_arch = "aarch64"))]
fn also_runs(_arch: Arch) -> Vec<Arch> {
    Vec::new()
}

fn os_name(root: &Root) -> String {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| root.read(path)).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".to_owned())
}

/// Processors that are switched on, from `0-3,5`. Not what the agent itself may use: its unit limits it to little.
fn cores(root: &Root) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    let online = root.read("/sys/devices/system/cpu/online");
    let sum = online.and_then(|text| text.split(',').map(count).sum::<Option<u32>>());
    sum.unwrap_or(1).clamp(1, 65_536)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;
    use outrigger_protocol::EngineKind;

    #[test]
    fn the_variant_comes_from_the_kernel_and_the_width_from_the_engine() {
        assert_eq!(arch("x86_64", None), Some(Arch::Amd64));
        assert_eq!(arch("aarch64", Some(Arch::Arm64)), Some(Arch::Arm64));
        // A 32-bit system under a 64-bit kernel.
        assert_eq!(arch("aarch64", "arm".parse().ok()), Some(Arch::ArmV7));
        // A Raspberry Pi Zero.
        assert_eq!(arch("armv6l", "arm".parse().ok()), Some(Arch::ArmV6));
        assert_eq!(arch("armv7l", "arm".parse().ok()), Some(Arch::ArmV7));
        assert_eq!(arch("vax", None), None);
    }

    #[test]
    fn a_raspberry_pi_says_what_it_is_and_that_its_memory_limits_are_off() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V2);
        device.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
        device.write("sys/devices/system/cpu/online", "0-3\n");
        device.write("proc/meminfo", "MemTotal:        3884360 kB\nMemFree: 1 kB\n");
        device.write("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        device.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        let engine = Description {
            kind: EngineKind::Docker,
            version: "20.10.24".to_owned(),
            arch: Some(Arch::Arm64),
            cgroup: CgroupVersion::V2,
            memory_limit: false,
            root_dir: None,
        };
        let facts = facts(&device.root(), OwnFacts { engine: Some(engine), ..OwnFacts::default() }).unwrap();
        assert_eq!((facts.arch, facts.cpu, facts.memory), (Arch::Arm64, MilliCpu(4_000), Bytes(3_884_360 * 1024)));
        assert_eq!((facts.cgroup, facts.memory_limits), (CgroupVersion::V2, MemoryLimits::Off));
        assert_eq!(facts.os, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(facts.board.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = facts(&Root::real(), OwnFacts::default()).unwrap();
        assert!(facts.cpu.0 >= 1_000 && facts.memory.0 > 0 && !facts.kernel.is_empty());
        assert!(boot_id(&Root::real()).is_some());
    }

    #[test]
    fn processors_are_counted_by_ranges() {
        let device = Recorded::new();
        assert_eq!(cores(&device.root()), 1);
        for (text, expected) in [("0", 1), ("0-3", 4), ("0-1,4-5,7", 5), ("3-0", 1), ("what", 1)] {
            device.write("sys/devices/system/cpu/online", text);
            assert_eq!(cores(&device.root()), expected, "{text}");
        }
    }
}
