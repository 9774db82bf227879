//! `KEY=value`, as a list or as a mapping.

use std::collections::BTreeMap;

use super::At;
use crate::context::clip;

/// Pairs by key; a key without a value has none. Sorted, so that the order in the file changes no container; of two in a
/// list the later one counts.
pub(crate) fn read_pairs<'a>(at: &At<'a>) -> BTreeMap<String, (Option<String>, At<'a>)> {
    let mut pairs = BTreeMap::new();
    if at.is_list() {
        for item in at.items() {
            let Some(text) = item.text() else { continue };
            let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
            insert(&mut pairs, key, value.map(str::to_owned), item);
        }
        return pairs;
    }
    if !at.is_map() && !at.node.is_null() {
        at.error(format!("must be a mapping or a list of `KEY=value`, not {}", at.node.sort()));
        return pairs;
    }
    for (key, entry) in at.entries() {
        if entry.node.is_null() {
            insert(&mut pairs, key, None, entry);
        } else if let Some(value) = entry.string() {
            insert(&mut pairs, key, Some(value), entry);
        }
    }
    pairs
}

fn insert<'a>(pairs: &mut BTreeMap<String, (Option<String>, At<'a>)>, key: &str, value: Option<String>, at: At<'a>) {
    let key = key.trim_end();
    if key.is_empty() || key.contains(['\0', '\n', '=']) {
        at.error(format!("`{}` cannot be a name here", clip(key)));
        return;
    }
    pairs.insert(key.to_owned(), (value, at));
}

/// Pairs in which an absent value is an empty one: labels and options.
pub(crate) fn read_plain_pairs(at: &At<'_>) -> Vec<(String, String)> {
    read_pairs(at).into_iter().map(|(key, (value, _))| (key, value.unwrap_or_default())).collect()
}

/// Labels. Those that begin with `outrigger.` are how we know our own containers.
pub(crate) fn read_labels(at: &At<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (key, (value, at)) in read_pairs(at) {
        if key.starts_with("outrigger.") {
            at.error(format!("the label `{}` is reserved", clip(&key)));
        } else {
            labels.push((key, value.unwrap_or_default()));
        }
    }
    labels
}
