//! What a new specification of a stack changes, service by service.

use std::collections::BTreeMap;

use outrigger_api::{ServiceChange, ServiceChangeKind};
use outrigger_protocol::{ContainerSpec, Mode, ServiceSpec, StackSpec};

/// What applying `new` does to a stack that has the services `old`, in the order of their names.
#[must_use]
pub fn service_changes(old: &[ServiceSpec], new: &StackSpec) -> Vec<ServiceChange> {
    let before: BTreeMap<_, _> = old.iter().map(|spec| (&spec.name, spec)).collect();
    let after: BTreeMap<_, _> = new.services.iter().map(|spec| (&spec.name, spec)).collect();
    let removed = before.iter().filter(|(name, _)| !after.contains_key(*name)).map(|(name, _)| ServiceChange {
        name: name.to_string(),
        change: ServiceChangeKind::Removed,
        wanted: Some(0),
        parts: Vec::new(),
    });
    let mut changes: Vec<_> = after
        .iter()
        .map(|(name, spec)| {
            let parts = before.get(name).map(|old| part_names(old, spec));
            let change = match &parts {
                None => ServiceChangeKind::Created,
                Some(parts) if parts.is_empty() => ServiceChangeKind::Unchanged,
                Some(_) => ServiceChangeKind::Changed,
            };
            let parts = parts.unwrap_or_default();
            ServiceChange { name: name.to_string(), change, wanted: wanted(spec), parts }
        })
        .chain(removed)
        .collect();
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

fn wanted(spec: &ServiceSpec) -> Option<u32> {
    match spec.mode {
        Mode::Replicated(replicas) => Some(replicas),
        Mode::Global => None,
    }
}

/// Compose's names of the parts in which two specifications differ. The image's platforms are no part: the hub learns them.
fn part_names(old: &ServiceSpec, new: &ServiceSpec) -> Vec<String> {
    let mut names = container_parts(&old.container, &new.container);
    let parts = [
        ("deploy.replicas", old.mode != new.mode),
        ("deploy.resources.reservations", old.reservation != new.reservation),
        ("deploy.placement.constraints", old.constraints != new.constraints),
        ("deploy.placement.preferences", old.spread != new.spread),
        ("deploy.placement.max_replicas_per_node", old.max_per_device != new.max_per_device),
        ("x-outrigger.on_device_loss", old.loss != new.loss),
        ("x-outrigger.lost_after", old.lost_after != new.lost_after),
        ("x-outrigger.volume_move", old.volume_move != new.volume_move),
        ("deploy.update_config", old.update != new.update),
        ("depends_on", old.depends_on != new.depends_on),
        ("deploy.labels", old.labels != new.labels),
    ];
    names.extend(parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()));
    names
}

fn container_parts(old: &ContainerSpec, new: &ContainerSpec) -> Vec<String> {
    let parts = [
        ("image", old.image != new.image),
        ("platform", old.platform != new.platform),
        ("command", old.command != new.command),
        ("entrypoint", old.entrypoint != new.entrypoint),
        ("environment", old.environment != new.environment),
        ("labels", old.labels != new.labels),
        ("ports", old.ports != new.ports),
        ("volumes", old.mounts != new.mounts),
        ("healthcheck", old.healthcheck != new.healthcheck),
        ("restart", old.restart != new.restart),
        ("deploy.resources.limits", old.limits != new.limits),
    ];
    let mut names: Vec<_> =
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() && old != new {
        names.push("container".to_owned());
    }
    names
}

#[cfg(test)]
pub(super) mod tests {
    use outrigger_protocol::{LossPolicy, Reservation, Traffic, UpdateConfig, VolumeMove};

    use super::*;

    pub fn spec(name: &str, image: &str) -> ServiceSpec {
        ServiceSpec {
            name: name.parse().unwrap(),
            container: ContainerSpec { image: image.into(), ..ContainerSpec::default() },
            mode: Mode::Replicated(3),
            reservation: Reservation::default(),
            constraints: vec![],
            spread: vec![],
            max_per_device: None,
            platforms: None,
            loss: LossPolicy::Available,
            lost_after: None,
            volume_move: VolumeMove::Stay,
            update: UpdateConfig::default(),
            depends_on: vec![],
            labels: vec![],
            traffic: Traffic::default(),
        }
    }

    #[test]
    fn every_service_is_created_changed_kept_or_removed() {
        let old = [spec("web", "nginx:1"), spec("db", "postgres:17"), spec("old", "x")];
        let mut web = spec("web", "nginx:2");
        web.mode = Mode::Replicated(5);
        let new = StackSpec {
            name: "shop".parse().unwrap(),
            services: vec![web, spec("db", "postgres:17"), spec("new", "y")],
            networks: vec![],
        };
        let changes = service_changes(&old, &new);
        let kinds: Vec<_> = changes.iter().map(|change| (change.name.as_str(), change.change)).collect();
        let wanted = [
            ("db", ServiceChangeKind::Unchanged),
            ("new", ServiceChangeKind::Created),
            ("old", ServiceChangeKind::Removed),
            ("web", ServiceChangeKind::Changed),
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(changes[3].parts, ["image", "deploy.replicas"]);
        assert_eq!(changes[3].wanted, Some(5));
    }
}
