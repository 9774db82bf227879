//! Which copies of a service take requests.
//!
//! A copy is ready if it was seen to run and to be healthy, and its device is heard. What is not sure is *doubtful*: its device
//! is suspect (its connection broke, or it has missed heartbeats), its engine does not answer, or the hub has just started
//! and its device has not spoken yet. A doubtful copy probably runs, so the streams that it has are left alone; but it gets
//! new requests only where no copy is surely ready. A hub that cannot hear must not be worse for a service than no hub.

use std::collections::BTreeSet;

use outrigger_protocol::{
    ByeReason, DeviceName, EndpointState, EngineState, IngressPort, Phase, PlacementId, PortProtocol, PublishMode,
    PublishedPort, ReplicaName, ServiceRef,
};

use super::Known;
use crate::device::Device;
use crate::fleet::Fleet;
use crate::plan::Liveness;
use crate::reconcile::replica;
use crate::record::Stage;
use crate::service::{Placement, Service};
use crate::table::{DeviceIx, ServiceIx};

/// A copy that takes requests, or finishes those it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView<'a> {
    /// Which.
    pub placement: PlacementId,
    /// Of which replica; none: it is no longer assigned and about to stop.
    pub replica: Option<ReplicaName>,
    /// Where.
    pub device: &'a DeviceName,
    /// Whether it takes new requests.
    pub state: EndpointState,
}

/// How sure it is that a copy takes requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sure {
    Ready,
    Doubtful,
    Draining,
}

impl Fleet {
    /// A service as the network sees it; none: it takes no part.
    pub(super) fn mesh_of(&self, six: ServiceIx) -> Option<Known> {
        let service = self.services.get(six)?;
        let spec = &service.content.spec;
        let published: Vec<IngressPort> =
            spec.container.ports.iter().filter(|_| !service.removed).filter_map(ingress).collect();
        if spec.container.networks.is_empty() && published.is_empty() {
            return None;
        }
        let (endpoints, hosts) = self.endpoints_of(six, service);
        if service.removed && hosts.is_empty() {
            return None;
        }
        let (name, attachments) = (service.name.clone(), spec.container.networks.clone());
        Some(Known { name, attachments, published, traffic: spec.traffic, endpoints, hosts })
    }

    fn endpoints_of(
        &self,
        six: ServiceIx,
        service: &Service,
    ) -> (Vec<(PlacementId, DeviceIx, EndpointState)>, BTreeSet<DeviceIx>) {
        let mut hosts = BTreeSet::new();
        let mut found: Vec<(PlacementId, DeviceIx, Sure)> = Vec::new();
        for id in service.slots.values().flat_map(|slot| &slot.copies) {
            let Some(copy) = self.placements.get(id).filter(|copy| copy.stage != Stage::Prepare) else { continue };
            let Some(device) = self.devices.get(copy.device) else { continue };
            hosts.insert(copy.device);
            if self.mesh.peers.contains_key(&copy.device) {
                found.extend(sure(copy, device).map(|sure| (*id, copy.device, sure)));
            }
        }
        for (id, leaving) in self.mesh.leaving.iter().filter(|(_, leaving)| leaving.service == six) {
            let is_there = self.devices.get(leaving.device).is_some_and(|device| device.liveness != Liveness::Lost);
            if is_there && !found.iter().any(|(known, _, _)| known == id) {
                hosts.insert(leaving.device);
                found.push((*id, leaving.device, Sure::Draining));
            }
        }
        let any_ready = found.iter().any(|(_, _, sure)| *sure == Sure::Ready);
        let state = |sure| match sure {
            Sure::Ready => EndpointState::Ready,
            Sure::Doubtful if !any_ready => EndpointState::Ready,
            Sure::Doubtful | Sure::Draining => EndpointState::Draining,
        };
        let mut endpoints: Vec<_> = found.into_iter().map(|(id, ix, sure)| (id, ix, state(sure))).collect();
        endpoints.sort_unstable_by_key(|(id, _, _)| *id);
        (endpoints, hosts)
    }

    /// The service that has a port which every device opens.
    #[must_use]
    pub fn publisher(&self, port: u16, protocol: PortProtocol) -> Option<&ServiceRef> {
        let mut published = self.mesh.published.iter().filter_map(|six| self.mesh.known.get(six));
        let has = |known: &&Known| known.published.iter().any(|open| open.port == port && open.protocol == protocol);
        published.find(has).map(|known| &known.name)
    }

    /// The copies of a service that take requests, or finish those they have, the oldest first; nothing if it joins no network
    /// and publishes nothing.
    #[must_use]
    pub fn endpoints(&self, name: &ServiceRef) -> Vec<EndpointView<'_>> {
        let Some(six) = self.services.find(name) else { return Vec::new() };
        let Some(service) = self.services.get(six) else { return Vec::new() };
        let view = |(placement, ix, state)| {
            let copy = self.placements.get(&placement);
            let replica = copy.map(|copy| replica(service, copy.number));
            Some(EndpointView { placement, replica, device: &self.devices.get(ix)?.name, state })
        };
        self.mesh_of(six).into_iter().flat_map(|known| known.endpoints).filter_map(view).collect()
    }
}

fn ingress(port: &PublishedPort) -> Option<IngressPort> {
    let open = port.host.filter(|&host| host != 0 && port.mode == PublishMode::Ingress)?;
    Some(IngressPort { port: open, target: port.container, protocol: port.protocol })
}

/// Whether a copy takes requests; none: it does not.
fn sure(copy: &Placement, device: &Device) -> Option<Sure> {
    let runs = match copy.phase() {
        Some(phase) => *phase == Phase::Running,
        None => copy.unheard,
    };
    if !runs || device.foreign.is_some() {
        return None;
    }
    let is_leaving = matches!(device.hints.bye, Some((ByeReason::Shutdown | ByeReason::Leave, _)));
    let by_device = match device.liveness {
        Liveness::Lost => return None,
        Liveness::Away if is_leaving => Sure::Draining,
        // An agent that restarts leaves its containers and its proxy alone.
        Liveness::Up | Liveness::Away if copy.phase().is_some() => Sure::Ready,
        Liveness::Up | Liveness::Away | Liveness::Suspect | Liveness::Unheard => Sure::Doubtful,
    };
    let engine_away = matches!(device.engine, Some(EngineState::Down(_)));
    Some(match by_device {
        _ if copy.stage == Stage::Stop => Sure::Draining,
        Sure::Ready if engine_away => Sure::Doubtful,
        sure => sure,
    })
}
