//! The whole hub in one process, as devices and users meet it: broker, core, store and API on ports of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

mod facts;

use std::path::Path;
use std::time::Duration;

use facts::facts;
use outrigger_hub::config::{Config, Origin, Raw};
use outrigger_hub::handle::{HubError, LogsError};
use outrigger_hub::run::{Running, start};
use outrigger_hub::{backup, store};
use outrigger_planner::{Liveness, Refusal, Wish};
use outrigger_protocol::{
    Answer, AnswerBody, Arch, Ask, Assignment, BootId, Channel, ContainerSpec, DeviceName, DownMessage, EngineState,
    Epoch, Hello, LogChunk, LogStream, LogsRequest, LossPolicy, Mode, PlacementId, Report, RequestId, ServiceSpec,
    SessionNumber, StackSpec, Status, Topic, UpMessage, VolumeMove, WINDOW, decode_down, encode_up,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(15);

fn config(folder: &Path) -> Config {
    let mut flags = Raw::default();
    flags.set("state_dir", folder.join("state").to_str().unwrap(), Origin::Flag);
    flags.set("mqtt_listen", "127.0.0.1:0", Origin::Flag);
    flags.set("http_listen", "127.0.0.1:0", Origin::Flag);
    flags.set("insecure_local", "true", Origin::Flag);
    std::fs::write(folder.join("hub.toml"), "").unwrap();
    Config::load(Some(&folder.join("hub.toml")), flags).unwrap()
}

fn stack(replicas: u32) -> Wish {
    let web = ServiceSpec {
        name: "web".parse().unwrap(),
        container: ContainerSpec { image: "127.0.0.1:1/web:1".into(), ..Default::default() },
        mode: Mode::Replicated(replicas),
        reservation: Default::default(),
        constraints: vec![],
        spread: vec![],
        max_per_device: None,
        platforms: None,
        loss: LossPolicy::Available,
        lost_after: None,
        volume_move: VolumeMove::Stay,
        update: Default::default(),
        depends_on: vec![],
        labels: vec![],
        traffic: Default::default(),
    };
    let stack = StackSpec { name: "shop".parse().unwrap(), services: vec![web], networks: vec![] };
    Wish::Apply { stack, applied_unix_ms: Some(1) }
}

/// A device that says what an agent would, and beats until it is dropped.
struct Device {
    name: DeviceName,
    session: SessionNumber,
    client: AsyncClient,
    received: mpsc::Receiver<DownMessage>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Device {
    async fn join(hub: &Running, name: &str, machine: u128, session: u64) -> Self {
        Self::join_as(hub, name, machine, session, Arch::Amd64).await
    }

    async fn join_as(hub: &Running, name: &str, machine: u128, session: u64, arch: Arch) -> Self {
        let address = hub.handle().addresses().mqtt.unwrap();
        let mut options = MqttOptions::new(name, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(Some(16 * 1024 * 1024));
        let (client, mut events) = AsyncClient::new(options, 64);
        let (sender, received) = mpsc::channel(64);
        let reader = tokio::spawn(async move {
            // Ends at the first error: what is taken over or cut off does not come back by itself.
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Packet::Publish(publish)) = event else { continue };
                let topic: Topic = String::from_utf8_lossy(&publish.topic).parse().unwrap();
                if sender.send(decode_down(topic.channel, &publish.payload).unwrap()).await.is_err() {
                    return;
                }
            }
        });
        let (name, session) = (name.parse().unwrap(), SessionNumber(session));
        let mut device = Self { name, session, client, received, tasks: vec![reader] };
        for channel in [Channel::Want, Channel::Ask] {
            let topic = Topic::new(&device.name, channel).to_string();
            device.client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
        }
        device.say(&UpMessage::Hello(Box::new(hello(machine, session, arch)))).await;
        device.say(&status(device.session)).await;
        device.beat();
        device
    }

    async fn say(&self, message: &UpMessage) {
        let topic = Topic::new(&self.name, message.channel()).to_string();
        self.client.publish(topic, QoS::AtLeastOnce, false, encode_up(message).unwrap()).await.unwrap();
    }

    fn beat(&mut self) {
        let (client, session, topic) = (self.client.clone(), self.session, Topic::new(&self.name, Channel::Report));
        self.tasks.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            for sequence in 1.. {
                ticks.tick().await;
                let report =
                    UpMessage::Report(Report { session, sequence, statuses: 0, held: None, load: None, usage: vec![] });
                let sent = client.publish(topic.to_string(), QoS::AtMostOnce, false, encode_up(&report).unwrap()).await;
                if sent.is_err() {
                    return;
                }
            }
        }));
    }

    async fn next(&mut self) -> DownMessage {
        timeout(SOON, self.received.recv()).await.expect("nothing came").expect("the connection ended")
    }

    /// The first assignment with so many copies.
    async fn wanted(&mut self, copies: usize) -> Assignment {
        loop {
            if let DownMessage::Want(assignment) = self.next().await
                && assignment.replicas.len() == copies
            {
                return assignment;
            }
        }
    }

    async fn asked(&mut self) -> Ask {
        loop {
            match self.next().await {
                DownMessage::Ask(Ask::Hello)
                | DownMessage::Want(_)
                | DownMessage::Lease(_)
                | DownMessage::Certificate(_)
                | DownMessage::Routes(_)
                | DownMessage::Sealed(_) => (),
                DownMessage::Ask(ask) => return ask,
            }
        }
    }

    async fn answer(&self, request: RequestId, sequence: u32, body: AnswerBody) {
        self.say(&UpMessage::Answer(Answer { request, sequence, body })).await;
    }
}

fn status(session: SessionNumber) -> UpMessage {
    UpMessage::Status(Status {
        session,
        number: 1,
        held: None,
        engine: EngineState::Up,
        replicas: vec![],
        images: vec![],
    })
}

fn hello(machine: u128, session: SessionNumber, arch: Arch) -> Hello {
    let facts = facts(arch);
    Hello { boot: BootId(machine), session, machine, fleet: None, held: None, unix_ms: 0, heartbeat_ms: 500, facts }
}

/// Looks at the hub until it is so.
async fn eventually(hub: &Running, what: &str, is_so: fn(&outrigger_hub::core::HubCore) -> bool) {
    let looking = async {
        while !hub.handle().view(move |core, _| is_so(core)).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_up(core: &outrigger_hub::core::HubCore) -> bool {
    core.fleet().devices().any(|device| device.liveness == Liveness::Up)
}

/// A hub with a device that is up.
async fn hub_with_device() -> (TempDir, Running, Device) {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let pi = Device::join(&hub, "pi", 1, 1).await;
    eventually(&hub, "the device is up", is_up).await;
    (folder, hub, pi)
}

/// The same, and the device has been given a copy.
async fn hub_with_copy() -> (TempDir, Running, Device, PlacementId) {
    let (folder, hub, mut pi) = hub_with_device().await;
    hub.handle().wish(stack(1)).await.unwrap();
    let placement = pi.wanted(1).await.replicas[0].placement;
    (folder, hub, pi, placement)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_reaches_the_device_and_outlives_the_hub() {
    let (folder, hub, mut pi) = hub_with_device().await;
    hub.handle().wish(stack(2)).await.unwrap();
    let first = pi.wanted(2).await;
    drop(pi);
    hub.stop().await;

    let hub = start(config(folder.path())).await.unwrap();
    let mut pi = Device::join(&hub, "pi", 1, 2).await;
    assert_eq!(pi.wanted(2).await.replicas, first.replicas, "the same copies: nothing is restarted");
    let kinds: Vec<_> = hub.handle().events().latest(100, |_| true).iter().map(|event| event.kind.clone()).collect();
    assert!(kinds.contains(&"stack_applied".to_owned()), "events outlive the hub too: {kinds:?}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_its_store_tells_the_devices_of_its_fleet_nothing() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = start(config(old.path())).await.unwrap();
    let mut pi = Device::join(&hub, "pi", 1, 1).await;
    eventually(&hub, "the device is up", is_up).await;
    hub.handle().wish(stack(1)).await.unwrap();
    let held = pi.wanted(1).await;
    drop(pi);
    hub.stop().await;

    let hub = start(config(new.path())).await.unwrap();
    let mut pi = Device::join(&hub, "pi", 1, 2).await;
    // Until it says whose it is, it is a new device.
    pi.wanted(0).await;
    let hello = Hello { fleet: Some(held.fleet), held: Some(held.stamp), ..hello(1, pi.session, Arch::Amd64) };
    pi.say(&UpMessage::Hello(Box::new(hello))).await;
    let is_foreign = |core: &outrigger_hub::core::HubCore| core.fleet().devices().all(|one| one.foreign.is_some());
    eventually(&hub, "it is known whose the device is", is_foreign).await;
    hub.handle().wish(stack(2)).await.unwrap();
    let kinds: Vec<_> = hub.handle().events().latest(100, |_| true).iter().map(|event| event.kind.clone()).collect();
    assert!(kinds.contains(&"device_refused".to_owned()), "{kinds:?}");
    let running = hub.handle().view(|core, _| core.fleet().copies_on(&"pi".parse().unwrap()).count()).await.unwrap();
    assert_eq!(running, 0);
    hub.stop().await;

    let hub = start(config(old.path())).await.unwrap();
    let mut pi = Device::join(&hub, "pi", 1, 3).await;
    assert_eq!(pi.wanted(1).await, held, "with its store it is the same hub as before");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_was_lost_on_the_way_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let mut pi = Device::join(&hub, "pi", 1, 1).await;
    eventually(&hub, "the device is up", is_up).await;
    // From here on only what this test says.
    pi.tasks.drain(1..).for_each(|task| task.abort());
    for sequence in 100..102 {
        let report = Report { session: pi.session, sequence, statuses: 2, held: None, load: None, usage: vec![] };
        pi.say(&UpMessage::Report(report)).await;
    }
    while !matches!(pi.next().await, DownMessage::Ask(Ask::Hello)) {}
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_senseless_wish_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let refused = hub.handle().wish(Wish::RemoveStack("none".parse().unwrap())).await.unwrap_err();
    assert!(matches!(&refused, HubError::Wish(error) if error.to_string() == "there is no stack `none`"), "{refused}");
    let unknown = hub.handle().logs(logs_of(PlacementId(1))).await.unwrap_err();
    assert_eq!(unknown, LogsError::NoCopy(PlacementId(1)));
    assert_eq!(Refusal::NoStack("none".parse().unwrap()).to_string(), refused.to_string());
}

/// A registry in which every image exists for 64-bit ARM alone.
async fn arm_registry() -> String {
    use axum::http::header::CONTENT_TYPE;
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let answer = || async {
        let digest = format!("sha256:{}", "0".repeat(64));
        let manifest = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}
        });
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        ([(CONTENT_TYPE, INDEX)], index.to_string())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    address
}

/// A stack whose image exists for 64-bit ARM alone.
async fn arm_stack(replicas: u32) -> Wish {
    let Wish::Apply { mut stack, .. } = stack(replicas) else { panic!() };
    stack.services[0].container.image = format!("{}/web:1", arm_registry().await);
    Wish::Apply { stack, applied_unix_ms: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_devices_differ_a_copy_goes_where_its_image_exists() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let mut others = vec![];
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        others.push(Device::join(&hub, name, number as u128 + 10, 1).await);
    }
    let mut pi = Device::join_as(&hub, "pi", 1, 1, Arch::Arm64).await;
    eventually(&hub, "all are up", |core| core.fleet().totals().up == 4).await;
    hub.handle().wish(arm_stack(2).await).await.unwrap();
    assert_eq!(pi.wanted(2).await.replicas.len(), 2, "never on the others, not even at first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_becomes_mixed_learns_where_its_images_exist() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let mut amd = Device::join(&hub, "amd", 10, 1).await;
    eventually(&hub, "it is up", is_up).await;
    hub.handle().wish(arm_stack(1).await).await.unwrap();
    assert_eq!(amd.wanted(1).await.replicas.len(), 1, "where all are alike nobody is asked");
    let mut pi = Device::join_as(&hub, "pi", 1, 1, Arch::Arm64).await;
    assert_eq!(pi.wanted(1).await.replicas.len(), 1, "it goes where its image exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_machine_cannot_take_a_name_while_the_first_is_there() {
    let (_folder, hub, first) = hub_with_device().await;
    let _second = Device::join(&hub, "pi", 2, 1).await;
    let told = async {
        while hub.handle().events().latest(1, |event| event.kind == "name_taken").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, told).await.expect("nobody says that the name is taken");
    let session = hub.handle().view(|core, _| core.fleet().devices().next().and_then(|device| device.session)).await;
    assert_eq!(session.unwrap(), Some((BootId(1), SessionNumber(1))), "the first one's");
    drop(first);
}

fn logs_of(placement: PlacementId) -> LogsRequest {
    LogsRequest { placement, tail: None, since_unix: None, follow: true, timestamps: false }
}

fn line(text: &str) -> AnswerBody {
    AnswerBody::Logs(vec![LogChunk { stream: LogStream::Stdout, bytes: text.into() }])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_of_a_copy_flows_at_the_pace_of_its_reader_and_ends_with_it() {
    let (_folder, hub, mut pi, placement) = hub_with_copy().await;

    let mut logs = hub.handle().logs(logs_of(placement)).await.unwrap();
    let Ask::Logs(request, asked) = pi.asked().await else { panic!() };
    assert_eq!((request, asked), (logs.request(), logs_of(placement)));
    for sequence in 0..WINDOW {
        pi.answer(request, sequence, line(&sequence.to_string())).await;
    }
    // A repeated delivery changes nothing.
    pi.answer(request, 0, line("again")).await;
    for sequence in 0..WINDOW {
        let chunks = timeout(SOON, logs.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(chunks[0].bytes, sequence.to_string().into_bytes());
    }
    // More than the window may be sent only once the reader has taken something.
    let Ask::Taken(_, taken) = pi.asked().await else { panic!() };
    assert!(taken < WINDOW);
    pi.answer(request, WINDOW, line("last")).await;
    let last = timeout(SOON, logs.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(last[0].bytes, b"last");
    drop(logs);
    loop {
        match pi.asked().await {
            Ask::Cancel(cancelled) => break assert_eq!(cancelled, request),
            Ask::Taken(..) => (),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_output_is_told_and_not_papered_over() {
    let (_folder, hub, pi, placement) = hub_with_copy().await;
    let mut logs = hub.handle().logs(logs_of(placement)).await.unwrap();
    let request = logs.request();
    pi.answer(request, 1, line("second")).await;
    let told = timeout(SOON, logs.next()).await.unwrap().unwrap();
    assert!(told.unwrap_err().contains("lost on the way"));
    assert!(logs.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_hub_hands_out_its_backup_and_a_restored_one_has_a_higher_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(folder.path());
    let hub = start(settings.clone()).await.unwrap();
    hub.handle().wish(stack(3)).await.unwrap();
    settings.http_listen = hub.handle().addresses().http;
    let file = folder.path().join("backup");
    assert!(backup::backup(&settings, &file).await.unwrap() > 100);
    assert!(backup::backup(&settings, &file).await.is_err(), "a backup is never overwritten");
    hub.stop().await;

    store::restore(&settings.state_dir, &file, true).unwrap();
    let hub = start(config(folder.path())).await.unwrap();
    let (epoch, wanted) = hub
        .handle()
        .view(|core, _| (core.fleet().epoch(), core.fleet().services().next().map(|service| service.wanted)))
        .await
        .unwrap();
    assert_eq!((epoch, wanted), (Epoch(2), Some(3)));
}

#[tokio::test]
async fn a_backup_of_no_store_is_refused_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(folder.path());
    settings.state_dir = folder.path().join("elsewhere");
    let file = folder.path().join("backup");
    let error = backup::backup(&settings, &file).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no store at "), "{error}");
    assert!(!file.exists() && !settings.state_dir.exists());
}
