//! The top level of a Compose file.

use std::collections::BTreeSet;

use outrigger_protocol::{FileKind, ServiceSpec, StackName, StackSpec};

use super::depends::report_circles;
use super::volumes::read_volumes;
use super::world::World;
use super::{At, Fields, files, networks, service};
use crate::context::{Context, PROJECT, clip};
use crate::diagnostic::Severity::{Error, Warning};
use crate::sources::StackFile;
use crate::suggest::did_you_mean;
use crate::yaml::{Entry, Node};

/// Reads the whole file; `services` are those of `root` with everything that they extend.
pub(crate) fn read_stack(
    cx: &Context<'_>,
    name: Option<StackName>,
    root: &Node,
    services: &[Entry],
) -> Option<(StackSpec, Vec<StackFile>)> {
    let at = At::root(cx, root);
    let mut fields = Fields::of(&at)?;
    let stack = stack_name(name, &mut fields);
    // Obsolete, and without effect in Compose too.
    fields.take("version");
    let prefix = stack.as_ref().map_or("stack", StackName::as_str).to_owned();
    let volumes = fields.take("volumes").map(|at| read_volumes(&at, &prefix)).unwrap_or_default();
    let networks_at = fields.take("networks");
    let networks = networks::read_networks(networks_at.as_ref(), &prefix);
    if let Some(at) = &networks_at {
        networks::check_twins(at, &networks);
    }
    let mut defined = files::Files::new();
    for (key, kind) in [("secrets", FileKind::Secret), ("configs", FileKind::Config)] {
        if let Some(at) = fields.take(key) {
            files::read_top(&at, kind, &prefix, &mut defined);
        }
    }
    fields.name_unsupported(&[
        ("include", Error, "copy the other file's services here, or deploy it as a stack of its own"),
        ("models", Error, "there are no models to run"),
    ]);
    if let Some(ours) = fields.take("x-outrigger") {
        Fields::of(&ours)?.finish();
    }
    let services_at = fields.take_any("services");
    fields.finish();
    let Some(services_at) = services_at else {
        at.error("the file has no `services`");
        return None;
    };
    if !services_at.node.is_null() && !services_at.is_map() {
        services_at.error(format!("must be a mapping, not {}", services_at.node.sort()));
        return None;
    }
    let world = World {
        services: services_at.node.entries().iter().map(|entry| entry.key.to_string()).collect(),
        left_out: left_out(&services_at, services),
        volumes,
        networks,
        files: defined,
    };
    let specs = read_services(&services_at, services, &world);
    let networks = networks::definitions(&world.networks, &specs);
    let given = files::gather(&world.files, &specs);
    Some((StackSpec { name: stack?, services: specs, networks }, given))
}

fn read_services(services_at: &At<'_>, services: &[Entry], world: &World<'_>) -> Vec<ServiceSpec> {
    if services_at.node.entries().is_empty() {
        services_at.error("there is no service in it");
    }
    let mut specs = Vec::new();
    let mut links = Vec::new();
    for entry in services {
        let at = services_at.entry(&entry.key, entry.mark, &entry.value);
        let cost = usize::try_from(entry.value.cost()).unwrap_or(usize::MAX);
        if !at.cx.spend(cost, at.mark()) {
            break;
        }
        if world.left_out.contains(&*entry.key) {
            let message = "left out: none of its `profiles` is active".to_owned();
            let profiles = entry.value.field("profiles").map(Node::items).unwrap_or_default();
            let first = profiles.first().and_then(Node::text).map(clip);
            let help = first.map(|profile| format!("activate one with --profile {profile}"));
            at.report(Warning, at.key_mark, message, help);
        } else {
            let Some((spec, linked)) = service::read(&at, world) else { continue };
            links.push((spec.name.clone(), linked));
            specs.push(spec);
        }
    }
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    networks::apply_links(&mut specs, &links);
    report_circles(services_at, &specs);
    specs
}

fn stack_name(given: Option<StackName>, fields: &mut Fields<'_>) -> Option<StackName> {
    let at_root = fields.at().clone();
    let at = fields.take("name");
    if given.is_some() {
        return given;
    }
    if let Some(name) = at_root.cx.named_by_user() {
        return at_root.check(name.parse().map_err(|error| format!("{PROJECT}: {error}")));
    }
    let Some(at) = at else {
        at_root.error_with("the stack has no name", "add a top-level `name:` or give the name when deploying");
        return None;
    };
    at.check(at.text()?.parse::<StackName>().map_err(|error| error.to_string()))
}

/// The services of which no profile is active. A profile that no service has is probably a slip.
fn left_out(services_at: &At<'_>, services: &[Entry]) -> BTreeSet<String> {
    let active = &services_at.cx.sources.profiles;
    let profiles = |entry: &Entry| {
        let items = entry.value.field("profiles").map(Node::items).unwrap_or_default().iter();
        items.filter_map(Node::text).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let known: BTreeSet<String> = services.iter().flat_map(profiles).collect();
    for profile in active.iter().filter(|profile| *profile != "*" && !known.contains(*profile)) {
        let help = did_you_mean(profile, known.iter().map(String::as_str));
        let message = format!("no service has the profile `{}`", clip(profile));
        services_at.report(Warning, services_at.key_mark, message, help);
    }
    let is_out = |entry: &&Entry| {
        let own = profiles(entry);
        !own.is_empty() && !active.contains("*") && own.is_disjoint(active)
    };
    services.iter().filter(is_out).map(|entry| entry.key.to_string()).collect()
}
