//! Devices that cannot reach each other meet at the hub, and leave it when they can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outrigger_proxy::relay::{self, Door};
use outrigger_trust::testing::TestAuthority;
use outrigger_trust::{provider, server_config};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Copy, Device, ask, eventually, free_port};

/// A hub's relay; nobody is admitted once the flag is down.
struct Hub {
    port: u16,
    admits: Arc<AtomicBool>,
    changed: watch::Sender<()>,
}

impl Hub {
    async fn start(fleet: &TestAuthority) -> Self {
        let (chain, key) = fleet.server(&["localhost"]);
        let key = provider().key_provider.load_private_key(key).unwrap();
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let config = Arc::new(server_config(shown, Some(&[fleet.certificate()])).unwrap());
        let admits = Arc::new(AtomicBool::new(true));
        let (changed, changes) = watch::channel(());
        let door = Door {
            tls: Arc::new(move || Arc::clone(&config)),
            admission: Arc::new({
                let admits = Arc::clone(&admits);
                move |_, _| admits.load(Ordering::SeqCst)
            }),
            changes,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(relay::serve(listener, door));
        Self { port, admits, changed }
    }
}

/// Two devices that do not reach each other: `a` publishes a port, `b` runs the copy.
async fn scene(copy: &Copy) -> (Hub, Device, Device, SocketAddr) {
    let fleet = TestAuthority::new();
    let hub = Hub::start(&fleet).await;
    let mut a = Device::start(&fleet, "a").await;
    let mut b = Device::start(&fleet, "b").await;
    for device in [&mut a, &mut b] {
        device.wanted.routes.relay_port = Some(hub.port);
        device.want().await;
    }
    b.run_copy(1, copy.address);
    b.wanted.routes.peers = vec![a.peer().await];
    b.service().callers = vec![0];
    b.want().await;
    let mut peer = b.peer().await;
    peer.port = free_port();
    a.wanted.routes.peers = vec![peer];
    a.endpoint(1, Some(0));
    let open = a.publish(copy.port);
    a.want().await;
    (hub, a, b, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_reached_through_the_hub_and_directly_once_it_can() {
    let copy = Copy::start("b", [127, 3, 1, 1], 0).await;
    let (_hub, mut a, mut b, open) = scene(&copy).await;
    eventually(async || ask(open).await.ok()).await;
    a.see(|observed| observed.relayed == ["b".parse().unwrap()]).await;
    a.wanted.routes.peers[0].port = b.mesh_port().await;
    a.want().await;
    a.see(|observed| observed.relayed.is_empty()).await;
    for _ in 0..20 {
        assert_eq!(ask(open).await.unwrap(), "b");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_hub_does_not_admit_any_more_is_cut_off_at_once() {
    let copy = Copy::start("b", [127, 3, 2, 1], 0).await;
    let (hub, a, b, open) = scene(&copy).await;
    eventually(async || ask(open).await.ok()).await;
    hub.admits.store(false, Ordering::SeqCst);
    hub.changed.send_replace(());
    eventually(async || ask(open).await.err()).await;
    let before = copy.count();
    for _ in 0..5 {
        ask(open).await.unwrap_err();
    }
    assert_eq!(copy.count(), before);
    hub.admits.store(true, Ordering::SeqCst);
    eventually(async || ask(open).await.ok()).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_hub_too_each_device_is_who_its_certificate_says() {
    let copy = Copy::start("c", [127, 3, 3, 1], 0).await;
    let (hub, mut a, b, open) = scene(&copy).await;
    eventually(async || ask(open).await.ok()).await;
    // A device of another fleet is not let in at all.
    let other = TestAuthority::new();
    let mut stranger = Device::start(&other, "b").await;
    stranger.wanted.routes.relay_port = Some(hub.port);
    stranger.wanted.routes.peers = a.wanted.routes.peers.clone();
    stranger.run_copy(1, copy.address);
    stranger.service().callers = vec![0];
    stranger.want().await;
    for _ in 0..20 {
        assert_eq!(ask(open).await.unwrap(), "c");
    }
    // Nobody waits there under this name.
    a.wanted.routes.peers[0].device = "nobody".parse().unwrap();
    a.want().await;
    ask(open).await.unwrap_err();
    for device in [a, b, stranger] {
        device.stop().await;
    }
}
