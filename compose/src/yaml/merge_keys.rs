//! `<<: *defaults`: the merge keys of YAML 1.1, which Compose files use for their templates.

use std::rc::Rc;

use super::parse::Seen;
use super::{Entry, Mark, Node, Value};

/// Adds the entries of `source` (a mapping or a list of mappings) that `entries` does not have yet: what stands in the
/// mapping itself wins, then what was merged first. Returns the place of a source that is no mapping.
pub(super) fn merge(source: &Node, entries: &mut Vec<Entry>, seen: &mut Seen) -> Option<Mark> {
    match &source.value {
        Value::Map(merged) => {
            for entry in merged.iter() {
                if seen.insert(Rc::clone(&entry.key), entry.mark.line).is_none() {
                    entries.push(entry.clone());
                }
            }
            None
        }
        Value::List(items) => items.iter().find_map(|item| match &item.value {
            Value::Map(_) => merge(item, entries, seen),
            Value::Null | Value::Text(_) | Value::List(_) => Some(item.mark),
        }),
        Value::Null => None,
        Value::Text(_) => Some(source.mark),
    }
}
