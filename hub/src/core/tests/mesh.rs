//! The service network: when routes go out, and what waits for them.

use outrigger_protocol::{
    Attachment, EndpointState, MeshStatus, NetworkSpec, Observed, Phase, PortProtocol, PublishMode, PublishedPort,
    Routes, TakenPort,
};

use super::*;

const DEVICES: [&str; 2] = ["pi", "nuc1"];

/// A shop of so many copies, at most one on each device, in a network and behind port 80 of every device.
fn web(replicas: u32) -> Wish {
    let Wish::Apply { mut stack, applied_unix_ms } = shop(replicas) else { panic!("shop applies a stack") };
    let network = "shop_default".parse().unwrap();
    stack.networks.push(NetworkSpec { name: network, internal: false, ipv6: false });
    let service = &mut stack.services[0];
    service.max_per_device = Some(1);
    service.container.networks.push(Attachment { network: "shop_default".parse().unwrap(), aliases: vec![] });
    service.container.ports.push(PublishedPort {
        container: 8080,
        host: Some(80),
        address: None,
        protocol: PortProtocol::Tcp,
        mode: PublishMode::Ingress,
    });
    Wish::Apply { stack, applied_unix_ms }
}

fn join(world: &mut World, device: &str) {
    let mut hello = hello(device);
    hello.facts.mesh_port = Some(7946);
    hello.facts.address = Some(format!("10.0.0.{}", device.len()).parse().unwrap());
    world.hear(device, UpMessage::Hello(Box::new(hello)));
    tell_status(world, device);
}

/// The device runs all that it was told to run.
fn tell_status(world: &mut World, device: &str) {
    let wanted = world.wanted(device).cloned();
    let replicas = wanted.iter().flat_map(|wanted| &wanted.replicas);
    let replicas = replicas.map(|one| Observed {
        placement: one.placement,
        replica: one.replica.clone(),
        phase: Phase::Running,
        restarts: 0,
        since_s: 0,
        last_exit: None,
        container: "c".into(),
        digest: String::new(),
        ports: vec![],
    });
    let status = Status {
        session: SessionNumber(1),
        number: world.sequence + 2,
        held: wanted.as_ref().map(|wanted| wanted.stamp),
        engine: EngineState::Up,
        replicas: replicas.collect(),
        images: vec![],
    };
    world.hear(device, UpMessage::Status(status));
}

fn holds(world: &mut World, device: &str, held: Option<u64>) {
    let status = MeshStatus { session: SessionNumber(1), held, ..MeshStatus::default() };
    world.hear(device, UpMessage::Mesh(status));
}

fn routes<'w>(world: &'w World, device: &str) -> Option<&'w Routes> {
    world.sent.iter().rev().find_map(|(to, message)| match message {
        DownMessage::Routes(routes) if to.as_str() == device => Some(routes),
        _ => None,
    })
}

fn states(world: &World, device: &str) -> Vec<EndpointState> {
    let service = routes(world, device).and_then(|routes| routes.services.first());
    service.into_iter().flat_map(|service| &service.endpoints).map(|endpoint| endpoint.state).collect()
}

/// Two copies run, and both devices know.
fn running() -> World {
    let mut world = World::new();
    DEVICES.iter().for_each(|device| join(&mut world, device));
    world.pass(SECOND * 20, &DEVICES);
    world.wish(1, web(2));
    DEVICES.iter().for_each(|device| tell_status(&mut world, device));
    world.pass(SECOND, &DEVICES);
    for device in DEVICES {
        assert_eq!(states(&world, device), [EndpointState::Ready; 2], "{device}");
        let held = routes(&world, device).map(|routes| routes.number);
        holds(&mut world, device, held);
    }
    world.trace.clear();
    world
}

#[test]
fn a_copy_is_stopped_only_after_all_who_send_it_requests_know() {
    let mut world = running();
    world.wish(2, Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 1 });
    world.pass(Duration::from_millis(10), &[]);
    for device in DEVICES {
        assert_eq!(states(&world, device), [EndpointState::Ready, EndpointState::Draining], "{device}");
    }
    assert!(!world.trace.iter().any(|line| line.starts_with("want")), "{:?}", world.trace);
    let numbers = DEVICES.map(|device| routes(&world, device).map(|routes| routes.number));
    holds(&mut world, DEVICES[0], numbers[0]);
    world.pass(Duration::from_millis(400), &[]);
    assert!(!world.trace.iter().any(|line| line.starts_with("want")), "one has not heard: {:?}", world.trace);
    holds(&mut world, DEVICES[1], numbers[1]);
    assert!(!world.trace.iter().any(|line| line.starts_with("want")), "short requests may still end");
    world.pass(Duration::from_millis(260), &[]);
    let wants = world.trace.iter().filter(|line| line.starts_with("want")).count();
    assert_eq!(wants, 1, "{:?}", world.trace);
    assert_eq!(DEVICES.iter().map(|device| world.running_on(device)).sum::<usize>(), 1);
    // It finishes what it has until its device says that it has stopped.
    DEVICES.iter().for_each(|device| tell_status(&mut world, device));
    world.pass(Duration::from_millis(100), &[]);
    assert_eq!(states(&world, DEVICES[0]), [EndpointState::Ready]);
}

#[test]
fn a_copy_is_stopped_within_a_second_even_if_nobody_answers() {
    let mut world = running();
    world.wish(2, Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 1 });
    world.pass(Duration::from_millis(950), &DEVICES);
    assert!(!world.trace.iter().any(|line| line.starts_with("want")), "{:?}", world.trace);
    world.pass(Duration::from_millis(100), &DEVICES);
    assert_eq!(world.trace.iter().filter(|line| line.starts_with("want")).count(), 1, "{:?}", world.trace);
}

#[test]
fn an_assignment_that_waits_for_routes_is_not_sent_early_for_another_reason() {
    let mut world = running();
    world.wish(2, Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 1 });
    // Each device says that it holds an old assignment, and the broker begins anew.
    DEVICES.iter().for_each(|device| tell_status(&mut world, device));
    world.tell(Input::LinkUp);
    let shrunk = |world: &World| DEVICES.iter().map(|device| world.running_on(device)).sum::<usize>() < 2;
    assert!(!shrunk(&world), "{:?}", world.trace);
    world.pass(SECOND * 2, &DEVICES);
    assert!(shrunk(&world), "{:?}", world.trace);
}

#[test]
fn a_fleet_without_a_service_network_waits_for_nothing() {
    let mut world = running_shop();
    world.trace.clear();
    world.wish(2, Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 1 });
    assert_eq!(world.trace.iter().filter(|line| line.starts_with("want")).count(), 1, "{:?}", world.trace);
    assert!(routes(&world, "pi").is_none());
}

#[test]
fn changes_at_about_the_same_time_are_told_once() {
    let mut world = running();
    for device in DEVICES {
        let status = Status {
            session: SessionNumber(1),
            number: 1000,
            held: None,
            engine: EngineState::Up,
            replicas: vec![],
            images: vec![],
        };
        world.hear(device, UpMessage::Status(status));
    }
    world.pass(Duration::from_millis(20), &[]);
    let told = world.trace.iter().filter(|line| line.starts_with("routes")).count();
    assert_eq!(told, 2, "one for each device: {:?}", world.trace);
    assert_eq!(states(&world, "pi"), []);
}

#[test]
fn a_restarted_hub_tells_nothing_before_it_has_listened_and_then_the_whole() {
    let mut world = running();
    world.restart();
    world.pass(SECOND, &[]);
    assert!(routes(&world, "pi").is_none(), "what devices hold stays as long as nothing is known");
    DEVICES.iter().for_each(|device| {
        join(&mut world, device);
        tell_status(&mut world, device);
    });
    world.pass(Duration::from_millis(100), &[]);
    for device in DEVICES {
        assert_eq!(states(&world, device), [EndpointState::Ready; 2], "{device}");
    }
    // Where one device does not come, the others are not kept waiting.
    world.restart();
    join(&mut world, "pi");
    tell_status(&mut world, "pi");
    world.pass(SECOND * 3, &["pi"]);
    let mut told = states(&world, "pi");
    told.sort();
    assert_eq!(told, [EndpointState::Ready, EndpointState::Draining]);
}

#[test]
fn a_device_that_is_forgotten_is_told_nothing_any_more() {
    let mut world = running();
    let bye = Bye { session: SessionNumber(1), reason: ByeReason::Leave };
    world.hear("nuc1", UpMessage::Bye(bye));
    world.pass(SECOND * 5, &["pi"]);
    world.wish(3, Wish::Forget(name("nuc1")));
    assert_eq!(world.cleared, [name("nuc1")]);
    world.sent.clear();
    world.pass(SECOND * 2, &["pi"]);
    assert!(routes(&world, "nuc1").is_none());
    assert!(world.core.mesh_status(&name("nuc1")).is_none());
}

#[test]
fn a_port_that_is_taken_is_told_once_with_its_service() {
    let mut world = running();
    let taken = TakenPort { port: 80, protocol: PortProtocol::Tcp, reason: "Address in use".into() };
    let status = MeshStatus { session: SessionNumber(1), held: Some(1), taken: vec![taken], ..MeshStatus::default() };
    world.hear("pi", UpMessage::Mesh(status.clone()));
    world.hear("pi", UpMessage::Mesh(status.clone()));
    assert_eq!(world.remarks.iter().filter(|kind| **kind == "port_taken").count(), 1);
    assert_eq!(world.core.mesh_status(&name("pi")), Some(&status));
    // What an older connection says is late.
    world.hear("pi", UpMessage::Mesh(MeshStatus { session: SessionNumber(0), ..MeshStatus::default() }));
    assert_eq!(world.core.mesh_status(&name("pi")), Some(&status));
    let broken = MeshStatus { trouble: Some("no TPROXY".into()), ..status };
    world.hear("pi", UpMessage::Mesh(broken));
    assert!(world.remarks.contains(&"network_trouble"));
}

#[test]
fn a_link_that_is_down_does_not_keep_the_hub_busy() {
    let mut world = running();
    world.tell(Input::LinkDown { reason: "gone".into() });
    world.wish(2, Wish::Scale { service: "shop/web".parse().unwrap(), replicas: 1 });
    assert!(world.core.wake_at() > world.now);
    world.pass(SECOND, &[]);
    assert!(world.core.wake_at() > world.now);
}
