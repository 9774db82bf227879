//! What names mean, as tables.

use outrigger_protocol::{Attachment, Endpoint, PlacementId, Routes, ServiceRoutes};

use super::*;
use crate::control::Virtual;

/// `10.0.N.0/24` and `fd00:N::/64`, with the upper halves for services.
pub(in crate::dns) fn network(name: &str, number: u8, services: &[(&str, u8)]) -> LocalNetwork {
    let v4 = |last| std::net::Ipv4Addr::new(10, 0, number, last);
    let v6 = |half: u16, last| std::net::Ipv6Addr::new(0xfd00, number.into(), 0, 0, half, 0, 0, last);
    let service = |(service, last): &(&str, u8)| Virtual {
        service: service.parse().unwrap(),
        v4: v4(128 + last),
        v6: Some(v6(0x8000, (*last).into())),
    };
    LocalNetwork {
        name: name.parse().unwrap(),
        bridge: format!("br-{name}"),
        v4: Subnet { base: v4(0), prefix: 24, gateway: v4(1), virtual_base: v4(128), virtual_prefix: 25 },
        v6: Some(Subnet {
            base: v6(0, 0),
            prefix: 64,
            gateway: v6(0, 1),
            virtual_base: v6(0x8000, 0),
            virtual_prefix: 65,
        }),
        services: services.iter().map(service).collect(),
    }
}

fn routes(service: &str, networks: &[&str], aliases: &[&str], endpoints: &[(u64, Option<u16>)]) -> ServiceRoutes {
    let aliases: Vec<String> = aliases.iter().map(ToString::to_string).collect();
    let attachment = |network: &&str| Attachment { network: network.parse().unwrap(), aliases: aliases.clone() };
    let endpoint = |(placement, peer): &(u64, Option<u16>)| Endpoint {
        placement: PlacementId(*placement),
        peer: *peer,
        state: EndpointState::Ready,
    };
    ServiceRoutes {
        service: service.parse().unwrap(),
        networks: networks.iter().map(attachment).collect(),
        published: vec![],
        traffic: Default::default(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        callers: vec![],
    }
}

fn copy(placement: u64, service: &str, addresses: &[(&str, &str)]) -> LocalCopy {
    let addresses =
        addresses.iter().map(|(network, address)| (network.parse().ok(), address.parse().unwrap())).collect();
    LocalCopy { placement: PlacementId(placement), service: service.parse().unwrap(), addresses }
}

/// Two stacks with a network each, and one in common.
pub(in crate::dns) fn wanted() -> Wanted {
    Wanted {
        device: "pi".parse().unwrap(),
        mesh: None,
        networks: vec![
            network("shop_default", 1, &[("shop/web", 1), ("shop/db", 2), ("shop/web.v2", 3)]),
            network("blog_default", 2, &[("blog/web", 1)]),
            network("edge", 3, &[("shop/web", 1), ("blog/web", 2)]),
        ],
        copies: vec![
            copy(1, "shop/web", &[("shop_default", "10.0.1.10"), ("edge", "10.0.3.10")]),
            copy(2, "shop/db", &[("shop_default", "10.0.1.11")]),
            copy(3, "blog/web", &[("blog_default", "10.0.2.10"), ("edge", "10.0.3.11")]),
        ],
        routes: Routes {
            services: vec![
                routes("blog/web", &["blog_default", "edge"], &["www"], &[(3, None)]),
                routes("shop/db", &["shop_default"], &["database", "Example.com"], &[(2, None)]),
                routes("shop/web", &["shop_default", "edge"], &[], &[(1, None), (9, Some(0))]),
                routes("shop/web.v2", &["shop_default"], &[], &[(8, Some(0))]),
            ],
            ..Routes::default()
        },
    }
}

fn ask(network: &str, from: &str, name: &str) -> Meaning {
    Names::of(&wanted()).ask(&network.parse().unwrap(), from.parse().unwrap(), name)
}

/// The IPv4 addresses that a name has for the copy with this address in its network.
fn v4(network: &str, from: &str, name: &str) -> Vec<String> {
    let Meaning::Addresses(all) = ask(network, from, name) else { return vec![] };
    all.into_iter().filter(IpAddr::is_ipv4).map(|address| address.to_string()).collect()
}

#[test]
fn a_service_is_found_by_its_names_in_the_networks_of_who_asks() {
    let db = |name| v4("shop_default", "10.0.1.11", name);
    for name in ["web", "WEB", "web.shop", "web.shop.outrigger.internal"] {
        assert_eq!(db(name), ["10.0.1.129"], "{name}");
    }
    for name in ["db", "database", "DataBase", "database.shop", "example.com"] {
        assert_eq!(db(name), ["10.0.1.130"], "{name}");
    }
    assert_eq!(db("web.v2"), ["10.0.1.131"], "a service's own name may have dots");
    assert_eq!(db("web.v2.shop"), ["10.0.1.131"]);
    // Reached through both networks that it is in.
    assert_eq!(v4("shop_default", "10.0.1.10", "web"), ["10.0.1.129", "10.0.3.129"]);
    assert_eq!(v4("edge", "10.0.3.10", "db"), ["10.0.1.130"], "whichever name server it asks");
}

#[test]
fn another_stacks_services_are_found_only_through_a_network_in_common() {
    assert_eq!(ask("shop_default", "10.0.1.11", "web.blog"), Meaning::Foreign);
    assert_eq!(ask("blog_default", "10.0.2.10", "db"), Meaning::Foreign);
    assert_eq!(v4("edge", "10.0.3.10", "web.blog"), ["10.0.3.130"]);
    assert_eq!(v4("edge", "10.0.3.10", "www"), ["10.0.3.130"], "by an alias that only it has");
    // `web` is one's own.
    assert_eq!(v4("edge", "10.0.3.11", "web"), ["10.0.2.129", "10.0.3.130"]);
    assert_eq!(v4("edge", "10.0.3.11", "web.shop"), ["10.0.3.129"]);
}

#[test]
fn who_is_not_known_yet_is_in_the_network_that_it_asks_through() {
    assert_eq!(v4("shop_default", "10.0.1.77", "web"), ["10.0.1.129"]);
    assert_eq!(v4("edge", "10.0.3.77", "web"), ["10.0.3.129", "10.0.3.130"], "nobody's own, so all of that name");
    // An address of another network counts for nothing here.
    assert_eq!(ask("blog_default", "10.0.1.10", "db"), Meaning::Foreign);
}

#[test]
fn tasks_are_the_copies_here_and_the_service_where_there_are_others() {
    assert_eq!(v4("shop_default", "10.0.1.11", "tasks.db"), ["10.0.1.11"]);
    assert_eq!(v4("shop_default", "10.0.1.11", "tasks.web"), ["10.0.1.10", "10.0.1.129"]);
    assert_eq!(v4("shop_default", "10.0.1.11", "tasks.web.v2"), ["10.0.1.131"], "all copies are elsewhere");
    assert_eq!(v4("shop_default", "10.0.1.11", "tasks.web.shop.outrigger.internal"), ["10.0.1.10", "10.0.1.129"]);
}

#[test]
fn addresses_have_names_and_those_of_the_subnet_are_never_asked_of_others() {
    let reverse = |name| ask("shop_default", "10.0.1.11", name);
    assert_eq!(reverse("129.1.0.10.in-addr.arpa"), Meaning::Name("web.shop.outrigger.internal".into()));
    assert_eq!(reverse("11.1.0.10.in-addr.arpa"), Meaning::Name("db.shop.outrigger.internal".into()));
    let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(reverse(v6), Meaning::Name("web.shop.outrigger.internal".into()));
    assert_eq!(reverse("200.1.0.10.in-addr.arpa"), Meaning::Nothing);
    assert_eq!(reverse("129.2.0.10.in-addr.arpa"), Meaning::Foreign, "of a network that it is not in");
    for name in ["4.3.2.in-addr.arpa", "x.1.0.10.in-addr.arpa", "1.0.ip6.arpa", "256.1.0.10.in-addr.arpa"] {
        assert_eq!(reverse(name), Meaning::Foreign, "{name}");
    }
}

#[test]
fn what_is_not_ours_is_asked_of_others_and_what_must_be_ours_is_not() {
    for name in ["debian.org", "web.example", "tasks.debian.org", "internal", "", "shop", ".", "a..b"] {
        assert_eq!(ask("shop_default", "10.0.1.11", name), Meaning::Foreign, "{name}");
    }
    for name in ["outrigger.internal", "nobody.shop.outrigger.internal", "web.outrigger.internal"] {
        assert_eq!(ask("shop_default", "10.0.1.11", name), Meaning::Nothing, "{name}");
    }
}

#[test]
fn a_service_without_a_ready_copy_is_found_all_the_same() {
    let mut wanted = wanted();
    wanted.copies.retain(|copy| copy.placement.0 != 2);
    wanted.routes.services[1].endpoints.clear();
    let names = Names::of(&wanted);
    let meaning = names.ask(&"shop_default".parse().unwrap(), "10.0.1.10".parse().unwrap(), "db");
    assert!(matches!(meaning, Meaning::Addresses(all) if all.len() == 2), "clients keep the name that they know");
}
