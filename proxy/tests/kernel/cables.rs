//! Devices on a network whose cable is cut: no connection is closed, nobody says anything any more.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_protocol::Peer;
use outrigger_trust::testing::TestAuthority;

use crate::place::Place;
use crate::support::{Copy, Device, LONG, ask, eventually};

const PORT: u16 = 8080;
/// After this time a device whose line is mended gets requests again, however long it was cut.
const BACK: Duration = Duration::from_secs(3);

/// A device on the network with this last number, and a copy on it under its own address.
async fn device(lan: &Place, fleet: &TestAuthority, name: &'static str, number: u8) -> (Place, Device) {
    let place = lan.container(name, "lan", &[&format!("10.97.0.{number}/24")], &[]);
    let mut device = Device::start_in(fleet, name, LONG, place.entrance()).await;
    device.want().await;
    (place, device)
}

fn run_copy(place: &Place, name: &'static str, number: u8) {
    tokio::spawn(crate::support::in_thread(place.entrance(), async move || {
        let _copy = Copy::start(name, [10, 97, 0, number], PORT).await;
        std::future::pending::<()>().await;
    }));
}

/// A device `a` that opens a port, and copies on these others, each with its device.
struct Scene {
    on_a: Place,
    a: Device,
    open: SocketAddr,
    others: Vec<(Place, Device)>,
    _lan: Place,
}

impl Scene {
    async fn new(names: &[(&'static str, u8)]) -> Self {
        let fleet = TestAuthority::new();
        let lan = Place::new("lan");
        lan.bridge("lan", &[]);
        let (on_a, mut a) = device(&lan, &fleet, "a", 1).await;
        let caller = Peer { device: "a".parse().unwrap(), addresses: vec![], port: 0 };
        let mut others = vec![];
        for (index, &(name, number)) in (0..).zip(names) {
            let (place, mut device) = device(&lan, &fleet, name, number).await;
            run_copy(&place, name, number);
            device.run_copy(number.into(), [10, 97, 0, number].into());
            device.wanted.routes.peers = vec![caller.clone()];
            device.service().callers = vec![0];
            device.want().await;
            let mut peer = device.peer().await;
            peer.addresses = vec![[10, 97, 0, number].into()];
            a.wanted.routes.peers.push(peer);
            a.endpoint(number.into(), Some(index));
            others.push((place, device));
        }
        let open = SocketAddr::new([10, 97, 0, 1].into(), a.publish(PORT).port());
        a.want().await;
        Self { on_a, a, open, others, _lan: lan }
    }

    /// Who answers one request.
    async fn ask(&self) -> Option<String> {
        let open = self.open;
        self.on_a.run(async move || ask(open).await.ok()).await
    }

    /// The line of the last of the others.
    fn line(&self, state: &str) {
        self.others.last().unwrap().0.ip(&format!("link set eth0 {state}"));
    }

    async fn cut_for(&self, cut: Duration, meanwhile: impl Future<Output = ()>) {
        self.line("down");
        let _ = tokio::time::timeout(cut, meanwhile).await;
        self.line("up");
    }
}

/// The kernel's own repeats become more seldom with each, and in the end the connection is given up.
const CUTS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1200),
    Duration::from_millis(2500),
    Duration::from_millis(6000),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_cable_is_cut_costs_no_new_request_and_comes_back() {
    let scene = Scene::new(&[("b", 2), ("c", 3)]).await;
    let once =
        async || tokio::time::timeout(Duration::from_secs(5), scene.ask()).await.expect("a client was left waiting");
    let mut heard = std::collections::BTreeSet::new();
    eventually(async || {
        heard.extend(once().await);
        (heard.len() == 2).then_some(())
    })
    .await;
    for cut in CUTS {
        let without = async {
            for number in 0.. {
                assert_eq!(once().await.as_deref(), Some("b"), "request {number} in a cut of {cut:?}");
            }
        };
        scene.cut_for(cut, without).await;
        let back = async { while once().await.as_deref() != Some("c") {} };
        tokio::time::timeout(BACK, back)
            .await
            .unwrap_or_else(|_| panic!("{BACK:?} after a cut of {cut:?} nobody asks it"));
    }
    scene.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_the_only_copy_goes_on_soon_after_its_line_is_back() {
    let scene = Scene::new(&[("b", 2)]).await;
    eventually(async || scene.ask().await).await;
    for cut in CUTS {
        // They are refused after a while, or wait; what counts is what happens then.
        scene.cut_for(cut, async { while scene.ask().await != Some("x".into()) {} }).await;
        let back = async { while scene.ask().await.is_none() {} };
        tokio::time::timeout(BACK, back)
            .await
            .unwrap_or_else(|_| panic!("{BACK:?} after a cut of {cut:?} there is no answer"));
    }
    scene.a.stop().await;
}
