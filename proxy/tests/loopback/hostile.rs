//! What a proxy must bear: services that lead to itself, floods, ends in either order; and what copies are told of clients.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use outrigger_protocol::{Affinity, PortProtocol};
use outrigger_trust::testing::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::local::device_with;
use crate::support::{Copy, Device, LONG, LOOPBACK, ask, eventually, free_port};

/// A connection from an address of this machine.
async fn from(address: impl Into<IpAddr>, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address.into(), 0))?;
    socket.connect(to).await
}

/// What a copy answers.
async fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"who\n").await?;
    let mut buffer = [0; 64];
    let length = tokio::time::timeout(LONG, stream.read(&mut buffer)).await.expect("a client was left waiting")?;
    if length == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_copy_is_the_proxy_itself_is_refused_and_goes_in_no_circles() {
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    // A copy in the device's own network, whose port is the one that the device opens for the service.
    device.run_copy(1, LOOPBACK);
    device.endpoint(1, None);
    let open = SocketAddr::new(LOOPBACK, free_port());
    let port = outrigger_protocol::IngressPort { port: open.port(), target: open.port(), protocol: PortProtocol::Tcp };
    device.service().published.push(port);
    device.want().await;
    eventually(async || TcpStream::connect(open).await.ok()).await;
    for _ in 0..20 {
        ask(open).await.unwrap_err();
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_source_is_refused_and_others_are_served_meanwhile() {
    const MOST: usize = 64;
    let copy = Copy::start("one", [127, 6, 1, 1], 0).await;
    let set = |settings: &mut outrigger_proxy::Settings| settings.connections = Some(MOST);
    let mut device = Device::start_so(&TestAuthority::new(), "a", set, || ()).await;
    device.run_copy(1, copy.address);
    device.endpoint(1, None);
    let open = device.publish(copy.port);
    device.want().await;
    eventually(async || ask(open).await.ok()).await;
    let (flooder, other) = (Ipv4Addr::new(127, 6, 1, 8), Ipv4Addr::new(127, 6, 1, 9));
    let mut before = from(other, open).await.unwrap();
    assert_eq!(answer(&mut before).await.unwrap(), "one");
    let mut held = vec![];
    let mut refused = 0;
    for _ in 0..MOST * 4 {
        // Refused as soon as it has connected, or before its first byte.
        let Ok(mut stream) = from(flooder, open).await else {
            refused += 1;
            continue;
        };
        match answer(&mut stream).await {
            Ok(_) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    assert_eq!((held.len(), refused), (MOST / 4, MOST * 4 - MOST / 4), "a quarter, and the rest is refused at once");
    // Whoever else is there goes on, and whoever comes is let in.
    assert_eq!(answer(&mut before).await.unwrap(), "one");
    assert_eq!(answer(&mut from(other, open).await.unwrap()).await.unwrap(), "one");
    drop(held);
    eventually(async || answer(&mut from(flooder, open).await.ok()?).await.ok()).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_said_all_still_hears_its_client() {
    let listener = TcpListener::bind("127.6.2.1:0").await.unwrap();
    let (device, open) = device_with(&[[127, 6, 2, 1]], listener.local_addr().unwrap().port()).await;
    let copy = tokio::spawn(async move {
        loop {
            let (mut copy, _) = listener.accept().await.unwrap();
            copy.write_all(b"all that I have to say").await.unwrap();
            copy.shutdown().await.unwrap();
            let mut heard = vec![];
            // Connections that looked whether the port is open say nothing.
            if copy.read_to_end(&mut heard).await.is_ok_and(|length| length > 0) {
                return heard.len();
            }
        }
    });
    let mut client = TcpStream::connect(open).await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "all that I have to say");
    client.write_all(&vec![7; 3_000_000]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, copy).await.unwrap().unwrap(), 3_000_000);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_its_copy_where_the_service_wants_it_and_moves_only_when_that_dies() {
    let copies = ["1", "2", "3"];
    let first = Copy::start(copies[0], [127, 6, 3, 1], 0).await;
    let mut running = vec![];
    for (number, name) in (2..).zip(&copies[1..]) {
        running.push(Copy::start(name, [127, 6, 3, number], first.port).await);
    }
    running.insert(0, first);
    let port = running[0].port;
    let (mut device, open) = device_with(&[[127, 6, 3, 1], [127, 6, 3, 2], [127, 6, 3, 3]], port).await;
    device.service().traffic.affinity = Affinity::ClientAddress;
    device.want().await;
    let of = async |last: u8| answer(&mut from([127, 6, 4, last], open).await.unwrap()).await.unwrap();
    let mut chosen = vec![];
    for client in 1..=30 {
        let copy = of(client).await;
        for _ in 0..4 {
            assert_eq!(of(client).await, copy, "client {client}");
        }
        chosen.push(copy);
    }
    assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), 3, "clients are spread: {chosen:?}");
    running[1].kill();
    eventually(async || TcpStream::connect((running[1].address, port)).await.err()).await;
    for (client, before) in (1..).zip(&chosen) {
        let now = of(client).await;
        if before == "2" {
            assert_ne!(now, "2");
        } else {
            assert_eq!(&now, before, "client {client} has no reason to move");
        }
    }
    device.stop().await;
}

/// A copy on another device is told of the client's own address, not of the device's that led it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_on_another_device_is_told_who_the_client_is() {
    let fleet = TestAuthority::new();
    let listener = TcpListener::bind("127.6.5.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut a = Device::start(&fleet, "a").await;
    let mut b = Device::start(&fleet, "b").await;
    b.run_copy(1, listener.local_addr().unwrap().ip());
    b.want().await;
    a.want().await;
    b.wanted.routes.peers = vec![a.peer().await];
    b.service().callers = vec![0];
    b.service().traffic.proxy_protocol = true;
    b.want().await;
    a.wanted.routes.peers = vec![b.peer().await];
    a.endpoint(1, Some(0));
    a.service().traffic.proxy_protocol = true;
    let open = a.publish(port);
    a.want().await;
    let copy = tokio::spawn(async move {
        loop {
            let (mut copy, _) = listener.accept().await.unwrap();
            let mut heard = [0; 28 + 4];
            if copy.read_exact(&mut heard).await.is_ok() {
                return heard;
            }
        }
    });
    let mut client = eventually(async || from([127, 6, 5, 77], open).await.ok()).await;
    client.write_all(b"who\n").await.unwrap();
    let heard = tokio::time::timeout(LONG, copy).await.unwrap().unwrap();
    assert_eq!(&heard[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "version 2, a proxied TCP connection of IPv4");
    let at = |place: usize| u16::from_be_bytes([heard[place], heard[place + 1]]);
    assert_eq!(heard[16..24], [127, 6, 5, 77, 127, 0, 0, 1], "who, and whom it has called");
    assert_eq!((at(24), at(26)), (client.local_addr().unwrap().port(), open.port()));
    assert_eq!(&heard[28..], b"who\n", "once, before the client's own first byte");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_a_thousand_services_each_is_found_and_changes_come_into_force() {
    const SERVICES: usize = 1000;
    let copy = Copy::start("one", [127, 6, 6, 1], 0).await;
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    device.run_copy(1, copy.address);
    device.endpoint(1, None);
    let open = device.publish(copy.port);
    let first = device.service().clone();
    for number in 1..SERVICES {
        let mut next = first.clone();
        next.service = format!("shop/web-{number}").parse().unwrap();
        next.published.clear();
        next.endpoints.iter_mut().for_each(|one| one.placement.0 += u64::try_from(number).unwrap());
        device.wanted.routes.services.push(next);
    }
    device.want().await;
    eventually(async || ask(open).await.ok()).await;
    let began = device.wanted.routes.number;
    for _ in 0..20 {
        device.want().await;
        assert_eq!(ask(open).await.unwrap(), "one");
    }
    assert_eq!(device.wanted.routes.number, began + 20);
    device.stop().await;
}
