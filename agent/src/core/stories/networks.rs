//! Networks are there before the containers that join them and go after them; the proxy is told what is so here and now.

use std::net::Ipv4Addr;
use std::sync::Arc;

use outrigger_protocol::{
    Assignment, Attachment, ByeReason, Endpoint, EndpointState, Epoch, FleetId, NetworkSpec, Routes, ServiceRoutes,
};
use outrigger_proxy::control::{Observed as Told, Wanted};

use super::*;
use crate::core::model::Copy;
use crate::core::{Keep, KeptMesh, Mesh, ProxyEvent};
use crate::engine::EngineError;

fn network(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.parse().unwrap(), internal: false, ipv6: false }
}

fn attachment(name: &str) -> Attachment {
    Attachment { network: name.parse().unwrap(), aliases: vec![] }
}

fn joining(names: &[&str]) -> ContainerSpec {
    ContainerSpec { networks: names.iter().copied().map(attachment).collect(), ..spec() }
}

fn with_networks(generation: u64, copies: &[Copy], networks: &[NetworkSpec]) -> Assignment {
    Assignment { networks: networks.to_vec(), ..assignment(generation, copies) }
}

fn routes(number: u64, services: &[(&str, &str, &[u64])]) -> Routes {
    let service = |(name, network, copies): &(&str, &str, &[u64])| ServiceRoutes {
        service: name.parse().unwrap(),
        networks: vec![attachment(network)],
        published: vec![],
        traffic: Default::default(),
        endpoints: copies
            .iter()
            .map(|copy| Endpoint { placement: PlacementId(*copy), peer: None, state: EndpointState::Ready })
            .collect(),
        callers: vec![],
    };
    Routes { number, services: services.iter().map(service).collect(), ..Routes::default() }
}

/// A device with one copy in one network, and routes to it.
fn settled() -> Device {
    let mut device = Device::new(Held::Nothing);
    device.list();
    device.connect();
    device.hear(DownMessage::Want(with_networks(1, &[one(1, joining(&["lan"]))], &[network("lan")])));
    device.hear(DownMessage::Routes(routes(1, &[("shop/web", "lan", &[1])])));
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
    device
}

fn proxied(device: &Device) -> &Arc<Wanted> {
    device.proxied.last().unwrap()
}

#[test]
fn a_network_is_made_before_its_first_container_and_removed_after_its_last() {
    let mut device = settled();
    assert_eq!(device.engine.network_history, ["+lan"]);
    device.hear(DownMessage::Want(with_networks(2, &[], &[])));
    device.run(SECOND * 30);
    assert_eq!(device.running(), [] as [u64; 0]);
    assert_eq!(device.engine.network_history, ["+lan", "-lan"]);
}

#[test]
fn a_network_that_another_copy_still_uses_stays() {
    let mut device = settled();
    let copies = [one(1, joining(&["lan"])), one(2, joining(&["lan", "back"]))];
    device.hear(DownMessage::Want(with_networks(2, &copies, &[network("lan"), network("back")])));
    device.run(SECOND * 5);
    device.hear(DownMessage::Want(with_networks(3, &copies[1..], &[network("lan"), network("back")])));
    device.run(SECOND * 30);
    assert_eq!(device.running(), [2]);
    assert_eq!(device.engine.network_history, ["+lan", "+back"]);
}

#[test]
fn a_network_that_cannot_be_made_is_told_with_its_reason_and_tried_again() {
    let mut device = Device::new(Held::Nothing);
    device.engine.network_fails = Some(EngineError::Refused { reason: "no subnet is free".into() });
    device.list();
    device.connect();
    device.hear(DownMessage::Want(with_networks(1, &[one(1, joining(&["lan"]))], &[network("lan")])));
    device.run(SECOND / 2);
    let phase = device.status().replicas[0].phase.clone();
    assert!(matches!(&phase, Phase::BackOff { reason, .. } if reason == "network lan: no subnet is free"), "{phase:?}");
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1]);
}

#[test]
fn a_network_that_somebody_has_removed_is_made_anew_for_the_next_container() {
    let mut device = settled();
    device.engine.networks.clear();
    device.engine.fail_next_start(EngineError::NetworkNotFound { reason: "network outrigger_lan not found".into() });
    let copies = [one(1, joining(&["lan"])), one(2, joining(&["lan"]))];
    device.hear(DownMessage::Want(with_networks(2, &copies, &[network("lan")])));
    device.run(SECOND * 5);
    assert_eq!(device.running(), [1, 2]);
    assert_eq!(device.engine.network_history, ["+lan", "+lan"]);
}

#[test]
fn an_agent_that_restarts_adopts_its_networks_and_makes_none() {
    let mut device = settled();
    device.restart_agent();
    device.run(SECOND * 10);
    assert_eq!(device.engine.network_history, ["+lan"]);
    assert_eq!(device.running(), [1]);
}

#[test]
fn a_copy_that_has_died_is_gone_from_what_the_proxy_is_told_at_once_and_back_when_it_runs() {
    let mut device = settled();
    let copies = |device: &Device| proxied(device).copies.iter().map(|copy| copy.placement.0).collect::<Vec<_>>();
    assert_eq!(copies(&device), [1]);
    let addresses = &proxied(&device).copies[0].addresses;
    assert!(matches!(addresses[..], [(Some(_), std::net::IpAddr::V4(_))]), "{addresses:?}");
    device.engine.end(1, 1);
    device.run(Duration::ZERO);
    assert_eq!(copies(&device), [] as [u64; 0]);
    device.run(SECOND * 5);
    assert_eq!(copies(&device), [1]);
}

#[test]
fn a_service_keeps_its_virtual_address_through_restarts_and_changes() {
    let mut device = settled();
    let address = |device: &Device| -> Ipv4Addr {
        let services = &proxied(device).networks[0].services;
        services.iter().find(|one| one.service.service.as_str() == "web").unwrap().v4
    };
    let first = address(&device);
    device.hear(DownMessage::Routes(routes(2, &[("shop/a", "lan", &[]), ("shop/web", "lan", &[1])])));
    device.run(SECOND);
    assert_eq!(address(&device), first);
    let kept = device.kept.last().unwrap().0.clone();
    device.restart_agent();
    device.core = device.core.clone().with_mesh(kept);
    device.list();
    assert_eq!(address(&device), first);
    let virtuals = proxied(&device).networks[0].services.iter().map(|one| one.v4);
    let subnet = proxied(&device).networks[0].v4;
    assert!(virtuals.into_iter().all(|one| u32::from(one) > u32::from(subnet.virtual_base)));
}

#[test]
fn routes_of_an_older_hub_or_of_another_fleet_change_nothing() {
    let mut device = settled();
    device.hear(DownMessage::Routes(Routes { epoch: Epoch(2), ..routes(1, &[("shop/web", "lan", &[1])]) }));
    device.run(SECOND);
    let told = device.proxied.len();
    device.hear(DownMessage::Routes(Routes { epoch: Epoch(1), ..routes(9, &[]) }));
    device.hear(DownMessage::Routes(Routes { epoch: Epoch(3), fleet: FleetId(7), ..routes(9, &[]) }));
    device.run(SECOND);
    assert_eq!(device.proxied.len(), told);
    assert_eq!(proxied(&device).routes.epoch, Epoch(2));
}

#[test]
fn endpoints_are_on_the_disk_soon_after_they_have_settled() {
    let mut device = settled();
    device.hear(DownMessage::Routes(routes(2, &[("shop/web", "lan", &[1, 2, 3])])));
    assert_eq!(device.kept.last().unwrap().1, Keep::Boot);
    device.run(SECOND * 6);
    let (kept, keep) = device.kept.last().unwrap();
    assert_eq!((kept.routes.as_ref().unwrap().number, *keep), (2, Keep::Disk));
}

#[test]
fn new_services_are_on_the_disk_at_once_and_mere_endpoints_only_now_and_then_or_at_the_end() {
    let mut device = settled();
    let on_disk = |device: &Device| device.kept.iter().filter(|(_, keep)| *keep == Keep::Disk).count();
    device.hear(DownMessage::Routes(routes(2, &[("shop/api", "lan", &[]), ("shop/web", "lan", &[1])])));
    device.run(SECOND);
    let before = on_disk(&device);
    assert_eq!(device.kept.last().unwrap().1, Keep::Disk);
    let flap = |number: u64| routes(number, &[("shop/api", "lan", &[]), ("shop/web", "lan", &[1, number])]);
    for number in 3..603 {
        device.hear(DownMessage::Routes(flap(number)));
        device.run(SECOND);
    }
    let often = on_disk(&device) - before;
    assert!((1..=5).contains(&often), "{often} times in ten minutes, with a change each second");
    assert!(device.kept.len() > 600, "each change is kept for a restart of the agent");
    device.hear(DownMessage::Routes(flap(700)));
    let _ = device.step(Input::Stop(ByeReason::Restart));
    let (kept, keep) = device.kept.last().unwrap();
    assert_eq!((kept.routes.as_ref().unwrap().number, *keep), (700, Keep::Disk));
}

#[test]
fn a_steady_device_keeps_and_tells_nothing() {
    let mut device = settled();
    device.run(SECOND * 1_300);
    let (kept, proxied, told) = (device.kept.len(), device.proxied.len(), device.mesh_told.len());
    device.list();
    device.run(SECOND * 3_600);
    assert_eq!((device.kept.len(), device.proxied.len(), device.mesh_told.len()), (kept, proxied, told));
}

#[test]
fn the_hub_hears_how_the_proxy_does_after_each_connection_and_at_each_change() {
    let mut device = settled();
    let _ = device.step(Input::Proxy(ProxyEvent::Told(Box::new(Told { held: Some(1), ..Told::default() }))));
    device.run(SECOND);
    assert_eq!(device.mesh_told.last().unwrap().held, Some(1));
    let count = device.mesh_told.len();
    device.disconnect();
    device.connect();
    assert_eq!(device.mesh_told.len(), count + 1);
    assert_eq!(device.mesh_told.last().unwrap().session, SessionNumber(device.session));
    let _ = device.step(Input::Proxy(ProxyEvent::Lost("it has ended".into())));
    device.run(SECOND);
    let last = device.mesh_told.last().unwrap();
    assert_eq!((last.held, last.trouble.as_deref()), (None, Some("it has ended")));
}

#[test]
fn a_device_that_needs_no_service_network_says_so_and_asks_for_no_proxy() {
    let mut device = Device::settled(&[one(1, spec())]);
    device.hear(DownMessage::Routes(routes(4, &[])));
    device.run(SECOND);
    assert!(device.proxied.iter().all(|wanted| !Mesh::is_needed(wanted)));
    let last = device.mesh_told.last().unwrap();
    assert_eq!((last.held, &last.trouble), (Some(4), &None));
}

#[test]
fn what_was_kept_of_another_fleet_is_not_used() {
    let kept = KeptMesh {
        routes: Some(Routes { fleet: FleetId(7), ..routes(1, &[("shop/web", "lan", &[1])]) }),
        ..KeptMesh::default()
    };
    let mut device = settled();
    device.restart_agent();
    device.core = device.core.clone().with_mesh(kept);
    device.list();
    assert_eq!(proxied(&device).routes, Routes::default());
}

#[test]
fn an_agent_that_restarts_knows_where_the_proxy_listens_before_it_has_heard_it() {
    let mut device = settled();
    let told = Told { held: Some(1), mesh_port: Some(7643), ..Told::default() };
    let _ = device.step(Input::Proxy(ProxyEvent::Told(Box::new(told))));
    let kept = device.kept.last().unwrap().0.clone();
    device.restart_agent();
    assert_eq!(device.core.clone().with_mesh(kept).mesh_port(), Some(7643));
    let _ = device.step(Input::Proxy(ProxyEvent::Ended));
    assert_eq!(device.core.mesh_port(), None);
}
