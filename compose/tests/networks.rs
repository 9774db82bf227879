//! Networks, links, and how requests are spread.
#![allow(clippy::unwrap_used, clippy::panic)]

use outrigger_compose::{Sources, load};
use outrigger_protocol::{Affinity, Attachment, NetworkSpec, Retry, StackSpec, Traffic};

fn attachment(network: &str, aliases: &[&str]) -> Attachment {
    Attachment { network: network.parse().unwrap(), aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect() }
}

fn stack(text: &str) -> StackSpec {
    let outcome = load(Some("s".parse().unwrap()), &Sources::of("c.yaml", text));
    outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
}

fn network(name: &str, internal: bool, ipv6: bool) -> NetworkSpec {
    NetworkSpec { name: name.parse().unwrap(), internal, ipv6 }
}

#[test]
fn networks_are_named_after_the_stack_unless_they_have_a_name_or_are_anothers() {
    let found = stack(
        "services:\n  web: { image: x, networks: { front: { aliases: [WWW, api] }, shared: , plain: } }\n  db: { image: x }\n\
         networks:\n  front: { internal: true, enable_ipv6: true, driver: bridge }\n  shared: { external: true, name: edge }\n  \
         plain: { name: flat, driver: overlay }\n  unused:\n",
    );
    let (db, web) = (&found.services[0].container, &found.services[1].container);
    assert_eq!(db.networks, [attachment("s_default", &[])]);
    assert_eq!(
        web.networks,
        [attachment("edge", &[]), attachment("flat", &[]), attachment("s_front", &["api", "www"])]
    );
    let own =
        [("flat", false, false), ("s_default", false, false), ("s_front", true, true), ("s_unused", false, false)];
    assert_eq!(found.networks, own.map(|(name, internal, ipv6)| network(name, internal, ipv6)));
}

#[test]
fn a_stack_whose_services_name_their_networks_has_no_default_one() {
    let found =
        stack("services: { web: { image: x, networks: [a] }, db: { image: x, network_mode: host } }\nnetworks: { a: }");
    assert_eq!(found.networks, [network("s_a", false, false)]);
    assert_eq!(
        (&found.services[0].container.networks, &found.services[1].container.networks),
        (&vec![], &vec![attachment("s_a", &[])])
    );
    let own = stack("services: { web: { image: x } }\nnetworks: { default: { internal: true, name: mine } }");
    assert_eq!(own.networks, [network("mine", true, false)]);
    assert_eq!(own.services[0].container.networks, [attachment("mine", &[])]);
}

#[test]
fn links_become_names_of_the_linked_service_and_are_waited_for() {
    let found = stack("services: { web: { image: x, links: [db, 'db:Database'] }, db: { image: x } }");
    assert_eq!(found.services[0].container.networks, [attachment("s_default", &["database"])]);
    assert_eq!(found.services[1].container.networks, [attachment("s_default", &[])]);
    assert_eq!(found.services[1].depends_on, ["db".parse().unwrap()]);
}

#[test]
fn requests_are_spread_as_the_file_says() {
    let text =
        "services: { web: { image: x, x-outrigger: { affinity: client, proxy_protocol: true, retry: idempotent } } }";
    let traffic = stack(text).services[0].traffic;
    let expected = Traffic { affinity: Affinity::ClientAddress, proxy_protocol: true, retry: Retry::IdempotentHttp };
    assert_eq!(traffic, expected);
}
