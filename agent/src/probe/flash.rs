//! Whether the root file system is on an SD card or eMMC, which wears out by writing.

use super::Root;

pub(super) fn root_on_flash(root: &Root) -> bool {
    let mounts = root.read("/proc/self/mountinfo").unwrap_or_default();
    // `24 1 179:2 / / rw … - ext4 /dev/mmcblk0p2 rw`; the number tells what `/dev/root` hides.
    let mut of_root = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(2);
        let (number, _, point) = (words.next()?, words.next()?, words.next()?);
        (point == "/").then_some(number)
    });
    // The last one mounted over the others is the one in use.
    let Some(number) = of_root.next_back() else { return false };
    root.link(&format!("/sys/dev/block/{number}")).is_ok_and(|device| device.to_string_lossy().contains("/mmcblk"))
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    #[test]
    fn an_sd_card_is_known_by_its_number() {
        let device = Recorded::new();
        assert!(!root_on_flash(&device.root()));
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V2);
        device.link(
            "sys/dev/block/179:2",
            "../../devices/platform/emmc2bus/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/mmcblk0p2",
        );
        assert!(root_on_flash(&device.root()));
    }

    #[test]
    fn a_disk_is_no_flash_card() {
        let device = Recorded::new();
        device.write("proc/self/mountinfo", super::super::cgroup::tests::V1);
        device.link("sys/dev/block/254:0", "../../devices/pci0000:00/0000:00:02.0/virtio1/block/vda");
        assert!(!root_on_flash(&device.root()));
    }
}
