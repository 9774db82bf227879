//! What a device of the tests is. Also the unit tests of the core use it.

use outrigger_protocol::{Arch, Bytes, CgroupVersion, Engine, EngineKind, Facts, MemoryLimits, MilliCpu};

/// A device with four cores and 4 GiB.
pub fn facts(arch: Arch) -> Facts {
    Facts {
        agent: "0.1.0".into(),
        arch,
        also_runs: vec![],
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.12.1".into(),
        board: None,
        cpu: MilliCpu(4000),
        memory: Bytes(4 << 30),
        engine: Some(Engine { kind: EngineKind::Memory, version: "1".into() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![],
        devices: vec![],
        root_on_flash: false,
        address: None,
        mesh_port: None,
        policy: 0,
    }
}
