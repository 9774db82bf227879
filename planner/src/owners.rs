//! What the owners of devices say to a service, and whether anything can come of waiting.

use crate::device::Device;
use crate::filter;
use crate::fleet::Fleet;
use crate::plan::{Liveness, Waiting};
use crate::reconcile::Planner;
use crate::service::Service;
use crate::table::DeviceIx;
use crate::wish::Availability;
use outrigger_protocol::DeviceName;

/// Devices whose owners' words are told in a reason; `outrigger why` has all.
const MOST_OWNERS: usize = 8;

impl Fleet {
    /// Devices whose owner does not allow the present content of a service, by name: the first few, with what they say.
    pub(crate) fn refused_by<'a>(&'a self, service: &'a Service) -> Vec<(&'a DeviceName, &'a str)> {
        let told = |(ix, why): (&DeviceIx, &'a String)| Some((&self.devices.get(*ix)?.name, why.as_str()));
        let mut told: Vec<(&DeviceName, &str)> = service.refused.iter().filter_map(told).collect();
        told.sort_unstable();
        told.truncate(MOST_OWNERS);
        told
    }

    /// Whether a device will not take a copy of a service before its owner, its operator or the user does something. What is
    /// only full, busy or silent for a moment may.
    fn is_closed(&self, service: &Service, ix: DeviceIx, device: &Device) -> bool {
        let Some(facts) = &device.facts else { return false };
        let (content, need) = (&service.content, &service.content.need);
        service.refused.contains_key(&ix)
            || device.availability != Availability::Active
            || device.liveness == Liveness::Lost
            || facts.engine.is_none()
            || facts.cpu.0 < need.cpu
            || facts.memory.0 < need.memory
            || filter::suits(device, content, self.platforms_of(&content.spec)).is_err()
    }
}

impl Planner<'_> {
    /// What the owners of devices say to the present content of a service that finds no place; none: nothing that is known.
    pub(crate) fn owners(&self, service: &Service) -> Option<Waiting> {
        let mut told: Vec<String> =
            self.fleet.refused_by(service).into_iter().map(|(device, why)| format!("{device}: {why}")).collect();
        let more = service.refused.len().saturating_sub(told.len());
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        if told.is_empty() {
            return None;
        }
        let said = told.join("; ");
        let is_final = self.fleet.devices.iter().all(|(ix, device)| self.fleet.is_closed(service, ix, device));
        Some(if is_final { Waiting::Owners(said) } else { Waiting::SomeOwners(said) })
    }
}
