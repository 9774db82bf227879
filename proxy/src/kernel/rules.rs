//! What is wanted of the kernel, as text for `nft` and `ip`. Pure.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::control::LocalNetwork;
use crate::listen::Ports;

/// Before the engine's own rules of this kind (-100): the first that decides counts, and the engine opens published ports
/// on every local address, so also on ours.
const LEAD: i32 = -110;
/// Before whatever firewall there is, which may still say no after us.
const GUARD: i32 = -10;

/// Our own refusals of what this device itself sends come back to it from a virtual address, and must be heard.
const HEARD: &str =
    "iifname \"lo\" tcp flags & rst == rst accept\niifname \"lo\" meta l4proto { icmp, ipv6-icmp } accept\n";

/// All of it. Empty: nothing is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    bridges: Vec<Bridge>,
    ports: Option<Ports>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bridge {
    name: String,
    v4: Part<Ipv4Addr>,
    v6: Option<Part<Ipv6Addr>>,
    /// The virtual addresses of IPv6, one by one: neighbour discovery answers for addresses, not for routes.
    v6_addresses: Vec<Ipv6Addr>,
}

/// A subnet and the part of it that is virtual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part<A> {
    base: A,
    prefix: u8,
    virtual_base: A,
    virtual_prefix: u8,
}

impl Rules {
    pub(super) fn of(networks: &[LocalNetwork], ports: Ports) -> Self {
        if networks.is_empty() {
            return Self::default();
        }
        let bridge = |network: &LocalNetwork| Bridge {
            name: network.bridge.clone(),
            v4: Part {
                base: network.v4.base,
                prefix: network.v4.prefix,
                virtual_base: network.v4.virtual_base,
                virtual_prefix: network.v4.virtual_prefix,
            },
            v6: network.v6.map(|v6| Part {
                base: v6.base,
                prefix: v6.prefix,
                virtual_base: v6.virtual_base,
                virtual_prefix: v6.virtual_prefix,
            }),
            v6_addresses: network.services.iter().filter_map(|one| one.v6).collect(),
        };
        // Names come from the agent, which has them from the engine; one that could be read as something else is left out.
        let is_plain = |network: &&LocalNetwork| is_interface(&network.bridge);
        Self { bridges: networks.iter().filter(is_plain).map(bridge).collect(), ports: Some(ports) }
    }

    /// For `nft -f -`: replaces our table at once, or removes it.
    pub(super) fn nft(&self, table: &str) -> String {
        let mut text = format!("add table inet {table}\ndelete table inet {table}\n");
        let Some(ports) = self.ports else { return text };
        let mut lead = String::new();
        let mut guard = String::new();
        for Bridge { name, v4, v6, .. } in &self.bridges {
            let (all, part) = (cidr(v4.base, v4.prefix), cidr(v4.virtual_base, v4.virtual_prefix));
            rules_of(&mut lead, &mut guard, name, "ip", &all, &part, ports.v4);
            if let (Some(v6), Some(port)) = (v6, ports.v6) {
                let (all, part) = (cidr(v6.base, v6.prefix), cidr(v6.virtual_base, v6.virtual_prefix));
                rules_of(&mut lead, &mut guard, name, "ip6", &all, &part, port);
            }
        }
        // Whoever comes to the listeners' own ports has not come by way of a virtual address.
        let v4 = self.bridges.iter().map(|bridge| cidr(bridge.v4.virtual_base, bridge.v4.virtual_prefix));
        closed(&mut guard, "ip", ports.v4, v4.collect());
        if let Some(port) = ports.v6 {
            let v6 = self.bridges.iter().filter_map(|bridge| bridge.v6);
            closed(&mut guard, "ip6", port, v6.map(|part| cidr(part.virtual_base, part.virtual_prefix)).collect());
        }
        let _ = write!(
            text,
            "table inet {table} {{\n\
             chain lead {{\ntype nat hook prerouting priority {LEAD}; policy accept;\n{lead}}}\n\
             chain guard {{\ntype filter hook input priority {GUARD}; policy accept;\n{HEARD}{guard}}}\n}}\n"
        );
        text
    }

    /// For `ip -batch -`: the virtual addresses are the device's own.
    pub(super) fn ip(&self) -> String {
        let mut text = String::new();
        for bridge in &self.bridges {
            let part = cidr(bridge.v4.virtual_base, bridge.v4.virtual_prefix);
            let _ = writeln!(text, "route replace local {part} dev {}", bridge.name);
            for address in &bridge.v6_addresses {
                let _ = writeln!(text, "address replace {address}/128 dev {} nodad", bridge.name);
            }
        }
        text
    }

    /// Virtual addresses of IPv6 with their bridges.
    pub(super) fn v6_addresses(&self) -> impl Iterator<Item = (&str, Ipv6Addr)> {
        self.bridges
            .iter()
            .flat_map(|bridge| bridge.v6_addresses.iter().map(|address| (bridge.name.as_str(), *address)))
    }
}

fn rules_of(lead: &mut String, guard: &mut String, bridge: &str, family: &str, all: &str, part: &str, port: u16) {
    let _ = writeln!(
        lead,
        "iifname \"{bridge}\" {family} saddr {all} {family} daddr {part} meta l4proto {{ tcp, udp }} \
         dnat to :{port}"
    );
    // A virtual address counts only for containers of its own network.
    for (condition, how) in [("meta l4proto tcp ", " with tcp reset"), ("", "")] {
        let _ = writeln!(guard, "iifname != \"{bridge}\" {family} daddr {part} {condition}reject{how}");
        let _ = writeln!(guard, "{family} saddr != {all} {family} daddr {part} {condition}reject{how}");
    }
}

fn closed(guard: &mut String, family: &str, port: u16, parts: Vec<String>) {
    // An address that no packet is for keeps the rule to its family.
    let nobody = if family == "ip" { "0.0.0.0" } else { "::" };
    let parts = if parts.is_empty() { nobody.to_owned() } else { parts.join(", ") };
    let other = format!("{family} daddr != {{ {parts} }}");
    let _ = writeln!(guard, "{other} tcp dport {port} reject with tcp reset");
    let _ = writeln!(guard, "{other} udp dport {port} reject");
}

fn cidr(base: impl std::fmt::Display, prefix: u8) -> String {
    format!("{base}/{prefix}")
}

/// What Linux takes as the name of an interface, less what `nft` and `ip` read otherwise.
fn is_interface(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Subnet, Virtual};

    fn network(bridge: &str) -> LocalNetwork {
        LocalNetwork {
            name: "shop-default".parse().unwrap(),
            bridge: bridge.to_owned(),
            v4: Subnet {
                base: [10, 9, 0, 0].into(),
                prefix: 24,
                gateway: [10, 9, 0, 1].into(),
                virtual_base: [10, 9, 0, 128].into(),
                virtual_prefix: 25,
            },
            v6: None,
            services: vec![Virtual { service: "shop/web".parse().unwrap(), v4: [10, 9, 0, 129].into(), v6: None }],
        }
    }

    #[test]
    fn each_network_leads_its_own_containers_only_and_others_are_refused() {
        let ports = Ports { v4: 40000, v6: Some(40001) };
        let text = Rules::of(&[network("or0"), network("x\" accept")], ports).nft("outrigger");
        let expected = "add table inet outrigger\ndelete table inet outrigger\ntable inet outrigger {\n\
            chain lead {\ntype nat hook prerouting priority -110; policy accept;\n\
            iifname \"or0\" ip saddr 10.9.0.0/24 ip daddr 10.9.0.128/25 meta l4proto { tcp, udp } dnat to :40000\n}\n\
            chain guard {\ntype filter hook input priority -10; policy accept;\n\
            iifname \"lo\" tcp flags & rst == rst accept\niifname \"lo\" meta l4proto { icmp, ipv6-icmp } accept\n\
            iifname != \"or0\" ip daddr 10.9.0.128/25 meta l4proto tcp reject with tcp reset\n\
            ip saddr != 10.9.0.0/24 ip daddr 10.9.0.128/25 meta l4proto tcp reject with tcp reset\n\
            iifname != \"or0\" ip daddr 10.9.0.128/25 reject\n\
            ip saddr != 10.9.0.0/24 ip daddr 10.9.0.128/25 reject\n\
            ip daddr != { 10.9.0.128/25 } tcp dport 40000 reject with tcp reset\n\
            ip daddr != { 10.9.0.128/25 } udp dport 40000 reject\n\
            ip6 daddr != { :: } tcp dport 40001 reject with tcp reset\n\
            ip6 daddr != { :: } udp dport 40001 reject\n}\n}\n";
        assert_eq!(text, expected, "and a name that is none is left out");
    }

    #[test]
    fn without_networks_our_table_goes() {
        let text = Rules::of(&[], Ports { v4: 1, v6: None }).nft("outrigger");
        assert_eq!(text, "add table inet outrigger\ndelete table inet outrigger\n");
    }
}
