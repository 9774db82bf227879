//! Networks: the top-level `networks:`, what a service joins, and under which names it is found there.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{Attachment, NetworkName, NetworkSpec, ServiceName, ServiceSpec};

use super::world::{Network, World};
use super::{At, Fields};
use crate::context::clip;
use crate::diagnostic::Severity::{self, Error, Warning};
use crate::suggest::did_you_mean;

/// The network of every service that names none.
pub(crate) const DEFAULT: &str = "default";
/// Further names of one service in one network; each is an entry of every device's name server.
const MAX_ALIASES: usize = 64;
/// Longest name that a name server gives.
const LONGEST_NAME: usize = 253;

/// Drivers that we stand in for. Swarm's files say `overlay` for what spans devices, and ours do.
const DRIVERS: [&str; 3] = ["bridge", "overlay", "default"];

/// The networks that services may join, by the name in the file. The default one is among them, whether or not the file
/// says something about it.
pub(crate) fn read_networks(at: Option<&At<'_>>, stack: &str) -> BTreeMap<String, Network> {
    let mut networks = BTreeMap::new();
    for (key, at) in at.map(At::entries).unwrap_or_default() {
        networks.extend(read_network(key, &at, stack).map(|network| (key.to_owned(), network)));
    }
    if !networks.contains_key(DEFAULT)
        && let Ok(name) = format!("{stack}_{DEFAULT}").parse()
    {
        networks.insert(DEFAULT.to_owned(), Network { name, internal: false, ipv6: false, external: false });
    }
    networks
}

fn read_network(key: &str, at: &At<'_>, stack: &str) -> Option<Network> {
    let mut fields = Fields::of(at)?;
    let name = fields.take_filled("name").and_then(|at| at.filled());
    let driver = fields.take_filled("driver");
    let internal = fields.take("internal");
    let ipv6 = fields.take("enable_ipv6");
    if fields.take("enable_ipv4").is_some_and(|at| at.boolean() == Some(false)) {
        at.report_key(Error, "not supported: every network has addresses of IPv4");
    }
    let external = fields.take("external");
    fields.name_unsupported(&[
        ("ipam", Warning, "each device gives the network addresses from its own pool"),
        ("driver_opts", Warning, "there is no driver that takes options"),
        ("attachable", Warning, "containers of other programs do not join"),
        ("labels", Warning, "networks get no labels of the file"),
    ]);
    fields.finish();
    if let Some(at) = &driver {
        check_driver(at);
    }
    let external = external.and_then(|at| external_name(&at, key));
    if external.is_some() {
        for at in [&driver, &internal, &ipv6].into_iter().flatten() {
            at.report_key(Error, "an external network is another stack's: that one says what it is like");
        }
    }
    let text = name.or_else(|| external.clone()).unwrap_or_else(|| format!("{stack}_{key}"));
    let name = at.check(text.parse::<NetworkName>().map_err(|error| error.to_string()))?;
    let flag = |at: Option<At<'_>>| at.and_then(|at| at.boolean()).unwrap_or(false);
    Some(Network { name, internal: flag(internal), ipv6: flag(ipv6), external: external.is_some() })
}

/// The name outside, for a network that another stack defines.
fn external_name(at: &At<'_>, key: &str) -> Option<String> {
    if at.is_map() {
        let mut fields = Fields::of(at)?;
        let name = fields.take("name").and_then(|at| at.filled());
        fields.finish();
        return Some(name.unwrap_or_else(|| key.to_owned()));
    }
    at.boolean()?.then(|| key.to_owned())
}

fn check_driver(at: &At<'_>) {
    let Some(driver) = at.text().filter(|driver| !DRIVERS.contains(driver)) else { return };
    match driver {
        "host" | "none" => at.error_with(
            format!("`{driver}` is no driver of a network that several services share"),
            format!("set `network_mode: {driver}` in the services"),
        ),
        "macvlan" | "ipvlan" => at.error(format!(
            "not supported: `{driver}` gives containers addresses of the network around a device, which end at that device's \
             network and are not the same on another one"
        )),
        _ => at.error(format!(
            "`{}` is no driver that there is on every device; networks are bridges that reach over all devices",
            clip(driver)
        )),
    }
}

/// What a service joins: what it names, else the default network.
pub(crate) fn read_attachments(at: Option<&At<'_>>, world: &World) -> Vec<Attachment> {
    let mut attachments: BTreeMap<NetworkName, BTreeSet<String>> = BTreeMap::new();
    let named: Vec<(&str, At<'_>)> = match at {
        None => Vec::new(),
        Some(at) if at.is_map() => at.entries(),
        Some(at) => at.items().into_iter().filter_map(|item| Some((item.text()?, item))).collect(),
    };
    let is_long = at.is_some_and(At::is_map);
    for (name, item) in &named {
        let aliases = if is_long { read_long(item) } else { BTreeSet::new() };
        let Some(network) = world.networks.get(*name) else {
            let message = format!("there is no network `{}` under the top-level `networks:`", clip(name));
            let help = did_you_mean(name, world.networks.keys().map(String::as_str));
            item.report(Error, item.key_mark, message, help);
            continue;
        };
        attachments.entry(network.name.clone()).or_default().extend(aliases);
    }
    if named.is_empty()
        && let Some(network) = world.networks.get(DEFAULT)
    {
        attachments.entry(network.name.clone()).or_default();
    }
    let attach =
        |(network, aliases): (_, BTreeSet<String>)| Attachment { network, aliases: aliases.into_iter().collect() };
    attachments.into_iter().map(attach).collect()
}

/// The long form; its aliases.
fn read_long(at: &At<'_>) -> BTreeSet<String> {
    const OURS: &[(&str, Severity, &str)] = &[
        ("ipv4_address", Warning, "each device chooses the address"),
        ("ipv6_address", Warning, "each device chooses the address"),
        ("link_local_ips", Warning, "each device chooses the address"),
        ("mac_address", Warning, "the engine chooses the address"),
        ("interface_name", Warning, "the engine chooses the interface's name"),
        ("driver_opts", Warning, "there is no driver that takes options"),
        ("priority", Warning, "the engine joins the networks in the order of their names"),
        ("gw_priority", Warning, "the engine chooses the gateway"),
    ];
    let Some(mut fields) = Fields::of(at) else { return BTreeSet::new() };
    let aliases = fields.take("aliases");
    fields.name_unsupported(OURS);
    fields.finish();
    let items = aliases.as_ref().map(At::items).unwrap_or_default();
    if let Some(at) = aliases.filter(|_| items.len() > MAX_ALIASES) {
        at.error(format!(
            "{} names are more than the {MAX_ALIASES} that a service may have in one network",
            items.len()
        ));
        return BTreeSet::new();
    }
    items.iter().filter_map(|item| item.check(host_name(item.text()?))).collect()
}

/// A name that a name server can give. Names are the same in capitals.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= LONGEST_NAME && text.split('.').all(is_label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("`{}` is no host name", clip(text)))
}

/// One entry of `links`: a service that is to be found under another name.
pub(crate) struct Link<'a> {
    at: At<'a>,
    pub(crate) to: ServiceName,
    alias: String,
}

/// `links: [db, "db:database"]`
pub(crate) fn read_links<'a>(at: &At<'a>, world: &World) -> Vec<Link<'a>> {
    let mut links = Vec::new();
    for item in at.items() {
        let Some(text) = item.text() else { continue };
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        if !world.services.contains(name) {
            let message = format!("there is no service `{}`", clip(name));
            let help = did_you_mean(name, world.services.iter().map(String::as_str));
            item.report(Error, item.mark(), message, help);
        } else if world.left_out.contains(name) {
            item.error(format!("`{}` is left out because of its `profiles`", clip(name)));
        } else if let Some((to, alias)) = name.parse().ok().zip(item.check(host_name(alias))) {
            links.push(Link { at: item, to, alias });
        }
    }
    links
}

/// Links become aliases of the services that they lead to, in the networks that both have. In Compose only the linking
/// service sees such a name; here the whole network does.
pub(crate) fn apply_links(specs: &mut [ServiceSpec], links: &[(ServiceName, Vec<Link<'_>>)]) {
    let joined: BTreeMap<ServiceName, BTreeSet<NetworkName>> = specs
        .iter()
        .map(|spec| (spec.name.clone(), spec.container.networks.iter().map(|a| a.network.clone()).collect()))
        .collect();
    for (from, link) in links.iter().flat_map(|(from, links)| links.iter().map(move |link| (from, link))) {
        let (Some(own), Some(to)) = (joined.get(from), specs.iter_mut().find(|spec| spec.name == link.to)) else {
            continue;
        };
        let mut shared = to.container.networks.iter_mut().filter(|a| own.contains(&a.network)).peekable();
        if shared.peek().is_none() {
            link.at.error(format!("`{}` shares no network with this service", link.to));
        }
        for attachment in shared {
            let is_known = link.alias == link.to.as_str() || attachment.aliases.contains(&link.alias);
            if !is_known && attachment.aliases.len() < MAX_ALIASES {
                attachment.aliases.push(link.alias.clone());
                attachment.aliases.sort();
            }
        }
    }
}

/// The networks that the stack defines, by name: those that are its own and that somebody may join.
pub(crate) fn definitions(networks: &BTreeMap<String, Network>, specs: &[ServiceSpec]) -> Vec<NetworkSpec> {
    let joined: BTreeSet<&NetworkName> =
        specs.iter().flat_map(|spec| &spec.container.networks).map(|attachment| &attachment.network).collect();
    let is_there = |(key, network): &(&String, &Network)| *key != DEFAULT || joined.contains(&network.name);
    let own = networks.iter().filter(|(_, network)| !network.external).filter(is_there);
    let mut found: Vec<NetworkSpec> =
        own.map(|(_, n)| NetworkSpec { name: n.name.clone(), internal: n.internal, ipv6: n.ipv6 }).collect();
    found.sort();
    found.dedup();
    found
}

/// Two entries that name one network must say the same about it.
pub(crate) fn check_twins(at: &At<'_>, networks: &BTreeMap<String, Network>) {
    let mut seen: BTreeMap<&NetworkName, &Network> = BTreeMap::new();
    for network in networks.values() {
        if seen.insert(&network.name, network).is_some_and(|other| other != network) {
            at.report_key(Error, format!("two entries name the network `{}` and differ", network.name));
        }
    }
}
