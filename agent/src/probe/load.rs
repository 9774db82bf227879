//! How loaded the device is. Processor, memory and load average are cheap and sampled every time; network, disk and
//! sensors cost more or change slowly.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_protocol::{Load, Moment, Permille, Throttling};
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, System};

use super::Root;
use super::network::Network;
use super::sensors::Sensors;

/// Time between samples of disk and sensors.
const SLOW: Duration = Duration::from_secs(10);
/// Time between samples of the network: sysinfo reads ten files of every interface, and each container has one.
const NETWORK: Duration = Duration::from_secs(30);

/// Samples the device's load. Each sample is compared with the one before.
pub struct Sampler {
    /// None where sysinfo does not support the system.
    system: Option<System>,
    network: Network,
    sensors: Sensors,
    /// On the file system whose space counts: the engine's.
    disk: PathBuf,
    first_at: Option<Moment>,
    slow: Load,
    slow_at: Option<Moment>,
    rates: (u32, u32),
    rates_at: Option<Moment>,
}

impl Sampler {
    /// A sampler that counts the space of the file system that holds `disk`.
    #[must_use]
    pub fn new(root: &Root, disk: PathBuf) -> Self {
        Self {
            system: System::new().ok(),
            network: Network::new(root),
            sensors: Sensors::new(root),
            disk,
            first_at: None,
            slow: Load::default(),
            slow_at: None,
            rates: (0, 0),
            rates_at: None,
        }
    }

    /// The engine says where it keeps its images only once it answers.
    pub fn set_disk(&mut self, disk: PathBuf) {
        self.disk = disk;
        self.slow_at = None;
    }

    /// How full the engine's disk is, asked now.
    #[must_use]
    pub fn disk(&self) -> Permille {
        disk_used(&self.disk)
    }

    /// The load now; processor and network since the sample before (the first one has none, and says 0).
    pub fn sample(&mut self, now: Moment) -> Load {
        if self.slow_at.is_none_or(|at| now.since(at) >= SLOW) {
            self.slow = self.sample_slow();
            self.slow_at = Some(now);
        }
        if self.rates_at.is_none_or(|at| now.since(at) >= NETWORK) {
            self.rates = self.network.sample(self.rates_at.map(|at| now.since(at)));
            self.rates_at = Some(now);
        }
        let (rx_kbps, tx_kbps) = self.rates;
        let (memory, swap) = self.sample_memory();
        let load1 = System::load_average().map_or(0, |load| hundredths(load.one));
        Load { cpu: self.sample_cpu(now), memory, swap, load1, rx_kbps, tx_kbps, ..self.slow }
    }

    /// What sysinfo says first is the mean since boot, and it says so until its shortest interval has passed.
    fn sample_cpu(&mut self, now: Moment) -> Permille {
        let Some(system) = &mut self.system else { return Permille::default() };
        system.refresh_cpu_usage();
        let first_at = *self.first_at.get_or_insert(now);
        if now.since(first_at) <= MINIMUM_CPU_UPDATE_INTERVAL {
            return Permille::default();
        }
        permille(system.global_cpu_usage())
    }

    /// Memory that cannot be given away, and swap in use.
    fn sample_memory(&mut self) -> (Permille, Permille) {
        let Some(system) = &mut self.system else { return Default::default() };
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
        (used(system.total_memory(), system.available_memory()), used(system.total_swap(), system.free_swap()))
    }

    fn sample_slow(&self) -> Load {
        Load {
            disk: disk_used(&self.disk),
            temperature: self.sensors.temperature(),
            throttling: self.sensors.throttling().unwrap_or(Throttling(0)),
            ..Load::default()
        }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sampler").field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn used(total: u64, free: u64) -> Permille {
    Permille::of(total.saturating_sub(free), total)
}

/// From percent.
fn permille(percent: f32) -> Permille {
    // A conversion to an integer ends at its limits, and what is no number is 0.
    Permille::new((percent * 10.0).round() as u16)
}

fn hundredths(load: f64) -> u32 {
    (load * 100.0).round() as u32
}

/// As `df` counts: what an ordinary user cannot use is used.
///
/// Not through sysinfo, whose list of disks asks every file system that is mounted: each container adds one, and a
/// network file system in user space whose server is gone never answers. This asks the one that counts.
fn disk_used(path: &Path) -> Permille {
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
    use crate::clock::Clock;

    /// Keeps one core busy for as long as sysinfo needs between two looks at it.
    fn work() -> Moment {
        let begin = Clock.now();
        while Clock.now().since(begin) <= MINIMUM_CPU_UPDATE_INTERVAL * 2 {
            std::hint::spin_loop();
        }
        Clock.now()
    }

    #[test]
    fn the_work_of_this_machine_is_seen_from_the_second_sample_on() {
        let mut sampler = Sampler::new(&Root::real(), PathBuf::from("/"));
        let first = Clock.now();
        assert_eq!(sampler.sample(first).cpu.value(), 0);
        // Too soon to be anything but the mean since boot.
        assert_eq!(sampler.sample(first + Duration::from_millis(1)).cpu.value(), 0);
        let load = sampler.sample(work());
        assert!((1..=1000).contains(&load.cpu.value()), "{load:?}");
    }

    #[test]
    fn this_machine_uses_some_of_its_memory_and_disk_but_not_all() {
        let mut sampler = Sampler::new(&Root::real(), PathBuf::from("/"));
        let load = sampler.sample(Moment(0));
        assert!((1..1000).contains(&load.memory.value()), "{load:?}");
        assert!((1..=1000).contains(&load.disk.value()) && load.swap.value() <= 1000, "{load:?}");
        assert!(load.load1 < 100_000, "{load:?}");
        assert_eq!((load.rx_kbps, load.tx_kbps), (0, 0), "there is no sample before");
    }

    #[test]
    fn what_sysinfo_says_is_told_in_whole_numbers() {
        assert_eq!([permille(0.0), permille(12.34), permille(100.0)].map(Permille::value), [0, 123, 1000]);
        assert_eq!([permille(f32::NAN), permille(-1.0), permille(250.0)].map(Permille::value), [0, 0, 1000]);
        assert_eq!([hundredths(0.29), hundredths(1.25), hundredths(12.0)], [29, 125, 1200]);
        assert_eq!([used(4000, 3000), used(0, 0), used(1, 2)].map(Permille::value), [250, 0, 0]);
    }

    #[test]
    fn space_that_cannot_be_asked_for_is_not_used() {
        assert_eq!(disk_used(&Recorded::new().folder().join("missing")).value(), 0);
    }

    #[test]
    fn slow_values_are_kept_between_their_samples() {
        let device = Recorded::new();
        device.write("sys/class/thermal/thermal_zone0/temp", "48000\n");
        let mut sampler = Sampler::new(&device.root(), device.folder());
        assert_eq!(sampler.sample(Moment(0)).temperature, Some(480));
        device.write("sys/class/thermal/thermal_zone0/temp", "61234\n");
        assert_eq!(sampler.sample(Moment(9_999)).temperature, Some(480));
        assert_eq!(sampler.sample(Moment(10_000)).temperature, Some(612));
    }
}
