//! The kernel's cgroups: which interface there is, whether memory can be limited, and where a process is in them.

use outrigger_protocol::{CgroupVersion, MemoryLimits};

use super::Root;

/// Which interface the kernel offers. With both (systemd's hybrid) the controllers are on the first.
#[must_use]
pub fn cgroup_version(root: &Root) -> CgroupVersion {
    let mounts = Mounts::read(root);
    if mounts.0.iter().any(|mount| mount.controllers.iter().any(|one| one == "cpu" || one == "memory")) {
        CgroupVersion::V1
    } else if mounts.0.iter().any(|mount| mount.is_unified) {
        CgroupVersion::V2
    } else {
        CgroupVersion::Unknown
    }
}

/// Whether memory can be limited. Raspberry Pi OS boots with the memory cgroup off.
#[must_use]
pub fn memory_limits(root: &Root) -> MemoryLimits {
    let mounts = Mounts::read(root);
    let on_first = mounts.0.iter().any(|mount| mount.controllers.iter().any(|one| one == "memory"));
    let on_unified = mounts.0.iter().filter(|mount| mount.is_unified).any(|mount| {
        let list = root.read(&format!("{}/cgroup.controllers", mount.point)).unwrap_or_default();
        list.split_ascii_whitespace().any(|controller| controller == "memory")
    });
    if on_first || on_unified { MemoryLimits::Work } else { MemoryLimits::Off }
}

/// Where the cgroup file systems are mounted, and which part of each is seen there.
#[derive(Debug, Clone, Default)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug, Clone)]
struct Mount {
    /// The cgroup that the mount point shows; `/` unless we run in a container.
    shows: String,
    point: String,
    is_unified: bool,
    /// Of the first interface.
    controllers: Vec<String>,
}

impl Mounts {
    pub(super) fn read(root: &Root) -> Self {
        let text = root.read("/proc/self/mountinfo").unwrap_or_default();
        Self(text.lines().filter_map(mount).collect())
    }

    /// The folder in which a cgroup's files of `controller` are, from `/proc/<pid>/cgroup`, and whether they are of the
    /// unified interface.
    pub(super) fn folder(&self, pid_cgroup: &str, controller: &str) -> Option<(String, CgroupVersion)> {
        let mut unified = None;
        for line in pid_cgroup.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                unified = Some(path);
            } else if controllers.split(',').any(|one| one == controller) {
                let mount = self.0.iter().find(|mount| mount.controllers.iter().any(|one| one == controller))?;
                return Some((mount.inside(path)?, CgroupVersion::V1));
            }
        }
        let mount = self.0.iter().find(|mount| mount.is_unified)?;
        Some((mount.inside(unified?)?, CgroupVersion::V2))
    }
}

impl Mount {
    fn inside(&self, path: &str) -> Option<String> {
        let below = if self.shows == "/" { path } else { path.strip_prefix(&self.shows)? };
        Some(format!("{}/{}", self.point, below.trim_matches('/')))
    }
}

/// A line such as `30 23 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (shows, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (file_system, options) = (kind.next()?, kind.nth(1)?);
    let is_unified = file_system == "cgroup2";
    if !is_unified && file_system != "cgroup" {
        return None;
    }
    let controllers = if is_unified { Vec::new() } else { options.split(',').map(str::to_owned).collect() };
    Some(Mount { shows: shows.to_owned(), point: point.to_owned(), is_unified, controllers })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    pub(in crate::probe) const V1: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
29 22 0:25 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 22 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 22 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    pub(in crate::probe) const V2: &str = "\
24 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
32 25 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    #[test]
    fn the_interface_is_that_of_the_controllers() {
        let device = Recorded::new();
        assert_eq!(cgroup_version(&device.root()), CgroupVersion::Unknown);
        device.write("proc/self/mountinfo", V1);
        assert_eq!(cgroup_version(&device.root()), CgroupVersion::V1);
        assert_eq!(memory_limits(&device.root()), MemoryLimits::Work);
        device.write("proc/self/mountinfo", V2);
        assert_eq!(cgroup_version(&device.root()), CgroupVersion::V2);
    }

    #[test]
    fn a_raspberry_pi_ships_without_the_memory_cgroup() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", V2);
        device.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
        assert_eq!(memory_limits(&device.root()), MemoryLimits::Off);
        device.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        assert_eq!(memory_limits(&device.root()), MemoryLimits::Work);
    }

    #[test]
    fn a_process_is_found_in_either_interface_and_from_within_a_container() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", V1);
        let first = Mounts::read(&device.root());
        let line = "8:pids:/docker/f00\n4:memory:/docker/f00\n2:cpuacct,cpu:/docker/f00\n0::/docker/f00\n";
        let memory = first.folder(line, "memory");
        assert_eq!(memory, Some(("/sys/fs/cgroup/memory/docker/f00".to_owned(), CgroupVersion::V1)));

        device.write("proc/self/mountinfo", V2);
        let unified = Mounts::read(&device.root()).folder("0::/system.slice/docker-f00.scope\n", "memory");
        let folder = "/sys/fs/cgroup/system.slice/docker-f00.scope".to_owned();
        assert_eq!(unified, Some((folder, CgroupVersion::V2)));

        device.write("proc/self/mountinfo", &V1.replace("0:26 / ", "0:26 /docker/outer "));
        let nested = Mounts::read(&device.root());
        let inner = nested.folder("4:memory:/docker/outer/docker/inner\n", "memory");
        assert_eq!(inner, Some(("/sys/fs/cgroup/memory/docker/inner".to_owned(), CgroupVersion::V1)));
        assert_eq!(nested.folder("4:memory:/elsewhere\n", "memory"), None);
    }
}
