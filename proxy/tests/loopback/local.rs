//! One device: published ports, copies that die, half-closed and broken connections, floods.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{EndpointState, PlacementId};
use outrigger_trust::testing::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Copy, Device, LONG, ask, eventually, free_port};

/// A device with copies that listen on one port at these addresses.
pub async fn device_with(copies: &[[u8; 4]], port: u16) -> (Device, std::net::SocketAddr) {
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    for (number, address) in (1..).zip(copies) {
        device.run_copy(number, (*address).into());
        device.endpoint(number, None);
    }
    let open = device.publish(port);
    device.want().await;
    eventually(async || TcpStream::connect(open).await.ok()).await;
    (device, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_leads_to_all_copies() {
    let one = Copy::start("one", [127, 0, 1, 1], 0).await;
    let _two = Copy::start("two", [127, 0, 1, 2], one.port).await;
    let (device, open) = device_with(&[[127, 0, 1, 1], [127, 0, 1, 2]], one.port).await;
    let mut heard = BTreeSet::new();
    for _ in 0..50 {
        heard.insert(ask(open).await.unwrap());
    }
    assert_eq!(heard, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_dies_under_load_costs_no_new_request_and_is_told() {
    let one = Copy::start("one", [127, 0, 2, 1], 0).await;
    let two = Copy::start("two", [127, 0, 2, 2], one.port).await;
    let (mut device, open) = device_with(&[[127, 0, 2, 1], [127, 0, 2, 2]], one.port).await;
    for _ in 0..20 {
        ask(open).await.unwrap();
    }
    two.kill();
    eventually(async || TcpStream::connect((two.address, two.port)).await.err()).await;
    for _ in 0..200 {
        assert_eq!(ask(open).await.unwrap(), "one");
    }
    eventually(async || {
        assert_eq!(ask(open).await.unwrap(), "one");
        (device.observed.borrow().ejected == [PlacementId(2)]).then_some(())
    })
    .await;
    let _back = Copy::start("two", [127, 0, 2, 2], one.port).await;
    eventually(async || (ask(open).await.unwrap() == "two").then_some(())).await;
    device.see(|observed| observed.ejected.is_empty()).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_address_is_gone_is_raced_by_another() {
    let one = Copy::start("one", [127, 0, 3, 1], 0).await;
    // A listener whose queue is full answers no connection, as an address that nobody has.
    let socket = deaf_listener([127, 0, 3, 2], one.port);
    let mut full = vec![];
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(socket.1)).await {
        full.push(stream);
    }
    let (device, open) = device_with(&[[127, 0, 3, 1], [127, 0, 3, 2]], one.port).await;
    for _ in 0..20 {
        let asked = tokio::time::timeout(Duration::from_millis(2500), ask(open)).await;
        assert_eq!(asked.expect("the client waited for a dead copy").unwrap(), "one");
    }
    device.stop().await;
}

fn deaf_listener(address: [u8; 4], port: u16) -> (std::net::TcpListener, std::net::SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address = std::net::SocketAddr::from((address, port));
    socket.bind(&address.into()).unwrap();
    socket.listen(1).unwrap();
    (socket.into(), address)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_the_client_is_refused_and_not_left_waiting() {
    let (device, open) = device_with(&[[127, 0, 4, 1], [127, 0, 4, 2]], free_port()).await;
    ask(open).await.unwrap_err();
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_about_to_stop_finishes_what_it_has_and_takes_nothing_new() {
    let one = Copy::start("one", [127, 0, 5, 1], 0).await;
    let two = Copy::start("two", [127, 0, 5, 2], one.port).await;
    let (mut device, open) = device_with(&[[127, 0, 5, 1]], one.port).await;
    let mut old = TcpStream::connect(open).await.unwrap();
    old.write_all(b"who\n").await.unwrap();
    let mut name = [0; 3];
    old.read_exact(&mut name).await.unwrap();
    device.run_copy(2, two.address);
    device.endpoint(2, None);
    device.service().endpoints[0].state = EndpointState::Draining;
    device.want().await;
    for _ in 0..20 {
        assert_eq!(ask(open).await.unwrap(), "two");
    }
    old.write_all(b"who\n").await.unwrap();
    old.read_exact(&mut name).await.unwrap();
    assert_eq!(&name, b"one");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_half_of_a_connection_ends_by_itself() {
    let listener = TcpListener::bind("127.0.6.1:0").await.unwrap();
    let (device, open) = device_with(&[[127, 0, 6, 1]], listener.local_addr().unwrap().port()).await;
    let mut client = TcpStream::connect(open).await.unwrap();
    client.write_all(b"all that I have to say").await.unwrap();
    client.shutdown().await.unwrap();
    // Connections that looked whether the port is open come first.
    let mut heard = String::new();
    let mut copy = loop {
        let (mut copy, _) = listener.accept().await.unwrap();
        copy.read_to_string(&mut heard).await.unwrap();
        if !heard.is_empty() {
            break copy;
        }
    };
    assert_eq!(heard, "all that I have to say");
    let answer = vec![7; 3_000_000];
    copy.write_all(&answer).await.unwrap();
    drop(copy);
    let mut got = vec![];
    client.read_to_end(&mut got).await.unwrap();
    assert!(got == answer, "{} bytes of {}", got.len(), answer.len());
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_the_middle_does_not_look_like_one_that_has_ended() {
    let listener = TcpListener::bind("127.0.7.1:0").await.unwrap();
    let (device, open) = device_with(&[[127, 0, 7, 1]], listener.local_addr().unwrap().port()).await;
    tokio::spawn(async move {
        loop {
            let (mut copy, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 16];
            if copy.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                copy.write_all(b"half of an ans").await.unwrap();
                let _ = copy.read(&mut buffer).await;
                copy.set_zero_linger().unwrap();
            }
        }
    });
    let mut client = TcpStream::connect(open).await.unwrap();
    client.write_all(b"ask").await.unwrap();
    let mut part = [0; 14];
    client.read_exact(&mut part).await.unwrap();
    client.write_all(b"go on").await.unwrap();
    let ended = tokio::time::timeout(LONG, client.read(&mut part)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_stops_the_writer() {
    let listener = TcpListener::bind("127.0.8.1:0").await.unwrap();
    let (device, open) = device_with(&[[127, 0, 8, 1]], listener.local_addr().unwrap().port()).await;
    let (written, count) = tokio::sync::watch::channel(0_usize);
    tokio::spawn(async move {
        loop {
            let (mut copy, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            if copy.read(&mut byte).await.is_ok_and(|n| n > 0) {
                let piece = vec![1; 65536];
                while let Ok(()) = copy.write_all(&piece).await {
                    written.send_modify(|count| *count += piece.len());
                }
            }
        }
    });
    let mut client = TcpStream::connect(open).await.unwrap();
    client.write_all(b"x").await.unwrap();
    // It stands still for a second: then nobody has room any more.
    let mut before = 0;
    let stopped_at = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = *count.borrow();
        if now == before && now > 0 {
            break now;
        }
        before = now;
    };
    assert!(stopped_at < 64 << 20, "{stopped_at} bytes are held for somebody who does not read");
    // The kernel lets a writer go on only when a good part of what it holds has been taken.
    let mut buffer = vec![0; 1 << 20];
    eventually(async || {
        client.read_exact(&mut buffer).await.unwrap();
        (*count.borrow() > stopped_at).then_some(())
    })
    .await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_in_use_is_told_and_opened_once_it_is_free() {
    let one = Copy::start("one", [127, 0, 9, 1], 0).await;
    let mut device = Device::start(&TestAuthority::new(), "a").await;
    device.run_copy(1, one.address);
    device.endpoint(1, None);
    let open = device.publish(one.port);
    let other = std::net::TcpListener::bind(("0.0.0.0", open.port())).unwrap();
    device.want().await;
    let told = device.see(|observed| !observed.taken.is_empty()).await;
    assert_eq!(told.taken[0].port, open.port());
    assert!(told.taken[0].reason.contains("in use"), "{}", told.taken[0].reason);
    drop(other);
    device.see(|observed| observed.taken.is_empty()).await;
    assert_eq!(ask(open).await.unwrap(), "one");
    device.wanted.routes.services.clear();
    device.want().await;
    eventually(async || TcpStream::connect(open).await.err()).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_nobody_needs_ends_and_one_whose_agent_has_gone_goes_on() {
    let one = Copy::start("one", [127, 0, 10, 1], 0).await;
    let mut device = Device::start_with(&TestAuthority::new(), "a", Duration::from_millis(300)).await;
    device.run_copy(1, one.address);
    device.endpoint(1, None);
    let open = device.publish(one.port);
    device.want().await;
    eventually(async || ask(open).await.ok()).await;
    let path = device.folder.path().join("proxy.sock");
    let wanted = device.wanted.clone();
    let (mut running, _stop, _folder) = device.agent_goes();
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut running).await;
    assert!(ended.is_err(), "it ended though a port is published");
    assert_eq!(ask(open).await.unwrap(), "one", "it goes on without an agent");
    let (_client, mut speaking) = outrigger_proxy::control::Client::connect(&path).await.unwrap();
    let mut nothing = wanted;
    nothing.routes.services.clear();
    speaking.say(&nothing).await.unwrap();
    tokio::time::timeout(LONG, running).await.unwrap().unwrap();
    assert!(!path.exists());
}
