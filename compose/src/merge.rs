//! How files, and a service and the one that it extends, become one: Compose's rules, applied to the marked tree, so that every
//! value keeps the place where it was written.

use std::collections::HashMap;
use std::rc::Rc;

use crate::yaml::{Entry, Node, Rule, Value};

/// `over` on top of `base`, both mappings of a service's keys.
pub(crate) fn merge(base: &Node, over: &Node) -> Node {
    merge_with(base, over, merge_field)
}

/// A whole Compose file on top of another.
pub(crate) fn merge_files(base: &Node, over: &Node) -> Node {
    merge_with(base, over, |key, base, over| match key {
        // What stands below these are names, whatever they look like.
        "services" | "volumes" | "networks" | "configs" | "secrets" | "models" if is_map(base) && is_map(over) => {
            merge_with(base, over, |_, base, over| merge_any(base, over))
        }
        _ => merge_any(base, over),
    })
}

/// The tree without what a tag takes away.
pub(crate) fn without_resets(node: &Node) -> Node {
    let value = match &node.value {
        Value::Null | Value::Text(_) => return node.clone(),
        Value::List(items) => Value::List(items.iter().filter(|item| !item.is_reset()).map(without_resets).collect()),
        Value::Map(entries) => {
            let kept = entries.iter().filter(|entry| !entry.value.is_reset());
            Value::Map(kept.map(|entry| Entry { value: without_resets(&entry.value), ..entry.clone() }).collect())
        }
    };
    node.with(value)
}

fn merge_with(base: &Node, over: &Node, field: impl Fn(&str, &Node, &Node) -> Node) -> Node {
    let mut entries: Vec<Entry> = base.entries().to_vec();
    let mut places: HashMap<Rc<str>, usize> =
        entries.iter().enumerate().map(|(index, entry)| (Rc::clone(&entry.key), index)).collect();
    for entry in over.entries() {
        match places.get(&entry.key) {
            Some(&index) => {
                let known = &entries[index].value;
                // What is reset stays until all is merged: it must take away what earlier files say too.
                let value = match entry.value.rule {
                    Rule::Merge if !known.is_reset() => field(&entry.key, known, &entry.value),
                    Rule::Merge | Rule::Override | Rule::Reset => entry.value.clone(),
                };
                entries[index] = Entry { value, ..entry.clone() };
            }
            None => {
                places.insert(Rc::clone(&entry.key), entries.len());
                entries.push(entry.clone());
            }
        }
    }
    over.with(Value::Map(entries.into()))
}

fn merge_field(key: &str, base: &Node, over: &Node) -> Node {
    if over.is_null() {
        return base.clone();
    }
    match key {
        // A command is one thing: half of an old one under a new one helps nobody.
        "command" | "entrypoint" | "test" => over.clone(),
        "environment" | "labels" | "sysctls" | "annotations" | "depends_on" | "networks" | "options"
        | "driver_opts" => merge_pairs(base, over, &['=']),
        "extra_hosts" => merge_pairs(base, over, &['=', ':']),
        "volumes" | "devices" => union(base, over, target),
        "ports" => union(base, over, port),
        "tmpfs" | "dns" | "dns_search" | "env_file" | "label_file" => {
            union(&as_list(base), &as_list(over), fingerprint)
        }
        "logging" if is_other_driver(base, over) => over.clone(),
        _ => merge_any(base, over),
    }
}

/// Mappings by their keys, lists one behind the other; of all else the later one counts.
fn merge_any(base: &Node, over: &Node) -> Node {
    match (&base.value, &over.value) {
        (_, Value::Null) => base.clone(),
        (Value::Map(_), Value::Map(_)) => merge(base, over),
        (Value::List(_), Value::List(_)) => union(base, over, fingerprint),
        _ => over.clone(),
    }
}

fn is_map(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

/// Options of one log driver mean nothing to another.
fn is_other_driver(base: &Node, over: &Node) -> bool {
    let driver = |node: &Node| node.field("driver").and_then(Node::text).map(str::to_owned);
    matches!((driver(base), driver(over)), (Some(base), Some(over)) if base != over)
}

fn merge_pairs(base: &Node, over: &Node, separators: &[char]) -> Node {
    match (as_map(base, separators), as_map(over, separators)) {
        (Some(base), Some(over)) => merge(&base, &over),
        // Malformed: the reader will say so at the extending service.
        _ => over.clone(),
    }
}

/// The list form of pairs as a mapping.
fn as_map(node: &Node, separators: &[char]) -> Option<Node> {
    let items = match &node.value {
        Value::Map(_) => return Some(node.clone()),
        Value::List(items) => items,
        Value::Null | Value::Text(_) => return None,
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: HashMap<Rc<str>, usize> = HashMap::new();
    for item in items.iter() {
        let text = item.text()?;
        let (key, value) = match text.find(separators) {
            Some(at) => (&text[..at], Value::Text(text[at + 1..].into())),
            None => (text, Value::Null),
        };
        let entry = Entry { key: key.into(), mark: item.mark, value: item.with(value) };
        match places.get(&entry.key) {
            Some(&index) => entries[index] = entry,
            None => {
                places.insert(Rc::clone(&entry.key), entries.len());
                entries.push(entry);
            }
        }
    }
    Some(node.with(Value::Map(entries.into())))
}

fn as_list(node: &Node) -> Node {
    match &node.value {
        Value::Text(_) => node.with(Value::List([node.clone()].into())),
        Value::Null | Value::List(_) | Value::Map(_) => node.clone(),
    }
}

/// Items of both; one of `over` replaces the one of `base` with the same key.
fn union(base: &Node, over: &Node, key: fn(&Node) -> String) -> Node {
    let (Value::List(_), Value::List(_)) = (&base.value, &over.value) else { return over.clone() };
    let mut items: Vec<Node> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in base.items().iter().chain(over.items()) {
        match places.get(&key(item)) {
            Some(&index) => items[index] = item.clone(),
            None => {
                places.insert(key(item), items.len());
                items.push(item.clone());
            }
        }
    }
    over.with(Value::List(items.into()))
}

/// The path in the container of a volume or device: two of them cannot be at one place.
fn target(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().unwrap_or(first).to_owned()
        }
        Value::Map(_) => node.field("target").and_then(Node::text).map_or_else(|| fingerprint(node), str::to_owned),
        Value::Null | Value::List(_) => fingerprint(node),
    }
}

/// What a published port takes: the same one in the short and in the long form.
fn port(node: &Node) -> String {
    let field = |key: &str| node.field(key).and_then(Node::text).unwrap_or_default().to_owned();
    match &node.value {
        Value::Text(text) => {
            let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
            let (before, target) = rest.rsplit_once(':').unwrap_or(("", rest));
            let (address, published) = before.rsplit_once(':').unwrap_or(("", before));
            format!("{}:{published}:{target}/{protocol}", address.trim_matches(['[', ']']))
        }
        Value::Map(_) => {
            let protocol = Some(field("protocol")).filter(|protocol| !protocol.is_empty());
            let protocol = protocol.unwrap_or_else(|| "tcp".to_owned());
            format!("{}:{}:{}/{protocol}", field("host_ip"), field("published"), field("target"))
        }
        Value::Null | Value::List(_) => fingerprint(node),
    }
}

/// The same for equal values, wherever they stand.
fn fingerprint(node: &Node) -> String {
    match &node.value {
        Value::Null => "~".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(fingerprint).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let mut parts: Vec<String> =
                entries.iter().map(|entry| format!("{:?}:{}", entry.key, fingerprint(&entry.value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
    }
}
