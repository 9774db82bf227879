//! Devices on a network whose cable is cut: no connection is closed, nobody says anything any more.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_protocol::Peer;
use outrigger_trust::testing::TestAuthority;

use crate::place::Place;
use crate::support::{Copy, Device, LONG, ask, eventually};

const PORT: u16 = 8080;

/// A device on the network with this last number, and a copy on it under its own address.
async fn device(lan: &Place, fleet: &TestAuthority, name: &'static str, number: u8) -> (Place, Device) {
    let place = lan.container(name, "lan", &[&format!("10.97.0.{number}/24")], &[]);
    let mut device = Device::start_in(fleet, name, LONG, place.entrance()).await;
    device.want().await;
    (place, device)
}

fn run_copy(place: &Place, name: &'static str, number: u8) -> tokio::task::JoinHandle<()> {
    tokio::spawn(crate::support::in_thread(place.entrance(), async move || {
        let _copy = Copy::start(name, [10, 97, 0, number], PORT).await;
        std::future::pending().await
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_cable_is_cut_costs_no_new_request_and_comes_back() {
    let fleet = TestAuthority::new();
    let lan = Place::new("lan");
    lan.bridge("lan", &[]);
    let (on_a, mut a) = device(&lan, &fleet, "a", 1).await;
    let caller = Peer { device: "a".parse().unwrap(), addresses: vec![], port: 0 };
    let mut others = vec![];
    for (index, (name, number)) in (0..).zip([("b", 2_u8), ("c", 3)]) {
        let (place, mut device) = device(&lan, &fleet, name, number).await;
        let copy = run_copy(&place, name, number);
        device.run_copy(number.into(), [10, 97, 0, number].into());
        device.wanted.routes.peers = vec![caller.clone()];
        device.service().callers = vec![0];
        device.want().await;
        let mut peer = device.peer().await;
        peer.addresses = vec![[10, 97, 0, number].into()];
        a.wanted.routes.peers.push(peer);
        a.endpoint(number.into(), Some(index));
        others.push((place, device, copy));
    }
    let open = SocketAddr::new([10, 97, 0, 1].into(), a.publish(PORT).port());
    a.want().await;
    let once = async || {
        let asked = on_a.run(async move || ask(open).await.ok());
        tokio::time::timeout(Duration::from_secs(5), asked).await.expect("a client was left waiting")
    };
    let mut heard = std::collections::BTreeSet::new();
    eventually(async || {
        heard.extend(once().await);
        (heard.len() == 2).then_some(())
    })
    .await;
    others[1].0.ip("link set eth0 down");
    for number in 0..150 {
        assert_eq!(once().await.as_deref(), Some("b"), "request {number} after the cut");
    }
    others[1].0.ip("link set eth0 up");
    // A copy that failed is tried less and less often, and a line that is mended carries the old connection again or a new
    // one; seen: 10 to 40 s.
    let back = async { while once().await.as_deref() != Some("c") {} };
    tokio::time::timeout(Duration::from_secs(180), back).await.expect("it never comes back");
    a.stop().await;
}
