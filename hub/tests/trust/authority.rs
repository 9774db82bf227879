//! The authority: whole or not at all, for nobody else to read, exchanged without losing anybody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outrigger_hub::pki::{Authority, FILE, Old, Pki, PkiError};
use outrigger_hub::store::{SideRecord, Store, Writer};
use outrigger_trust::{DeviceKey, Pin, authority_behind, client_config};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::support::{Device, World, now_ms, open};

async fn try_open(folder: &Path) -> Result<Pki, PkiError> {
    let mut store = Store::open(folder).unwrap();
    let loaded = store.load().unwrap();
    let (writer, _written) = Writer::start(store).unwrap();
    let pki = Pki::open(folder, &[], &loaded.side, writer.side()).await;
    writer.finish().await;
    pki
}

/// S6
#[tokio::test]
async fn a_hub_whose_authority_is_missing_or_not_whole_lets_nobody_in_and_makes_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    try_open(folder.path()).await.unwrap();
    let file = folder.path().join(FILE);
    let whole = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(try_open(folder.path()).await.unwrap_err().to_string().contains("is missing"));
    assert!(!file.exists());
    // All lengths, in steps that meet each line and its ends.
    for length in (0..whole.len()).filter(|at| at % 7 == 0 || whole.as_bytes()[*at] == b'\n') {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(try_open(folder.path()).await.is_err(), "cut at {length}");
    }
    let swapped = {
        let other = tempfile::tempdir().unwrap();
        try_open(other.path()).await.unwrap();
        let other = fs::read_to_string(other.path().join(FILE)).unwrap();
        let begin = "-----BEGIN CERTIFICATE";
        whole[..whole.find(begin).unwrap()].to_owned() + &other[other.find(begin).unwrap()..]
    };
    fs::write(&file, swapped).unwrap();
    assert!(try_open(folder.path()).await.unwrap_err().to_string().contains("damaged"), "the key of another");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(try_open(folder.path()).await.is_err(), "it cannot be read");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, &whole).unwrap();
    try_open(folder.path()).await.unwrap();
}

/// S6
#[tokio::test]
async fn a_list_that_cannot_be_read_lets_nobody_in() {
    for (key, value) in [("pi", &b""[..]), ("pi", b"{"), ("pi", b"{\"key\":\"\"}"), ("P I", b"{}")] {
        let folder = tempfile::tempdir().unwrap();
        let record = SideRecord { table: "identities".into(), key: key.into(), value: Some(value.to_vec()) };
        Store::open(folder.path()).unwrap().save_side(&[record]).unwrap();
        assert!(matches!(try_open(folder.path()).await, Err(PkiError::List(_))), "{key}");
    }
}

/// S53
#[tokio::test]
async fn nobody_else_reads_the_authority_also_after_somebody_copied_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = folder.path().join(FILE);
    try_open(folder.path()).await.unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(folder.path())), (0o600, 0o700, 0o700));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    try_open(folder.path()).await.unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&folder.path().join("hub.redb")), 0o600);
}

/// Whether this device and the hub's MQTT port still trust each other.
async fn shake(pki: &Pki, device: &Device) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(pki.server_tls().mqtt());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop).map_err(|error| format!("the hub: {error}"))
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let connected = TlsConnector::from(device.tls()).connect(ServerName::from(address.ip()), stream).await;
    let server = server.await.unwrap();
    connected.map_err(|error| format!("the device: {error}"))?;
    server
}

/// S19
#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_loses_none_of_a_hundred_devices_of_which_ten_are_away() {
    let world = World::start().await;
    let (token, _) = world.invite(100, None).await;
    let mut devices = Vec::new();
    for number in 0..100 {
        let (name, key) = (format!("pi-{number}"), DeviceKey::fresh().unwrap());
        devices.push(Device::of(world.join(&token, &name, &key).await.unwrap(), key));
    }
    let before = world.pki.pin();
    let folder = world.close().await;
    Authority::rotate(folder.path(), Old::Keep, now_ms() / 1000).unwrap();
    let (pki, _writer, _written) = open(folder.path()).await;
    assert_ne!(pki.pin(), before);
    let (away, present) = devices.split_at_mut(10);
    for device in present.iter_mut() {
        let name = device.name.parse().unwrap();
        shake(&pki, device).await.unwrap();
        assert!(pki.must_renew(&name));
        let request = device.key.request_der(&device.name).unwrap();
        (device.chain, device.authorities) = pki.renew(&name, &request).await.unwrap();
        assert!(!pki.must_renew(&name));
        shake(&pki, device).await.unwrap();
        assert_eq!(device.authorities, [pki.authority()], "the old one is not trusted any more");
    }
    // And once more, while they are still away: two steps back.
    Authority::rotate(folder.path(), Old::Keep, now_ms() / 1000).unwrap();
    drop(pki);
    _writer.finish().await;
    let (pki, _writer, _written) = open(folder.path()).await;
    for device in away.iter().chain(present.iter().take(3)) {
        shake(&pki, device).await.unwrap();
        assert!(pki.must_renew(&device.name.parse().unwrap()), "{}", device.name);
    }
    assert_eq!(pki.allow().all().len(), 100);
}

/// Invites and logins of before a rotation still find the hub.
#[tokio::test(flavor = "multi_thread")]
async fn every_pin_that_was_given_out_is_in_the_chain_and_the_present_one_is_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, writer, _written) = open(folder.path()).await;
    let mut pins = vec![pki.pin()];
    writer.finish().await;
    for _ in 0..2 {
        Authority::rotate(folder.path(), Old::Keep, now_ms() / 1000).unwrap();
        let (pki, writer, _written) = open(folder.path()).await;
        pins.push(pki.pin());
        writer.finish().await;
    }
    let (pki, _writer, _written) = open(folder.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(pki.server_tls().http());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let within = Duration::from_secs(10);
    for pin in pins.clone() {
        let looked = tokio::task::spawn_blocking(move || authority_behind("127.0.0.1", port, pin, within));
        assert_eq!(Pin::of(&looked.await.unwrap().unwrap()), pin);
    }
    let chain = tokio::task::spawn_blocking(move || outrigger_trust::chain_of("127.0.0.1", port, within));
    let chain = chain.await.unwrap().unwrap();
    assert_eq!(Pin::of(chain.last().unwrap()), *pins.last().unwrap());
}

/// S19: a hub takes a new authority over while it runs, and asks its devices.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_hub_takes_a_new_authority_over_and_asks_for_requests() {
    let mut world = World::start().await;
    let device = world.device("pi").await;
    let (outgoing, mut asked) = tokio::sync::mpsc::channel(8);
    tokio::spawn(world.pki.clone().keep(outgoing));
    let mut client = device.connect(&world).await;
    let before = world.pki.pin();
    Authority::rotate(world.folder.path(), Old::Keep, now_ms() / 1000).unwrap();
    let ask = tokio::time::timeout(super::support::SOON, asked.recv()).await.unwrap().unwrap();
    assert!(format!("{ask:?}").contains("Renew"), "{ask:?}");
    assert_ne!(world.pki.pin(), before);
    // The connection that stands is not disturbed, and the answer comes over it.
    let certificate = outrigger_protocol::Channel::Certificate;
    client.subscribed(&super::support::topic("pi", certificate)).await;
    let request = device.key.request_der("pi").unwrap();
    let renew = outrigger_protocol::UpMessage::Renew(outrigger_protocol::Renew {
        session: outrigger_protocol::SessionNumber(1),
        request,
    });
    let at = super::support::topic("pi", outrigger_protocol::Channel::Renew);
    let bytes = outrigger_protocol::encode_up(&renew).unwrap();
    client.client.publish(at, rumqttc::v5::mqttbytes::QoS::AtLeastOnce, false, bytes).await.unwrap();
    let chain = loop {
        if let rumqttc::v5::mqttbytes::v5::Packet::Publish(publish) = client.next().await.unwrap() {
            let told = outrigger_protocol::decode_down(certificate, &publish.payload).unwrap();
            let outrigger_protocol::DownMessage::Certificate(told) = told else { panic!("{told:?}") };
            break told;
        }
    };
    let ders = |all: Vec<Vec<u8>>| all.into_iter().map(Into::into).collect();
    let renewed = Device { chain: ders(chain.chain), authorities: ders(chain.authorities), ..device };
    renewed.connect(&world).await;
    let _ = &mut world;
}

/// After a theft of the authority's key: nothing that it has signed counts any more, at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_to_be_forgotten_takes_its_devices_along() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let (outgoing, _asked) = tokio::sync::mpsc::channel(8);
    tokio::spawn(world.pki.clone().keep(outgoing));
    let mut client = device.connect(&world).await;
    Authority::rotate(world.folder.path(), Old::Forget, now_ms() / 1000).unwrap();
    client.ends().await;
    assert!(super::support::Client::dial(device.options(&world)).answer().await.is_err());
    assert!(world.pki.allow().all().is_empty());
    world.device("pi").await.connect(&world).await;
}

/// S18: a renewal is for the key that the device has, and for nobody who is kept out.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_no_way_to_another_key_or_out_of_quarantine() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let name = "pi".parse().unwrap();
    let other = DeviceKey::fresh().unwrap().request_der("pi").unwrap();
    assert!(world.pki.renew(&name, &other).await.is_err());
    let request = device.key.request_der("pi").unwrap();
    assert!(world.pki.renew(&name, &request[..request.len() - 1]).await.is_err());
    world.pki.renew(&name, &request).await.unwrap();
    world.pki.quarantine(&name, "a test").await.unwrap();
    assert!(world.pki.renew(&name, &request).await.is_err());
    assert!(world.pki.renew(&"nobody".parse().unwrap(), &request).await.is_err());
}

/// The certificate names what the operator and the machine call the hub, and ordinary TLS is satisfied by it.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_certificate_is_good_for_all_names_of_the_hub_and_no_other() {
    let world = World::start().await;
    let client = client_config(&[world.pki.authority()], None, None).unwrap();
    for (host, good) in
        [("hub.test", true), ("localhost", true), ("127.0.0.1", true), ("::1", true), ("evil.test", false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(world.pki.server_tls().http());
        tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await });
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host).unwrap();
        assert_eq!(TlsConnector::from(Arc::clone(&client)).connect(name, stream).await.is_ok(), good, "{host}");
    }
}
