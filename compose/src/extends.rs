//! `extends`: a service takes over another one, of the same or of another file.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::context::{Context, clip};
use crate::load::read_tree;
use crate::read::{At, Fields};
use crate::suggest::did_you_mean;
use crate::yaml::{self, Entry, Node, Value};

/// Services that extend one another in a row. More is a slip, and would deepen the stack.
const MAX_CHAIN: usize = 32;
/// Files that one stack may take services from.
const MAX_FILES: usize = 64;

/// A service of a file: the file's path and the service's name.
type Place = (String, String);

/// A file with its services by name: a large one is not searched again for each of them.
#[derive(Clone)]
struct File {
    root: Node,
    services: Rc<HashMap<Rc<str>, usize>>,
}

impl File {
    fn new(root: Node) -> Self {
        let services = root.field("services").map(Node::entries).unwrap_or_default();
        let services = services.iter().enumerate().map(|(index, entry)| (Rc::clone(&entry.key), index)).collect();
        Self { root, services: Rc::new(services) }
    }
}

pub(crate) struct Extender<'c> {
    cx: &'c Context<'c>,
    /// None of those that could not be read.
    files: BTreeMap<String, Option<File>>,
    done: HashMap<Place, Option<Node>>,
    chain: Vec<Place>,
}

impl<'c> Extender<'c> {
    pub(crate) fn new(cx: &'c Context<'c>, main: &str, root: &Node) -> Self {
        let files = BTreeMap::from([(main.to_owned(), Some(File::new(root.clone())))]);
        Self { cx, files, done: HashMap::new(), chain: Vec::new() }
    }

    /// The service with everything that it extends; none if that cannot be found, which is then reported.
    pub(crate) fn resolve(&mut self, file: &str, name: &str) -> Option<Node> {
        let place = (file.to_owned(), name.to_owned());
        if let Some(done) = self.done.get(&place) {
            return done.clone();
        }
        let File { root, services: index } = self.files.get(file)?.clone()?;
        let services = At::root(self.cx, &root).child("services")?;
        let entry = services.node.entries().get(*index.get(name)?)?;
        let service = services.entry(&entry.key, entry.mark, &entry.value);
        self.chain.push(place.clone());
        let resolved = match service.child("extends").filter(|at| !at.node.is_null()) {
            None => Some(service.node.clone()),
            Some(extends) => self.extend(file, &service, &extends),
        };
        self.chain.pop();
        self.done.insert(place, resolved.clone());
        resolved
    }

    fn extend(&mut self, file: &str, service: &At<'_>, extends: &At<'_>) -> Option<Node> {
        let (base_name, other_file) = target(extends)?;
        let base_file = match other_file {
            Some(path) => self.open(file, &path)?,
            None => file.to_owned(),
        };
        let base_place = (base_file.clone(), base_name.text()?.to_owned());
        if let Some(start) = self.chain.iter().position(|place| *place == base_place) {
            let mut names: Vec<String> = self.chain[start..].iter().map(|(_, name)| clip(name)).collect();
            names.push(clip(&base_place.1));
            extends.error(format!("services extend one another in a circle: {}", names.join(" → ")));
            return None;
        }
        if self.chain.len() > MAX_CHAIN {
            extends.error(format!("more than {MAX_CHAIN} services extend one another"));
            return None;
        }
        if !self.has_service(&base_file, &base_place.1) {
            self.report_unknown(&base_name, &base_file);
            return None;
        }
        let base = self.resolve(&base_file, &base_place.1)?;
        if !matches!(base.value, Value::Map(_)) || !service.is_map() {
            return None;
        }
        let merged = without_extends(&crate::merge::merge(&base, service.node));
        let cost = usize::try_from(merged.cost()).unwrap_or(usize::MAX);
        self.cx.spend(cost, extends.mark()).then_some(merged)
    }

    /// Reads the other file, once, and gives the path by which it is known.
    fn open(&mut self, base: &str, path: &At<'_>) -> Option<String> {
        let written = path.filled()?;
        let base = self.cx.sources.base_of(base);
        let Some((known, text)) = self.cx.sources.find(base, &written) else {
            self.cx.miss_file(crate::resolve(base, &written));
            path.error(format!("the file `{}` was not sent along or does not exist", clip(&written)));
            return None;
        };
        if self.files.len() >= MAX_FILES {
            path.error(format!("services come from more than {MAX_FILES} files"));
            return None;
        }
        if !self.files.contains_key(&known) {
            let file = read_tree(self.cx, yaml::parse(text, self.cx.file_number(&known))).map(File::new);
            self.files.insert(known.clone(), file);
        }
        Some(known)
    }

    fn has_service(&self, file: &str, name: &str) -> bool {
        // A file that could not be read has been reported; resolving in it gives nothing.
        self.files.get(file).and_then(Option::as_ref).is_none_or(|file| file.services.contains_key(name))
    }

    fn report_unknown(&self, name: &At<'_>, file: &str) {
        let Some(known) = self.files.get(file).and_then(Option::as_ref).filter(|_| !self.cx.has_enough()) else {
            return;
        };
        let wrong = name.text().unwrap_or_default();
        let message = format!("{file} has no service `{}`", clip(wrong));
        match did_you_mean(wrong, known.services.keys().map(|key| &**key)) {
            Some(help) => name.error_with(message, help),
            None => name.error(message),
        }
    }
}

/// The service and the file that are extended.
fn target<'a>(extends: &At<'a>) -> Option<(At<'a>, Option<At<'a>>)> {
    if extends.node.text().is_some() {
        return Some((extends.clone(), None));
    }
    let mut fields = Fields::of(extends)?;
    let (service, file) = (fields.take("service"), fields.take("file"));
    fields.finish();
    if service.is_none() {
        extends.error("`service` is missing: which one is extended?");
    }
    Some((service?, file))
}

fn without_extends(node: &Node) -> Node {
    let entries: Rc<[Entry]> = node.entries().iter().filter(|entry| &*entry.key != "extends").cloned().collect();
    node.with(Value::Map(entries))
}
