//! UDP: flows stay with a copy, leave one that refuses, and go to other devices.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use outrigger_protocol::{Peer, PlacementId, PortProtocol};
use outrigger_trust::testing::TestAuthority;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::support::{Device, Door, eventually};

/// A copy that answers each datagram with its name and what it heard.
pub async fn echo(name: &'static str, address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        loop {
            // The error of an earlier answer that nobody took comes here, and means nothing.
            if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer = [name.as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    (address, task)
}

/// Asks until an answer comes, as clients of UDP do.
pub async fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    eventually(async || {
        client.send(question).await.ok()?;
        let mut buffer = vec![0; 65536];
        let length = tokio::time::timeout(Duration::from_millis(300), client.recv(&mut buffer)).await.ok()?.ok()?;
        Some(buffer[..length].to_vec())
    })
    .await
}

pub async fn client_of(open: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    client.connect(open).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_stays_with_its_copy_and_leaves_it_when_it_refuses() {
    let (one, one_runs) = echo("1", "127.2.1.1:0".parse().unwrap()).await;
    let (_, two_runs) = echo("2", SocketAddr::new([127, 2, 1, 2].into(), one.port())).await;
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    for number in [1, 2] {
        device.run_copy(u64::from(number), [127, 2, 1, number].into());
        device.endpoint(u64::from(number), None);
    }
    let open = device.publish_with(one.port(), PortProtocol::Udp);
    device.want().await;
    let mut heard = BTreeSet::new();
    for _ in 0..10 {
        let client = client_of(open).await;
        let first = ask(&client, b"x").await;
        for _ in 0..5 {
            assert_eq!(ask(&client, b"x").await, first);
        }
        heard.insert(first);
    }
    assert_eq!(heard.len(), 2, "other clients go to the other copy");
    let client = client_of(open).await;
    let first = ask(&client, b"x").await;
    let (gone, stays) = if first == b"1x" { (one_runs, b"2x") } else { (two_runs, b"1x") };
    gone.abort();
    eventually(async || (ask(&client, b"x").await == *stays).then_some(())).await;
    let ejected = PlacementId(if stays == b"2x" { 1 } else { 2 });
    device.see(|observed| observed.ejected == [ejected]).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_every_length_come_whole_from_another_device() {
    let authority = TestAuthority::new();
    let (copy, _runs) = echo("", "127.2.2.1:0".parse().unwrap()).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    b.run_copy(1, copy.ip());
    b.want().await;
    a.want().await;
    b.wanted.routes.peers = vec![a.peer().await];
    b.service().callers = vec![0];
    b.want().await;
    a.wanted.routes.peers = vec![b.peer().await];
    a.endpoint(1, Some(0));
    let open = a.publish_with(copy.port(), PortProtocol::Udp);
    a.want().await;
    let client = client_of(open).await;
    for length in [0, 1, 1472, 20_000, 60_000] {
        let question: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
        assert!(ask(&client, &question).await == question, "{length}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_line_stalls_goes_on_by_another_one() {
    let authority = TestAuthority::new();
    let (copy, _runs) = echo("b", "127.2.3.1:0".parse().unwrap()).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    a.want().await;
    b.run_copy(1, copy.ip());
    b.wanted.routes.peers = vec![a.peer().await];
    b.service().callers = vec![0];
    b.want().await;
    let to = b.peer().await;
    let door = Door::start(to.port, Duration::ZERO).await;
    a.wanted.routes.peers = vec![Peer { port: door.port, ..to }];
    a.endpoint(1, Some(0));
    let open = a.publish_with(copy.port(), PortProtocol::Udp);
    a.want().await;
    let client = client_of(open).await;
    assert_eq!(ask(&client, b"x").await, b"bx");
    door.stall();
    // Nobody closes the old connection, so without another one there would never be an answer.
    assert_eq!(ask(&client, b"y").await, b"by");
    a.stop().await;
    b.stop().await;
}
