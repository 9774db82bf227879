//! What may be where, said again as plainly as possible, to compare the planner with. Slow, short, and of its own.

use std::collections::BTreeMap;

use outrigger_planner::{Availability, Cause, CopyView, DeviceView, Fleet, PlacementRecord, Stage};
use outrigger_protocol::{
    Assignment, ConstraintKey, Goal, PlacementId, PublishMode, ReplicaName, ServiceRef, ServiceSpec,
};

use super::device::Device;
use super::workload::Operator;

/// Whether a copy may be where it was just placed, as the fleet is with it.
///
/// # Errors
/// Why not.
pub fn may_take(fleet: &Fleet, id: PlacementId, placement: &PlacementRecord, devices: &[Device]) -> Result<(), String> {
    let Some(own) = fleet.copy(id) else { return Ok(()) };
    let Some(device) = fleet.device(&placement.device) else { return Err("no such device".to_owned()) };
    let Some(machine) = devices.iter().find(|other| other.name == placement.device) else { return Ok(()) };
    let copies: Vec<CopyView<'_>> = fleet.copies_on(&placement.device).collect();
    let is_own = |other: &CopyView<'_>| {
        other.replica.service == placement.service && other.replica.number == placement.number && other.placement != id
    };
    // A cordoned device keeps what it has, and changes it too.
    let is_kept = placement.reason.cause == Cause::Changed && device.availability == Availability::Cordon;
    if is_kept && copies.iter().any(is_own) {
        constraints(own.spec, &device, machine)?;
    } else {
        rules(own.spec, &device, machine)?;
    }
    let beside = copies.iter().filter(|other| other.replica.service == placement.service && other.placement != id);
    if let Some(most) = own.spec.max_per_device {
        let runs = |other: &&CopyView<'_>| other.stage != Stage::Prepare && other.replica.number != placement.number;
        let others = beside.filter(runs).count();
        if others + 1 > usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(format!("{} copies are there already", others));
        }
    }
    room(&copies, machine)
}

/// The rules that do not depend on what else is there.
///
/// # Errors
/// Which one is broken.
pub fn rules(spec: &ServiceSpec, device: &DeviceView<'_>, machine: &Device) -> Result<(), String> {
    if device.availability != Availability::Active {
        return Err(format!("it is {:?}", device.availability));
    }
    constraints(spec, device, machine)
}

/// The service's own rules.
///
/// # Errors
/// Which one is broken.
pub fn constraints(spec: &ServiceSpec, device: &DeviceView<'_>, machine: &Device) -> Result<(), String> {
    for constraint in &spec.constraints {
        let value = match &constraint.key {
            ConstraintKey::NodeLabel(key) => device.labels.get(key).cloned(),
            ConstraintKey::EngineLabel(key) => {
                machine.facts.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
            }
            ConstraintKey::Name => Some(machine.name.to_string()),
            ConstraintKey::Arch | ConstraintKey::Os | ConstraintKey::Role => continue,
        };
        if (value.as_deref() == Some(constraint.value.as_str())) != constraint.equal {
            return Err(format!("{constraint:?}, but {value:?}"));
        }
    }
    Ok(())
}

/// Whether all that runs, or still may, has room on the device.
fn room(copies: &[CopyView<'_>], machine: &Device) -> Result<(), String> {
    let (mut cpu, mut memory, mut counted) = (0_u64, 0_u64, Vec::new());
    for copy in copies.iter().filter(|copy| copy.stage != Stage::Prepare) {
        // A device starts a successor only when what it succeeds there has ended.
        let runs = |other: &CopyView<'_>| other.stage == Stage::Run && other.replica == copy.replica;
        if copy.stage == Stage::Stop && copies.iter().any(runs) {
            continue;
        }
        cpu += u64::from(copy.spec.reservation.cpu.0);
        memory += copy.spec.reservation.memory.0;
        counted.push(copy.spec);
    }
    has_generic(counted.into_iter(), machine)?;
    if cpu > u64::from(machine.facts.cpu.0) || memory > machine.facts.memory.0 {
        return Err(format!("{cpu} of {} and {memory} of {} reserved", machine.facts.cpu.0, machine.facts.memory.0));
    }
    Ok(())
}

/// Whether a device has what these reserve of what can be counted.
fn has_generic<'a>(specs: impl Iterator<Item = &'a ServiceSpec>, machine: &Device) -> Result<(), String> {
    let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
    for one in specs.flat_map(|spec| &spec.reservation.generic) {
        *wanted.entry(&one.kind).or_default() += one.count;
    }
    for (kind, count) in wanted {
        let has: u32 = machine.facts.generic.iter().filter(|one| one.kind == kind).map(|one| one.count).sum();
        if count > has {
            return Err(format!("{count} of {has} {kind} reserved"));
        }
    }
    Ok(())
}

/// Whether what a device is to run can run side by side.
///
/// # Errors
/// What collides.
pub fn fits_together(want: &Assignment, machine: &Device, _operator: &Operator) -> Result<(), String> {
    let mut ports = BTreeMap::new();
    for copy in want.replicas.iter().filter(|copy| copy.goal == Goal::Run) {
        let Some(spec) = want.spec_of(copy) else { return Err(format!("{} has no specification", copy.replica)) };
        // What every device opens needs nothing of the one where a copy runs.
        for port in spec.ports.iter().filter(|port| port.mode == PublishMode::Host) {
            let Some(host) = port.host else { continue };
            if let Some(other) = ports.insert((host, port.protocol), copy.replica.clone()) {
                return Err(format!("{} and {other} both open port {host} of {}", copy.replica, machine.name));
            }
        }
    }
    Ok(())
}

/// Whether a device could take one more copy of a service, given all that is on it but the copies of one replica.
///
/// # Errors
/// Why not.
pub fn could_take(
    fleet: &Fleet,
    spec: &ServiceSpec,
    service: &ServiceRef,
    machine: &Device,
    but: Option<&ReplicaName>,
) -> Result<(), String> {
    let Some(device) = fleet.device(&machine.name) else { return Err("not known".to_owned()) };
    rules(spec, &device, machine)?;
    let counts = |copy: &CopyView<'_>| but != Some(&copy.replica);
    let copies: Vec<CopyView<'_>> = fleet.copies_on(&machine.name).filter(counts).collect();
    let own = copies.iter().filter(|copy| copy.replica.service == *service).count();
    if spec.max_per_device.is_some_and(|most| own >= usize::try_from(most).unwrap_or(usize::MAX)) {
        return Err(format!("{own} copies are there"));
    }
    let (mut cpu, mut memory) = (u64::from(spec.reservation.cpu.0), spec.reservation.memory.0);
    for copy in &copies {
        // As it is, also where a change of it is under way.
        cpu += u64::from(copy.spec.reservation.cpu.0);
        memory += copy.spec.reservation.memory.0;
        let theirs = copy.spec.container.ports.iter().filter(|port| port.mode == PublishMode::Host);
        let shared = theirs.into_iter().any(|port| spec.container.ports.contains(port));
        if shared {
            return Err(format!("{} holds its port", copy.replica));
        }
    }
    if cpu > u64::from(machine.facts.cpu.0) || memory > machine.facts.memory.0 {
        return Err("it is full".to_owned());
    }
    has_generic(copies.iter().map(|copy| copy.spec).chain([spec]), machine)
}
