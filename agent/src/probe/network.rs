//! Traffic of the device's own interfaces.

use std::time::Duration;

use super::Root;
use super::kept::KeptFile;

#[derive(Debug)]
pub(super) struct Network {
    root: Root,
    dev: KeptFile,
    before: Option<(u64, u64)>,
}

impl Network {
    pub(super) fn new(root: &Root) -> Self {
        Self { root: root.clone(), dev: KeptFile::new(root.path("/proc/net/dev"), 8 * 1024), before: None }
    }

    /// Kilobytes per second received and sent since the sample before.
    pub(super) fn sample(&mut self, elapsed: Option<Duration>) -> (u32, u32) {
        let now = self.dev.read().map(|text| sum(text, &self.root));
        let before = std::mem::replace(&mut self.before, now);
        let (Some(now), Some(before), Some(elapsed)) = (now, before, elapsed) else { return (0, 0) };
        (rate(before.0, now.0, elapsed), rate(before.1, now.1, elapsed))
    }
}

fn rate(before: u64, now: u64, elapsed: Duration) -> u32 {
    // An interface that went away takes its count with it.
    let bytes = u128::from(now.saturating_sub(before));
    let milliseconds = elapsed.as_millis().max(1);
    u32::try_from(bytes / milliseconds).unwrap_or(u32::MAX)
}

/// Bytes received and sent by all physical interfaces; where none is physical (virtual machines of some kinds, network
/// namespaces), by all that are not made for containers.
fn sum(dev: &str, root: &Root) -> (u64, u64) {
    let mut physical = None;
    let mut others = (0_u64, 0_u64);
    for (name, received, sent) in dev.lines().filter_map(interface) {
        let add = |sum: (u64, u64)| (sum.0.saturating_add(received), sum.1.saturating_add(sent));
        if root.exists(&format!("/sys/class/net/{name}/device")) {
            physical = Some(add(physical.unwrap_or_default()));
        } else if !is_for_containers(name) {
            others = add(others);
        }
    }
    physical.unwrap_or(others)
}

/// Name, bytes received and bytes sent of `  eth0: 1234 …`; the two headings have no colon.
fn interface(line: &str) -> Option<(&str, u64, u64)> {
    let (name, counts) = line.split_once(':')?;
    let mut counts = counts.split_ascii_whitespace();
    let received = counts.next()?.parse().ok()?;
    // Seven more of receiving, then the first of sending.
    let sent = counts.nth(7)?.parse().ok()?;
    Some((name.trim(), received, sent))
}

fn is_for_containers(name: &str) -> bool {
    const BEGINNINGS: [&str; 8] = ["lo", "docker", "br-", "veth", "virbr", "podman", "cni", "ifb"];
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n";

    fn dev(eth0: (u64, u64)) -> String {
        format!(
            "{HEAD}    lo: 999999 9 0 0 0 0 0 0 999999 9 0 0 0 0 0 0\n  eth0: {} 9 0 0 0 0 0 0 {} 9 0 0 0 0 0 0\ndocker0: 77 7 0 0 0 0 0 0 77 7 0 0 0 0 0 0\n",
            eth0.0, eth0.1
        )
    }

    #[test]
    fn traffic_is_that_of_the_interfaces_to_the_outside() {
        let device = Recorded::new();
        device.write("proc/net/dev", &dev((1_000, 2_000)));
        let mut network = Network::new(&device.root());
        assert_eq!(network.sample(None), (0, 0));
        device.write("proc/net/dev", &dev((51_000, 22_000)));
        assert_eq!(network.sample(Some(Duration::from_secs(10))), (5, 2));
    }

    #[test]
    fn where_one_is_physical_the_others_do_not_count() {
        let device = Recorded::new();
        device.write("sys/class/net/eth0/device/vendor", "0x1af4");
        let text = format!("{}  wg0: 5000 9 0 0 0 0 0 0 5000 9 0 0 0 0 0 0\n", dev((10, 20)));
        assert_eq!(sum(&text, &device.root()), (10, 20));
        assert_eq!(sum(&text, &Recorded::new().root()), (5_010, 5_020));
    }
}
