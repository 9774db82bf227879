//! A mapping whose keys we know: each is asked for by name, and what nobody asked for is unknown.

use crate::context::clip;
use crate::diagnostic::Severity;
use crate::read::at::At;
use crate::suggest::did_you_mean;

/// The fields of one mapping. [`Fields::finish`] reports what is left.
pub(crate) struct Fields<'a> {
    at: At<'a>,
    left: Vec<(&'a str, At<'a>)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// None, with a problem reported, if it is no mapping; null is an empty one.
    pub(crate) fn of(at: &At<'a>) -> Option<Self> {
        if !at.is_map() && !at.node.is_null() {
            at.error(format!("must be a mapping, not {}", at.node.sort()));
            return None;
        }
        Some(Self { at: at.clone(), left: at.entries(), known: Vec::new() })
    }

    pub(crate) fn at(&self) -> &At<'a> {
        &self.at
    }

    /// The value of `key`, unless it is absent or null.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<At<'a>> {
        self.take_any(key).filter(|at| !at.node.is_null())
    }

    /// The value of `key`, unless it is absent, null or an empty text: what is left of a variable without a value.
    pub(crate) fn take_filled(&mut self, key: &'static str) -> Option<At<'a>> {
        self.take(key).filter(|at| at.node.text() != Some(""))
    }

    /// The value of `key`, null included: `environment: {KEY: }` and `volumes: {data: }` mean something.
    pub(crate) fn take_any(&mut self, key: &'static str) -> Option<At<'a>> {
        self.known.push(key);
        let index = self.left.iter().position(|(name, _)| *name == key)?;
        Some(self.left.swap_remove(index).1)
    }

    /// Keys that Compose knows and we do not: each with what happens to it.
    pub(crate) fn name_unsupported(&mut self, table: &[(&'static str, Severity, &'static str)]) {
        for &(key, severity, consequence) in table {
            if let Some(at) = self.take(key) {
                let word = match severity {
                    Severity::Error => "not supported yet",
                    Severity::Warning => "ignored",
                };
                at.report(severity, at.key_mark, format!("{word}: {consequence}"), None);
            }
        }
    }

    /// Reports the keys that nobody asked for. Those that begin with `x-` are the user's own, but for slips of ours.
    pub(crate) fn finish(self) {
        for (key, at) in &self.left {
            if at.cx.has_enough() {
                return;
            }
            let is_extension = key.starts_with("x-");
            let known = self.known.iter().copied().filter(|name| name.starts_with("x-") == is_extension);
            let help = did_you_mean(key, known);
            if is_extension {
                if help.is_some() {
                    let message = "ignored, as every key that begins with `x-`".to_owned();
                    at.report(Severity::Warning, at.key_mark, message, help);
                }
                continue;
            }
            let message = if clip(key) == *key { "unknown key".to_owned() } else { "unknown, overlong key".to_owned() };
            at.report(Severity::Error, at.key_mark, message, help);
        }
    }
}
