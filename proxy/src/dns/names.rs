//! What the names of services mean to whom. Pure: an index of what is wanted, asked by address and name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use outrigger_protocol::{EndpointState, NetworkName, ServiceRef, StackName};

use crate::control::{LocalCopy, LocalNetwork, Subnet, Wanted};

/// The end of whole names. `.internal` is set aside for private use (ICANN, 2024).
const DOMAIN: &str = "outrigger.internal";
/// What the names of copies begin with.
const TASKS: &str = "tasks.";
/// The end of names of addresses.
const REVERSE: [&str; 2] = [".in-addr.arpa", ".ip6.arpa"];

/// The index.
#[derive(Debug, Default)]
pub(super) struct Names {
    networks: BTreeMap<NetworkName, Network>,
    /// Who asks from this address.
    askers: HashMap<IpAddr, Asker>,
}

#[derive(Debug)]
struct Network {
    local: LocalNetwork,
    /// The services by each of their names in it.
    named: HashMap<String, BTreeSet<ServiceRef>>,
    services: BTreeMap<ServiceRef, Service>,
}

#[derive(Debug, Default)]
struct Service {
    addresses: Vec<IpAddr>,
    /// Of the copies on this device.
    copies: Vec<IpAddr>,
    has_remote: bool,
}

/// A container.
#[derive(Debug)]
struct Asker {
    stack: StackName,
    networks: BTreeSet<NetworkName>,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// Nothing, and nobody else is to be asked.
    Nothing,
    /// Nothing of ours: the device's resolvers know.
    Foreign,
}

impl Names {
    pub(super) fn of(wanted: &Wanted) -> Self {
        let mut networks: BTreeMap<NetworkName, Network> =
            wanted.networks.iter().map(|local| (local.name.clone(), Network::of(local))).collect();
        for routes in &wanted.routes.services {
            let is_remote = routes.endpoints.iter().any(|one| one.peer.is_some() && one.state == EndpointState::Ready);
            for attachment in &routes.networks {
                let Some(network) = networks.get_mut(&attachment.network) else { continue };
                network.services.entry(routes.service.clone()).or_default().has_remote |= is_remote;
                let own = [routes.service.service.as_str()];
                for name in own.into_iter().chain(attachment.aliases.iter().map(String::as_str)) {
                    network.named.entry(name.to_ascii_lowercase()).or_default().insert(routes.service.clone());
                }
            }
        }
        let mut askers = HashMap::new();
        for copy in &wanted.copies {
            let joined: BTreeSet<NetworkName> = copy.addresses.iter().filter_map(|(name, _)| name.clone()).collect();
            for (name, address) in &copy.addresses {
                if let Some(network) = name.as_ref().and_then(|name| networks.get_mut(name)) {
                    let asker = Asker { stack: copy.service.stack.clone(), networks: joined.clone() };
                    askers.insert(*address, asker);
                    network.add_copy(copy, *address);
                }
            }
        }
        Self { networks, askers }
    }

    /// What `name` (without the dot at its end) means to who asks from `address` through the bridge of `network`.
    ///
    /// A container that has just started, and of which the agent has not told yet, counts as being in that network alone.
    pub(super) fn ask(&self, network: &NetworkName, address: IpAddr, name: &str) -> Meaning {
        let name = name.to_ascii_lowercase();
        let asker = self.askers.get(&address).filter(|asker| asker.networks.contains(network));
        let networks: Vec<&Network> = match asker {
            Some(asker) => asker.networks.iter().filter_map(|name| self.networks.get(name)).collect(),
            None => self.networks.get(network).into_iter().collect(),
        };
        if REVERSE.iter().any(|end| name.ends_with(end)) {
            return reverse(&networks, &name);
        }
        let whole = name.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let rest = whole.unwrap_or(&name);
        let (rest, are_copies) = rest.strip_prefix(TASKS).map_or((rest, false), |rest| (rest, true));
        let found = find(&networks, rest, asker.map(|asker| &asker.stack), whole.is_some());
        if found.is_empty() {
            let is_ours = name == DOMAIN || whole.is_some();
            return if is_ours { Meaning::Nothing } else { Meaning::Foreign };
        }
        let addresses: BTreeSet<IpAddr> = found
            .into_iter()
            .flat_map(|service| if are_copies { service.tasks() } else { service.addresses.clone() })
            .collect();
        Meaning::Addresses(addresses.into_iter().collect())
    }
}

impl Network {
    fn of(local: &LocalNetwork) -> Self {
        let service = |one: &crate::control::Virtual| {
            let addresses = std::iter::once(IpAddr::V4(one.v4)).chain(one.v6.map(IpAddr::V6)).collect();
            (one.service.clone(), Service { addresses, ..Service::default() })
        };
        let services = local.services.iter().map(service).collect();
        Self { local: local.clone(), named: HashMap::new(), services }
    }

    fn add_copy(&mut self, copy: &LocalCopy, address: IpAddr) {
        if let Some(service) = self.services.get_mut(&copy.service) {
            service.copies.push(address);
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        contains(&self.local, address)
    }
}

impl Service {
    fn tasks(&self) -> Vec<IpAddr> {
        let others = if self.has_remote || self.copies.is_empty() { &self.addresses[..] } else { &[] };
        self.copies.iter().chain(others).copied().collect()
    }
}

/// Whether an address is one of a network's subnets.
pub(super) fn contains(network: &LocalNetwork, address: IpAddr) -> bool {
    fn shares(a: u128, b: u128, width: u8, prefix: u8) -> bool {
        let shift = u32::from(width.saturating_sub(prefix));
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    }
    match (address, network.v6) {
        (IpAddr::V4(address), _) => {
            let Subnet { base, prefix, .. } = network.v4;
            shares(u32::from(address).into(), u32::from(base).into(), 32, prefix)
        }
        (IpAddr::V6(address), Some(Subnet { base, prefix, .. })) => shares(address.into(), base.into(), 128, prefix),
        (IpAddr::V6(_), None) => false,
    }
}

/// The services of this name. `web` means that of the asking container's own stack, where there is one; `web.shop` that of
/// the stack. Both may have dots in their own names, so each way to read it is tried.
fn find<'a>(networks: &[&'a Network], name: &str, stack: Option<&StackName>, is_whole: bool) -> Vec<&'a Service> {
    let named = |name: &str| -> Vec<(&'a ServiceRef, &'a Service)> {
        let refs = networks.iter().flat_map(|network| {
            network.named.get(name).into_iter().flatten().filter_map(|one| network.services.get_key_value(one))
        });
        refs.collect()
    };
    let of_stack = name.rsplit_once('.').map(|(service, stack)| {
        named(service).into_iter().filter(|(one, _)| one.stack.as_str() == stack).map(|(_, service)| service).collect()
    });
    let of_stack: Vec<&Service> = of_stack.unwrap_or_default();
    if is_whole {
        return of_stack;
    }
    let plain = named(name);
    let own: Vec<&Service> =
        plain.iter().filter(|(one, _)| Some(&one.stack) == stack).map(|(_, service)| *service).collect();
    match (own.is_empty(), of_stack.is_empty()) {
        (false, _) => own,
        (true, false) => of_stack,
        (true, true) => plain.into_iter().map(|(_, service)| service).collect(),
    }
}

/// The name of an address, where it is one of the asker's networks.
fn reverse(networks: &[&Network], name: &str) -> Meaning {
    let Some(address) = address_of(name) else { return Meaning::Foreign };
    if !networks.iter().any(|network| network.has(address)) {
        return Meaning::Foreign;
    }
    let services = networks.iter().flat_map(|network| &network.services);
    let mut having =
        services.filter(|(_, service)| service.addresses.iter().chain(&service.copies).any(|one| *one == address));
    having.next().map_or(Meaning::Nothing, |(one, _)| Meaning::Name(format!("{}.{}.{DOMAIN}", one.service, one.stack)))
}

/// The address that `4.3.2.1.in-addr.arpa` or its like in IPv6 is the name of.
fn address_of(name: &str) -> Option<IpAddr> {
    let [v4, v6] = REVERSE;
    if let Some(digits) = name.strip_suffix(v4) {
        let parts: Vec<u8> = digits.split('.').rev().map(|part| part.parse().ok()).collect::<Option<_>>()?;
        return <[u8; 4]>::try_from(parts).ok().map(IpAddr::from);
    }
    let nibbles: Vec<u128> = name.strip_suffix(v6)?.split('.').rev().map(nibble).collect::<Option<_>>()?;
    (nibbles.len() == 32).then(|| IpAddr::from(nibbles.iter().fold(0, |all, one| all << 4 | one).to_be_bytes()))
}

fn nibble(text: &str) -> Option<u128> {
    (text.len() == 1).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests;
