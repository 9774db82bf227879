//! `environment`, `env_file`, `labels` and `label_file`.

use std::collections::BTreeMap;

use outrigger_protocol::ContainerSpec;

use super::pairs::{read_labels, read_pairs};
use super::{At, Fields};
use crate::context::clip;
use crate::env_file::{self, Format};

pub(crate) fn read(fields: &mut Fields<'_>, container: &mut ContainerSpec) {
    let mut environment = fields.take("env_file").map(|at| from_files(&at)).unwrap_or_default();
    if let Some(at) = fields.take("environment") {
        for (key, (value, at)) in read_pairs(&at) {
            // No value: the caller's own, and without one the container does not get it either.
            let value = value.or_else(|| at.cx.variable(&key).map(str::to_owned));
            match value {
                Some(value) => drop(environment.insert(key, value)),
                None => {
                    at.cx.miss_variable(&key);
                    environment.remove(&key);
                }
            }
        }
    }
    container.environment = environment.into_iter().collect();
    let mut labels = fields.take("label_file").map(|at| labels_of_files(&at)).unwrap_or_default();
    labels.extend(fields.take("labels").map(|at| read_labels(&at)).unwrap_or_default());
    container.labels = labels.into_iter().collect();
}

/// Later files win over earlier ones.
fn from_files(at: &At<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let items = if at.is_map() { vec![at.clone()] } else { at.one_or_items() };
    for item in items {
        found.extend(from_file(&item));
    }
    found
}

fn from_file(at: &At<'_>) -> BTreeMap<String, String> {
    if !at.is_map() {
        return open(at, true, Format::Compose);
    }
    let Some(mut fields) = Fields::of(at) else { return BTreeMap::new() };
    let path = fields.take("path");
    let required = fields.take("required").and_then(|at| at.boolean()).unwrap_or(true);
    let format = fields.take("format").and_then(|at| at.choice(&[("raw", Format::Raw)])).unwrap_or(Format::Compose);
    fields.finish();
    match path {
        Some(path) => open(&path, required, format),
        None => {
            at.error("`path` is missing");
            BTreeMap::new()
        }
    }
}

/// Paths are relative to the file in which they are written, which is another one in an extended service;
/// in further files of the stack they are relative to the first one.
fn open(at: &At<'_>, required: bool, format: Format) -> BTreeMap<String, String> {
    let Some(path) = at.filled() else { return BTreeMap::new() };
    let file = at.cx.file_path(at.node.mark.file);
    let base = at.cx.sources.base_of(&file);
    if let Some((known, text)) = at.cx.sources.find(base, &path) {
        return env_file::read(at.cx, &known, text, format);
    }
    at.cx.miss_file(crate::resolve(base, &path));
    if required {
        let message = format!("the file `{}` was not sent along or does not exist", clip(&path));
        at.error_with(message, "write `required: false` if it need not exist");
    }
    BTreeMap::new()
}

fn labels_of_files(at: &At<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for item in at.one_or_items() {
        for (key, value) in open(&item, true, Format::Compose) {
            if key.starts_with("outrigger.") {
                item.error(format!("the label `{}` is reserved", clip(&key)));
            } else {
                labels.insert(key, value);
            }
        }
    }
    labels
}
