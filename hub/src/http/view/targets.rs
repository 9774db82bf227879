//! Where programs outside the fleet reach a service's copies: what Traefik and Prometheus are told.

use std::net::{IpAddr, SocketAddr};

use outrigger_planner::{Liveness, ServiceView, Stage};
use outrigger_protocol::{EndpointState, Phase, PortProtocol, PublishMode, ReplicaName};

use crate::core::HubCore;

/// A place where a port of a service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Where.
    pub at: SocketAddr,
    /// The device.
    pub device: String,
    /// The copy, where the port leads to one.
    pub replica: Option<ReplicaName>,
}

/// Where a port of a service's containers is reached from outside; none given: its only or first one.
///
/// Ports of mode `host` lead to one copy each. A port that every device opens is named on the devices with a ready copy, so
/// that no request is led through a third one.
pub(super) fn targets(core: &HubCore, service: &ServiceView<'_>, port: Option<u16>) -> Vec<Target> {
    let ports = &service.spec.container.ports;
    let tcp = || ports.iter().filter(|published| published.protocol == PortProtocol::Tcp);
    let Some(port) = port.or_else(|| tcp().next().map(|published| published.container)) else { return Vec::new() };
    let mut here = tcp().filter(|published| published.container == port);
    match here.next() {
        Some(published) if published.mode == PublishMode::Ingress => {
            published.host.map(|open| everywhere(core, service, open)).unwrap_or_default()
        }
        Some(_) => each_copy(core, service, port),
        None => Vec::new(),
    }
}

fn address(core: &HubCore, device: &outrigger_protocol::DeviceName) -> Option<IpAddr> {
    let view = core.fleet().device(device).filter(|view| view.liveness != Liveness::Lost)?;
    view.facts.and_then(|facts| facts.address)
}

fn everywhere(core: &HubCore, service: &ServiceView<'_>, open: u16) -> Vec<Target> {
    let endpoints = core.fleet().endpoints(service.name);
    let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready);
    let mut devices: Vec<_> = ready.map(|endpoint| endpoint.device).collect();
    devices.sort();
    devices.dedup();
    let is_open = |device: &&&outrigger_protocol::DeviceName| {
        let status = core.mesh_status(device);
        let taken = |port: &outrigger_protocol::TakenPort| port.port == open && port.protocol == PortProtocol::Tcp;
        status.is_none_or(|status| !status.taken.iter().any(taken))
    };
    let target = |device: &outrigger_protocol::DeviceName| {
        let at = SocketAddr::new(address(core, device)?, open);
        Some(Target { at, device: device.to_string(), replica: None })
    };
    devices.iter().filter(is_open).filter_map(|device| target(device)).collect()
}

fn each_copy(core: &HubCore, service: &ServiceView<'_>, port: u16) -> Vec<Target> {
    let copies = core.fleet().replicas(service.name).flat_map(|replica| replica.copies);
    let target = |copy: outrigger_planner::CopyView<'_>| {
        let seen = copy.seen.filter(|seen| seen.phase == Phase::Running && copy.stage == Stage::Run)?;
        let is_it =
            |(inside, _, protocol): &&(u16, u16, PortProtocol)| *inside == port && *protocol == PortProtocol::Tcp;
        let (_, open, _) = seen.ports.iter().find(is_it)?;
        let at = SocketAddr::new(address(core, copy.device)?, *open);
        Some(Target { at, device: copy.device.to_string(), replica: Some(copy.replica) })
    };
    copies.filter_map(target).collect()
}

/// All labels of a service: those of its containers, and its own, which win.
pub(super) fn labels<'a>(service: &ServiceView<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let spec = service.spec;
    let all = spec.container.labels.iter().chain(&spec.labels);
    all.map(|(key, value)| (key.as_str(), value.as_str()))
}
