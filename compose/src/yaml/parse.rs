//! Events of the YAML parser → the marked tree, within budgets.

use std::collections::{HashMap, hash_map};
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::merge_keys::merge;
use super::{Entry, Mark, Node, Rule, Value};
use crate::{MAX_DEPTH, MAX_NODES, MAX_TEXT, MAX_WORK};

/// A problem of the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) mark: Mark,
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
}

/// Reads one document. Duplicate keys and unknown tags are faults beside a tree; what is no YAML, or too much of it,
/// gives faults and no tree.
pub(crate) fn parse(text: &str, file: u16) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder::new(file);
    let start = Mark { file, line: 1, column: 1 };
    if text.len() > MAX_TEXT {
        let message = format!("the file has {} bytes; at most {MAX_TEXT} are read", text.len());
        return (None, vec![Fault { mark: start, message, help: None }]);
    }
    let root = match builder.read(text) {
        Ok(()) => builder.root.take(),
        Err(fault) => {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    };
    if root.as_ref().is_none_or(Node::is_null) {
        builder.faults.push(Fault { mark: start, message: "the file is empty".to_owned(), help: None });
        return (None, builder.faults);
    }
    (root, builder.faults)
}

/// What a part of the tree costs when it is walked or copied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    nodes: u64,
    bytes: u64,
    height: usize,
}

/// A finished node on its way to its parent.
pub(super) type Weighed = (Node, Weight);

/// A list or mapping that is not closed yet.
struct Open {
    mark: Mark,
    rule: Rule,
    anchor: usize,
    weight: Weight,
    content: Content,
}

/// The keys of a mapping, with their lines.
pub(super) type Seen = HashMap<Rc<str>, u32>;

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: Seen, merges: Vec<Weighed>, key: Option<Key> },
}

/// The key whose value comes next.
enum Key {
    Plain(Rc<str>, Mark),
    /// `<<`
    Merge,
    /// Seen before: reported, its value is dropped.
    Duplicate,
}

struct Builder {
    file: u16,
    open: Vec<Open>,
    anchors: HashMap<usize, Weighed>,
    spent: Weight,
    root: Option<Node>,
    faults: Vec<Fault>,
}

impl Builder {
    fn new(file: u16) -> Self {
        let spent = Weight::default();
        Self { file, open: Vec::new(), anchors: HashMap::new(), spent, root: None, faults: Vec::new() }
    }

    fn read(&mut self, text: &str) -> Result<(), Fault> {
        // One more than ours, so that our own message is the one that is seen.
        let options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
            emit_comments: false,
        };
        for step in Parser::new_from_str_with_options(text, options) {
            let (event, span) = step.map_err(|error| {
                let message = format!("this is no YAML: {}", error.info());
                Fault { mark: self.mark(error.marker()), message, help: help_for(text, error.marker()) }
            })?;
            let mark = self.mark(&span.start);
            self.handle(event, mark)?;
        }
        Ok(())
    }

    fn mark(&self, marker: &Marker) -> Mark {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Mark { file: self.file, line: number(marker.line().max(1)), column: number(marker.col() + 1) }
    }

    fn handle(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let rule = self.rule_of(tag.as_deref(), mark);
                let forced = tag.as_deref().and_then(Tag::core_suffix) == Some("str");
                let weight = Weight { nodes: 1, bytes: text.len() as u64, height: 0 };
                self.spend(weight, mark)?;
                if self.wants_key() {
                    self.anchor(anchor, &(text_node(&text, mark), weight));
                    return self.key(&text, style, mark);
                }
                let is_null =
                    style == ScalarStyle::Plain && !forced && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let node = if is_null { Node::new(Value::Null, mark) } else { text_node(&text, mark) };
                self.finish((Node { rule, ..node }, weight), anchor, mark)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let rule = self.rule_of(tag.as_deref(), mark);
                self.begin(Content::List(Vec::new()), rule, anchor, mark)
            }
            Event::MappingStart(_, anchor, tag) => {
                let rule = self.rule_of(tag.as_deref(), mark);
                let content = Content::Map { entries: Vec::new(), seen: Seen::new(), merges: Vec::new(), key: None };
                self.begin(content, rule, anchor, mark)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, mark),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(fault(mark, "a second document begins here; one file is one document"))
            }
            // Starts and ends of stream and document; the parser may learn to tell more that is no value.
            _ => Ok(()),
        }
    }

    /// Tags of the core schema say what we would find anyway. Compose's own change how values merge.
    fn rule_of(&mut self, tag: Option<&Tag>, mark: Mark) -> Rule {
        let Some(tag) = tag else { return Rule::Merge };
        if tag.core_suffix().is_some() || matches!((tag.handle(), tag.suffix()), ("" | "!", "" | "!")) {
            return Rule::Merge;
        }
        let name = tag.original();
        match name.as_str() {
            "!reset" => return Rule::Reset,
            "!override" => return Rule::Override,
            _ => (),
        }
        let message = format!("unknown tag `{}`", clip(&name));
        self.faults.push(Fault { mark, message, help: None });
        Rule::Merge
    }

    fn spend(&mut self, weight: Weight, mark: Mark) -> Result<(), Fault> {
        self.spent.nodes = self.spent.nodes.saturating_add(weight.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(weight.bytes);
        if self.spent.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values once its aliases are expanded");
            return Err(Fault { mark, message, help: None });
        }
        if self.spent.bytes > MAX_WORK {
            let message = format!("the file has more than {MAX_WORK} bytes once its aliases are expanded");
            return Err(Fault { mark, message, help: None });
        }
        if self.open.len() + weight.height > MAX_DEPTH {
            return Err(Fault {
                mark,
                message: format!("more than {MAX_DEPTH} levels within one another"),
                help: None,
            });
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, mark: Mark) -> Result<(), Fault> {
        let Some(Open { content: Content::Map { key, seen, .. }, .. }) = self.open.last_mut() else { return Ok(()) };
        if text == "<<" && style == ScalarStyle::Plain {
            *key = Some(Key::Merge);
            return Ok(());
        }
        let name: Rc<str> = text.into();
        match seen.entry(Rc::clone(&name)) {
            hash_map::Entry::Vacant(place) => {
                place.insert(mark.line);
                *key = Some(Key::Plain(name, mark));
            }
            hash_map::Entry::Occupied(first) => {
                *key = Some(Key::Duplicate);
                let message = format!("the key `{}` is there twice, first in line {}", clip(text), first.get());
                self.faults.push(fault(mark, &message));
            }
        }
        Ok(())
    }

    fn begin(&mut self, content: Content, rule: Rule, anchor: usize, mark: Mark) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(fault(mark, "a key must be a plain text, not a list or mapping"));
        }
        let weight = Weight { nodes: 1, bytes: 0, height: 1 };
        self.spend(weight, mark)?;
        self.open.push(Open { mark, rule, anchor, weight, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { mark, rule, anchor, mut weight, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items.into()),
            Content::Map { mut entries, mut seen, merges, .. } => {
                for (source, merged) in merges {
                    let bad = merge(&source, &mut entries, &mut seen);
                    self.faults.extend(bad.map(|mark| fault(mark, "`<<` takes a mapping or a list of mappings")));
                    // What is merged was paid for where it stands, as a value or as an alias.
                    weight.add(merged);
                }
                Value::Map(entries.into())
            }
        };
        self.finish((Node { value, mark, rule }, weight), anchor, mark)
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<(), Fault> {
        let Some((node, weight)) = self.anchors.get(&id).cloned() else {
            return Err(fault(mark, "this alias refers to something that contains it"));
        };
        self.spend(weight, mark)?;
        if !self.wants_key() {
            return self.finish((node, weight), 0, mark);
        }
        match node.text() {
            Some(text) => self.key(text, ScalarStyle::SingleQuoted, mark),
            None => Err(fault(mark, "a key must be a plain text, not a list or mapping")),
        }
    }

    fn anchor(&mut self, id: usize, node: &Weighed) {
        if id != 0 {
            self.anchors.insert(id, node.clone());
        }
    }

    /// Hands a finished node to its parent.
    fn finish(&mut self, node: Weighed, anchor: usize, mark: Mark) -> Result<(), Fault> {
        self.anchor(anchor, &node);
        let (node, weight) = node;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, key, merges, .. } => match key.take() {
                Some(Key::Plain(key, mark)) => entries.push(Entry { key, mark, value: node }),
                Some(Key::Merge) => {
                    merges.push((node, weight));
                    return Ok(());
                }
                Some(Key::Duplicate) => return Ok(()),
                None => return Err(fault(mark, "a value without a key")),
            },
        }
        parent.weight.add(weight);
        Ok(())
    }
}

impl Weight {
    fn add(&mut self, child: Self) {
        self.nodes = self.nodes.saturating_add(child.nodes);
        self.bytes = self.bytes.saturating_add(child.bytes);
        self.height = self.height.max(child.height + 1);
    }
}

fn text_node(text: &str, mark: Mark) -> Node {
    Node::new(Value::Text(text.into()), mark)
}

fn fault(mark: Mark, message: &str) -> Fault {
    Fault { mark, message: message.to_owned(), help: None }
}

fn clip(text: &str) -> String {
    crate::context::clip(text)
}

/// Tabs are the commonest reason, and the parser's words for it do not say so.
fn help_for(text: &str, marker: &Marker) -> Option<&'static str> {
    let line = text.lines().nth(marker.line().saturating_sub(1))?;
    let indent = &line[..line.len() - line.trim_start().len()];
    indent.contains('\t').then_some("the line is indented with a tab; YAML wants spaces")
}
