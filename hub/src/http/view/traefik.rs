//! What Traefik is told by its HTTP provider: the labels that its users write in Compose files, as the dynamic configuration
//! that they stand for, with the places where the services are reached.

use outrigger_planner::ServiceView;
use serde_json::{Map, Value, json};

use super::targets::{labels, targets};
use crate::access::Scope;
use crate::core::HubCore;

/// Parts of a label's name; deeper ones are none of Traefik's.
const DEEPEST: usize = 12;
/// Place in a list that a label may name.
const LONGEST_LIST: usize = 64;
/// Keys whose values are lists, with commas in labels.
const LISTS: [&str; 13] = [
    "entrypoints",
    "middlewares",
    "users",
    "sourcerange",
    "prefixes",
    "prefix-list",
    "sans",
    "allowedhosts",
    "accesscontrolallowmethods",
    "accesscontrolallowheaders",
    "accesscontrolalloworiginlist",
    "status",
    "excludedcontenttypes",
];
/// Below these, names and values are the user's own texts.
const FREE: [&str; 2] = ["customrequestheaders", "customresponseheaders"];
/// Keys that are texts, whatever they look like.
const TEXTS: [&str; 10] =
    ["rule", "service", "name", "regex", "replacement", "path", "prefix", "certresolver", "scheme", "period"];

/// The dynamic configuration of all services that a caller may know of and that have labels for Traefik.
#[must_use]
pub fn traefik(core: &HubCore, scope: &Scope) -> Value {
    let mut whole = Map::new();
    let seen = core.fleet().services().filter(|service| scope.sees(Some(service.name.stack.as_str())));
    for service in seen {
        of_service(core, &service, &mut whole);
    }
    Value::Object(whole)
}

fn of_service(core: &HubCore, service: &ServiceView<'_>, whole: &mut Map<String, Value>) {
    let mut own = Value::Object(Map::new());
    for (key, value) in labels(service) {
        let lower = key.to_ascii_lowercase();
        if lower == "traefik.enable" && value != "true" {
            return;
        }
        let Some(rest) = lower.strip_prefix("traefik.") else { continue };
        let path: Vec<&str> = rest.split('.').collect();
        if matches!(path.first(), Some(&("http" | "tcp" | "udp"))) && (3..=DEEPEST).contains(&path.len()) {
            put(&mut own, &path, value);
        }
    }
    for protocol in ["http", "tcp", "udp"] {
        let Some(section) = own.get_mut(protocol).and_then(Value::as_object_mut) else { continue };
        let default = format!("{}-{}", service.name.service, service.name.stack).replace('.', "-");
        give_services(core, service, section, protocol, &default);
        merge(whole, protocol, section);
    }
}

/// Sets a value below a path of keys; `name[1]` is a place in a list.
fn put(root: &mut Value, path: &[&str], text: &str) {
    let mut at = root;
    for key in path {
        let (name, index) = match key.split_once('[').and_then(|(name, rest)| Some((name, rest.strip_suffix(']')?))) {
            Some((name, index)) => (name, index.parse::<usize>().ok().filter(|index| *index < LONGEST_LIST)),
            None => (*key, None),
        };
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(name).or_insert(Value::Null);
        if let Some(index) = index {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Some(list) = at.as_array_mut() else { return };
            if list.len() <= index {
                list.resize(index + 1, Value::Null);
            }
            let Some(item) = list.get_mut(index) else { return };
            at = item;
        }
    }
    let is_section = at.is_object();
    let value = value_of(path, text);
    // `tls=true` beside `tls.certresolver=x` says nothing more.
    if !is_section || value.is_object() {
        *at = value;
    }
}

fn value_of(path: &[&str], text: &str) -> Value {
    let key = path.last().copied().unwrap_or_default();
    if path.iter().any(|part| FREE.contains(part)) || TEXTS.contains(&key) {
        return Value::from(text);
    }
    if LISTS.contains(&key) {
        return text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect();
    }
    match text {
        "true" if matches!(key, "tls" | "cookie" | "sticky" | "compress") => json!({}),
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

/// Lets each service that labels name, or the one that routers mean without naming it, lead to where it is reached.
fn give_services(
    core: &HubCore,
    service: &ServiceView<'_>,
    section: &mut Map<String, Value>,
    protocol: &str,
    default: &str,
) {
    let has_routers = section.get("routers").and_then(Value::as_object).is_some_and(|routers| !routers.is_empty());
    let services = section.entry("services").or_insert_with(|| Value::Object(Map::new()));
    let Some(services) = services.as_object_mut() else { return };
    if services.is_empty() && has_routers {
        services.insert(default.to_owned(), json!({}));
    }
    for (_, told) in services.iter_mut() {
        let Some(told) = told.as_object_mut() else { continue };
        let balancer = told.entry("loadbalancer").or_insert_with(|| json!({}));
        let Some(balancer) = balancer.as_object_mut() else { continue };
        let server = balancer.remove("server").unwrap_or_default();
        let port = server.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let scheme = server.get("scheme").and_then(Value::as_str).unwrap_or("http");
        let servers = targets(core, service, port).into_iter().map(|target| match protocol {
            "http" => json!({ "url": format!("{scheme}://{}", target.at) }),
            _ => json!({ "address": target.at.to_string() }),
        });
        balancer.insert("servers".to_owned(), servers.collect());
    }
    let only = services.keys().next().cloned().filter(|_| services.len() == 1);
    for router in section.get_mut("routers").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if let (Some(router), Some(only)) = (router.as_object_mut(), &only) {
            router.entry("service").or_insert_with(|| Value::from(only.as_str()));
        }
    }
}

/// Adds what one service has; of two things of one name the first counts. Traefik refuses empty sections.
fn merge(whole: &mut Map<String, Value>, protocol: &str, section: &Map<String, Value>) {
    for (kind, things) in section {
        for (name, thing) in things.as_object().into_iter().flatten() {
            let of_protocol = whole.entry(protocol).or_insert_with(|| json!({}));
            let Some(of_kind) = of_protocol.as_object_mut().map(|map| map.entry(kind).or_insert_with(|| json!({})))
            else {
                continue;
            };
            if let Some(map) = of_kind.as_object_mut() {
                map.entry(name).or_insert_with(|| thing.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(labels: &[(&str, &str)]) -> Value {
        let mut root = Value::Object(Map::new());
        for (path, text) in labels {
            put(&mut root, &path.split('.').collect::<Vec<_>>(), text);
        }
        root
    }

    #[test]
    fn labels_become_the_configuration_that_they_stand_for() {
        let told = built(&[
            ("http.routers.web.rule", "Host(`a.test`)"),
            ("http.routers.web.entrypoints", "web, websecure"),
            ("http.routers.web.priority", "10"),
            ("http.routers.web.tls", "true"),
            ("http.routers.web.tls.domains[0].main", "a.test"),
            ("http.services.web.loadbalancer.passhostheader", "false"),
            ("http.middlewares.h.headers.customrequestheaders.x-one", "1"),
        ]);
        let expected = json!({ "http": {
            "routers": { "web": {
                "rule": "Host(`a.test`)", "entrypoints": ["web", "websecure"], "priority": 10,
                "tls": { "domains": [{ "main": "a.test" }] },
            } },
            "services": { "web": { "loadbalancer": { "passhostheader": false } } },
            "middlewares": { "h": { "headers": { "customrequestheaders": { "x-one": "1" } } } },
        } });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_label_beyond_all_measure_is_taken_for_what_it_is() {
        assert_eq!(built(&[("http.a[99999999999].b", "1")]), json!({ "http": { "a": { "b": 1 } } }));
        assert_eq!(built(&[("http.a", "1"), ("http.a.b", "x")]), json!({ "http": { "a": { "b": "x" } } }));
    }
}
