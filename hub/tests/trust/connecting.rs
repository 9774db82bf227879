//! Who is let in.

use std::time::Duration;

use outrigger_protocol::UpMessage;
use outrigger_trust::{CertificateDer, DeviceKey, Identity, client_config};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::support::{Client, SOON, World, options, will};

/// S3
#[tokio::test(flavor = "multi_thread")]
async fn a_device_does_not_come_in_under_the_name_of_another_and_the_other_notices_nothing() {
    let mut world = World::start().await;
    let (bad, good) = (world.device("bad").await, world.device("good").await);
    let other = good.connect(&world).await;
    let mut options = options(&world, "good", bad.tls());
    options.set_last_will(will("good", 9));
    assert_eq!(Client::dial(options).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    other.report("good", 3).await;
    let (device, message) = world.heard().await;
    assert!(device.as_str() == "good" && matches!(message, UpMessage::Report(_)), "{device}: {message:?}");
}

/// S4
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_name_is_refused_as_a_client_id_and_in_a_certificate() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let long = "a".repeat(64 * 1024 - 1);
    for id in ["pi/x", "+", "#", "$hub", "PI", "pí", "рi", "pi ", "-pi", "pi.1", long.as_str()] {
        let answer = Client::dial(options(&world, id, device.tls())).answer().await;
        assert!(!matches!(answer, Ok(ConnectReturnCode::Success)), "{id:.20}: {answer:?}");
    }
    for name in ["#", "+", "$hub", "PI", "pi/x", "", "pi\0"] {
        let (chain, key) = made(&world, |params| named(params, name));
        let mut client = Client::dial(options(&world, "pi", tls(&world, chain, key)));
        let answer = client.answer().await;
        assert!(!matches!(answer, Ok(ConnectReturnCode::Success)), "{name}: {answer:?}");
    }
    assert!(world.inbox.counters().totals().connected == 0);
}

/// S5
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_cut_off_at_once_and_does_not_come_back() {
    let world = World::start().await;
    let (device, other) = (world.device("pi").await, world.device("other").await);
    let (mut client, stays) = (device.connect(&world).await, other.connect(&world).await);
    assert!(world.pki.remove(&"pi".parse().unwrap()).await.unwrap());
    assert!(client.ends().await < Duration::from_secs(5));
    assert_eq!(Client::dial(device.options(&world)).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    assert!(stays.client.try_publish("or/1/other/report", rumqttc::v5::mqttbytes::QoS::AtMostOnce, false, "x").is_ok());
    assert!(!world.pki.remove(&"pi".parse().unwrap()).await.unwrap(), "it is gone");
}

/// S5: a device that reads nothing cannot keep its connection by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_forgotten_even_if_it_does_not_listen() {
    let mut world = World::start().await;
    let device = world.device("pi").await;
    let client = device.connect(&world).await;
    client.report("pi", 1).await;
    world.heard().await;
    world.pki.remove(&"pi".parse().unwrap()).await.unwrap();
    // Even what was on its way already is not heard any more; it may have been cut off before.
    client.try_report("pi", 2).await;
    assert!(timeout(Duration::from_secs(1), world.heard()).await.is_err());
}

/// S7
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_tls_or_without_a_certificate_also_not_by_ipv6() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let world = World::start_at(listen).await;
        let connect = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02pi\x00";
        let mut stream = TcpStream::connect(world.broker.address).await.unwrap();
        stream.write_all(connect).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.first() != Some(&0x20), "a CONNACK came: {answer:?}");
        let nobody = client_config(&[world.pki.authority()], None, None).unwrap();
        assert!(Client::dial(options(&world, "pi", nobody)).answer().await.is_err());
        let device = world.device("pi").await;
        device.connect(&world).await;
    }
}

/// S11: each is refused, and the hub's log says which of them it was.
#[tokio::test(flavor = "multi_thread")]
async fn each_bad_certificate_is_refused_with_words_of_its_own() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let day = |year| rcgen::date_time_ymd(year, 1, 1);
    let expired = made(&world, |params| (params.not_before, params.not_after) = (day(2020), day(2021)));
    let early = made(&world, |params| (params.not_before, params.not_after) = (day(2090), day(2091)));
    let purpose = made(&world, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let other_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    named(&mut params, "pi");
    let alone = params.self_signed(&other_key).unwrap().der().clone();
    let own = (vec![alone], PrivatePkcs8KeyDer::from(other_key.serialize_der()).into());
    let good = (device.chain.clone(), device.key.to_der());
    let mut texts = Vec::new();
    for (chain, key) in [expired, early, purpose, own] {
        texts.push(judged(&world, chain, key).await.unwrap_err());
    }
    texts.push(judged_without(&world).await.unwrap_err());
    assert!(judged(&world, good.0, good.1).await.is_ok());
    let different: std::collections::BTreeSet<_> = texts.iter().collect();
    assert_eq!(different.len(), texts.len(), "{texts:#?}");
    for (text, word) in texts.iter().zip(["expired", "not valid yet", "key usage", "UnknownIssuer", "no certificates"])
    {
        assert!(text.contains(word), "{text}: {word}");
    }
}

/// S11: the right authority, a device that was removed, one that has joined anew with another key, one in quarantine.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_of_somebody_who_no_longer_belongs_is_refused() {
    let world = World::start().await;
    let before = world.device("pi").await;
    let now = world.device("pi").await;
    assert_eq!(Client::dial(before.options(&world)).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    now.connect(&world).await;
    let name = "pi".parse().unwrap();
    world.pki.quarantine(&name, "a test").await.unwrap();
    assert_eq!(Client::dial(now.options(&world)).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    world.pki.approve(&name).await.unwrap();
    now.connect(&world).await;
    let stranger = DeviceKey::fresh().unwrap();
    let (chain, key) = made(&world, |params| named(params, "stranger"));
    drop(stranger);
    let answer = Client::dial(options(&world, "stranger", tls(&world, chain, key))).answer().await.unwrap();
    assert_eq!(answer, ConnectReturnCode::NotAuthorized, "signed by us and on no list");
}

type Made = (Vec<CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

/// A certificate for `pi` of the hub's own authority, made otherwise than the hub makes them.
fn made(world: &World, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let file = std::fs::read_to_string(world.folder.path().join("pki/authority.pem")).unwrap();
    let (key, certificates) = file.split_at(file.find("-----BEGIN CERTIFICATE").unwrap());
    let issuer = Issuer::from_ca_cert_pem(certificates, KeyPair::from_pem(key).unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    named(&mut params, "pi");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2120, 1, 1));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn named(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

fn tls(
    world: &World,
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> std::sync::Arc<rustls::ClientConfig> {
    client_config(&[world.pki.authority()], Some(Identity { chain, key }), None).unwrap()
}

/// What the hub's side of the handshake says.
async fn judged(
    world: &World,
    chain: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> Result<(), String> {
    shake(world, tls(world, chain, key)).await
}

async fn judged_without(world: &World) -> Result<(), String> {
    shake(world, client_config(&[world.pki.authority()], None, None).unwrap()).await
}

async fn shake(world: &World, client: std::sync::Arc<rustls::ClientConfig>) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(world.pki.server_tls().mqtt());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop).map_err(|error| error.to_string())
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    let connected = TlsConnector::from(client).connect(name, stream).await;
    let judged = timeout(SOON, server).await.unwrap().unwrap();
    drop(connected);
    judged
}
