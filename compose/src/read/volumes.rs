//! The top-level `volumes:`.

use std::collections::BTreeMap;

use super::pairs::read_plain_pairs;
use super::world::Volume;
use super::{At, Fields};
use crate::context::clip;
use crate::diagnostic::Severity;

/// The volumes that services may use, by the name in the file.
pub(crate) fn read_volumes(at: &At<'_>, stack: &str) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    for (key, at) in at.entries() {
        if let Some(volume) = read_volume(key, &at, stack) {
            volumes.insert(key.to_owned(), volume);
        }
    }
    volumes
}

/// Volumes are one device's own: the engine's name is prefixed with the stack, so that two stacks do not share by chance.
fn read_volume(key: &str, at: &At<'_>, stack: &str) -> Option<Volume> {
    let mut fields = Fields::of(at)?;
    let name = fields.take("name").and_then(|at| at.filled());
    let driver = fields.take("driver");
    let options = fields.take("driver_opts");
    if let Some(labels) = fields.take("labels") {
        labels.report_key(Severity::Warning, "ignored: volumes get no labels yet");
    }
    let external = fields.take("external");
    fields.finish();
    let external = external.map(|at| external_name(&at, key)).unwrap_or_default();
    if let Some(at) = driver.as_ref().or(options.as_ref()).filter(|_| external.is_some()) {
        at.report_key(Severity::Error, "an external volume exists already: it takes no driver");
    }
    let name = name.or(external).unwrap_or_else(|| format!("{stack}_{key}"));
    if !is_volume_name(&name) {
        at.report_key(Severity::Error, format!("`{}` cannot be the name of a volume: it must be {RULE}", clip(&name)));
    }
    let driver = driver.and_then(|at| at.filled());
    Some(Volume { name, driver, options: options.map(|at| read_plain_pairs(&at)).unwrap_or_default() })
}

/// The name outside, for a volume that somebody else made.
fn external_name(at: &At<'_>, key: &str) -> Option<String> {
    if at.is_map() {
        let mut fields = Fields::of(at)?;
        let name = fields.take("name").and_then(|at| at.filled());
        fields.finish();
        return Some(name.unwrap_or_else(|| key.to_owned()));
    }
    at.boolean()?.then(|| key.to_owned())
}

const RULE: &str = "letters, digits, `_`, `.` and `-`, with a letter or digit first";

/// Docker's rule.
pub(crate) fn is_volume_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}
