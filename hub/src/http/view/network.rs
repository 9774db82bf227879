//! The service network as the API shows it.

use outrigger_api as api;
use outrigger_planner::EndpointView;
use outrigger_protocol::{DeviceName, EndpointState, MeshStatus, PublishMode, ServiceRef, TakenPort};

use crate::core::HubCore;

/// Lines about the network in one explanation; a fleet in which nothing works must not fill the screen.
const MOST_NOTES: usize = 20;

/// The copies of a service that take requests; none: there is no such service.
#[must_use]
pub fn endpoints(core: &HubCore, name: &ServiceRef) -> Option<api::EndpointList> {
    let service = core.fleet().service(name)?;
    let container = &service.spec.container;
    let ingress = container.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
    let published = ingress.filter_map(|port| {
        Some(api::Published { port: port.host?, target: port.container, protocol: port.protocol.to_string() })
    });
    let all = core.fleet().endpoints(name);
    Some(api::EndpointList {
        service: name.to_string(),
        networks: container.networks.iter().map(|attachment| attachment.network.to_string()).collect(),
        published: published.collect(),
        endpoints: all.iter().map(|one| endpoint(core, one)).collect(),
        taken: taken_of(core, name),
    })
}

fn endpoint(core: &HubCore, view: &EndpointView<'_>) -> api::Endpoint {
    let ejects = |(_, status): &(&DeviceName, &MeshStatus)| status.ejected.contains(&view.placement);
    api::Endpoint {
        replica: view.replica.as_ref().map(ToString::to_string),
        placement: view.placement.0,
        device: view.device.to_string(),
        state: match view.state {
            EndpointState::Ready => api::EndpointState::Ready,
            EndpointState::Draining => api::EndpointState::Draining,
        },
        ejected_by: core.mesh_statuses().filter(ejects).map(|(device, _)| device.to_string()).collect(),
    }
}

fn taken_of(core: &HubCore, name: &ServiceRef) -> Vec<api::TakenPort> {
    let Some(service) = core.fleet().service(name) else { return Vec::new() };
    let is_ours = |taken: &&TakenPort| {
        let mut ports = service.spec.container.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
        ports.any(|port| port.host == Some(taken.port) && port.protocol == taken.protocol)
    };
    let of_device = |(device, status): (&DeviceName, &MeshStatus)| {
        let ours = status.taken.iter().filter(is_ours);
        ours.map(|taken| taken_port(device, taken)).collect::<Vec<_>>()
    };
    core.mesh_statuses().flat_map(of_device).collect()
}

fn taken_port(device: &DeviceName, taken: &TakenPort) -> api::TakenPort {
    api::TakenPort {
        device: device.to_string(),
        port: taken.port,
        protocol: taken.protocol.to_string(),
        reason: taken.reason.clone(),
    }
}

/// What keeps requests from a service, in sentences; nothing where all is well.
#[must_use]
pub fn network_notes(core: &HubCore, name: &ServiceRef) -> Vec<String> {
    let taken = taken_of(core, name);
    let mut notes: Vec<String> = taken
        .iter()
        .map(|t| format!("port {}/{} is taken on {}: {}", t.port, t.protocol, t.device, t.reason))
        .collect();
    let endpoints = core.fleet().endpoints(name);
    for one in &endpoints {
        let ejects = |(_, status): &(&DeviceName, &MeshStatus)| status.ejected.contains(&one.placement);
        let by: Vec<String> = core.mesh_statuses().filter(ejects).map(|(device, _)| device.to_string()).collect();
        if !by.is_empty() {
            let what = one.replica.as_ref().map_or_else(|| format!("copy {}", one.placement), ToString::to_string);
            let by = by.join(", ");
            notes.push(format!("{what} on {} did not answer {by}, which send it nothing for a while", one.device));
        }
    }
    for (device, status) in core.mesh_statuses() {
        let hosts = || endpoints.iter().any(|one| one.device == device);
        if let Some(trouble) = status.trouble.as_ref().filter(|_| hosts()) {
            notes.push(format!("the service network does not work on {device}: {trouble}"));
        }
        let relayed = status.relayed.iter().filter(|other| endpoints.iter().any(|one| one.device == *other));
        notes.extend(relayed.map(|other| format!("{device} reaches {other} through the hub, not directly")));
    }
    notes.truncate(MOST_NOTES);
    notes
}

/// How the service network does on a device; none: it takes no part, or has not said so.
#[must_use]
pub fn device_network(core: &HubCore, device: &DeviceName) -> Option<api::DeviceNetwork> {
    let status = core.mesh_status(device)?;
    let told = core.routes_told(device);
    let ejected = status
        .ejected
        .iter()
        .map(|id| core.fleet().copy(*id).map_or_else(|| format!("copy {id}"), |copy| copy.replica.to_string()));
    Some(api::DeviceNetwork {
        in_step: told.is_none_or(|told| status.held >= Some(told)),
        taken: status.taken.iter().map(|taken| taken_port(device, taken)).collect(),
        relayed: status.relayed.iter().map(ToString::to_string).collect(),
        ejected: ejected.collect(),
        trouble: status.trouble.clone(),
    })
}

/// Lets a shown device say how the service network does there, with what should be looked at among its warnings.
#[must_use]
pub fn with_network(core: &HubCore, shown: api::Device, device: &DeviceName) -> api::Device {
    let Some(network) = device_network(core, device) else { return shown };
    let mut warnings = shown.warnings;
    warnings.extend(network.taken.iter().map(|taken| api::DeviceWarning {
        message: format!("port {}/{} is taken: {}", taken.port, taken.protocol, taken.reason),
        help: "stop what has it, or publish another port".to_owned(),
    }));
    warnings.extend(network.trouble.iter().map(|trouble| api::DeviceWarning {
        message: format!("the service network does not work: {trouble}"),
        help: "see `outrigger-agent doctor`".to_owned(),
    }));
    api::Device { network: Some(network), warnings, ..shown }
}
