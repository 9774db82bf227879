//! What the device is, put together for its hello.

use std::net::IpAddr;

use outrigger_protocol::{Arch, BootId, Bytes, CgroupVersion, Engine, Facts, GenericResource, MemoryLimits, MilliCpu};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, System};

use super::{Root, board, cgroup, devices, flash};
use crate::engine::Description;

/// More than any kernel has; so that the sum of its thousandths has room.
const MOST_CORES: u32 = 65_536;

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
    /// Port on which the proxy listens for other devices; none: there is no proxy.
    pub mesh_port: Option<u16>,
    /// Changes with what its owner allows.
    pub policy: u64,
}

/// What sysinfo says about the device.
struct Machine {
    /// The kernel's word for its processor.
    processor: String,
    os: String,
    kernel: String,
    cores: u32,
    memory: Bytes,
}

/// What the device is. `None` where the processor is none that images exist for.
#[must_use]
pub fn facts(root: &Root, own: OwnFacts) -> Option<Facts> {
    put_together(root, machine(), own)
}

fn machine() -> Machine {
    let (cores, memory) = System::new().map_or((0, 0), |mut system| {
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        (system.cpus().len(), system.total_memory())
    });
    Machine {
        processor: System::cpu_arch(),
        os: os_name(System::name().ok(), System::os_version().ok()),
        kernel: System::kernel_version().unwrap_or_default(),
        // Processors that are switched on, not what the agent itself may use: its unit limits it to little.
        cores: u32::try_from(cores).unwrap_or(u32::MAX).clamp(1, MOST_CORES),
        memory: Bytes(memory),
    }
}

fn put_together(root: &Root, machine: Machine, own: OwnFacts) -> Option<Facts> {
    let arch = arch(&machine.processor, own.engine.as_ref().and_then(|engine| engine.arch))?;
    let limits_work = own.engine.as_ref().is_none_or(|engine| engine.memory_limit);
    let cgroup = match own.engine.as_ref().map(|engine| engine.cgroup) {
        Some(CgroupVersion::Unknown) | None => cgroup::cgroup_version(root),
        Some(of_engine) => of_engine,
    };
    Some(Facts {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        arch,
        also_runs: also_runs(arch),
        os: machine.os,
        kernel: machine.kernel,
        board: board::board(root),
        cpu: MilliCpu(machine.cores * 1_000),
        memory: machine.memory,
        engine: own.engine.map(|engine| Engine { kind: engine.kind, version: engine.version }),
        cgroup,
        memory_limits: if limits_work { cgroup::memory_limits(root) } else { MemoryLimits::Off },
        labels: own.labels,
        generic: own.generic,
        devices: devices::attached(root),
        root_on_flash: flash::root_on_flash(root),
        address: own.address,
        mesh_port: own.mesh_port,
        policy: own.policy,
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

/// Such as `Debian GNU/Linux 12`; a rolling one has no version. sysinfo leaves the simple quotes of some systems.
fn os_name(name: Option<String>, version: Option<String>) -> String {
    let plain = |text: String| text.trim_matches('\'').to_owned();
    let name = name.map(plain).filter(|name| !name.is_empty()).unwrap_or_else(|| "Linux".to_owned());
    match version.map(plain).filter(|version| !version.is_empty()) {
        Some(version) => format!("{name} {version}"),
        None => name,
    }
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
        device.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        let engine = Description {
            kind: EngineKind::Docker,
            version: "20.10.24".to_owned(),
            arch: Some(Arch::Arm64),
            cgroup: CgroupVersion::V2,
            memory_limit: false,
            root_dir: None,
        };
        let machine = Machine {
            processor: "aarch64".to_owned(),
            os: "Debian GNU/Linux 12".to_owned(),
            kernel: "6.6.31+rpt-rpi-v8".to_owned(),
            cores: 4,
            memory: Bytes(3_884_360 * 1024),
        };
        let own = OwnFacts { engine: Some(engine), ..OwnFacts::default() };
        let facts = put_together(&device.root(), machine, own).unwrap();
        assert_eq!((facts.arch, facts.cpu, facts.memory), (Arch::Arm64, MilliCpu(4_000), Bytes(3_884_360 * 1024)));
        assert_eq!((facts.cgroup, facts.memory_limits), (CgroupVersion::V2, MemoryLimits::Off));
        assert_eq!((facts.os.as_str(), facts.kernel.as_str()), ("Debian GNU/Linux 12", "6.6.31+rpt-rpi-v8"));
        assert_eq!(facts.board.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = facts(&Root::real(), OwnFacts::default()).unwrap();
        assert!((1_000..=65_536_000).contains(&facts.cpu.0), "{facts:?}");
        assert!(facts.memory.0 > 64 << 20, "{facts:?}");
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        assert!(facts.kernel == release && !facts.os.is_empty(), "{facts:?}");
        assert!(boot_id(&Root::real()).is_some());
    }

    #[test]
    fn an_operating_system_is_known_by_its_name_and_version() {
        let name = |name: &str, version: &str| os_name(Some(name.to_owned()), Some(version.to_owned()));
        assert_eq!(name("Debian GNU/Linux", "12"), "Debian GNU/Linux 12");
        assert_eq!(name("'Alpine Linux'", "3.22.1"), "Alpine Linux 3.22.1");
        assert_eq!(os_name(Some("Arch Linux".to_owned()), None), "Arch Linux");
        assert_eq!(os_name(None, None), "Linux");
    }
}
