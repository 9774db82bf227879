//! The policy as somebody has written it, each value with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{Placed, Problem};

/// Keys of the file.
pub const KEYS: [&str; 17] = [
    "privileged", "host", "capabilities", "binds", "devices", "gpus", "sysctls", "ulimits", "security_options",
    "runtimes", "cgroup_parents", "volume_drivers", "volumes", "log_drivers", "images", "exec", "self_update",
];
/// How like a known key an unknown one must be for us to think that it was meant.
const ALIKE: f64 = 0.7;

/// What has been written. Nothing is checked but its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    /// Keys that are yes or no.
    pub flags: Vec<(&'static str, Placed<bool>)>,
    /// Keys that are lists, value by value.
    pub lists: Vec<(&'static str, Placed<String>)>,
    /// What has the wrong form.
    pub problems: Vec<Problem>,
}

impl Raw {
    /// What a file says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut raw = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        let at = |start: usize| Some(text.get(..start).map_or(1, |before| before.matches('\n').count() + 1));
        for error in errors {
            let line = error.span().and_then(|span| at(span.start));
            raw.problems.push(Problem { line, text: error.message().to_owned() });
        }
        for (key, value) in table.get_ref() {
            let line = at(key.span().start);
            match KEYS.into_iter().find(|known| *known == key.get_ref()) {
                Some(known) => raw.take(known, line, value, &at),
                None => raw.problems.push(Problem { line, text: unknown_key(key.get_ref()) }),
            }
        }
        raw
    }

    fn take(
        &mut self,
        key: &'static str,
        line: Option<usize>,
        value: &Spanned<DeValue<'_>>,
        at: &impl Fn(usize) -> Option<usize>,
    ) {
        let is_flag = matches!(key, "privileged" | "gpus" | "exec" | "self_update");
        match value.get_ref() {
            DeValue::Boolean(value) if is_flag => self.flags.push((key, Placed { value: *value, line })),
            DeValue::Array(values) if !is_flag => {
                for value in values {
                    let line = at(value.span().start);
                    match value.get_ref() {
                        DeValue::String(text) => self.lists.push((key, Placed { value: text.to_string(), line })),
                        _ => self.problems.push(Problem { line, text: format!("{key} must be a list of texts") }),
                    }
                }
            }
            _ if is_flag => self.problems.push(Problem { line, text: format!("{key} must be true or false") }),
            _ => self.problems.push(Problem { line, text: format!("{key} must be a list, such as [\"…\"]") }),
        }
    }
}

fn unknown_key(key: &str) -> String {
    let alike = KEYS.iter().map(|known| (strsim::jaro_winkler(key, known), known));
    match alike.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((likeness, known)) if likeness >= ALIKE => format!("unknown key `{key}`; did you mean `{known}`?"),
        _ => format!("unknown key `{key}`; known are {}", KEYS.join(", ")),
    }
}
