//! The marked tree.

use std::rc::Rc;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Index of the file among those that were loaded.
    pub(crate) file: u16,
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
}

/// A value with its place. Cheap to clone: an aliased part of the tree is shared, not copied.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
    pub(crate) rule: Rule,
}

/// What becomes of the value of an earlier file, or of an extended service, under this one. Compose's own tags say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The two become one, as the key has it.
    Merge,
    /// `!override`: this one counts alone.
    Override,
    /// `!reset`: neither counts.
    Reset,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar, as written; quotes and escapes resolved.
    Text(Rc<str>),
    List(Rc<[Node]>),
    /// Keys are unique, in the order of the file, merged ones last.
    Map(Rc<[Entry]>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Rc<str>,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

impl Node {
    /// A value to which the usual rules apply.
    pub(crate) fn new(value: Value, mark: Mark) -> Self {
        Self { value, mark, rule: Rule::Merge }
    }

    /// Another value in the place of this one.
    pub(crate) fn with(&self, value: Value) -> Self {
        Self { value, mark: self.mark, rule: self.rule }
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.rule == Rule::Reset
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value of `key`, if this is a mapping that has it.
    pub(crate) fn field(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
    }

    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Text(_) | Value::List(_) => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Text(_) | Value::Map(_) => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn sort(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Nodes and bytes below and in it: what it costs to copy.
    pub(crate) fn cost(&self) -> u64 {
        let bytes = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
        match &self.value {
            Value::Null => 1,
            Value::Text(text) => 1 + bytes(text),
            Value::List(items) => 1 + items.iter().map(Self::cost).sum::<u64>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| bytes(&entry.key) + entry.value.cost()).sum::<u64>(),
        }
    }
}
