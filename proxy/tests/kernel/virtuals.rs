//! Containers reach services under virtual addresses, on any port, by both versions of IP, and only in their own networks.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use outrigger_protocol::Attachment;
use outrigger_proxy::control::{LocalNetwork, Subnet, Virtual};
use outrigger_trust::testing::TestAuthority;

use crate::datagrams::{ask as ask_datagram, echo};
use crate::place::Place;
use crate::support::{Copy, Device, LONG, ask, eventually, web};

pub const VIRTUAL: &str = "10.99.0.130";
pub const VIRTUAL6: &str = "fd00:99::8000:0:0:2";

pub fn network() -> LocalNetwork {
    LocalNetwork {
        name: "shop".parse().unwrap(),
        bridge: "bra".into(),
        v4: Subnet {
            base: [10, 99, 0, 0].into(),
            prefix: 24,
            gateway: [10, 99, 0, 1].into(),
            virtual_base: [10, 99, 0, 128].into(),
            virtual_prefix: 25,
        },
        v6: Some(Subnet {
            base: "fd00:99::".parse().unwrap(),
            prefix: 64,
            gateway: "fd00:99::1".parse().unwrap(),
            virtual_base: "fd00:99::8000:0:0:0".parse().unwrap(),
            virtual_prefix: 65,
        }),
        services: vec![Virtual { service: web(), v4: VIRTUAL.parse().unwrap(), v6: Some(VIRTUAL6.parse().unwrap()) }],
    }
}

/// Another network, without services.
fn other() -> LocalNetwork {
    let v4 = Subnet {
        base: [10, 98, 0, 0].into(),
        prefix: 24,
        gateway: [10, 98, 0, 1].into(),
        virtual_base: [10, 98, 0, 128].into(),
        virtual_prefix: 25,
    };
    LocalNetwork { name: "other".parse().unwrap(), bridge: "brb".into(), v4, v6: None, services: vec![] }
}

pub struct Scene {
    pub device: Device,
    pub host: Place,
    pub client: Place,
    stranger: Place,
    pub server: Place,
    copy: tokio::task::JoinHandle<()>,
}

/// A device with a client and a copy in one network, and a stranger in another.
pub async fn scene(ports: &'static [u16]) -> Scene {
    scene_with(ports, "10.99.0.1/24").await
}

/// The same with another size of the network.
pub async fn scene_with(ports: &'static [u16], gateway: &str) -> Scene {
    let host = Place::new("h");
    host.bridge("bra", &[gateway, "fd00:99::1/64"]);
    host.bridge("brb", &["10.98.0.1/24"]);
    host.set("net.ipv4.ip_forward", "1").await;
    let gateways = ["10.99.0.1", "fd00:99::1"];
    let client = host.container("c", "bra", &["10.99.0.2/24", "fd00:99::2/64"], &gateways);
    let server = host.container("s", "bra", &["10.99.0.3/24", "fd00:99::3/64"], &gateways);
    let stranger = host.container("x", "brb", &["10.98.0.2/24"], &["10.98.0.1"]);
    let copy = tokio::spawn(crate::support::in_thread(server.entrance(), async move || {
        let mut copies = vec![];
        for port in ports {
            copies.push(Copy::start("web", [10, 99, 0, 3], *port).await);
        }
        std::future::pending().await
    }));
    let mut device = Device::start_in(&TestAuthority::new(), "a", LONG, host.entrance()).await;
    device.wanted.networks = vec![network(), other()];
    device.run_copy(1, [10, 99, 0, 3].into());
    device.endpoint(1, None);
    device.service().networks = vec![Attachment { network: "shop".parse().unwrap(), aliases: vec![] }];
    device.want().await;
    Scene { device, host, client, stranger, server, copy }
}

async fn ask_from(place: &Place, address: &str, port: u16) -> Result<String, std::io::ErrorKind> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    place.run(async move || ask(address).await.map_err(|error| error.kind())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_port_of_a_service_is_reached_by_both_versions_of_ip_whether_bridges_are_filtered_or_not() {
    let scene = scene(&[80, 65000]).await;
    for filtered in ["0", "1"] {
        scene.host.set("net.bridge.bridge-nf-call-iptables", filtered).await;
        scene.host.set("net.bridge.bridge-nf-call-ip6tables", filtered).await;
        for port in [80, 65000] {
            for address in [VIRTUAL, VIRTUAL6] {
                let answer = eventually(async || ask_from(&scene.client, address, port).await.ok()).await;
                assert_eq!(answer, "web", "{address} {port}, filtered: {filtered}");
            }
        }
        // A port on which nobody listens is refused.
        assert_eq!(ask_from(&scene.client, VIRTUAL, 81).await, Err(std::io::ErrorKind::ConnectionReset));
    }
    scene.device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_in_the_network_is_refused_also_with_the_right_address() {
    let scene = scene(&[80]).await;
    eventually(async || ask_from(&scene.client, VIRTUAL, 80).await.ok()).await;
    for filtered in ["0", "1"] {
        scene.host.set("net.bridge.bridge-nf-call-iptables", filtered).await;
        assert_eq!(ask_from(&scene.stranger, VIRTUAL, 80).await, Err(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(ask_from(&scene.host, VIRTUAL, 80).await, Err(std::io::ErrorKind::ConnectionRefused));
    }
    // An address that stands for nothing leads nowhere.
    assert!(ask_from(&scene.client, "10.99.0.200", 80).await.is_err());
    // The listener behind it is no way in for anybody.
    let text = scene.host.output("nft", "list ruleset");
    let listener: u16 = text.split("dnat to :").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    for (place, address) in [(&scene.client, "10.99.0.1"), (&scene.stranger, "10.98.0.1"), (&scene.host, "10.99.0.1")] {
        assert_eq!(ask_from(place, address, listener).await, Err(std::io::ErrorKind::ConnectionRefused), "{address}");
    }
    // A container that gives itself an address of the other network gets no further.
    scene.stranger.ip("address add 10.99.0.77/32 dev eth0");
    scene.stranger.ip("route replace default via 10.98.0.1 src 10.99.0.77");
    let answered = tokio::time::timeout(Duration::from_secs(3), ask_from(&scene.stranger, VIRTUAL, 80)).await;
    assert!(!matches!(answered, Ok(Ok(_))), "{answered:?}");
    scene.device.stop().await;
}

/// TCP ports on which somebody in this place listens.
fn listens(place: &Place) -> BTreeSet<u16> {
    let all = [place.output("cat", "/proc/net/tcp"), place.output("cat", "/proc/net/tcp6")].concat();
    let ports = all.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"0A")).then(|| fields[1].rsplit(':').next().unwrap().to_owned())
    });
    ports.map(|port| u16::from_str_radix(&port, 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_go_with_the_networks_and_come_back_with_them() {
    let mut scene = scene(&[80]).await;
    eventually(async || ask_from(&scene.client, VIRTUAL, 80).await.ok()).await;
    let networks = std::mem::take(&mut scene.device.wanted.networks);
    let open = scene.device.publish(80).port();
    scene.device.want().await;
    eventually(async || (!scene.host.output("nft", "list ruleset").contains("outrigger")).then_some(())).await;
    // Without rules that keep others out, nobody listens behind them: what listens is named.
    let named = [scene.device.mesh_port().await, open];
    eventually(async || listens(&scene.host).iter().all(|port| named.contains(port)).then_some(())).await;
    scene.device.wanted.networks = networks;
    scene.device.want().await;
    eventually(async || ask_from(&scene.client, VIRTUAL, 80).await.ok()).await;
    assert_eq!(scene.device.observed.borrow().trouble, None);
    let host = scene.host;
    scene.device.stop().await;
    assert!(!host.output("nft", "list ruleset").contains("outrigger"), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_not_there_yet_is_told_and_served_once_it_is() {
    let host = Place::new("h");
    let mut device = Device::start_in(&TestAuthority::new(), "a", LONG, host.entrance()).await;
    device.wanted.networks = vec![network()];
    device.want().await;
    let told = device.see(|observed| observed.trouble.is_some()).await.trouble.unwrap();
    assert!(told.contains("bra"), "{told}");
    host.bridge("bra", &["10.99.0.1/24", "fd00:99::1/64"]);
    device.see(|observed| observed.trouble.is_none()).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_reach_the_port_that_was_asked_for_and_answers_come_from_there() {
    let scene = scene(&[80]).await;
    scene.host.set("net.bridge.bridge-nf-call-iptables", "1").await;
    let server = tokio::spawn(crate::support::in_thread(scene.server.entrance(), async || {
        for (name, port) in [("a", 53), ("b", 5353)] {
            echo(name, SocketAddr::new([10, 99, 0, 3].into(), port)).await;
        }
        std::future::pending::<()>().await;
    }));
    for address in [VIRTUAL, VIRTUAL6] {
        for (port, expected) in [(53, b"ax"), (5353, b"bx")] {
            let open = SocketAddr::new(address.parse().unwrap(), port);
            let answer = scene.client.run(async move || {
                // Connected, so an answer from another address or port does not count.
                let any = if open.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let client = tokio::net::UdpSocket::bind(any).await.unwrap();
                client.connect(open).await.unwrap();
                ask_datagram(&client, b"x").await
            });
            assert_eq!(answer.await, expected, "{open}");
        }
    }
    // Nobody from elsewhere gets an answer.
    let open = SocketAddr::new(VIRTUAL.parse().unwrap(), 53);
    let refused = scene.stranger.run(async move || {
        let client = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
        client.connect(open).await.unwrap();
        client.send(b"x").await.unwrap();
        tokio::time::timeout(LONG, client.recv(&mut [0; 16])).await.map(|got| got.unwrap_err().kind())
    });
    assert_eq!(refused.await.unwrap(), std::io::ErrorKind::ConnectionRefused);
    server.abort();
    scene.device.stop().await;
}
