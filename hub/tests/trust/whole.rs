//! The whole hub, as a program runs it: what only all parts together show.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use outrigger_hub::config::{Broker, Config, Joining, Security};
use outrigger_hub::pki::{Newcomer, Wanted};
use outrigger_hub::run::{Running, start};
use outrigger_planner::{Availability, Policy, Wish};
use outrigger_protocol::{
    Arch, BootId, Bytes, CgroupVersion, Channel, Engine, EngineKind, EngineState, Facts, Hello, MemoryLimits, MilliCpu,
    SessionNumber, Status, UpMessage, encode_up,
};
use outrigger_trust::{DeviceKey, Identity, client_config};
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet};
use rumqttc::{TlsConfiguration, Transport};
use tempfile::TempDir;

use super::support::{Client, HERE, SOON, now_ms, topic, will};

pub async fn hub(folder: &TempDir) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config {
        state_dir: folder.path().join("state"),
        http_listen: "127.0.0.1:0".parse().unwrap(),
        broker: Broker::Embedded("127.0.0.1:0".parse().unwrap()),
        policy: Policy { start_grace: Duration::ZERO, ..Policy::default() },
        names: vec![],
        security: Security::Tls,
        insecure_registries: vec![],
        joining: Joining::default(),
        relay_port: None,
    };
    start(config).await.unwrap()
}

/// Options of a device that has joined this hub just now, with a label of its invite.
async fn joined(hub: &Running, name: &str) -> MqttOptions {
    joined_with(hub, name).await.0
}

/// The same with its key.
pub async fn joined_with(hub: &Running, name: &str) -> (MqttOptions, DeviceKey) {
    let pki = hub.handle().pki().unwrap();
    let labels = [("zone".to_owned(), "attic".to_owned())].into_iter().collect();
    let wanted = Wanted { uses: 1, ttl: Duration::from_secs(60), name: Some(name.parse().unwrap()), labels };
    let (token, _) = pki.invites().make(wanted, pki.pin(), "test", now_ms()).await.unwrap();
    let key = DeviceKey::fresh().unwrap();
    let (token, csr) = (token.reveal(), key.request(name).unwrap());
    let newcomer = Newcomer { token: &token, name: name.parse().unwrap(), csr: &csr, from: HERE };
    let joined = pki.join(newcomer).await.unwrap();
    let identity = Identity { chain: joined.chain, key: key.to_der() };
    let tls = client_config(&joined.authorities, Some(identity), None).unwrap();
    let address = hub.handle().addresses().mqtt.unwrap();
    let mut options = MqttOptions::new(name, address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true).set_last_will(will(name, 1));
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    (options, key)
}

pub async fn online(hub: &Running, name: &str, options: MqttOptions) -> Client {
    let mut client = Client::dial(options);
    assert_eq!(client.answer().await.unwrap(), ConnectReturnCode::Success);
    client.subscribed(&topic(name, Channel::Want)).await;
    let hello = UpMessage::Hello(Box::new(hello()));
    let status = UpMessage::Status(Status {
        number: 1,
        session: SessionNumber(1),
        held: None,
        engine: EngineState::Up,
        replicas: vec![],
        images: vec![],
    });
    for (channel, message) in [(Channel::Hello, hello), (Channel::Status, status)] {
        let bytes = encode_up(&message).unwrap();
        client.client.publish(topic(name, channel), QoS::AtLeastOnce, false, bytes).await.unwrap();
    }
    let deadline = outrigger_hub::clock::now() + SOON;
    let asked: outrigger_protocol::DeviceName = name.parse().unwrap();
    loop {
        let asked = asked.clone();
        let labelled = move |core: &outrigger_hub::core::HubCore, _| {
            core.fleet().device(&asked).is_some_and(|view| view.labels.get("zone").is_some_and(|zone| zone == "attic"))
        };
        if hub.handle().view(labelled).await.unwrap() {
            return client;
        }
        assert!(outrigger_hub::clock::now() < deadline, "{name} did not get the label of its invite");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn hello() -> Hello {
    let facts = Facts {
        agent: "0.1.0".into(),
        arch: Arch::Amd64,
        also_runs: vec![],
        os: "Debian".into(),
        kernel: "6.1".into(),
        board: None,
        cpu: MilliCpu(4000),
        memory: Bytes(4 << 30),
        engine: Some(Engine { kind: EngineKind::Memory, version: "1".into() }),
        cgroup: CgroupVersion::V2,
        memory_limits: MemoryLimits::Work,
        labels: vec![],
        generic: vec![],
        devices: vec![],
        root_on_flash: false,
        address: None,
        mesh_port: None,
        policy: 0,
    };
    Hello {
        boot: BootId(1),
        session: SessionNumber(1),
        machine: 1,
        fleet: None,
        held: None,
        unix_ms: 0,
        heartbeat_ms: 1000,
        facts,
    }
}

async fn remove(folder: &TempDir, device: &str) -> reqwest::StatusCode {
    let socket = folder.path().join("state/hub.sock");
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let url = format!("http://localhost/v1/devices/{device}");
    client.delete(url).send().await.unwrap().status()
}

/// S5
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_cut_off_forgotten_and_nothing_is_kept_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&folder).await;
    let options = joined(&hub, "pi").await;
    let mut client = online(&hub, "pi", options.clone()).await;
    let cut = tokio::spawn(async move {
        let mut wants = 0;
        let began = outrigger_hub::clock::now();
        while let Ok(packet) = client.next().await {
            wants += usize::from(matches!(packet, Packet::Publish(_)));
        }
        (wants, outrigger_hub::clock::now().since(began))
    });
    assert_eq!(remove(&folder, "pi").await, 200);
    let (_, took) = cut.await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let known = hub.handle().view(|core, _| core.fleet().devices().count()).await.unwrap();
    assert_eq!(known, 0);
    assert_eq!(Client::dial(options).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    assert_eq!(remove(&folder, "pi").await, 404);
    // Whoever has the name next finds nothing that was said to the one before.
    let mut next = Client::dial(joined(&hub, "pi").await);
    assert_eq!(next.answer().await.unwrap(), ConnectReturnCode::Success);
    next.subscribed(&topic("pi", Channel::Want)).await;
    let kept = tokio::time::timeout(Duration::from_millis(500), next.next()).await;
    assert!(!matches!(kept, Ok(Ok(Packet::Publish(_)))), "{kept:?}");
    hub.stop().await;
}

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_device_that_joins_anew_stays_cordoned() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&folder).await;
    let _before = online(&hub, "pi", joined(&hub, "pi").await).await;
    let device: outrigger_protocol::DeviceName = "pi".parse().unwrap();
    let cordon = Wish::Availability { device: device.clone(), availability: Availability::Cordon };
    hub.handle().wish(cordon).await.unwrap();
    let _now = online(&hub, "pi", joined(&hub, "pi").await).await;
    let asked = device.clone();
    let availability =
        hub.handle().view(move |core, _| core.fleet().device(&asked).unwrap().availability).await.unwrap();
    assert_eq!(availability, Availability::Cordon);
    hub.stop().await;
}

/// S53
#[tokio::test(flavor = "multi_thread")]
async fn everything_in_the_state_folder_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&folder).await;
    let mut folders = vec![folder.path().join("state")];
    let mut seen = 0;
    while let Some(at) = folders.pop() {
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&at) & 0o077, 0, "{}", at.display());
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(seen >= 4, "{seen}");
    hub.stop().await;
}

/// Two machines with one card come in one after the other, until their boot ids have told that they are two.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_card_is_found_out_and_neither_machine_is_let_in_until_somebody_has_looked() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(&folder).await;
    let options = joined(&hub, "pi").await;
    let mut events = hub.handle().events().subscribe();
    for (boot, session) in [(1, 10), (2, 77), (1, 11), (2, 78)] {
        let mut client = Client::dial(options.clone());
        assert_eq!(client.answer().await.unwrap(), ConnectReturnCode::Success, "{boot} {session}");
        let hello = Hello { boot: BootId(boot), session: SessionNumber(session), ..hello() };
        let bytes = encode_up(&UpMessage::Hello(Box::new(hello))).unwrap();
        client.client.publish(topic("pi", Channel::Hello), QoS::AtLeastOnce, false, bytes).await.unwrap();
        while !matches!(client.next().await, Ok(Packet::PubAck(_)) | Err(_)) {}
    }
    let told = async {
        while events.recv().await.unwrap().kind != "device_cloned" {}
        let mut changes = hub.handle().pki().unwrap().allow().changes();
        let name = "pi".parse().unwrap();
        while hub.handle().pki().unwrap().allow().hears(&name) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, told).await.expect("two machines were not found out");
    assert_eq!(Client::dial(options.clone()).answer().await.unwrap(), ConnectReturnCode::NotAuthorized);
    assert!(hub.handle().pki().unwrap().approve(&"pi".parse().unwrap()).await.unwrap());
    assert_eq!(Client::dial(options).answer().await.unwrap(), ConnectReturnCode::Success);
    hub.stop().await;
}
