//! Sources → stack: the one way through all steps.

use std::collections::BTreeSet;
use std::rc::Rc;

use outrigger_protocol::{StackName, StackSpec};

use crate::MAX_SERVICES;
use crate::context::{Context, clip};
use crate::diagnostic::{Diagnostic, Severity};
use crate::env_file::{self, Format};
use crate::extends::Extender;
use crate::interpolate::{self, Lookup};
use crate::merge;
use crate::read::{At, read_stack};
use crate::sources::{Missing, Sources, StackFile};
use crate::yaml::{self, Entry, Fault, Mark, Node, Value};

/// What a Compose file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The stack, unless there was an error.
    pub stack: Option<StackSpec>,
    /// The secrets and configs that its services use. They are not in the specification, which is shown and stored.
    pub files: Vec<StackFile>,
    /// All problems, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// What the file refers to and the sources do not have.
    pub missing: Missing,
}

/// Reads the Compose file of `sources`, with those merged over it. The stack's name is `name`, else the variable `COMPOSE_PROJECT_NAME`, else the
/// file's own `name:`; one of them must be given.
#[must_use]
pub fn load(name: Option<StackName>, sources: &Sources) -> Outcome {
    let mut cx = Context::new(sources);
    let parsed: Vec<_> = sources.stack_files().filter_map(|path| parse(&cx, path)).collect();
    if let Some((path, dotenv)) = sources.find(&sources.main, ".env") {
        cx.dotenv = env_file::read(&cx, &path, dotenv, Format::Compose);
    }
    // Of several files the last one that has a name gives it.
    let own = parsed.iter().rev().find_map(|(_, (root, _))| root.as_ref()?.field("name")?.text());
    let given = name.as_ref().map(StackName::as_str);
    let own = own.filter(|own| !own.contains('$'));
    cx.project = given.or_else(|| cx.named_by_user()).or(own).map(str::to_owned);
    let is_complete = parsed.len() == sources.stack_files().count();
    let files: Vec<_> = parsed.into_iter().filter_map(|(path, file)| Some((path, read_tree(&cx, file)?))).collect();
    let stack = if is_complete { build(&cx, name, &files) } else { None };
    let (diagnostics, missing) = cx.finish();
    let has_errors = diagnostics.iter().any(|problem| problem.severity == Severity::Error);
    let (stack, files) = stack.filter(|_| !has_errors).unzip();
    Outcome { stack, files: files.unwrap_or_default(), diagnostics, missing }
}

/// A Compose file that was parsed.
type Parsed = (Option<Node>, Vec<Fault>);

fn parse<'s>(cx: &Context<'s>, path: &'s str) -> Option<(&'s str, Parsed)> {
    let file = cx.file_number(path);
    if let Some(text) = cx.sources.files.get(path) {
        return Some((path, yaml::parse(text, file)));
    }
    cx.miss_file(path.to_owned());
    let mark = Mark { file, line: 1, column: 1 };
    cx.report(Severity::Error, mark, String::new(), "the file was not sent along".to_owned(), None);
    None
}

/// What a service extends is taken from its own file, and only then the files are merged: as Compose has it.
fn build(cx: &Context<'_>, name: Option<StackName>, files: &[(&str, Node)]) -> Option<(StackSpec, Vec<StackFile>)> {
    let mut broken = BTreeSet::new();
    let mut merged: Option<Node> = None;
    for (path, root) in files {
        let resolved = resolve_services(cx, path, root, &mut broken)?;
        let root = match &merged {
            Some(base) => merge::merge_files(base, &resolved),
            None => resolved,
        };
        let cost = usize::try_from(root.cost()).unwrap_or(usize::MAX);
        if files.len() > 1 && !cx.spend(cost, root.mark) {
            return None;
        }
        merged = Some(root);
    }
    let root = merge::without_resets(&merged?);
    let services = root.field("services").map(Node::entries).unwrap_or_default();
    let is_whole = |entry: &&Entry| !broken.contains(&entry.key);
    let whole: Vec<Entry> = services.iter().filter(is_whole).cloned().collect();
    read_stack(cx, name, &root, &whole)
}

/// The file with everything that its services extend. Those of which that cannot be found are in `broken`.
fn resolve_services(cx: &Context<'_>, path: &str, root: &Node, broken: &mut BTreeSet<Rc<str>>) -> Option<Node> {
    let Some(services) = root.field("services") else { return Some(root.clone()) };
    let count = services.entries().len();
    if count > MAX_SERVICES {
        let message = format!("there are {count} services; at most {MAX_SERVICES} fit a stack");
        At::root(cx, root).child("services")?.error(message);
        return None;
    }
    let mut extender = Extender::new(cx, path, root);
    let mut resolve = |entry: &Entry| match extender.resolve(path, &entry.key) {
        Some(value) => Entry { value, ..entry.clone() },
        None => {
            broken.insert(Rc::clone(&entry.key));
            entry.clone()
        }
    };
    let resolved = match &services.value {
        Value::Map(entries) => services.with(Value::Map(entries.iter().map(&mut resolve).collect())),
        Value::Null | Value::Text(_) | Value::List(_) => services.clone(),
    };
    let replace = |entry: &Entry| match &*entry.key {
        "services" => Entry { value: resolved.clone(), ..entry.clone() },
        _ => entry.clone(),
    };
    Some(root.with(Value::Map(root.entries().iter().map(replace).collect())))
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
    Some(root.with(Value::Map(entries.collect())))
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
    at.node.with(value)
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
