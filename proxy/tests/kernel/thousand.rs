//! A thousand services in one network: names, addresses and rules of the last are as those of the first.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use outrigger_proxy::control::{Subnet, Virtual};

use crate::support::{ask, eventually};
use crate::virtuals::scene_with;

const SERVICES: u32 = 1000;

fn virtual_of(number: u32) -> Virtual {
    Virtual {
        service: format!("shop/web-{number}").parse().unwrap(),
        v4: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 4, 2)) + number),
        v6: Some(Ipv6Addr::from(u128::from("fd00:99::8000:0:0:10".parse::<Ipv6Addr>().unwrap()) + u128::from(number))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_a_thousand_services_is_found_by_name_and_reached_and_rules_do_not_grow() {
    // As the agent lays a network out: a /21, its upper half for services.
    let mut scene = scene_with(&[80], "10.99.0.1/21").await;
    let network = &mut scene.device.wanted.networks[0];
    network.v4 = Subnet { prefix: 21, virtual_base: [10, 99, 4, 0].into(), virtual_prefix: 22, ..network.v4 };
    network.services.clear();
    let rules = |scene: &crate::virtuals::Scene| scene.host.output("nft", "list ruleset").lines().count();
    let first = scene.device.service().clone();
    scene.device.wanted.routes.services.clear();
    let add = |scene: &mut crate::virtuals::Scene, number: u32| {
        let one = virtual_of(number);
        let routes = outrigger_protocol::ServiceRoutes { service: one.service.clone(), ..first.clone() };
        scene.device.wanted.networks[0].services.push(one);
        scene.device.wanted.routes.services.push(routes);
    };
    add(&mut scene, 0);
    scene.device.want().await;
    let reached = async |scene: &crate::virtuals::Scene, number: u32| {
        let one = virtual_of(number);
        for address in [one.v4.into(), one.v6.unwrap().into()] {
            let open = SocketAddr::new(address, 80);
            eventually(async || scene.client.run(async move || ask(open).await.ok()).await).await;
        }
    };
    reached(&scene, 0).await;
    let with_one = rules(&scene);
    (1..SERVICES).for_each(|number| add(&mut scene, number));
    scene.device.want().await;
    reached(&scene, SERVICES - 1).await;
    assert_eq!(rules(&scene), with_one, "rules are for networks, not for services");
    let name = format!("web-{}", SERVICES - 1);
    let told = scene.client.output("dig", &format!("@10.99.0.1 +short +time=5 {name} A"));
    assert_eq!(told.trim(), virtual_of(SERVICES - 1).v4.to_string());
    let told = scene.client.output("dig", &format!("@10.99.0.1 +short +time=5 {name} AAAA"));
    assert_eq!(told.trim(), virtual_of(SERVICES - 1).v6.unwrap().to_string());
    assert_eq!(scene.device.observed.borrow().trouble, None);
    // All but one go: so do their addresses.
    scene.device.wanted.networks[0].services.truncate(1);
    scene.device.wanted.routes.services.truncate(1);
    scene.device.want().await;
    eventually(async || {
        (scene.host.output("ip", "-6 address show dev bra").matches("/128").count() == 1).then_some(())
    })
    .await;
    scene.device.stop().await;
}
