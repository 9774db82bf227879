//! What each replica uses, from the files of its cgroup: no question to the engine, no stream per container.

use std::collections::BTreeMap;

use outrigger_protocol::{Bytes, CgroupVersion, Moment, PlacementId, Usage};

use super::Root;
use super::cgroup::Mounts;

/// Samples the usage of replicas. Each sample is compared with the one before.
#[derive(Debug)]
pub struct UsageSampler {
    root: Root,
    mounts: Mounts,
    known: BTreeMap<PlacementId, Known>,
}

#[derive(Debug)]
struct Known {
    pid: u32,
    cpu: Option<CpuFile>,
    memory: MemoryFiles,
    before: Option<(u64, Moment)>,
}

#[derive(Debug)]
enum CpuFile {
    /// `cpuacct.usage`: nanoseconds.
    V1(String),
    /// `cpu.stat`: `usage_usec`.
    V2(String),
}

#[derive(Debug)]
enum MemoryFiles {
    V1(String),
    V2(String),
    /// The memory cgroup is off: its first process must speak for all.
    Process(String),
}

impl UsageSampler {
    /// A sampler that knows no replica yet.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        Self { root: root.clone(), mounts: Mounts::read(root), known: BTreeMap::new() }
    }

    /// What the replicas with these first processes use; processor time since the sample before (0 in the first). One
    /// that has just ended is left out, and what is not named any more is forgotten.
    pub fn sample(&mut self, now: Moment, running: impl IntoIterator<Item = (PlacementId, u32)>) -> Vec<Usage> {
        let mut next = BTreeMap::new();
        let mut usages = Vec::new();
        for (placement, pid) in running {
            let held = self.known.remove(&placement).filter(|known| known.pid == pid);
            let Some(mut known) = held.or_else(|| self.find(pid)) else { continue };
            if let Some(memory) = known.memory.read(&self.root) {
                let cpu_milli = known.sample_cpu(&self.root, now);
                usages.push(Usage { placement, cpu_milli, memory: Bytes(memory) });
                next.insert(placement, known);
            }
        }
        self.known = next;
        usages
    }

    fn find(&self, pid: u32) -> Option<Known> {
        let own = self.root.read(&format!("/proc/{pid}/cgroup"))?;
        let folder = |controller| self.mounts.folder(&own, controller);
        let cpu = match folder("cpuacct") {
            Some((folder, CgroupVersion::V1)) => Some(CpuFile::V1(format!("{folder}/cpuacct.usage"))),
            Some((folder, CgroupVersion::V2)) => Some(CpuFile::V2(format!("{folder}/cpu.stat"))),
            Some((_, CgroupVersion::Unknown)) | None => None,
        };
        let memory = match folder("memory") {
            Some((folder, CgroupVersion::V1)) if self.root.exists(&folder) => MemoryFiles::V1(folder),
            Some((folder, CgroupVersion::V2)) if self.root.exists(&format!("{folder}/memory.current")) => {
                MemoryFiles::V2(folder)
            }
            Some(_) | None => MemoryFiles::Process(format!("/proc/{pid}/status")),
        };
        Some(Known { pid, cpu, memory, before: None })
    }
}

impl Known {
    fn sample_cpu(&mut self, root: &Root, now: Moment) -> u32 {
        let nanoseconds = match &self.cpu {
            Some(CpuFile::V1(path)) => root.read(path).and_then(|text| text.parse().ok()),
            Some(CpuFile::V2(path)) => {
                root.read(path).and_then(|text| value_of(&text, "usage_usec")).map(|us| us * 1000)
            }
            None => None,
        };
        let before = std::mem::replace(&mut self.before, nanoseconds.map(|time: u64| (time, now)));
        let (Some(time), Some((time_before, at))) = (nanoseconds, before) else { return 0 };
        // Nanoseconds in a nanosecond are cores; a thousandth of a core is a microsecond in a millisecond.
        let microseconds = time.saturating_sub(time_before) / 1000;
        let milliseconds = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX).max(1);
        u32::try_from(microseconds / milliseconds).unwrap_or(u32::MAX)
    }
}

impl MemoryFiles {
    /// Bytes in use less the page cache that nobody has touched lately, as `docker stats` counts.
    fn read(&self, root: &Root) -> Option<u64> {
        let (usage, stat, cache) = match self {
            Self::V1(folder) => (format!("{folder}/memory.usage_in_bytes"), folder, "total_inactive_file"),
            Self::V2(folder) => (format!("{folder}/memory.current"), folder, "inactive_file"),
            Self::Process(path) => return Some(resident_kib(&root.read(path)?)? * 1024),
        };
        let usage: u64 = root.read(&usage)?.parse().ok()?;
        let stat = root.read(&format!("{stat}/memory.stat")).unwrap_or_default();
        Some(usage.saturating_sub(value_of(&stat, cache).unwrap_or(0)))
    }
}

/// The number behind a key in lines of `key number`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    const ONE: PlacementId = PlacementId(1);

    #[test]
    fn usage_is_read_from_the_first_interface() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V1);
        device.write("proc/7/cgroup", "4:memory:/docker/f00\n2:cpuacct:/docker/f00\n0::/docker/f00\n");
        device.write("sys/fs/cgroup/memory/docker/f00/memory.usage_in_bytes", "544768\n");
        device.write(
            "sys/fs/cgroup/memory/docker/f00/memory.stat",
            "cache 77824\ninactive_file 1\ntotal_inactive_file 44768\n",
        );
        device.write("sys/fs/cgroup/cpuacct/docker/f00/cpuacct.usage", "19647427\n");
        let mut sampler = UsageSampler::new(&device.root());
        let first = sampler.sample(Moment(1_000), [(ONE, 7)]);
        assert_eq!(first, [Usage { placement: ONE, cpu_milli: 0, memory: Bytes(500_000) }]);
        // A quarter of a core over two seconds.
        device.write("sys/fs/cgroup/cpuacct/docker/f00/cpuacct.usage", "519647427\n");
        assert_eq!(sampler.sample(Moment(3_000), [(ONE, 7)])[0].cpu_milli, 250);
    }

    #[test]
    fn usage_is_read_from_the_unified_interface() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V2);
        device.write("proc/7/cgroup", "0::/system.slice/docker-f00.scope\n");
        let folder = "sys/fs/cgroup/system.slice/docker-f00.scope";
        device.write(&format!("{folder}/memory.current"), "10485760\n");
        device.write(&format!("{folder}/memory.stat"), "anon 1\nfile 2\ninactive_anon 3\ninactive_file 485760\n");
        device.write(&format!("{folder}/cpu.stat"), "usage_usec 1000000\nuser_usec 5\nsystem_usec 5\n");
        let mut sampler = UsageSampler::new(&device.root());
        assert_eq!(sampler.sample(Moment(0), [(ONE, 7)])[0].memory, Bytes(10_000_000));
        device.write(&format!("{folder}/cpu.stat"), "usage_usec 2500000\n");
        assert_eq!(sampler.sample(Moment(1_000), [(ONE, 7)])[0].cpu_milli, 1_500);
    }

    #[test]
    fn without_the_memory_cgroup_the_first_process_speaks_for_all() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V2);
        device.write("proc/7/cgroup", "0::/system.slice/docker-f00.scope\n");
        device.write("proc/7/status", "Name:\tweb\nVmRSS:\t    2048 kB\nThreads:\t1\n");
        let usages = UsageSampler::new(&device.root()).sample(Moment(0), [(ONE, 7)]);
        assert_eq!(usages[0].memory, Bytes(2 << 20));
    }

    #[test]
    fn a_restarted_replica_begins_anew_and_an_ended_one_is_left_out() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V2);
        for (pid, usage) in [(7, 9_000_000), (8, 100)] {
            device.write(&format!("proc/{pid}/cgroup"), &format!("0::/{pid}\n"));
            device.write(&format!("sys/fs/cgroup/{pid}/memory.current"), "4096\n");
            device.write(&format!("sys/fs/cgroup/{pid}/cpu.stat"), &format!("usage_usec {usage}\n"));
        }
        let mut sampler = UsageSampler::new(&device.root());
        sampler.sample(Moment(0), [(ONE, 7)]);
        assert_eq!(sampler.sample(Moment(1_000), [(ONE, 8)])[0].cpu_milli, 0);
        assert_eq!(sampler.sample(Moment(2_000), [(ONE, 9)]), []);
        assert!(sampler.known.is_empty());
    }
}
