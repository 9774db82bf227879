//! The settings as written: texts by key, each with where it comes from.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// Settings as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    values: BTreeMap<String, (Vec<String>, Origin)>,
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// A flag.
    Flag,
}

impl Raw {
    /// Reads a file's text, and what is wrong with it: broken text, keys that are not
    /// `known` and never were (`gone`), values of the wrong sort.
    #[must_use]
    pub fn parse(text: &str, known: &[(&str, &str)], gone: &[(&str, &str)]) -> (Self, Vec<String>) {
        let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let at = error.span().map_or(1, |span| line(span.start));
                return (Self::default(), vec![format!("line {at}: {}", error.message())]);
            }
        };
        let mut entries: Vec<_> = table.into_iter().map(|(key, value)| (line(key.span().start), key, value)).collect();
        entries.sort_by_key(|(line, _, _)| *line);
        let (mut raw, mut problems) = (Self::default(), vec![]);
        for (line, key, value) in entries {
            let key = key.into_inner().into_owned();
            if !known.iter().chain(gone).any(|(name, _)| *name == key) {
                problems.push(format!("line {line}: unknown key `{key}`{}", suggestion(&key, known)));
                continue;
            }
            match texts(&value.into_inner()) {
                Some(texts) => drop(raw.values.insert(key, (texts, Origin::Line(line)))),
                None => problems.push(format!("line {line}: {key} must be a text in quotes")),
            }
        }
        (raw, problems)
    }

    /// Sets one value.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) {
        self.values.insert(key.to_owned(), (vec![value.to_owned()], origin));
    }

    /// What `stronger` sets replaces what is set here.
    pub fn overridden_by(&mut self, stronger: Self) {
        self.values.extend(stronger.values);
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|(texts, _)| texts.first()).map(String::as_str)
    }

    pub(super) fn list(&self, key: &str) -> Vec<String> {
        self.values.get(key).map(|(texts, _)| texts.clone()).unwrap_or_default()
    }

    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        self.values.get(key).map(|(_, origin)| *origin)
    }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(text) => Some(vec![text.clone().into_owned()]),
        DeValue::Boolean(flag) => Some(vec![flag.to_string()]),
        DeValue::Array(items) => items.iter().map(|item| texts(item.get_ref()).and_then(|mut one| one.pop())).collect(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn suggestion(key: &str, known: &[(&str, &str)]) -> String {
    let alike = |name: &str| {
        // A part of the name counts too: `brocker` is far from `external_broker`, and near to its last word.
        let parts = name.split('_').map(|part| strsim::jaro_winkler(key, part) * 0.98);
        parts.fold(strsim::jaro_winkler(key, name), f64::max)
    };
    let scored = known.iter().map(|(name, _)| (alike(name), *name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.len().cmp(&a.1.len())));
    match best {
        Some((score, name)) if score > 0.8 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}
