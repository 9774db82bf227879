//! Finds hubs in the local network by multicast DNS, which is part of `join` only: a running agent listens to nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use thiserror::Error;

use super::HubUrl;
use crate::clock::Clock;

/// What hubs announce themselves as.
const SERVICE: &str = "_outrigger._tcp.local.";
/// For so long hubs are looked for. They answer within a second; a busy Wi-Fi loses the first question.
const LOOK_FOR: Duration = Duration::from_secs(4);
/// Time for one of a hub's addresses to prove that it leads there.
const KNOCK: Duration = Duration::from_millis(700);
/// Hubs and addresses of each that are looked at; whoever is in the network can announce more.
const MAX_HUBS: usize = 16;
const MAX_ADDRESSES: usize = 16;

/// A hub that says that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it calls itself.
    pub name: String,
    /// Where it is reached.
    pub url: HubUrl,
}

/// No hub was found, or not the one.
#[derive(Debug, Error)]
pub enum FindError {
    /// The network cannot be asked.
    #[error("cannot look for hubs in the local network; name the hub: outrigger-agent join https://HUB:7640")]
    Ask(#[source] mdns_sd::Error),
    /// Nobody answers.
    #[error(
        "no hub answers in the local network; name it: outrigger-agent join https://HUB:7640. (Hubs are found by multicast \
         DNS, which routers, guest networks and some access points do not pass on)"
    )]
    Nobody,
    /// More than one.
    #[error("several hubs answer in the local network; name the right one:{}", listed(.0))]
    Several(Vec<Found>),
}

fn listed(found: &[Found]) -> String {
    found.iter().map(|one| format!("\n  outrigger-agent join {}   ({})", one.url, one.name)).collect()
}

/// The one hub in the local network. Blocks for some seconds.
///
/// # Errors
/// If there is none, or more than one.
pub fn find() -> Result<Found, FindError> {
    let daemon = ServiceDaemon::new().map_err(FindError::Ask)?;
    // A link that has just come up is noticed in time; the library's own interval is longer than we look.
    daemon.set_ip_check_interval(1).map_err(FindError::Ask)?;
    let answers = daemon.browse(SERVICE).map_err(FindError::Ask)?;
    let mut told: BTreeMap<String, ResolvedService> = BTreeMap::new();
    let until = Clock.now() + LOOK_FOR;
    while let Ok(event) = answers.recv_timeout(until.since(Clock.now())) {
        if let ServiceEvent::ServiceResolved(service) = event
            && (told.len() < MAX_HUBS || told.contains_key(&service.fullname))
        {
            told.insert(service.fullname.clone(), *service);
        }
    }
    // Nobody waits for its end.
    let _ = daemon.shutdown();
    let mut found: Vec<_> = told.values().filter_map(reached).collect();
    match found.len() {
        0 => Err(FindError::Nobody),
        1 => found.pop().ok_or(FindError::Nobody),
        _ => Err(FindError::Several(found)),
    }
}

/// The hub by the first of its addresses that somebody answers at.
fn reached(service: &ResolvedService) -> Option<Found> {
    let addresses: Vec<IpAddr> = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
    let name = service.fullname.strip_suffix(SERVICE).unwrap_or(&service.fullname).trim_end_matches('.');
    let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let leads_there =
        |address: &IpAddr| TcpStream::connect_timeout(&SocketAddr::new(*address, service.port), KNOCK).is_ok();
    let address = in_order(addresses).into_iter().take(MAX_ADDRESSES).find(leads_there)?;
    Some(Found { name, url: HubUrl::of(address, service.port) })
}

/// Likely ones first. A link-local address of IPv6 means nothing without its interface, and a hub's certificate has none.
fn in_order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(|address| match address {
        IpAddr::V4(address) => !address.is_unspecified() && !address.is_multicast(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_unspecified() && !address.is_multicast(),
    });
    addresses.sort_by_key(|address| match address {
        // What container engines use for their own bridges comes last.
        IpAddr::V4(v4) => ((v4.is_loopback(), v4.is_link_local()), v4.octets()[0] == 172, *address),
        IpAddr::V6(v6) => ((v6.is_loopback(), false), true, *address),
    });
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_to_the_hub_are_tried_before_those_of_bridges() {
        let all =
            ["fe80::1", "127.0.0.1", "172.17.0.1", "169.254.1.1", "192.168.1.9", "fd00::9", "0.0.0.0", "224.0.0.251"];
        let ordered = in_order(all.iter().map(|text| text.parse().unwrap()).collect());
        let texts: Vec<_> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.168.1.9", "172.17.0.1", "fd00::9", "169.254.1.1", "127.0.0.1"]);
    }

    #[test]
    fn several_hubs_are_listed_with_the_line_for_each() {
        let found = |name: &str, url: &str| Found { name: name.into(), url: url.parse().unwrap() };
        let told = FindError::Several(vec![found("a", "10.0.0.1"), found("b", "10.0.0.2")]).to_string();
        assert!(told.contains("join https://10.0.0.1:7640   (a)\n") && told.contains("https://10.0.0.2"), "{told}");
    }
}
