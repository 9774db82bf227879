//! What devices are told of the service network, kept as a broker keeps it, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_planner::{CopyView, Liveness, Stage};
use outrigger_protocol::{
    DeviceName, EndpointState, EngineState, NetworkName, Phase, Routes, ServiceRef, ServiceRoutes,
};

use super::World;

impl World {
    /// Publishes what has changed; whether anything has.
    pub fn route(&mut self) -> bool {
        let changed = self.fleet.take_changed_routes(self.now);
        let any = !changed.is_empty();
        for name in changed {
            match self.fleet.routes(&name) {
                Some(routes) => drop(self.routes.insert(name, routes)),
                None => drop(self.routes.remove(&name)),
            }
        }
        any
    }

    /// What must hold of the routes at every moment.
    pub fn check_routes(&self) {
        for device in self.fleet.devices() {
            let kept = self.routes.get(device.name);
            let now = self.fleet.routes(device.name);
            assert_eq!(kept, now.as_ref(), "a change of the routes of {} was missed at {}", device.name, self.now);
            let Some(routes) = kept else { continue };
            for admitted in routes.admitted.iter().flatten() {
                assert!(self.fleet.device(admitted).is_some(), "{} admits {admitted}, which was removed", device.name);
            }
            let own = self.networks_of(device.name);
            for service in &routes.services {
                self.check_endpoints(service);
                self.check_reach(device.name, &own, routes, service);
            }
        }
    }

    /// Networks that copies on a device join, prepared ones aside. One that is about to stop is still in them.
    fn networks_of(&self, device: &DeviceName) -> BTreeSet<NetworkName> {
        let copies = self.fleet.copies_on(device).filter(|copy| copy.stage != Stage::Prepare);
        let present = |copy: CopyView<'_>| {
            let service = self.fleet.service(&copy.replica.service);
            let spec = service.map_or_else(|| copy.spec.clone(), |service| service.spec.clone());
            spec.container.networks.into_iter().map(|attachment| attachment.network).collect::<Vec<_>>()
        };
        let leaving = self.fleet.services().filter(|service| {
            let mut endpoints = self.fleet.endpoints(service.name).into_iter();
            endpoints.any(|endpoint| endpoint.device == device && endpoint.replica.is_none())
        });
        let leaving = leaving.flat_map(|service| service.spec.container.networks.clone());
        copies.flat_map(present).chain(leaving.map(|attachment| attachment.network)).collect()
    }

    /// A copy that gets requests runs, as far as anybody knows; what is not sure gets some only if nothing is.
    fn check_endpoints(&self, service: &ServiceRoutes) {
        let ready = service.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready);
        let ready: Vec<CopyView<'_>> = ready.filter_map(|endpoint| self.fleet.copy(endpoint.placement)).collect();
        let is_sure = |copy: &CopyView<'_>| {
            let heard = matches!(copy.liveness, Liveness::Up | Liveness::Away);
            let engine = self.fleet.device(copy.device).and_then(|device| device.engine);
            heard
                && !matches!(engine, Some(EngineState::Down(_)))
                && copy.seen.is_some_and(|seen| seen.phase == Phase::Running)
        };
        for copy in &ready {
            let runs = copy.seen.is_none_or(|seen| seen.phase == Phase::Running);
            assert!(runs && copy.stage == Stage::Run, "{} gets requests and does not run", copy.placement);
            assert_ne!(copy.liveness, Liveness::Lost, "{} gets requests and is lost", copy.placement);
        }
        let unsure = ready.iter().filter(|copy| copy.seen.is_none() || copy.liveness == Liveness::Suspect).count();
        assert!(unsure == 0 || !ready.iter().any(is_sure), "{} prefers what is not sure", service.service);
    }

    /// No device is told of what it may not reach, and nobody may reach what shares no network with it.
    fn check_reach(&self, on: &DeviceName, own: &BTreeSet<NetworkName>, routes: &Routes, service: &ServiceRoutes) {
        let hosts = self.fleet.copies_on(on).any(|copy| copy.replica.service == service.service);
        let drains = service.endpoints.iter().any(|endpoint| endpoint.peer.is_none());
        let shares = service.networks.iter().all(|attachment| own.contains(&attachment.network));
        assert!(shares, "{on} is told of {} through a network that it is not in", service.service);
        let reaches = !service.networks.is_empty() || !service.published.is_empty();
        assert!(reaches || hosts || drains, "{on} is told of {} for nothing", service.service);
        let of_service: BTreeSet<&NetworkName> =
            service.networks.iter().map(|attachment| &attachment.network).collect();
        for caller in &service.callers {
            let peer = &routes.peers[usize::from(*caller)].device;
            let theirs = self.networks_of(peer);
            let shares = theirs.iter().any(|network| of_service.contains(network));
            assert!(shares, "{peer} may reach {} on {on} and shares no network", service.service);
        }
    }

    /// The endpoints of a service as a device was told: `pi-1:ready`.
    pub fn told_endpoints(&self, device: &DeviceName, service: &ServiceRef) -> Option<Vec<String>> {
        let routes = self.routes.get(device)?;
        let found = routes.services.iter().find(|found| found.service == *service)?;
        let mut told: Vec<String> = found
            .endpoints
            .iter()
            .map(|endpoint| {
                let on = endpoint.peer.map_or(device, |peer| &routes.peers[usize::from(peer)].device);
                let state = match endpoint.state {
                    EndpointState::Ready => "ready",
                    EndpointState::Draining => "draining",
                };
                format!("{on}:{state}")
            })
            .collect();
        told.sort();
        Some(told)
    }

    /// Who may reach a service's copies on a device, and what else the device was told of it.
    pub fn told_service(&self, device: &DeviceName, service: &ServiceRef) -> Option<BTreeMap<&'static str, String>> {
        let routes = self.routes.get(device)?;
        let found = routes.services.iter().find(|found| found.service == *service)?;
        let callers = found.callers.iter().map(|caller| routes.peers[usize::from(*caller)].device.to_string());
        let networks = found.networks.iter().map(|attachment| attachment.network.to_string());
        let aliases = found.networks.iter().flat_map(|attachment| attachment.aliases.clone());
        let ports = found.published.iter().map(|port| format!("{}:{}/{}", port.port, port.target, port.protocol));
        let join = |words: Vec<String>| words.join(" ");
        Some(BTreeMap::from([
            ("callers", join(callers.collect())),
            ("through", join(networks.collect())),
            ("aliases", join(aliases.collect())),
            ("publishes", join(ports.collect())),
        ]))
    }
}
