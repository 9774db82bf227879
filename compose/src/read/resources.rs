//! Limits and reservations: `deploy.resources` and the older keys of the service.

use outrigger_protocol::{ContainerSpec, GenericResource, MilliCpu, Reservation};

use super::{At, Fields, gpu};
use crate::context::clip;

/// The kind under which devices count their GPUs.
const GPU: &str = "gpu";

/// Reads both forms: limits go to the container, the reservation is returned.
pub(super) fn read(service: &mut Fields<'_>, resources: Option<&At<'_>>, container: &mut ContainerSpec) -> Reservation {
    let mut reservation = Reservation::default();
    if let Some(mut fields) = resources.and_then(Fields::of) {
        if let Some(at) = fields.take("limits") {
            limits(&at, container);
        }
        if let Some(at) = fields.take("reservations") {
            reservations(&at, &mut reservation, container);
        }
        fields.finish();
    }
    let limits = &mut container.limits;
    if let Some(at) = service.take("cpus") {
        join(&mut limits.cpu, at.cpus(), &at, "deploy.resources.limits.cpus");
    }
    if let Some(at) = service.take("mem_limit") {
        join(&mut limits.memory, at.bytes().filter(|bytes| bytes.0 > 0), &at, "deploy.resources.limits.memory");
    }
    if let Some(at) = service.take("pids_limit") {
        join(&mut limits.pids, pids(&at), &at, "deploy.resources.limits.pids");
    }
    quota(service, &mut limits.cpu);
    if let Some(at) = service.take("mem_reservation") {
        let mut memory = Some(reservation.memory).filter(|memory| memory.0 > 0);
        join(&mut memory, at.bytes(), &at, "deploy.resources.reservations.memory");
        reservation.memory = memory.unwrap_or_default();
    }
    check_order(service.at(), &reservation, container);
    for request in &container.gpus {
        if request.capabilities.iter().any(|capability| capability == GPU) {
            let count = request.count.unwrap_or_else(|| u32::try_from(request.ids.len()).unwrap_or(1).max(1));
            add(&mut reservation.generic, GPU, count);
        }
    }
    reservation.generic.sort_by(|a, b| a.kind.cmp(&b.kind));
    reservation
}

/// The two spellings of one limit must agree.
fn join<T: PartialEq + Copy>(known: &mut Option<T>, other: Option<T>, at: &At<'_>, twin: &str) {
    match (*known, other) {
        (Some(known), Some(other)) if known != other => {
            at.error(format!("contradicts `{twin}`; remove one of the two"))
        }
        (None, Some(other)) => *known = Some(other),
        (Some(_) | None, _) => (),
    }
}

fn limits(at: &At<'_>, container: &mut ContainerSpec) {
    let Some(mut fields) = Fields::of(at) else { return };
    container.limits.cpu = fields.take("cpus").and_then(|at| at.cpus());
    container.limits.memory = fields.take("memory").and_then(|at| at.bytes()).filter(|bytes| bytes.0 > 0);
    container.limits.pids = fields.take("pids").and_then(|at| pids(&at));
    fields.finish();
}

/// Docker's 0 and -1 both mean: no limit, also where the device has one for those who say nothing.
fn pids(at: &At<'_>) -> Option<u32> {
    at.integer(-1, i64::from(i32::MAX)).map(|count| u32::try_from(count).unwrap_or(0))
}

fn reservations(at: &At<'_>, reservation: &mut Reservation, container: &mut ContainerSpec) {
    let Some(mut fields) = Fields::of(at) else { return };
    reservation.cpu = fields.take("cpus").and_then(|at| at.cpus()).unwrap_or_default();
    reservation.memory = fields.take("memory").and_then(|at| at.bytes()).unwrap_or_default();
    for item in fields.take("devices").map(|at| at.items()).unwrap_or_default() {
        container.gpus.extend(gpu::read_request(&item, None));
    }
    for item in fields.take("generic_resources").map(|at| at.items()).unwrap_or_default() {
        if let Some((kind, count)) = generic(&item) {
            add(&mut reservation.generic, &kind, count);
        }
    }
    fields.finish();
}

fn generic(at: &At<'_>) -> Option<(String, u32)> {
    let mut fields = Fields::of(at)?;
    let discrete = fields.take("discrete_resource_spec");
    fields.finish();
    let Some(discrete) = discrete else {
        at.error("`discrete_resource_spec` with `kind` and `value` is missing");
        return None;
    };
    let mut fields = Fields::of(&discrete)?;
    let (kind, value) = (fields.take("kind"), fields.take("value"));
    fields.finish();
    let (Some(kind), Some(value)) = (kind, value) else {
        discrete.error("`kind` and `value` must both be there");
        return None;
    };
    let count = value.integer(1, i64::from(u32::MAX)).and_then(|count| u32::try_from(count).ok())?;
    let name = kind.filled()?;
    if name.len() > 63 || name.contains(char::is_whitespace) {
        kind.error(format!("`{}` cannot be a kind of resource", clip(&name)));
        return None;
    }
    Some((name, count))
}

fn add(resources: &mut Vec<GenericResource>, kind: &str, count: u32) {
    match resources.iter_mut().find(|resource| resource.kind == kind) {
        Some(resource) => resource.count = resource.count.saturating_add(count),
        None => resources.push(GenericResource { kind: kind.to_owned(), count }),
    }
}

/// `cpu_quota` in each `cpu_period`, which is what a limit of cores becomes in the kernel.
fn quota(service: &mut Fields<'_>, cpu: &mut Option<MilliCpu>) {
    let (quota, period) = (service.take("cpu_quota"), service.take("cpu_period"));
    let micros = |at: &At<'_>, least: i64| match at.text().is_some_and(|text| text.ends_with('s')) {
        true => at.duration().and_then(|time| i64::try_from(time.as_micros()).ok()),
        false => at.integer(least, 1_000_000_000),
    };
    let period = period.as_ref().and_then(|at| micros(at, 1000)).unwrap_or(100_000).max(1);
    let Some(at) = quota else { return };
    let Some(quota) = micros(&at, -1).filter(|quota| *quota > 0) else { return };
    let milli = u32::try_from(quota.saturating_mul(1000) / period).unwrap_or(u32::MAX).max(1);
    join(cpu, Some(MilliCpu(milli)), &at, "cpus");
}

/// More reserved than allowed would keep a device busy for nothing.
fn check_order(at: &At<'_>, reservation: &Reservation, container: &ContainerSpec) {
    if let Some(limit) = container.limits.memory.filter(|limit| *limit < reservation.memory) {
        let message = format!("{} of memory are reserved, but the limit is {}", reservation.memory, limit);
        at.report_key(crate::Severity::Error, message);
    }
    if let Some(limit) = container.limits.cpu.filter(|limit| *limit < reservation.cpu) {
        let message = format!("{} cores are reserved, but the limit is {limit}", reservation.cpu);
        at.report_key(crate::Severity::Error, message);
    }
}
