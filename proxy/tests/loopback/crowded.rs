//! Copies that do not take connections, and who suffers from that.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_protocol::{
    Endpoint, EndpointState, IngressPort, Peer, PlacementId, PortProtocol, ServiceRoutes, Traffic,
};
use outrigger_proxy::control::LocalCopy;
use outrigger_trust::testing::TestAuthority;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Copy, Device, Door, LOOPBACK, ask, eventually, free_port};

/// As many streams of a device's connection may wait for being acknowledged (yamux).
const UNACKNOWLEDGED: usize = 256;
/// More than that.
const CROWD: usize = 320;

/// Listens, but accepts nothing any more: whoever connects from now on waits.
struct Stuck {
    _listener: tokio::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Stuck {
    async fn start(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = vec![];
        let moment = Duration::from_millis(300);
        while let Ok(Ok(stream)) = tokio::time::timeout(moment, TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        Self { _listener: listener, _waiting: waiting }
    }
}

/// Connections that the kernel is trying to make with this address.
fn connecting(to: [u8; 4], port: u16) -> usize {
    let to = format!("{:08X}:{port:04X}", u32::from_ne_bytes(to));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next() == Some(&to) && words.next() == Some("02")
    };
    table.lines().filter(is_one).count()
}

fn other_service(callers: Vec<u16>, published: Vec<IngressPort>, endpoints: Vec<Endpoint>) -> ServiceRoutes {
    let service = "shop/other".parse().unwrap();
    ServiceRoutes { service, networks: vec![], published, traffic: Traffic::default(), endpoints, callers }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_takes_no_connections_holds_up_no_other_copy_on_its_device() {
    let authority = TestAuthority::new();
    let well = Copy::start("well", [127, 6, 1, 1], 0).await;
    let stuck = Stuck::start(SocketAddr::from(([127, 6, 1, 2], well.port))).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    a.want().await;
    let from = a.peer().await;
    b.run_copy(1, well.address);
    b.service().callers = vec![0];
    let (placement, service) = (PlacementId(2), "shop/other".parse().unwrap());
    b.wanted.copies.push(LocalCopy { placement, service, addresses: vec![(None, [127, 6, 1, 2].into())] });
    b.wanted.routes.services.push(other_service(vec![0], vec![], vec![]));
    b.wanted.routes.peers = vec![from];
    b.want().await;
    let to = b.peer().await;
    // So slow that it is waited for two seconds before the line counts as lost.
    let door = Door::start(to.port, Duration::from_millis(600)).await;
    a.wanted.routes.peers = vec![Peer { port: door.port, ..to }];
    a.endpoint(1, Some(0));
    let open = a.publish(well.port);
    let port = free_port();
    let published = vec![IngressPort { port, target: well.port, protocol: PortProtocol::Tcp }];
    let endpoints = vec![Endpoint { placement, peer: Some(0), state: EndpointState::Ready }];
    a.wanted.routes.services.push(other_service(vec![], published, endpoints));
    a.want().await;
    eventually(async || ask(open).await.ok()).await;

    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let mut stream = TcpStream::connect((LOOPBACK, port)).await.unwrap();
        crowd.spawn(async move { drop(stream.read(&mut [0]).await) }); // until it is refused
    }
    eventually(async || (connecting([127, 6, 1, 2], well.port) >= UNACKNOWLEDGED).then_some(())).await;
    assert_eq!(ask(open).await.unwrap(), "well");
    assert_eq!(door.count(), 1, "it was taken for lost, and all were asked again");
    drop(stuck);
    a.stop().await;
    b.stop().await;
}
