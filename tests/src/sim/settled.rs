//! Whether the fleet runs exactly what is wanted, as its engines truly are.

use std::collections::BTreeMap;

use outrigger_agent::engine::{Container, ContainerState, Health};
use outrigger_planner::RollState;
use outrigger_protocol::{LossPolicy, Mode, ReplicaName, ServiceRef, ServiceSpec, VolumeMove};

use super::device::Device;
use super::naive;
use super::world::World;

/// A container and where it is.
type Found<'a> = (usize, &'a Container);

impl World {
    /// Whether the fleet runs exactly what is wanted.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn settled(&self) -> Result<(), String> {
        if !self.operator.open.is_empty() {
            return Err(format!("wishes without an answer: {:?}", self.operator.open.keys()));
        }
        let mut found: BTreeMap<ReplicaName, Vec<Found<'_>>> = BTreeMap::new();
        for (index, device) in self.devices.iter().enumerate() {
            for container in device.engine.containers() {
                found.entry(container.replica.clone()).or_default().push((index, container));
            }
        }
        for (name, spec) in self.operator.wanted.services() {
            self.service_settled(&name, spec, &mut found)?;
        }
        match found.into_iter().next() {
            Some((replica, copies)) => Err(format!("{replica} is not wanted, but there: {:?}", short(&copies))),
            None => self.routes_settled(),
        }
    }

    fn service_settled(
        &self,
        name: &ServiceRef,
        spec: &ServiceSpec,
        found: &mut BTreeMap<ReplicaName, Vec<Found<'_>>>,
    ) -> Result<(), String> {
        let mut own: Vec<(ReplicaName, Vec<Found<'_>>)> = Vec::new();
        found.retain(|replica, copies| {
            let is_own = replica.service == *name;
            if is_own {
                own.push((replica.clone(), std::mem::take(copies)));
            }
            !is_own
        });
        for (replica, copies) in &own {
            self.copy_settled(replica, spec, copies)?;
        }
        if own.is_empty() && self.is_held_back(name, spec) {
            return self.waits_at_home(name);
        }
        match spec.mode {
            Mode::Replicated(wanted) => self.all_placed(name, spec, wanted, &own),
            Mode::Global => self.one_everywhere(name, spec, &own),
        }
    }

    fn copy_settled(&self, replica: &ReplicaName, spec: &ServiceSpec, copies: &[Found<'_>]) -> Result<(), String> {
        let [(device, container)] = copies else {
            return Err(format!("{replica} has {} containers: {:?}", copies.len(), short(copies)));
        };
        if !matches!(container.state, ContainerState::Running { health: Health::None | Health::Healthy }) {
            return Err(format!("{replica} on d{device} is {:?}", container.state));
        }
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return Err("no hub".to_owned()) };
        let machine = &self.devices[*device];
        if container.image != spec.container.image {
            // What fits nowhere any more stays as it was.
            let could = |one: &&Device| naive::could_take(fleet, spec, &replica.service, one, Some(replica)).is_ok();
            let is_bound = has_home(spec) || spec.loss == LossPolicy::Wait || spec.mode == Mode::Global;
            let Some(place) = self.devices.iter().filter(|one| !is_bound || one.name == machine.name).find(could)
            else {
                return says_why(fleet, replica);
            };
            let (is, wanted) = (&container.image, &spec.container.image);
            return Err(format!(
                "{replica} on d{device} is {is} instead of {wanted}, which could be on {}",
                place.name
            ));
        }
        let is_known = |copy: &outrigger_planner::CopyView<'_>| {
            copy.placement == container.placement && copy.seen.is_some_and(|seen| seen.phase.is_running())
        };
        if !fleet.replica(replica).is_some_and(|view| view.copies.iter().any(is_known)) {
            return Err(format!("{replica} runs on d{device}, and the hub does not know"));
        }
        let Some(view) = fleet.device(&machine.name) else { return Err(format!("d{device} is not known")) };
        if let Err(reason) = naive::constraints(spec, &view, machine)
            && let Some(better) = self.devices.iter().find(|other| self.could_move(fleet, spec, replica, other))
        {
            return Err(format!("{replica} is on d{device} in spite of {reason}, and {} would do", better.name));
        }
        Ok(())
    }

    /// Whether a misplaced copy could be on this device instead.
    fn could_move(
        &self,
        fleet: &outrigger_planner::Fleet,
        spec: &ServiceSpec,
        replica: &ReplicaName,
        other: &Device,
    ) -> bool {
        !stays(spec) && naive::could_take(fleet, spec, &replica.service, other, Some(replica)).is_ok()
    }

    fn all_placed(
        &self,
        name: &ServiceRef,
        spec: &ServiceSpec,
        wanted: u32,
        own: &[(ReplicaName, Vec<Found<'_>>)],
    ) -> Result<(), String> {
        if let Some((extra, _)) = own.iter().find(|(replica, _)| replica.number > wanted) {
            return Err(format!("{extra} is one too many of {wanted}"));
        }
        let missing = u32::try_from(own.len()).unwrap_or(u32::MAX) < wanted;
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return Err("no hub".to_owned()) };
        if !missing || has_home(spec) {
            return if missing { self.waits_at_home(name) } else { Ok(()) };
        }
        match self.devices.iter().find(|device| naive::could_take(fleet, spec, name, device, None).is_ok()) {
            Some(device) => {
                Err(format!("{} of {wanted} of {name}, and {} could take one more", own.len(), device.name))
            }
            None => Ok(()),
        }
    }

    /// Whether something that a service depends on runs nowhere.
    fn is_held_back(&self, name: &ServiceRef, spec: &ServiceSpec) -> bool {
        spec.depends_on.iter().any(|on| {
            let on = ServiceRef { stack: name.stack.clone(), service: on.clone() };
            let mut containers = self.devices.iter().flat_map(|device| device.engine.containers());
            !containers.any(|container| container.replica.service == on)
        })
    }

    /// A service with a volume may wait for the device that has it, and one that depends on another for that; it says so.
    fn waits_at_home(&self, name: &ServiceRef) -> Result<(), String> {
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return Err("no hub".to_owned()) };
        match fleet.replicas(name).find(|replica| replica.copies.is_empty() && replica.waiting.is_none()) {
            Some(replica) => Err(format!("{} is nowhere and does not say why", replica.name)),
            None => Ok(()),
        }
    }

    fn one_everywhere(
        &self,
        name: &ServiceRef,
        spec: &ServiceSpec,
        own: &[(ReplicaName, Vec<Found<'_>>)],
    ) -> Result<(), String> {
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return Err("no hub".to_owned()) };
        for (index, device) in self.devices.iter().enumerate() {
            let here = own.iter().filter(|(_, copies)| copies.iter().any(|(at, _)| *at == index)).count();
            if here > 1 {
                return Err(format!("{name} runs {here} times on {}", device.name));
            }
            if here == 0 && naive::could_take(fleet, spec, name, device, None).is_ok() {
                return Err(format!("{name} does not run on {}, which could take it", device.name));
            }
        }
        Ok(())
    }
}

/// Whether a copy that cannot be changed has its reason told.
fn says_why(fleet: &outrigger_planner::Fleet, replica: &ReplicaName) -> Result<(), String> {
    let is_paused = fleet.service(&replica.service).is_some_and(|service| service.roll.state == RollState::Paused);
    match fleet.replica(replica) {
        Some(view) if view.waiting.is_none() && !is_paused => {
            Err(format!("{replica} keeps its earlier content and does not say why"))
        }
        Some(_) | None => Ok(()),
    }
}

fn stays(spec: &ServiceSpec) -> bool {
    has_home(spec) && spec.volume_move == VolumeMove::Stay
}

fn has_home(spec: &ServiceSpec) -> bool {
    !spec.container.mounts.is_empty()
}

fn short(copies: &[Found<'_>]) -> Vec<String> {
    copies.iter().map(|(device, one)| format!("{} on d{device} {:?}", one.placement, one.state)).collect()
}
