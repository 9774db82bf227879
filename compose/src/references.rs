//! What a Compose file refers to: the list of things that a client must send along.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::interpolate::{self, Lookup};
use crate::yaml::{self, Node, Value};

/// What a file refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct References {
    /// Files that must be there, as written: environment and label files, files of extended services. Those of extended
    /// services are Compose files, so their references count too. Relative ones are relative to this file
    /// ([`crate::resolve`]).
    pub files: BTreeSet<String>,
    /// Files that count if they are there: `.env`, and environment files with `required: false`.
    pub optional_files: BTreeSet<String>,
    /// Files whose text is the content of a secret or config. They refer to nothing, whatever they look like.
    pub contents: BTreeSet<String>,
    /// Variables, in whichever branch of a default.
    pub variables: BTreeSet<String>,
}

/// What the Compose file `text` refers to. A text that is no mapping, such as an environment file, refers to
/// whatever looks like a variable; what is wrong with it is for [`crate::load`] to tell. File names that need variables
/// are left out: `load` tells them as missing.
#[must_use]
pub fn references(text: &str) -> References {
    let mut found = References { optional_files: BTreeSet::from([".env".to_owned()]), ..References::default() };
    let (root, _) = yaml::parse(text, 0);
    let Some(root) = root.filter(|root| matches!(root.value, Value::Map(_))) else {
        if text.len() <= crate::MAX_TEXT {
            found.variables = interpolate::names(text);
        }
        return found;
    };
    for entry in root.entries().iter().filter(|entry| !entry.key.starts_with("x-")) {
        collect_variables(&entry.value, &mut found.variables);
    }
    for service in root.field("services").map(Node::entries).unwrap_or_default() {
        of_service(&service.value, &mut found);
    }
    for section in ["secrets", "configs"] {
        for entry in root.field(section).map(Node::entries).unwrap_or_default() {
            found.contents.extend(entry.value.field("file").and_then(plain_path));
            let variable = entry.value.field("environment").and_then(Node::text);
            found.variables.extend(variable.filter(|name| !name.contains('$')).map(str::to_owned));
        }
    }
    found
}

fn collect_variables(node: &Node, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Text(text) if text.contains('$') => found.append(&mut interpolate::names(text)),
        Value::Null | Value::Text(_) => (),
        Value::List(items) => items.iter().for_each(|item| collect_variables(item, found)),
        Value::Map(entries) => entries.iter().for_each(|entry| collect_variables(&entry.value, found)),
    }
}

fn of_service(service: &Node, found: &mut References) {
    if let Some(file) = service.field("extends").and_then(|extends| extends.field("file")) {
        file_of(file, None, found);
    }
    for key in ["env_file", "label_file"] {
        let Some(files) = service.field(key) else { continue };
        for item in std::iter::once(files).chain(files.items()) {
            match item.field("path") {
                Some(path) => file_of(path, item.field("required").and_then(Node::text), found),
                None => file_of(item, None, found),
            }
        }
    }
    if let Some(environment) = service.field("environment") {
        for entry in environment.entries().iter().filter(|entry| entry.value.is_null()) {
            found.variables.insert(entry.key.to_string());
        }
        let bare = environment.items().iter().filter_map(Node::text).filter(|text| !text.contains(['=', '$']));
        found.variables.extend(bare.map(str::to_owned));
    }
}

fn file_of(node: &Node, required: Option<&str>, found: &mut References) {
    let Some(path) = plain_path(node) else { return };
    match required {
        Some("false") => found.optional_files.insert(path),
        _ => found.files.insert(path),
    };
}

/// The path that stands there, unless it needs variables.
fn plain_path(node: &Node) -> Option<String> {
    let mut variables = NoVariables(false);
    let path = interpolate::expand(node.text()?, &mut variables).ok()?;
    (!path.is_empty() && !variables.0).then_some(path)
}

/// Remembers whether a variable was asked for.
struct NoVariables(bool);

impl Lookup for NoVariables {
    fn value(&mut self, _: &str) -> Option<String> {
        self.0 = true;
        None
    }

    fn unset(&mut self, _: &str) {}
}
