//! How devices come in without an invite: by a code that they show, and that somebody tells the hub.

use std::collections::BTreeMap;
use std::net::IpAddr;

use outrigger_hub::pki::{ApproveError, Joined, Knock, KnockError, Knocked};
use outrigger_protocol::DeviceName;
use outrigger_trust::{Between, DeviceKey, JoinCode, Pin, Proof, Prover, fresh_nonce};
use tokio::task::JoinSet;

use super::support::{Device, World};

/// A device that shows a code.
struct Newcomer {
    key: DeviceKey,
    code: JoinCode,
    /// As it sees the hub.
    sees: Between,
    knock: Knock,
}

impl Newcomer {
    /// Somebody who sees a hub with this pin.
    fn who_sees(hub: Pin, name: &str) -> Self {
        let (key, code, nonce) = (DeviceKey::fresh().unwrap(), JoinCode::fresh(), fresh_nonce());
        let sees = Between { hub, device: key.digest(), nonce };
        let knock = Knock {
            name: name.parse().unwrap(),
            csr: key.request(name).unwrap(),
            nonce,
            proof: code.key(&nonce).prove(Prover::Device, &sees),
            about: "a board".into(),
            from: IpAddr::from([192, 0, 2, 7]),
        };
        Self { key, code, sees, knock }
    }

    /// What the hub says; `None`: it is to wait.
    fn ask(&self, world: &World) -> Option<(Joined, Proof)> {
        match world.pki.knock(self.knock.clone()).unwrap() {
            Knocked::Waits { .. } => None,
            Knocked::Joined(joined, proof) => Some((*joined, proof)),
        }
    }

    fn believes(&self, proof: &Proof) -> bool {
        self.code.key(&self.sees.nonce).is_proven(Prover::Hub, &self.sees, proof)
    }
}

async fn approve(world: &World, code: &JoinCode, name: Option<&str>) -> Result<DeviceName, ApproveError> {
    let name = name.map(|name| name.parse().unwrap());
    world.pki.approve_code(&code.reveal(), name, BTreeMap::new()).await.map(|let_in| let_in.device)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_comes_in_by_the_code_that_it_shows() {
    let world = World::start().await;
    let newcomer = Newcomer::who_sees(world.pki.pin(), "pi");
    assert!(newcomer.ask(&world).is_none());
    let waits = world.pki.waiting();
    assert_eq!((waits.len(), waits[0].name.as_str(), waits[0].address.as_str()), (1, "pi", "192.0.2.7"));
    assert!(world.pki.allow().all().is_empty(), "nobody is let in before");
    assert_eq!(approve(&world, &newcomer.code, None).await.unwrap().as_str(), "pi");
    assert!(world.pki.waiting().is_empty());
    let (joined, proof) = newcomer.ask(&world).unwrap();
    assert!(newcomer.believes(&proof));
    // The answer may get lost: it is given again, to the same words only.
    assert!(newcomer.ask(&world).is_some());
    Device::of(joined, newcomer.key).connect(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_nobody_shows_lets_nobody_in() {
    let world = World::start().await;
    let newcomer = Newcomer::who_sees(world.pki.pin(), "pi");
    newcomer.ask(&world);
    assert_eq!(approve(&world, &JoinCode::fresh(), None).await.unwrap_err(), ApproveError::Unknown);
    let text = world.pki.approve_code("or1.join.x", None, BTreeMap::new()).await.unwrap_err();
    assert!(matches!(text, ApproveError::Code(_)));
    assert!(world.pki.allow().all().is_empty() && newcomer.ask(&world).is_none());
}

/// Somebody between the device and the hub shows the device an authority of his own, and passes on what it sends. The
/// device's proof is for that authority, so its code is nobody's here.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_sees_another_hub_is_not_let_in_by_its_code() {
    let world = World::start().await;
    let deceived = Newcomer::who_sees(Pin([9; 32]), "pi");
    assert!(deceived.ask(&world).is_none());
    assert_eq!(approve(&world, &deceived.code, None).await.unwrap_err(), ApproveError::Unknown);
    assert!(world.pki.allow().all().is_empty());
}

/// He has a key of his own and everything that the device has sent. Without the code none of it fits his key.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_with_another_key_is_not_let_in_by_the_code_of_a_device() {
    let world = World::start().await;
    let device = Newcomer::who_sees(world.pki.pin(), "pi");
    let thief = Newcomer::who_sees(world.pki.pin(), "pi");
    let forged = Knock { proof: device.knock.proof, nonce: device.knock.nonce, ..thief.knock };
    assert!(matches!(world.pki.knock(forged), Ok(Knocked::Waits { .. })), "he may wait");
    assert_eq!(approve(&world, &device.code, None).await.unwrap_err(), ApproveError::Unknown);
    assert_eq!(world.pki.knock(device.knock).unwrap_err(), KnockError::Over, "he can only keep the device out");
    assert!(world.pki.allow().all().is_empty());
}

/// Looking at a request costs a signature's check, and anybody can send one.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nonsense_has_to_wait_and_who_waits_already_waits_on() {
    let world = World::start().await;
    let device = Newcomer::who_sees(world.pki.pin(), "pi");
    assert!(matches!(world.pki.knock(device.knock.clone()), Ok(Knocked::Waits { is_new: true })));
    let nonsense = |nonce| Knock { csr: "nonsense".into(), nonce: [nonce; 32], ..device.knock.clone() };
    let refused: Vec<_> = (1..100).map(|nonce| world.pki.knock(nonsense(nonce)).unwrap_err()).collect();
    assert!(matches!(refused[0], KnockError::Request(_)), "{refused:?}");
    assert_eq!(refused.last(), Some(&KnockError::Limited));
    assert!(matches!(world.pki.knock(device.knock.clone()), Ok(Knocked::Waits { is_new: false })));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_code_lets_its_own_device_in_among_all_that_wait() {
    let world = World::start().await;
    let mut newcomers: Vec<_> =
        (0..8).map(|number| Newcomer::who_sees(world.pki.pin(), &format!("pi-{number}"))).collect();
    for (number, newcomer) in newcomers.iter_mut().enumerate() {
        newcomer.knock.from = IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
        newcomer.ask(&world);
    }
    assert_eq!(approve(&world, &newcomers[5].code, None).await.unwrap().as_str(), "pi-5");
    let let_in: Vec<_> = newcomers.iter().map(|newcomer| newcomer.ask(&world).is_some()).collect();
    assert_eq!(let_in, [false, false, false, false, false, true, false, false]);
    assert_eq!(world.pki.waiting().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_takes_no_name_away_unless_the_operator_says_so() {
    let world = World::start().await;
    let old = world.device("pi").await;
    let newcomer = Newcomer::who_sees(world.pki.pin(), "pi");
    newcomer.ask(&world);
    assert!(world.pki.waiting()[0].name_is_taken);
    let taken = approve(&world, &newcomer.code, None).await.unwrap_err();
    assert_eq!(taken, ApproveError::Taken("pi".parse().unwrap()));
    old.connect(&world).await;
    assert_eq!(approve(&world, &newcomer.code, Some("pi-2")).await.unwrap().as_str(), "pi-2");
    let (joined, _) = newcomer.ask(&world).unwrap();
    assert_eq!(joined.device.as_str(), "pi-2", "the certificate has the name that the operator gave");
    Device::of(joined, newcomer.key).connect(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_one_device_also_when_it_is_told_many_times_at_once() {
    let world = World::start().await;
    let newcomer = Newcomer::who_sees(world.pki.pin(), "pi");
    newcomer.ask(&world);
    let mut told = JoinSet::new();
    for number in 0..6 {
        let (pki, code) = (world.pki.clone(), newcomer.code.reveal());
        let name = Some(format!("pi-{number}").parse().unwrap());
        told.spawn(async move { pki.approve_code(&code, name, BTreeMap::new()).await.is_ok() });
    }
    let done = told.join_all().await;
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
    assert_eq!(world.pki.allow().all().len(), 1);
}
