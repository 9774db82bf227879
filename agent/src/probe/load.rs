//! How loaded the device is. Processor, memory and load average are cheap and sampled every time; disk, network and
//! sensors cost more and change slowly.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_protocol::{Load, Moment, Permille, Throttling};

use super::Root;
use super::kept::KeptFile;
use super::network::Network;
use super::sensors::Sensors;

/// Time between samples of what changes slowly.
const SLOW: Duration = Duration::from_secs(10);

/// Samples the device's load. Each sample is compared with the one before.
#[derive(Debug)]
pub struct Sampler {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    network: Network,
    sensors: Sensors,
    /// On the file system whose space counts: the engine's.
    disk: PathBuf,
    cpu: Option<CpuTime>,
    slow: Load,
    slow_at: Option<Moment>,
}

/// Clock ticks since boot, of all cores together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CpuTime {
    used: u64,
    all: u64,
}

impl Sampler {
    /// A sampler that counts the space of the file system that holds `disk`.
    #[must_use]
    pub fn new(root: &Root, disk: PathBuf) -> Self {
        Self {
            // The sum of all cores is the first line.
            stat: KeptFile::new(root.path("/proc/stat"), 256),
            meminfo: KeptFile::new(root.path("/proc/meminfo"), 2048),
            loadavg: KeptFile::new(root.path("/proc/loadavg"), 64),
            network: Network::new(root),
            sensors: Sensors::new(root),
            disk,
            cpu: None,
            slow: Load::default(),
            slow_at: None,
        }
    }

    /// The engine says where it keeps its images only once it answers.
    pub fn set_disk(&mut self, disk: PathBuf) {
        self.disk = disk;
        self.slow_at = None;
    }

    /// The load now; processor and network since the sample before (the first one has none, and says 0).
    pub fn sample(&mut self, now: Moment) -> Load {
        if self.slow_at.is_none_or(|at| now.since(at) >= SLOW) {
            self.sample_slow(now);
        }
        let (memory, swap) = self.meminfo.read().map(memory_and_swap).unwrap_or_default();
        let load1 = self.loadavg.read().and_then(load_hundredths).unwrap_or(0);
        Load { cpu: self.sample_cpu(), memory, swap, load1, ..self.slow }
    }

    fn sample_cpu(&mut self) -> Permille {
        let now = self.stat.read().and_then(cpu_time);
        let before = std::mem::replace(&mut self.cpu, now);
        let (Some(now), Some(before)) = (now, before) else { return Permille::default() };
        Permille::of(now.used.saturating_sub(before.used), now.all.saturating_sub(before.all))
    }

    fn sample_slow(&mut self, now: Moment) {
        let elapsed = self.slow_at.map(|at| now.since(at));
        let (rx_kbps, tx_kbps) = self.network.sample(elapsed);
        self.slow = Load {
            disk: disk_used(&self.disk),
            rx_kbps,
            tx_kbps,
            temperature: self.sensors.temperature(),
            throttling: self.sensors.throttling().unwrap_or(Throttling(0)),
            ..Load::default()
        };
        self.slow_at = Some(now);
    }
}

/// Used and all ticks of `cpu  user nice system idle iowait irq softirq steal …`. Stolen time counts as used: it is not
/// there for work. Guests are already within `user` and `nice`.
fn cpu_time(stat: &str) -> Option<CpuTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut ticks = [0_u64; 8];
    for (tick, word) in ticks.iter_mut().zip(line.split_ascii_whitespace()) {
        *tick = word.parse().ok()?;
    }
    let all: u64 = ticks.iter().sum();
    let idle = ticks[3] + ticks[4];
    Some(CpuTime { used: all - idle, all })
}

/// Memory that cannot be given away, and swap in use.
fn memory_and_swap(meminfo: &str) -> (Permille, Permille) {
    let value = |key: &str| meminfo_kib(meminfo, key).unwrap_or(0);
    let total = value("MemTotal");
    let used = total.saturating_sub(value("MemAvailable"));
    let swap = value("SwapTotal");
    (Permille::of(used, total), Permille::of(swap.saturating_sub(value("SwapFree")), swap))
}

/// The value of one line of `/proc/meminfo`, in KiB.
pub(super) fn meminfo_kib(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Load average of one minute in hundredths, from `0.42 0.31 …`.
fn load_hundredths(loadavg: &str) -> Option<u32> {
    let (whole, hundredths) = loadavg.split_ascii_whitespace().next()?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    whole.checked_mul(100)?.checked_add(hundredths.parse().ok()?)
}

/// As `df` counts: what an ordinary user cannot use is used.
fn disk_used(path: &std::path::Path) -> Permille {
    match rustix::fs::statvfs(path) {
        Ok(space) => {
            let used = space.f_blocks.saturating_sub(space.f_bfree);
            Permille::of(used, used.saturating_add(space.f_bavail))
        }
        Err(_) => Permille::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    fn device() -> Recorded {
        let device = Recorded::new();
        device.write("proc/stat", "cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 1000 0 500 8000 500 0 0 0 0 0\nintr 1\n");
        device.write(
            "proc/meminfo",
            "MemTotal:        4000 kB\nMemFree: 100 kB\nMemAvailable:   3000 kB\nSwapTotal: 200 kB\nSwapFree: 150 kB\n",
        );
        device.write("proc/loadavg", "1.25 0.80 0.60 2/345 6789\n");
        device
    }

    #[test]
    fn processor_time_counts_since_the_sample_before() {
        let device = device();
        let mut sampler = Sampler::new(&device.root(), device.folder());
        assert_eq!(sampler.sample(Moment(0)).cpu.value(), 0);
        // 100 ticks, of which 25 idle and 25 waiting.
        device.write("proc/stat", "cpu  1030 0 520 8025 525 0 0 0 0 0\ncpu0 1 2 3\n");
        assert_eq!(sampler.sample(Moment(1000)).cpu.value(), 500);
        // Nothing has passed.
        assert_eq!(sampler.sample(Moment(1000)).cpu.value(), 0);
    }

    #[test]
    fn memory_swap_and_load_are_read() {
        let device = device();
        let load = Sampler::new(&device.root(), device.folder()).sample(Moment(0));
        assert_eq!((load.memory.value(), load.swap.value(), load.load1), (250, 250, 125));
        assert!(load.disk.value() > 0, "the folder of the test is on a file system with something in it");
    }

    #[test]
    fn a_device_without_any_of_it_has_no_load() {
        let nothing = Recorded::new();
        let mut sampler = Sampler::new(&nothing.root(), nothing.folder().join("missing"));
        assert_eq!(sampler.sample(Moment(0)), Load::default());
        assert_eq!(sampler.sample(Moment(1000)), Load::default());
    }

    #[test]
    fn slow_values_are_kept_between_their_samples() {
        let device = device();
        device.write("sys/class/thermal/thermal_zone0/temp", "48000\n");
        let mut sampler = Sampler::new(&device.root(), device.folder());
        assert_eq!(sampler.sample(Moment(0)).temperature, Some(480));
        device.write("sys/class/thermal/thermal_zone0/temp", "61234\n");
        assert_eq!(sampler.sample(Moment(9_999)).temperature, Some(480));
        assert_eq!(sampler.sample(Moment(10_000)).temperature, Some(612));
    }

    #[test]
    fn the_real_device_answers() {
        let mut sampler = Sampler::new(&Root::real(), PathBuf::from("/"));
        let load = sampler.sample(Moment(0));
        assert!(load.memory.value() > 0);
    }
}
