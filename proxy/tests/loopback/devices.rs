//! Several devices: streams between them, who may open which, devices that die.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use outrigger_proxy::control::Mesh;
use outrigger_trust::testing::TestAuthority;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Copy, Device, Door, ask, eventually};

/// `a` publishes a port of the service, whose copies run on the others, one each, at 127.1.N.1 on `port`.
async fn fleet(a: &mut Device, others: &mut [&mut Device], port: u16) -> std::net::SocketAddr {
    for (index, other) in (0..).zip(others.iter_mut()) {
        other.want().await;
        let peer = other.peer().await;
        a.wanted.routes.peers.push(peer);
        a.endpoint(u64::from(index) + 1, Some(index));
    }
    a.want().await;
    let caller = a.peer().await;
    for other in others.iter_mut() {
        other.wanted.routes.peers = vec![caller.clone()];
        other.service().callers = vec![0];
        other.want().await;
    }
    let open = a.publish(port);
    a.want().await;
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_on_one_device_leads_to_copies_on_others_and_a_dead_device_costs_no_new_request() {
    let authority = TestAuthority::new();
    let on_b = Copy::start("b", [127, 1, 1, 1], 0).await;
    let on_c = Copy::start("c", [127, 1, 1, 2], on_b.port).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    let mut c = Device::start(&authority, "c").await;
    b.run_copy(1, on_b.address);
    c.run_copy(2, on_c.address);
    let open = fleet(&mut a, &mut [&mut b, &mut c], on_b.port).await;
    let mut heard = BTreeSet::new();
    eventually(async || {
        heard.insert(ask(open).await.ok()?);
        (heard.len() == 2).then_some(())
    })
    .await;
    c.stop().await;
    for _ in 0..100 {
        assert_eq!(ask(open).await.unwrap(), "b");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_published_ports_of_others_and_nothing_else_unless_it_is_a_caller() {
    let authority = TestAuthority::new();
    let web = Copy::start("web", [127, 1, 2, 1], 0).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    b.run_copy(1, web.address);
    let open = fleet(&mut a, &mut [&mut b], web.port).await;
    eventually(async || ask(open).await.ok()).await;
    // No caller any more: the connection stands, and each stream is judged anew.
    b.service().callers.clear();
    b.want().await;
    ask(open).await.unwrap_err();
    assert_eq!(web.count(), 1, "nothing came through");
    // As a published port it is for all devices.
    b.publish(web.port);
    b.want().await;
    eventually(async || ask(open).await.ok()).await;
    // In a fleet that is too large for its devices to be named, also for those of which this one has never heard.
    b.wanted.routes.peers.clear();
    b.want().await;
    eventually(async || ask(open).await.ok()).await;
    // Where they are named, one that is not named is none of the fleet any more, whatever certificate it has.
    let count = web.count();
    b.wanted.routes.admitted = Some(vec!["c".parse().unwrap()]);
    b.want().await;
    ask(open).await.unwrap_err();
    assert_eq!(web.count(), count, "nothing came through, although the connection stood");
    b.wanted.routes.admitted = Some(vec!["a".parse().unwrap()]);
    b.want().await;
    eventually(async || ask(open).await.ok()).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_before_its_device_may_come_waits_and_costs_one_connection() {
    let authority = TestAuthority::new();
    let web = Copy::start("web", [127, 1, 7, 1], 0).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    b.run_copy(1, web.address);
    b.want().await;
    let to = b.peer().await;
    let door = Door::start(to.port, Duration::ZERO).await;
    a.wanted.routes.peers.push(outrigger_protocol::Peer { port: door.port, ..to });
    a.endpoint(1, Some(0));
    let open = a.publish(web.port);
    a.want().await;
    // The proxy comes by itself; what the hub has to say to `b` is late.
    eventually(async || (door.count() > 0).then_some(())).await;
    let asked = tokio::spawn(ask(open));
    let caller = a.peer().await;
    b.wanted.routes.peers = vec![caller];
    b.service().callers = vec![0];
    b.want().await;
    assert_eq!(asked.await.unwrap().unwrap(), "web");
    assert_eq!(door.count(), 1);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_fleet_and_one_under_a_wrong_name_get_nothing() {
    let (ours, theirs) = (TestAuthority::new(), TestAuthority::new());
    let web = Copy::start("web", [127, 1, 3, 1], 0).await;
    let mut a = Device::start(&ours, "a").await;
    let mut b = Device::start(&theirs, "b").await;
    let mut c = Device::start(&ours, "c").await;
    for other in [&mut b, &mut c] {
        other.run_copy(1, web.address);
    }
    let open = fleet(&mut a, &mut [&mut b], web.port).await;
    ask(open).await.unwrap_err();
    // The hub says that `b` is where `c` is.
    c.wanted.routes.peers = b.wanted.routes.peers.clone();
    c.service().callers = vec![0];
    c.want().await;
    a.wanted.routes.peers[0].port = c.mesh_port().await;
    a.want().await;
    ask(open).await.unwrap_err();
    assert_eq!(web.count(), 0);
    // Under its own name it is served.
    a.wanted.routes.peers[0].device = "c".parse().unwrap();
    a.want().await;
    eventually(async || ask(open).await.ok()).await;
    for device in [a, b, c] {
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_say_nothing_keep_no_device_out() {
    let authority = TestAuthority::new();
    let web = Copy::start("b", [127, 1, 6, 1], 0).await;
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    b.run_copy(1, web.address);
    b.want().await;
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, b.mesh_port().await));
    let strangers: Vec<_> = (0..300).map(|_| tokio::spawn(silent([127, 1, 6, 2], door))).collect();
    let open = fleet(&mut a, &mut [&mut b], web.port).await;
    eventually(async || ask(open).await.ok()).await;
    assert!(strangers.iter().all(|stranger| !stranger.is_finished()), "they went on all the time");
    strangers.iter().for_each(JoinHandle::abort);
    a.stop().await;
    b.stop().await;
}

/// Comes from this address, says nothing, and comes again whenever it is sent away.
async fn silent(from: [u8; 4], door: SocketAddr) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        if let Ok(mut stream) = socket.connect(door).await {
            let _ = stream.read(&mut [0]).await; // until it is sent away, whatever the words
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_counts_from_the_next_connection_on() {
    let (old, new) = (TestAuthority::new(), TestAuthority::new());
    let web = Copy::start("web", [127, 1, 4, 1], 0).await;
    let mut a = Device::start(&old, "a").await;
    let mut b = Device::start(&new, "b").await;
    b.run_copy(1, web.address);
    let open = fleet(&mut a, &mut [&mut b], web.port).await;
    ask(open).await.unwrap_err();
    let renewed = Device::start(&new, "a").await;
    for file in ["key.pem", "certificate.pem", "authorities.pem"] {
        std::fs::copy(renewed.folder.path().join(file), a.folder.path().join(file)).unwrap();
    }
    eventually(async || ask(open).await.ok()).await;
    for device in [a, b, renewed] {
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_mesh_serves_its_own_copies_and_listens_to_no_device() {
    let web = Copy::start("web", [127, 1, 5, 1], 0).await;
    let mut a = Device::start(&TestAuthority::new(), "a").await;
    a.run_copy(1, web.address);
    a.endpoint(1, None);
    let open = a.publish(web.port);
    a.want().await;
    a.mesh_port().await;
    let mesh: Option<Mesh> = a.wanted.mesh.take();
    assert!(mesh.is_some());
    a.want().await;
    a.see(|observed| observed.mesh_port.is_none()).await;
    assert_eq!(ask(open).await.unwrap(), "web");
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_comes_whole_through_the_mesh_and_half_ends_too() {
    let authority = TestAuthority::new();
    let listener = TcpListener::bind("127.1.6.1:0").await.unwrap();
    let mut a = Device::start(&authority, "a").await;
    let mut b = Device::start(&authority, "b").await;
    b.run_copy(1, [127, 1, 6, 1].into());
    let open = fleet(&mut a, &mut [&mut b], listener.local_addr().unwrap().port()).await;
    let client = tokio::spawn(eventually(async move || {
        let mut client = TcpStream::connect(open).await.ok()?;
        client.write_all(b"all that I have to say").await.ok()?;
        client.shutdown().await.ok()?;
        let mut got = vec![];
        client.read_to_end(&mut got).await.ok()?;
        Some(got)
    }));
    let (mut copy, _) = listener.accept().await.unwrap();
    let mut heard = String::new();
    copy.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "all that I have to say");
    let answer: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    copy.write_all(&answer).await.unwrap();
    drop(copy);
    assert!(client.await.unwrap() == answer);
    a.stop().await;
    b.stop().await;
}
