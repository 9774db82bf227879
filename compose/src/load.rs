//! Sources → stack: the one way through all steps.

use std::rc::Rc;

use outrigger_protocol::{StackName, StackSpec};

use crate::MAX_SERVICES;
use crate::context::{Context, clip};
use crate::diagnostic::{Diagnostic, Severity};
use crate::env_file::{self, Format};
use crate::extends::Extender;
use crate::interpolate::{self, Lookup};
use crate::read::{At, read_stack};
use crate::sources::{Missing, Sources};
use crate::yaml::{self, Entry, Fault, Mark, Node, Value};

/// What a Compose file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The stack, unless there was an error.
    pub stack: Option<StackSpec>,
    /// All problems, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// What the file refers to and the sources do not have.
    pub missing: Missing,
}

/// Reads the Compose file of `sources`. The stack's name is `name`, else the variable `COMPOSE_PROJECT_NAME`, else the
/// file's own `name:`; one of them must be given.
#[must_use]
pub fn load(name: Option<StackName>, sources: &Sources) -> Outcome {
    let mut cx = Context::new(sources);
    let main = cx.file_number(&sources.main);
    let stack = match sources.files.get(&sources.main) {
        Some(text) => {
            if let Some((path, dotenv)) = sources.find(&sources.main, ".env") {
                cx.dotenv = env_file::read(&cx, &path, dotenv, Format::Compose);
            }
            let parsed = yaml::parse(text, main);
            let own = parsed.0.as_ref().and_then(|root| root.field("name")?.text()).filter(|own| !own.contains('$'));
            let given = name.as_ref().map(StackName::as_str);
            cx.project = given.or_else(|| cx.named_by_user()).or(own).map(str::to_owned);
            read_tree(&cx, parsed).and_then(|root| build(&cx, name, &root))
        }
        None => {
            cx.miss_file(sources.main.clone());
            let mark = Mark { file: main, line: 1, column: 1 };
            cx.report(Severity::Error, mark, String::new(), "the file was not sent along".to_owned(), None);
            None
        }
    };
    let (diagnostics, missing) = cx.finish();
    let has_errors = diagnostics.iter().any(|problem| problem.severity == Severity::Error);
    Outcome { stack: stack.filter(|_| !has_errors), diagnostics, missing }
}

fn build(cx: &Context<'_>, name: Option<StackName>, root: &Node) -> Option<StackSpec> {
    let services = root.field("services").map(Node::entries).unwrap_or_default();
    if services.len() > MAX_SERVICES {
        let message = format!("there are {} services; at most {MAX_SERVICES} fit a stack", services.len());
        At::root(cx, root).child("services")?.error(message);
        return None;
    }
    let mut extender = Extender::new(cx, &cx.sources.main, root);
    let resolved: Vec<Entry> = services
        .iter()
        .filter_map(|entry| Some(Entry { value: extender.resolve(&cx.sources.main, &entry.key)?, ..entry.clone() }))
        .collect();
    read_stack(cx, name, root, &resolved)
}

/// The tree that was read from a file with its variables replaced; none, with problems reported, if it is no mapping.
pub(crate) fn read_tree(cx: &Context<'_>, (root, faults): (Option<Node>, Vec<Fault>)) -> Option<Node> {
    for fault in faults {
        cx.report(Severity::Error, fault.mark, String::new(), fault.message, fault.help.map(str::to_owned));
    }
    let root = root?;
    let at = At::root(cx, &root);
    if !at.is_map() {
        at.error(format!("a Compose file must be a mapping, not {}", root.sort()));
        return None;
    }
    let entries = root.entries().iter().map(|entry| {
        // Templates: what is used of them stands in the services too, by alias, and is replaced there.
        let value = match entry.key.starts_with("x-") {
            true => entry.value.clone(),
            false => replace_variables(&at.entry(&entry.key, entry.mark, &entry.value)),
        };
        Entry { value, ..entry.clone() }
    });
    Some(Node { value: Value::Map(entries.collect()), mark: root.mark })
}

fn replace_variables(at: &At<'_>) -> Node {
    let value = match &at.node.value {
        Value::Null => Value::Null,
        Value::Text(text) if !text.contains('$') => Value::Text(Rc::clone(text)),
        Value::Text(text) => Value::Text(expand(at, text).into()),
        Value::List(_) => Value::List(at.items().iter().map(replace_variables).collect()),
        Value::Map(entries) => {
            let replace = |entry: &Entry| {
                let value = replace_variables(&at.entry(&entry.key, entry.mark, &entry.value));
                Entry { value, ..entry.clone() }
            };
            Value::Map(entries.iter().map(replace).collect())
        }
    };
    Node { value, mark: at.node.mark }
}

fn expand(at: &At<'_>, text: &str) -> String {
    match interpolate::expand(text, &mut Variables(at)) {
        Ok(value) if at.cx.spend(value.len(), at.mark()) => value,
        Ok(_) => String::new(),
        Err(message) => {
            let help = message.contains("no valid variable").then(|| "write `$$` for a dollar sign".to_owned());
            at.report(Severity::Error, at.mark(), message, help);
            at.cx.give_up(at.mark());
            String::new()
        }
    }
}

struct Variables<'a>(&'a At<'a>);

impl Lookup for Variables<'_> {
    fn value(&mut self, name: &str) -> Option<String> {
        self.0.cx.variable(name).map(str::to_owned)
    }

    fn unset(&mut self, name: &str) {
        let at = self.0;
        at.cx.miss_variable(name);
        let name = clip(name);
        let help = format!("set it, or give a default: `${{{name}:-…}}`");
        let message = format!("the variable `{name}` is not set and becomes empty");
        at.report(Severity::Warning, at.mark(), message, Some(help));
    }
}
