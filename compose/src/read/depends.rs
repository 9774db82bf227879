//! `depends_on`.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{ServiceName, ServiceSpec};

use super::world::World;
use super::{At, Fields};
use crate::context::clip;
use crate::suggest::did_you_mean;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Started,
    Healthy,
    Completed,
}

/// The services that must be up before the first start of this one, by name.
pub(crate) fn read(at: &At<'_>, world: &World<'_>) -> Vec<ServiceName> {
    let mut names = BTreeSet::new();
    if at.is_map() {
        for (name, entry) in at.entries() {
            names.extend(read_long(name, &entry, world));
        }
    } else {
        for item in at.items() {
            names.extend(item.text().and_then(|name| known(name, &item, true, world)));
        }
    }
    names.into_iter().collect()
}

fn read_long(name: &str, at: &At<'_>, world: &World<'_>) -> Option<ServiceName> {
    let mut fields = Fields::of(at)?;
    let condition = fields.take("condition");
    let required = fields.take("required").and_then(|at| at.boolean()).unwrap_or(true);
    if let Some(restart) = fields.take("restart") {
        restart.warn("ignored: a restart of one service restarts no other");
    }
    fields.finish();
    const CONDITIONS: &[(&str, Condition)] = &[
        ("service_started", Condition::Started),
        ("service_healthy", Condition::Healthy),
        ("service_completed_successfully", Condition::Completed),
    ];
    if let Some(condition) = condition
        && condition.choice(CONDITIONS) == Some(Condition::Completed)
    {
        condition.error_with("not supported yet: services are meant to go on", "run the job before you deploy");
    }
    known(name, at, required, world)
}

fn known(name: &str, at: &At<'_>, required: bool, world: &World<'_>) -> Option<ServiceName> {
    if world.left_out.contains(name) || (!required && !world.services.contains(name)) {
        if required {
            at.error(format!("`{}` is left out because of its `profiles`", clip(name)));
        }
        return None;
    }
    if !world.services.contains(name) {
        let message = format!("there is no service `{}`", clip(name));
        match did_you_mean(name, world.services.iter().map(String::as_str)) {
            Some(help) => at.error_with(message, help),
            None => at.error(message),
        }
        return None;
    }
    // A bad name is reported at the service itself.
    name.parse().ok()
}

/// Reports services that wait for one another: none of them would ever start.
pub(crate) fn report_circles(services_at: &At<'_>, specs: &[ServiceSpec]) {
    let stuck = stuck(specs);
    // Everyone stuck waits for someone stuck, so that following the first such need must come around.
    let Some((&first, _)) = stuck.iter().next() else { return };
    let mut walk = vec![first];
    let mut seen = BTreeSet::from([first]);
    while let Some(next) = walk.last().and_then(|last| stuck[last].iter().find(|need| stuck.contains_key(need))) {
        if !seen.insert(next) {
            let circle = walk.iter().skip_while(|name| **name != next).copied().chain([next]).map(ServiceName::as_str);
            let at = services_at.child(next.as_str()).and_then(|service| service.child("depends_on"));
            let circle: Vec<&str> = circle.collect();
            at.unwrap_or_else(|| services_at.clone())
                .error(format!("services wait for one another in a circle: {}", clip(&circle.join(" → "))));
            return;
        }
        walk.push(next);
    }
}

/// The services that are in a circle or behind one, with what they wait for.
fn stuck(specs: &[ServiceSpec]) -> BTreeMap<&ServiceName, &[ServiceName]> {
    let mut waiting: BTreeMap<&ServiceName, &[ServiceName]> =
        specs.iter().map(|spec| (&spec.name, spec.depends_on.as_slice())).collect();
    let mut waiters: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    let mut needs: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    for (name, wanted) in &waiting {
        let wanted: Vec<_> = wanted.iter().filter(|need| waiting.contains_key(need)).collect();
        needs.insert(name, wanted.len());
        for need in wanted {
            waiters.entry(need).or_default().push(name);
        }
    }
    let mut ready: Vec<&ServiceName> = needs.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        waiting.remove(name);
        for waiter in waiters.remove(name).unwrap_or_default() {
            let count = needs.entry(waiter).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                ready.push(waiter);
            }
        }
    }
    waiting
}
