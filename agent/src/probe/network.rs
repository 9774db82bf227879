//! Traffic of the device's own interfaces.

use std::time::Duration;

use sysinfo::Networks;

use super::Root;

pub(super) struct Network {
    root: Root,
    networks: Option<Networks>,
}

/// Bytes of one interface since the sample before.
struct Traffic<'a> {
    interface: &'a str,
    received: u64,
    sent: u64,
}

impl Network {
    pub(super) fn new(root: &Root) -> Self {
        Self { root: root.clone(), networks: Networks::new().ok() }
    }

    /// Kilobytes per second received and sent since the sample before.
    pub(super) fn sample(&mut self, elapsed: Option<Duration>) -> (u32, u32) {
        let Some(networks) = &mut self.networks else { return (0, 0) };
        // Those of ended containers are forgotten.
        networks.refresh(true);
        let Some(elapsed) = elapsed else { return (0, 0) };
        let all = networks.iter().filter_map(|(name, data)| {
            Some(Traffic { interface: name.to_str()?, received: data.received(), sent: data.transmitted() })
        });
        let (received, sent) = sum(all, &self.root);
        (rate(received, elapsed), rate(sent, elapsed))
    }
}

fn rate(bytes: u64, elapsed: Duration) -> u32 {
    let milliseconds = elapsed.as_millis().max(1);
    u32::try_from(u128::from(bytes) / milliseconds).unwrap_or(u32::MAX)
}

/// Bytes received and sent by all physical interfaces; where none is physical (virtual machines of some kinds, network
/// namespaces), by all that are not made for containers.
fn sum<'a>(all: impl Iterator<Item = Traffic<'a>>, root: &Root) -> (u64, u64) {
    let mut physical = None;
    let mut others = (0_u64, 0_u64);
    for Traffic { interface, received, sent } in all {
        let add = |sum: (u64, u64)| (sum.0.saturating_add(received), sum.1.saturating_add(sent));
        if is_for_containers(interface) {
            continue;
        }
        if root.exists(&format!("/sys/class/net/{interface}/device")) {
            physical = Some(add(physical.unwrap_or_default()));
        } else {
            others = add(others);
        }
    }
    physical.unwrap_or(others)
}

fn is_for_containers(name: &str) -> bool {
    const BEGINNINGS: [&str; 8] = ["lo", "docker", "br-", "veth", "virbr", "podman", "cni", "ifb"];
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    fn traffic(interface: &str, received: u64, sent: u64) -> Traffic<'_> {
        Traffic { interface, received, sent }
    }

    #[test]
    fn traffic_is_that_of_the_interfaces_to_the_outside() {
        let nothing = Recorded::new();
        let all = [traffic("lo", 999, 999), traffic("eth0", 10, 20), traffic("docker0", 77, 77), traffic("wg0", 5, 5)];
        assert_eq!(sum(all.into_iter(), &nothing.root()), (15, 25));
    }

    #[test]
    fn where_one_is_physical_the_others_do_not_count() {
        let device = Recorded::new();
        device.write("sys/class/net/eth0/device/vendor", "0x1af4");
        let all = [traffic("wg0", 5_000, 5_000), traffic("eth0", 10, 20)];
        assert_eq!(sum(all.into_iter(), &device.root()), (10, 20));
    }

    #[test]
    fn bytes_per_millisecond_are_kilobytes_per_second() {
        assert_eq!(rate(50_000, Duration::from_secs(10)), 5);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u32::MAX);
    }

    #[test]
    fn the_first_sample_of_this_machine_has_none_before() {
        let mut network = Network::new(&Root::real());
        assert_eq!(network.sample(None), (0, 0));
        let (received, sent) = network.sample(Some(Duration::from_secs(1)));
        assert!(received < u32::MAX && sent < u32::MAX);
    }
}
