//! Where the subnets of networks come from: a pool of private addresses that the owner of the device can change.
//!
//! Addresses never leave the device, so two devices may use the same ones; what must not clash are the networks that the
//! device itself can reach. Each network has a /21: its lower half is for containers (1 021), its upper half for virtual
//! addresses (1 022 services). IPv6 comes from a unique local prefix (RFC 4193) that is derived from the installation's
//! number, with a /64 for each network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use outrigger_proxy::control::Subnet;
use thiserror::Error;

/// The pool if nobody says otherwise: 128 networks, in a part of 10.0.0.0/8 that neither Docker, Kubernetes, K3s nor
/// common home routers use.
pub const DEFAULT_POOL: &str = "10.212.0.0/14";
/// Length of a network's prefix.
const NETWORK: u8 = 21;
/// The shortest prefix that a pool may have: there is no larger private range.
const LARGEST: u8 = 8;
/// Length of the prefix of a network's IPv6 addresses.
const NETWORK_V6: u8 = 64;

/// A range of addresses that networks are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    base: Ipv4Addr,
    prefix: u8,
}

/// A text that is no pool.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "it must be a range of private addresses (10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16) with room for a network of \
     /{NETWORK}, such as {DEFAULT_POOL}"
)]
pub struct PoolError;

/// No subnet is left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "no subnet is free in {pool}: each overlaps with a network of the engine or a route of this device; set `network_pool` \
     in agent.toml to a range that is free here"
)]
pub struct Exhausted {
    /// Of which pool.
    pub pool: Pool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { base: Ipv4Addr::new(10, 212, 0, 0), prefix: 14 }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Pool {
    type Err = PoolError;
    fn from_str(text: &str) -> Result<Self, PoolError> {
        let (base, prefix) = text.split_once('/').ok_or(PoolError)?;
        let (base, prefix): (Ipv4Addr, u8) =
            (base.parse().map_err(|_| PoolError)?, prefix.parse().map_err(|_| PoolError)?);
        let is_whole = (LARGEST..=NETWORK).contains(&prefix) && masked(base, prefix) == base;
        let privates =
            [(Ipv4Addr::new(10, 0, 0, 0), 8), (Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(192, 168, 0, 0), 16)];
        let is_private = privates.iter().any(|(of, length)| prefix >= *length && masked(base, *length) == *of);
        if is_whole && is_private { Ok(Self { base, prefix }) } else { Err(PoolError) }
    }
}

impl Pool {
    /// A subnet for the network of this name that overlaps with none of `taken`. The name says where the search begins,
    /// so that a network that is made again usually gets the addresses that it had.
    ///
    /// # Errors
    /// If none is free.
    pub fn pick(&self, name: &str, taken: &[(IpAddr, u8)]) -> Result<Subnet<Ipv4Addr>, Exhausted> {
        let count = 1_u32 << (NETWORK - self.prefix);
        let first = spread(name) % count;
        let candidates = (0..count).map(|step| self.nth((first + step) % count));
        let is_free = |base: &Ipv4Addr| !taken.iter().any(|(other, prefix)| overlaps(*base, NETWORK, *other, *prefix));
        candidates.into_iter().find(is_free).map(v4).ok_or(Exhausted { pool: *self })
    }

    fn nth(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) | index << (32 - u32::from(NETWORK)))
    }

    /// What of `taken` overlaps with it.
    #[must_use]
    pub fn clashes(&self, taken: &[(IpAddr, u8)]) -> Vec<(IpAddr, u8)> {
        let is_in = |(other, prefix): &&(IpAddr, u8)| overlaps(self.base, self.prefix, *other, *prefix);
        taken.iter().filter(is_in).copied().collect()
    }

    /// How many networks have room in it beside what is `taken`.
    #[must_use]
    pub fn room(&self, taken: &[(IpAddr, u8)]) -> u32 {
        let is_free = |base: &Ipv4Addr| !taken.iter().any(|(other, prefix)| overlaps(*base, NETWORK, *other, *prefix));
        let free = (0..self.networks()).map(|index| self.nth(index)).filter(is_free).count();
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// How many networks fit into it.
    #[must_use]
    pub fn networks(&self) -> u32 {
        1 << (NETWORK - self.prefix)
    }
}

/// A network's subnet, from its first address.
#[must_use]
pub fn v4(base: Ipv4Addr) -> Subnet<Ipv4Addr> {
    v4_of(base, NETWORK)
}

/// The same for one of another size: a network that an engine has already.
#[must_use]
pub fn v4_of(base: Ipv4Addr, prefix: u8) -> Subnet<Ipv4Addr> {
    let half = 1_u32.checked_shl(31_u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
    Subnet {
        base,
        prefix,
        gateway: Ipv4Addr::from(u32::from(base) | 1),
        virtual_base: Ipv4Addr::from(u32::from(base) | half),
        virtual_prefix: (prefix + 1).min(32),
    }
}

/// The IPv6 subnet that goes with one of IPv4, in the unique local prefix of an installation.
#[must_use]
pub fn v6(machine: u128, v4: &Subnet<Ipv4Addr>) -> Subnet<Ipv6Addr> {
    // RFC 4193: fd, 40 bits that nobody else has, 16 bits for the subnet. The middle of 10.x.y.z tells /21s apart.
    let global = (machine >> 64 ^ machine) & 0xff_ffff_ffff;
    let subnet = u128::from(u32::from(v4.base) >> (32 - u32::from(NETWORK)) & 0xffff);
    v6_of(Ipv6Addr::from(0xfd_u128 << 120 | global << 80 | subnet << 64), NETWORK_V6)
}

/// An IPv6 subnet from its first address.
#[must_use]
pub fn v6_of(base: Ipv6Addr, prefix: u8) -> Subnet<Ipv6Addr> {
    let half = 1_u128.checked_shl(127_u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
    Subnet {
        base,
        prefix,
        gateway: Ipv6Addr::from(u128::from(base) | 1),
        virtual_base: Ipv6Addr::from(u128::from(base) | half),
        virtual_prefix: (prefix + 1).min(128),
    }
}

/// How many services have a virtual address in such a subnet: all addresses but the first, which some programs take for the
/// network's own, and the last, which is the broadcast address.
#[must_use]
pub fn room(subnet: &Subnet<Ipv4Addr>) -> u32 {
    (1_u32.checked_shl(32 - u32::from(subnet.virtual_prefix)).unwrap_or(0)).saturating_sub(2)
}

/// FNV-1a, 32 bit: where a search begins. No security rests on it, and it must never change between releases.
#[must_use]
pub fn spread(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn masked(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & mask)
}

/// Whether two ranges have an address in common. Those of IPv6 are never asked about: their prefix is ours alone.
fn overlaps(base: Ipv4Addr, prefix: u8, other: IpAddr, other_prefix: u8) -> bool {
    let IpAddr::V4(other) = other else { return false };
    let shorter = prefix.min(other_prefix);
    masked(base, shorter) == masked(other, shorter)
}

/// The ranges that this device has a way to, from `/proc/net/route`. The default route leads everywhere and counts not.
#[must_use]
pub fn routes(table: &str) -> Vec<(IpAddr, u8)> {
    let read = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
        let destination = number(words.next()?)?;
        let mask = number(words.nth(5)?)?;
        (mask != 0)
            .then(|| (IpAddr::from(Ipv4Addr::from(destination)), u8::try_from(mask.leading_ones()).unwrap_or(32)))
    };
    table.lines().skip(1).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn taken(text: &str) -> (IpAddr, u8) {
        let (base, prefix) = text.split_once('/').unwrap();
        (base.parse().unwrap(), prefix.parse().unwrap())
    }

    #[test]
    fn a_pool_is_a_whole_range_of_private_addresses() {
        assert_eq!(DEFAULT_POOL.parse(), Ok(Pool::default()));
        for good in ["10.0.0.0/8", "10.213.0.0/16", "172.16.0.0/12", "192.168.8.0/21"] {
            assert_eq!(good.parse::<Pool>().unwrap().to_string(), good);
        }
        for bad in
            ["10.213.0.0", "10.213.0.1/16", "8.8.0.0/16", "10.0.0.0/22", "0.0.0.0/0", "172.0.0.0/8", "fd00::/48", "x/8"]
        {
            assert_eq!(bad.parse::<Pool>(), Err(PoolError), "{bad}");
        }
    }

    #[test]
    fn a_thousand_services_and_a_thousand_containers_fit_into_a_network() {
        let subnet = Pool::default().pick("shop_default", &[]).unwrap();
        assert!(room(&subnet) >= 1_000);
        assert_eq!((subnet.prefix, subnet.virtual_prefix), (21, 22));
        assert_eq!(u32::from(subnet.virtual_base) - u32::from(subnet.base), 1_024);
        assert_eq!(u32::from(subnet.gateway) - u32::from(subnet.base), 1);
    }

    #[test]
    fn every_network_of_a_pool_gets_a_subnet_of_its_own_until_none_is_left() {
        let pool: Pool = "10.213.0.0/16".parse().unwrap();
        let mut all = Vec::new();
        for number in 0..pool.networks() {
            let subnet = pool.pick(&format!("net{number}"), &all).unwrap();
            all.push((IpAddr::from(subnet.base), subnet.prefix));
        }
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 32);
        assert_eq!(pool.pick("one_more", &all), Err(Exhausted { pool }));
    }

    #[test]
    fn a_network_that_is_made_again_gets_what_it_had_and_nothing_that_is_taken() {
        let pool = Pool::default();
        let first = pool.pick("shop_default", &[]).unwrap();
        assert_eq!(pool.pick("shop_default", &[taken("192.168.0.0/16")]).unwrap(), first);
        // A part of it is enough, and so is a range around it.
        for other in [(IpAddr::from(first.virtual_base), 28), (IpAddr::from(first.base), 20)] {
            let second = pool.pick("shop_default", &[other]).unwrap();
            assert!(!overlaps(second.base, second.prefix, other.0, other.1), "{second:?} and {other:?}");
        }
    }

    #[test]
    fn routes_are_read_and_the_default_route_takes_nothing() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000D40A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes = routes(table);
        if cfg!(target_endian = "little") {
            assert_eq!(routes, [taken("10.212.0.0/16")]);
            assert_eq!(Pool::default().clashes(&routes), routes);
        }
        assert_eq!("10.64.0.0/16".parse::<Pool>().unwrap().clashes(&routes), []);
    }

    #[test]
    fn ipv6_is_unique_local_and_differs_by_machine_and_by_network() {
        let pool = Pool::default();
        let (a, b) = (pool.pick("a", &[]).unwrap(), pool.pick("b", &[]).unwrap());
        let all: BTreeSet<Ipv6Addr> = [v6(7, &a), v6(7, &b), v6(8, &a)].iter().map(|subnet| subnet.base).collect();
        assert_eq!(all.len(), 3);
        for base in &all {
            assert!(base.is_unique_local(), "{base}");
        }
        let one = v6(7, &a);
        assert_eq!(u128::from(one.virtual_base) - u128::from(one.base), 1 << 63);
    }
}
