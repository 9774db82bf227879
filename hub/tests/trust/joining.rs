//! How devices come in: invites.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_hub::pki::{JoinError, Newcomer, Refusal, Wanted};
use outrigger_trust::{DeviceKey, Kind, Token};
use tokio::task::JoinSet;

use super::support::{Device, HERE, World, now_ms, open};

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_who_come_with_one_invite_at_once_one_gets_in() {
    let world = World::start().await;
    let (token, invite) = world.invite(1, None).await;
    let text = token.reveal();
    let mut tries = JoinSet::new();
    for number in 0..100 {
        let (pki, text) = (world.pki.clone(), text.clone());
        tries.spawn(async move {
            let name = format!("pi-{number}");
            let csr = DeviceKey::fresh().unwrap().request(&name).unwrap();
            // From different addresses: the limit on tries is not what stops them.
            let from = std::net::IpAddr::from([10, 0, 0, number]);
            pki.join(Newcomer { token: &text, name: name.parse().unwrap(), csr: &csr, from }).await.map(|_| ())
        });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().flat_map(|one| one.as_ref().err()).all(|e| *e == JoinError::Refused(Refusal::UsedUp)));
    assert_eq!(world.pki.allow().all().len(), 1);
    let listed = world.pki.invites().list(now_ms()).await;
    assert_eq!((listed[0].id.as_str(), listed[0].used.len()), (invite.id.as_str(), 1));
}

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_has_expired_or_was_revoked_or_never_was_lets_nobody_in() {
    let world = World::start().await;
    let key = DeviceKey::fresh().unwrap();
    let wanted = |ttl| Wanted { uses: 1, ttl, name: None, labels: BTreeMap::new() };
    let (late, _) = world
        .pki
        .invites()
        .make(wanted(Duration::from_secs(1)), world.pki.pin(), "test", now_ms() - 5_000)
        .await
        .unwrap();
    assert_eq!(world.join(&late, "pi", &key).await.unwrap_err(), JoinError::Refused(Refusal::Expired));
    let (revoked, invite) = world.invite(5, None).await;
    assert!(world.pki.invites().revoke(&invite.id).await.unwrap());
    assert_eq!(world.join(&revoked, "pi", &key).await.unwrap_err(), JoinError::Refused(Refusal::Unknown));
    let never = Token::fresh(Kind::Join, world.pki.pin());
    assert_eq!(world.join(&never, "pi", &key).await.unwrap_err(), JoinError::Refused(Refusal::Unknown));
    let (real, _) = world.invite(1, None).await;
    let forged = Token { secret: Token::fresh(Kind::Join, world.pki.pin()).secret, ..real };
    assert_eq!(world.join(&forged, "pi", &key).await.unwrap_err(), JoinError::Refused(Refusal::Unknown));
    let api = Token::fresh(Kind::Api, world.pki.pin());
    assert_eq!(world.join(&api, "pi", &key).await.unwrap_err(), JoinError::Kind(Kind::Api));
    assert!(world.pki.allow().all().is_empty());
}

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_too_often_has_to_wait_and_others_do_not() {
    let world = World::start().await;
    let key = DeviceKey::fresh().unwrap();
    let never = Token::fresh(Kind::Join, world.pki.pin());
    for _ in 0..10 {
        assert_eq!(world.join(&never, "pi", &key).await.unwrap_err(), JoinError::Refused(Refusal::Unknown));
    }
    let (good, _) = world.invite(1, None).await;
    assert_eq!(world.join(&good, "pi", &key).await.unwrap_err(), JoinError::Limited);
    let (text, csr) = (good.reveal(), key.request("pi").unwrap());
    let from = "192.0.2.1".parse().unwrap();
    world.pki.join(Newcomer { token: &text, name: "pi".parse().unwrap(), csr: &csr, from }).await.unwrap();
}

/// S16
#[tokio::test(flavor = "multi_thread")]
async fn an_invite_for_one_name_lets_no_other_in() {
    let world = World::start().await;
    let (token, _) = world.invite(1, Some("pi-7")).await;
    let key = DeviceKey::fresh().unwrap();
    assert_eq!(
        world.join(&token, "pi-8", &key).await.unwrap_err(),
        JoinError::Refused(Refusal::OtherName("pi-7".parse().unwrap()))
    );
    world.join(&token, "pi-7", &key).await.unwrap();
}

/// S16: what the certificate says is the name that was asked for, whatever the request itself says.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_no_more_than_the_name_in_the_invite() {
    let world = World::start().await;
    let (token, _) = world.invite(1, Some("pi")).await;
    let key = DeviceKey::fresh().unwrap();
    let (text, csr) = (token.reveal(), key.request("$hub").unwrap());
    let newcomer = Newcomer { token: &text, name: "pi".parse().unwrap(), csr: &csr, from: HERE };
    let joined = world.pki.join(newcomer).await.unwrap();
    let read = outrigger_trust::Certificate::read(&joined.chain[0]).unwrap();
    assert_eq!(read.common_name.as_deref(), Some("pi"));
    assert_eq!(read.key_digest, key.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_invite_takes_no_name_away_from_its_device() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let (open, _) = world.invite(5, None).await;
    let thief = DeviceKey::fresh().unwrap();
    let refused = world.join(&open, "pi", &thief).await.unwrap_err();
    assert_eq!(refused, JoinError::Taken("pi".parse().unwrap()));
    device.connect(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_answer_was_lost_joins_again_with_the_same_invite_and_key() {
    let world = World::start().await;
    let (token, _) = world.invite(1, None).await;
    let key = DeviceKey::fresh().unwrap();
    world.join(&token, "pi", &key).await.unwrap();
    let again = world.join(&token, "pi", &key).await.unwrap();
    let other = DeviceKey::fresh().unwrap();
    assert_eq!(world.join(&token, "pi", &other).await.unwrap_err(), JoinError::Refused(Refusal::UsedUp));
    Device::of(again, key).connect(&world).await;
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn joining_again_does_not_end_a_quarantine_unless_the_operator_invites_by_name() {
    let world = World::start().await;
    let name = "pi".parse().unwrap();
    let (open, _) = world.invite(5, None).await;
    let key = DeviceKey::fresh().unwrap();
    world.join(&open, "pi", &key).await.unwrap();
    world.pki.quarantine(&name, "a test").await.unwrap();
    world.join(&open, "pi", &key).await.unwrap();
    assert!(world.pki.allow().read(&name).unwrap().quarantined.is_some(), "the same key with the same invite");
    assert!(world.join(&open, "pi", &DeviceKey::fresh().unwrap()).await.is_err(), "another key");
    let device = world.device("pi").await;
    assert!(world.pki.allow().read(&name).unwrap().quarantined.is_none());
    device.connect(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_belongs_to_the_fleet_is_known_after_a_restart() {
    let world = World::start().await;
    world.device("pi").await;
    let (unused, invite) = world.invite(3, None).await;
    let pin = world.pki.pin();
    let allowed = world.pki.allow().all();
    let folder = world.close().await;
    let (pki, _writer, _written) = open(folder.path()).await;
    assert_eq!((pki.pin(), pki.allow().all()), (pin, allowed));
    let listed = pki.invites().list(now_ms()).await;
    assert!(listed.iter().any(|one| one.id == invite.id));
    let (text, csr) = (unused.reveal(), DeviceKey::fresh().unwrap().request("pi-2").unwrap());
    pki.join(Newcomer { token: &text, name: "pi-2".parse().unwrap(), csr: &csr, from: HERE }).await.unwrap();
}

/// S17 and S15: neither the device's key nor the invite's secret is anywhere in the hub's state or its backup.
#[tokio::test(flavor = "multi_thread")]
async fn the_hub_keeps_no_key_of_a_device_and_no_secret_of_an_invite() {
    let world = World::start().await;
    let (token, _) = world.invite(2, None).await;
    let key = DeviceKey::fresh().unwrap();
    world.join(&token, "pi", &key).await.unwrap();
    let folder = world.close().await;
    let backup = folder.path().join("backup");
    let mut store = outrigger_hub::store::Store::open(folder.path()).unwrap();
    store.backup(&mut std::fs::File::create(&backup).unwrap()).unwrap();
    let secret = token.reveal().rsplit('.').next().unwrap().to_owned();
    let key = key.to_der();
    // The private number stands in the middle of the encoded key; what precedes it is the same for all.
    let number = key.secret_der()[36..68].to_vec();
    let mut searched = 0;
    for file in ["hub.redb", "backup", "pki/authority.pem"] {
        let bytes = std::fs::read(folder.path().join(file)).unwrap();
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!has(&number) && !has(secret.as_bytes()), "{file}");
        searched += bytes.len();
    }
    assert!(searched > 10_000);
    let bytes = std::fs::read(&backup).unwrap();
    assert!(bytes.windows(2).any(|window| window == b"pi"), "the search finds what is there");
}
