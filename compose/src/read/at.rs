//! A value with its place and its path: what every reader works on.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use outrigger_protocol::{Bytes, MilliCpu};

use crate::context::{Context, clip};
use crate::diagnostic::Severity;
use crate::values;
use crate::yaml::{Mark, Node, Value};

/// A value of the file. Its readers report what is wrong and return none; null counts as absent.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) cx: &'a Context<'a>,
    pub(crate) node: &'a Node,
    /// Where its key stands; the value's own place for items of lists.
    pub(crate) key_mark: Mark,
    path: Option<Rc<Step>>,
}

/// One step of a path, such as `.ports` or `[0]`.
struct Step {
    before: Option<Rc<Step>>,
    name: Name,
}

enum Name {
    Key(Rc<str>),
    Index(usize),
}

impl<'a> At<'a> {
    pub(crate) fn root(cx: &'a Context<'a>, node: &'a Node) -> Self {
        Self { cx, node, key_mark: node.mark, path: None }
    }

    pub(crate) fn entry(&self, key: &Rc<str>, key_mark: Mark, node: &'a Node) -> At<'a> {
        let step = Step { before: self.path.clone(), name: Name::Key(Rc::clone(key)) };
        At { cx: self.cx, node, key_mark, path: Some(Rc::new(step)) }
    }

    /// The value of one key of a mapping.
    pub(crate) fn child(&self, key: &str) -> Option<At<'a>> {
        let entry = self.node.entries().iter().find(|entry| &*entry.key == key)?;
        Some(self.entry(&entry.key, entry.mark, &entry.value))
    }

    fn item(&self, index: usize, node: &'a Node) -> At<'a> {
        let step = Step { before: self.path.clone(), name: Name::Index(index) };
        At { cx: self.cx, node, key_mark: node.mark, path: Some(Rc::new(step)) }
    }

    /// The key under which it stands.
    pub(crate) fn key(&self) -> Option<&str> {
        match &self.path.as_ref()?.name {
            Name::Key(key) => Some(key),
            Name::Index(_) => None,
        }
    }

    pub(crate) fn path(&self) -> String {
        self.path.as_ref().map(|path| path.to_string()).unwrap_or_default()
    }

    /// Where to point: an absent value has no place of its own.
    pub(crate) fn mark(&self) -> Mark {
        if self.node.is_null() { self.key_mark } else { self.node.mark }
    }

    pub(crate) fn error(&self, message: impl Into<String>) {
        self.report(Severity::Error, self.mark(), message.into(), None);
    }

    pub(crate) fn error_with(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report(Severity::Error, self.mark(), message.into(), Some(help.into()));
    }

    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.report(Severity::Warning, self.mark(), message.into(), None);
    }

    /// A problem with the key itself rather than with its value.
    pub(crate) fn report_key(&self, severity: Severity, message: impl Into<String>) {
        self.report(severity, self.key_mark, message.into(), None);
    }

    pub(crate) fn report(&self, severity: Severity, mark: Mark, message: String, help: Option<String>) {
        self.cx.report(severity, mark, self.path(), message, help);
    }

    /// Turns the message of a parser of texts into a problem here.
    pub(crate) fn check<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.error(message)).ok()
    }

    /// The scalar as it was written.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            Value::Null => None,
            Value::List(_) | Value::Map(_) => {
                self.error(format!("must be a text, not {}", self.node.sort()));
                None
            }
        }
    }

    pub(crate) fn string(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    /// A text that must say something, such as an image.
    pub(crate) fn filled(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.error("must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.check(values::boolean(self.text()?))
    }

    pub(crate) fn integer(&self, least: i64, most: i64) -> Option<i64> {
        self.check(values::integer(self.text()?, least, most))
    }

    pub(crate) fn count(&self) -> Option<u32> {
        self.integer(0, i64::from(u32::MAX)).and_then(|count| u32::try_from(count).ok())
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.check(values::duration(self.text()?))
    }

    pub(crate) fn bytes(&self) -> Option<Bytes> {
        self.check(values::bytes(self.text()?))
    }

    /// Cores; a zero, which means "no limit", is none.
    pub(crate) fn cpus(&self) -> Option<MilliCpu> {
        self.check(values::cpus(self.text()?)).flatten()
    }

    /// One of a few words; the slip of a hand gets a suggestion.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.error(format!("`{}` must be one of {}", clip(text), words.join(", ")));
        }
        found
    }

    /// The items of a list; null is an empty one.
    pub(crate) fn items(&self) -> Vec<At<'a>> {
        match &self.node.value {
            Value::List(items) => {
                let all = items.iter().enumerate().map(|(index, node)| self.item(index, node));
                all.filter(At::is_something).collect()
            }
            Value::Null => Vec::new(),
            Value::Text(_) | Value::Map(_) => {
                self.error(format!("must be a list, not {}", self.node.sort()));
                Vec::new()
            }
        }
    }

    fn is_something(&self) -> bool {
        if self.node.is_null() {
            self.error("there is nothing behind the dash or comma");
        }
        !self.node.is_null()
    }

    /// A list, or one value that stands for a list of one.
    pub(crate) fn one_or_items(&self) -> Vec<At<'a>> {
        match &self.node.value {
            Value::Text(_) => vec![self.clone()],
            Value::Null | Value::List(_) | Value::Map(_) => self.items(),
        }
    }

    /// The texts of a list. Each is a copy, so it is paid for.
    pub(crate) fn strings(&self) -> Vec<String> {
        self.items().iter().filter_map(At::filled).collect()
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// Keys and values of a mapping whose keys the user chooses; null is an empty one.
    pub(crate) fn entries(&self) -> Vec<(&'a str, At<'a>)> {
        match &self.node.value {
            Value::Map(entries) => {
                entries.iter().map(|entry| (&*entry.key, self.entry(&entry.key, entry.mark, &entry.value))).collect()
            }
            Value::Null => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                self.error(format!("must be a mapping, not {}", self.node.sort()));
                Vec::new()
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            write!(f, "{before}")?;
        }
        match (&self.name, &self.before) {
            (Name::Key(key), Some(_)) => write!(f, ".{}", clip(key)),
            (Name::Key(key), None) => f.write_str(&clip(key)),
            (Name::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}
