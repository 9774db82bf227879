//! `secrets` and `configs`: at the top level what they are and where their content comes from, in a service where the
//! container finds them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use outrigger_protocol::{ContainerSpec, FileKind, FileMount, FileName, FileRef, MAX_FILE, ServiceSpec};

use super::world::World;
use super::{At, Fields, tmpfs};
use crate::context::clip;
use crate::diagnostic::Severity;
use crate::sources::{FileBytes, StackFile};
use crate::suggest::did_you_mean;

/// Where Compose puts secrets of which nobody says where.
const SECRETS: &str = "/run/secrets/";
/// What is the kernel's in every container.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Longest path in a container.
const LONGEST_TARGET: usize = 1024;
/// Everybody may read them, nobody write: Compose's default.
const MODE: u32 = 0o444;

/// One entry of the top-level `secrets:` or `configs:`.
pub(crate) struct Defined<'a> {
    pub(crate) name: FileName,
    source: Source<'a>,
}

enum Source<'a> {
    /// It is kept by the hub already.
    External,
    File(At<'a>),
    Environment(At<'a>),
    Content(At<'a>),
}

/// The secrets and configs of a stack, by what they are and their name in the file.
pub(crate) type Files<'a> = BTreeMap<(FileKind, String), Defined<'a>>;

/// Reads the top-level section of one kind.
pub(crate) fn read_top<'a>(at: &At<'a>, kind: FileKind, stack: &str, files: &mut Files<'a>) {
    for (key, at) in at.entries() {
        if let Some(defined) = define(key, &at, kind, stack) {
            files.insert((kind, key.to_owned()), defined);
        }
    }
}

fn define<'a>(key: &str, at: &At<'a>, kind: FileKind, stack: &str) -> Option<Defined<'a>> {
    let mut fields = Fields::of(at)?;
    let name = fields.take("name").and_then(|at| at.filled());
    let file = fields.take("file").map(Source::File);
    let environment = fields.take("environment").map(Source::Environment);
    let content = match kind {
        FileKind::Config => fields.take_any("content").map(Source::Content),
        FileKind::Secret => None,
    };
    let external = fields.take("external").and_then(|at| external_name(&at));
    fields.name_unsupported(&[
        ("labels", Severity::Warning, "secrets and configs get no labels"),
        ("driver", Severity::Error, "the hub keeps secrets itself"),
        ("driver_opts", Severity::Error, "the hub keeps secrets itself"),
        ("template_driver", Severity::Error, "the content is taken as it is; variables are replaced in `content`"),
    ]);
    fields.finish();
    let is_external = external.is_some();
    let mut sources = [external.as_ref().map(|_| Source::External), file, environment, content].into_iter().flatten();
    let source = match (sources.next(), sources.next()) {
        (Some(one), None) => one,
        (Some(_), Some(_)) => {
            at.report_key(Severity::Error, "its content can come from one place only");
            return None;
        }
        (None, _) => {
            let ways =
                if kind == FileKind::Config { "`file`, `environment`, `content`" } else { "`file`, `environment`" };
            at.report_key(
                Severity::Error,
                format!("where does its content come from? One of {ways} or `external: true`"),
            );
            return None;
        }
    };
    let usual = if is_external { key.to_owned() } else { format!("{stack}_{key}") };
    let name = name.or(external.flatten()).unwrap_or(usual);
    match name.parse() {
        Ok(name) => Some(Defined { name, source }),
        Err(error) => {
            at.report_key(Severity::Error, error.to_string());
            None
        }
    }
}

/// The outer option says whether it is external, the inner one what it is called outside (the older form).
fn external_name(at: &At<'_>) -> Option<Option<String>> {
    if at.is_map() {
        let mut fields = Fields::of(at)?;
        let name = fields.take("name").and_then(|at| at.filled());
        fields.finish();
        return Some(name);
    }
    at.boolean()?.then_some(None)
}

/// `secrets` and `configs` of a service.
pub(crate) fn read(fields: &mut Fields<'_>, world: &World<'_>, container: &mut ContainerSpec) {
    let mut found: Vec<(FileMount, At<'_>)> = Vec::new();
    for (key, kind) in [("secrets", FileKind::Secret), ("configs", FileKind::Config)] {
        for at in fields.take(key).map(|at| at.items()).unwrap_or_default() {
            let mount = if at.is_map() { read_long(&at, kind, world) } else { read_short(&at, kind, world) };
            found.extend(mount.map(|mount| (mount, at)));
        }
    }
    let mut targets: HashSet<String> = HashSet::new();
    let mounted: HashSet<&str> = container.mounts.iter().map(|mount| mount.target.trim_end_matches('/')).collect();
    for (mount, at) in &found {
        // Two names that differ only in capitals are one on some file systems, and a trap for people on all.
        if mounted.contains(mount.target.as_str()) || !targets.insert(mount.target.to_ascii_lowercase()) {
            at.error(format!("something is mounted at `{}` already", clip(&mount.target)));
        }
    }
    container.files = found.into_iter().map(|(mount, _)| mount).collect();
}

fn read_short(at: &At<'_>, kind: FileKind, world: &World<'_>) -> Option<FileMount> {
    let key = at.filled()?;
    let file = named(&key, at, kind, world)?;
    let target = checked_target(&usual_target(kind, &key), at)?;
    Some(FileMount { file, target, uid: 0, gid: 0, mode: MODE })
}

fn read_long(at: &At<'_>, kind: FileKind, world: &World<'_>) -> Option<FileMount> {
    let mut fields = Fields::of(at)?;
    let source = fields.take("source");
    let target = fields.take("target");
    let uid = fields.take("uid").and_then(|at| number(&at)).unwrap_or(0);
    let gid = fields.take("gid").and_then(|at| number(&at)).unwrap_or(0);
    let mode = fields.take("mode").and_then(|at| mode(&at)).unwrap_or(MODE);
    fields.finish();
    let Some(source) = source else {
        at.error(format!("`source` is missing: which {kind}?"));
        return None;
    };
    let key = source.filled()?;
    let file = named(&key, &source, kind, world)?;
    let target = match target {
        Some(at) => {
            let text = at.filled()?;
            checked_target(&if text.starts_with('/') { text } else { usual_target(kind, &text) }, &at)?
        }
        None => checked_target(&usual_target(kind, &key), at)?,
    };
    Some(FileMount { file, target, uid, gid, mode })
}

fn usual_target(kind: FileKind, name: &str) -> String {
    match kind {
        FileKind::Secret => format!("{SECRETS}{name}"),
        FileKind::Config => format!("/{name}"),
    }
}

/// A path in the container that is what it seems to be.
fn checked_target(path: &str, at: &At<'_>) -> Option<String> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let parts = path.strip_prefix('/').unwrap_or(path);
    if path.len() > LONGEST_TARGET || path.chars().any(char::is_control) || !parts.split('/').all(is_plain) {
        let message =
            format!("`{}` must be a file name, or an absolute path without `..` in the container", clip(path));
        at.error(message);
        return None;
    }
    if let Some(kernels) = KERNELS.iter().find(|kernels| path.starts_with(&format!("{kernels}/")) || path == **kernels)
    {
        at.error(format!("`{kernels}` is the kernel's in every container"));
        return None;
    }
    Some(path.to_owned())
}

fn number(at: &At<'_>) -> Option<u32> {
    let text = at.filled()?;
    let parsed = text.parse().ok().filter(|_| !text.starts_with('+'));
    at.check(parsed.ok_or_else(|| format!("`{}` must be a number, such as 1000", clip(&text))))
}

fn mode(at: &At<'_>) -> Option<u32> {
    let mode = at.check(tmpfs::permissions(at.text()?))?;
    if mode > 0o777 {
        at.error("a secret or config has permissions up to `0777`");
        return None;
    }
    Some(mode)
}

fn named(key: &str, at: &At<'_>, kind: FileKind, world: &World<'_>) -> Option<FileRef> {
    if let Some(defined) = world.files.get(&(kind, key.to_owned())) {
        // The hub knows which version is the newest.
        return Some(FileRef { kind, name: defined.name.clone(), version: 0 });
    }
    let known = world.files.keys().filter(|(other, _)| *other == kind).map(|(_, key)| key.as_str());
    let message = format!("there is no {kind} `{}` under the top-level `{kind}s:`", clip(key));
    let help =
        did_you_mean(key, known).or_else(|| Some(format!("add `{kind}s: {{ {}: {{ file: … }} }}` there", clip(key))));
    at.report(Severity::Error, at.mark(), message, help);
    None
}

/// What the services use, with its content where the stack brings it along. What nobody uses need not even be there.
pub(crate) fn gather(files: &Files<'_>, services: &[ServiceSpec]) -> Vec<StackFile> {
    let mounts = services.iter().flat_map(|service| &service.container.files);
    let used: BTreeSet<(FileKind, &FileName)> = mounts.map(|mount| (mount.file.kind, &mount.file.name)).collect();
    let mut found: Vec<StackFile> = Vec::new();
    for ((kind, _), defined) in files {
        if !used.contains(&(*kind, &defined.name)) {
            continue;
        }
        let Some(content) = content_of(&defined.source, *kind) else { continue };
        let one = StackFile { kind: *kind, name: defined.name.clone(), content };
        match found.iter().find(|other| (other.kind, &other.name) == (one.kind, &one.name)) {
            Some(other) if *other != one => {
                if let Some(at) = place_of(&defined.source) {
                    at.error(format!("two entries say different things about the {kind} `{}`", one.name));
                }
            }
            Some(_) => (),
            None => found.push(one),
        }
    }
    found
}

fn place_of<'s, 'a>(source: &'s Source<'a>) -> Option<&'s At<'a>> {
    match source {
        Source::External => None,
        Source::File(at) | Source::Environment(at) | Source::Content(at) => Some(at),
    }
}

/// The outer option is none where it cannot be had, which has been told; the inner one where it is external.
fn content_of(source: &Source<'_>, kind: FileKind) -> Option<Option<FileBytes>> {
    let (text, at) = match source {
        Source::External => return Some(None),
        Source::File(at) => (file(at)?, at),
        Source::Environment(at) => (variable(at)?, at),
        Source::Content(at) => (at.text().unwrap_or_default().to_owned(), at),
    };
    if text.len() > MAX_FILE {
        at.error(format!("{} bytes are more than the {MAX_FILE} that a {kind} may have", text.len()));
        return None;
    }
    at.cx.spend(text.len(), at.mark()).then(|| Some(FileBytes(text.into_bytes())))
}

fn file(at: &At<'_>) -> Option<String> {
    let path = at.filled()?;
    let file = at.cx.file_path(at.node.mark.file);
    let base = at.cx.sources.base_of(&file);
    if let Some((_, text)) = at.cx.sources.find(base, &path) {
        return Some(text.to_owned());
    }
    at.cx.miss_file(crate::resolve(base, &path));
    let message = format!("the file `{}` was not sent along or does not exist", clip(&path));
    at.error_with(
        message,
        "for one that only the hub keeps write `external: true`, and set it with `outrigger secret set`",
    );
    None
}

fn variable(at: &At<'_>) -> Option<String> {
    let name = at.filled()?;
    if let Some(value) = at.cx.variable(&name) {
        return Some(value.to_owned());
    }
    at.cx.miss_variable(&name);
    at.error(format!("the variable `{}` is not set", clip(&name)));
    None
}
