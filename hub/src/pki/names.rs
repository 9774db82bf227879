//! By which names and addresses this hub can be reached: what stands in its certificate, and which `Host` it answers to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

/// More would make the certificate too long for small devices; the first ones count.
const MAX: usize = 64;

/// Names and addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names, in lower case.
    pub hosts: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Those of this machine now, and those that the operator has named.
    #[must_use]
    pub fn of_this_machine(named: &[String]) -> Self {
        let mut names = Self::default();
        for name in named {
            names.add(name);
        }
        names.add("localhost");
        let system = rustix::system::uname();
        if let Ok(host) = system.nodename().to_str() {
            names.add(host);
            // What multicast DNS calls it in a network without a server for names.
            names.add(&format!("{}.local", host.split('.').next().unwrap_or(host)));
        }
        names.addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        for interface in getifaddrs().into_iter().flatten() {
            let Some(address) = interface.address else { continue };
            let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
            let v6 =
                address.as_sockaddr_in6().map(|at| at.ip()).filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6);
            if names.addresses.len() < MAX {
                names.addresses.extend(v4.or(v6));
            }
        }
        names
    }

    fn add(&mut self, name: &str) {
        if let Ok(address) = name.parse() {
            self.addresses.insert(address);
        } else if is_host(name) && self.hosts.len() < MAX {
            self.hosts.insert(name.to_ascii_lowercase());
        }
    }

    /// Whether the hub is called so. Case counts not; brackets around an address are taken off.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.hosts.contains(&host.to_ascii_lowercase()),
        }
    }
}

/// A name as certificates and resolvers take it.
#[must_use]
pub fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_known_by_what_it_is_called_and_by_nothing_else() {
        let names = Names::of_this_machine(&["Hub.Example".to_owned(), "192.0.2.7".to_owned(), "no host".to_owned()]);
        for good in ["hub.example", "HUB.example", "192.0.2.7", "localhost", "127.0.0.1", "[::1]"] {
            assert!(names.has(good), "{good}");
        }
        for bad in ["evil.example", "hub.example.evil", "192.0.2.8", "no host", "", "*"] {
            assert!(!names.has(bad), "{bad}");
        }
    }
}
