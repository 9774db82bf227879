//! `volumes` and `tmpfs` of a service, in the short and the long form.

use std::collections::HashSet;

use outrigger_protocol::{ContainerSpec, Mount, MountKind};

use super::process::absolute;
use super::volumes::is_volume_name;
use super::world::World;
use super::{At, Fields, tmpfs};
use crate::context::clip;
use crate::diagnostic::Severity;
use crate::suggest::did_you_mean;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Volume,
    Bind,
    Tmpfs,
    Unsupported,
}

pub(crate) fn read(fields: &mut Fields<'_>, world: &World<'_>, container: &mut ContainerSpec) {
    let mut found: Vec<(Mount, At<'_>)> = Vec::new();
    for at in fields.take("volumes").map(|at| at.items()).unwrap_or_default() {
        let mount = if at.is_map() { read_long(&at, world) } else { read_short(&at, world) };
        found.extend(mount.map(|mount| (mount, at)));
    }
    for at in fields.take("tmpfs").map(|at| at.one_or_items()).unwrap_or_default() {
        found.extend(tmpfs::read(&at).map(|mount| (mount, at)));
    }
    let mut targets = HashSet::new();
    for (mount, at) in &found {
        if !targets.insert(mount.target.trim_end_matches('/')) {
            at.error(format!("something is mounted at `{}` already", clip(&mount.target)));
        }
    }
    container.mounts = found.into_iter().map(|(mount, _)| mount).collect();
    container.shm_size = fields.take("shm_size").and_then(|at| at.bytes());
}

/// `target`, `source:target` or `source:target:mode,…`
fn read_short(at: &At<'_>, world: &World<'_>) -> Option<Mount> {
    let text = at.filled()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, modes) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, modes] => (Some(*source), *target, *modes),
        _ => {
            at.error(format!("`{}` must be `source:target` or `source:target:mode`", clip(&text)));
            return None;
        }
    };
    if !target.starts_with('/') {
        at.error(format!("`{}` must be an absolute path in the container", clip(target)));
        return None;
    }
    let kind = match source {
        None => MountKind::Anonymous,
        Some(source) if is_path(source) => MountKind::Bind { source: device_path(source, at)?, create: true },
        Some(source) => named(source, at, world)?,
    };
    Some(Mount { kind, target: target.to_owned(), read_only: read_modes(modes, at) })
}

/// Whether the mount is read-only.
fn read_modes(modes: &str, at: &At<'_>) -> bool {
    let mut read_only = false;
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // Hints for engines in virtual machines; Docker on Linux does nothing with them either.
            "cached" | "delegated" | "consistent" => (),
            "z" | "Z" | "nocopy" | "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                at.warn(format!("the mode `{mode}` is ignored"));
            }
            other => at.error(format!("unknown mode `{}`; known are `ro` and `rw`", clip(other))),
        }
    }
    read_only
}

fn read_long(at: &At<'_>, world: &World<'_>) -> Option<Mount> {
    const SORTS: &[(&str, Sort)] = &[
        ("volume", Sort::Volume),
        ("bind", Sort::Bind),
        ("tmpfs", Sort::Tmpfs),
        ("npipe", Sort::Unsupported),
        ("cluster", Sort::Unsupported),
        ("image", Sort::Unsupported),
    ];
    let mut fields = Fields::of(at)?;
    let sort_at = fields.take("type");
    let source = fields.take("source");
    let target = fields.take("target");
    let read_only = fields.take("read_only").and_then(|at| at.boolean()).unwrap_or(false);
    // A hint, as above.
    fields.take("consistency");
    let create = fields.take("bind").and_then(|at| bind_options(&at)).unwrap_or(true);
    let memory = fields.take("tmpfs").and_then(|at| tmpfs_options(&at));
    if let Some(at) = fields.take("volume") {
        volume_options(&at);
    }
    fields.take("image");
    fields.finish();
    let Some(sort_at) = sort_at else {
        at.error("`type` is missing: one of `volume`, `bind`, `tmpfs`");
        return None;
    };
    let sort = sort_at.choice(SORTS)?;
    let Some(target) = target else {
        at.error("`target` is missing: where in the container?");
        return None;
    };
    let target = absolute(&target)?;
    let kind = match (sort, source) {
        (Sort::Volume, None) => MountKind::Anonymous,
        (Sort::Volume, Some(source)) => named(&source.filled()?, &source, world)?,
        (Sort::Bind, Some(source)) => MountKind::Bind { source: device_path(&source.filled()?, &source)?, create },
        (Sort::Bind, None) => {
            at.error("`source` is missing: which path of the device?");
            return None;
        }
        (Sort::Tmpfs, _) => memory.unwrap_or(MountKind::Tmpfs { size: None, mode: None }),
        (Sort::Unsupported, _) => {
            sort_at.error("not supported yet: this type of mount");
            return None;
        }
    };
    Some(Mount { kind, target, read_only })
}

/// Whether a missing path is made; Compose's default is yes.
fn bind_options(at: &At<'_>) -> Option<bool> {
    let mut fields = Fields::of(at)?;
    let create = fields.take("create_host_path").and_then(|at| at.boolean());
    fields.name_unsupported(&[
        ("propagation", Severity::Warning, "mounts do not propagate"),
        ("selinux", Severity::Warning, "files are not relabelled"),
        ("recursive", Severity::Warning, "the engine's default applies"),
    ]);
    fields.finish();
    create
}

fn tmpfs_options(at: &At<'_>) -> Option<MountKind> {
    let mut fields = Fields::of(at)?;
    let size = fields.take("size").and_then(|at| at.bytes());
    let mode = fields.take("mode").and_then(|at| at.check(tmpfs::permissions(at.text()?)));
    fields.finish();
    Some(MountKind::Tmpfs { size, mode })
}

fn volume_options(at: &At<'_>) {
    let Some(mut fields) = Fields::of(at) else { return };
    fields.name_unsupported(&[
        ("nocopy", Severity::Warning, "a new volume is filled from the image"),
        ("labels", Severity::Warning, "volumes get no labels yet"),
        ("subpath", Severity::Error, "the whole volume would be mounted instead"),
    ]);
    fields.finish();
}

fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~']) || source.contains(['/', '\\'])
}

/// Only absolute paths mean something on another machine.
fn device_path(source: &str, at: &At<'_>) -> Option<String> {
    if source.starts_with('/') {
        return Some(source.to_owned());
    }
    let message = format!("`{}` is relative to the folder of this file, which devices do not have", clip(source));
    at.error_with(message, "use an absolute path of the device, a named volume, or an image that contains the files");
    None
}

fn named(name: &str, at: &At<'_>, world: &World<'_>) -> Option<MountKind> {
    if is_path(name) {
        at.error(format!("`{}` is a path; a volume has a name", clip(name)));
        return None;
    }
    let Some(volume) = world.volumes.get(name) else {
        let message = format!("there is no volume `{}` under the top-level `volumes:`", clip(name));
        let help = did_you_mean(name, world.volumes.keys().map(String::as_str))
            .or_else(|| is_volume_name(name).then(|| format!("add `volumes: {{ {}: }}` there", clip(name))));
        at.report(Severity::Error, at.mark(), message, help);
        return None;
    };
    let (name, driver, options) = (volume.name.clone(), volume.driver.clone(), volume.options.clone());
    Some(MountKind::Volume { name, driver, options })
}
