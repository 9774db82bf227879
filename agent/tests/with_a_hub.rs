//! The whole agent, with the engine in memory and a hub behind real TCP.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod fake_hub;
#[path = "with_a_hub/secrets.rs"]
mod secrets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fake_hub::{DEADLINE, FakeHub, Heard};
use outrigger_agent::config::{Config, EngineChoice, HubAddress, ImageLimits};
use outrigger_agent::engine::memory::{Behaviour, MemoryEngine};
use outrigger_protocol::{
    Answer, AnswerBody, Ask, Assigned, Assignment, ByeReason, ContainerSpec, DownMessage, EngineState, Epoch, FleetId,
    Generation, Goal, LogStream, LogsRequest, LossPolicy, Observed, Phase, PlacementId, RequestId, SessionNumber,
    Stamp, Status, UpMessage, WINDOW,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const REQUEST: RequestId = RequestId(7);

struct Device {
    config: Config,
    engine: MemoryEngine,
    running: Option<(oneshot::Sender<ByeReason>, JoinHandle<()>)>,
    _folder: TempDir,
    memory: TempDir,
}

impl Device {
    fn new(hub: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let config = Config {
            device: "pi".parse().unwrap(),
            hub: Some(HubAddress { host: hub.ip().to_string(), port: hub.port() }),
            insecure_local: true,
            scope: "pi".into(),
            state_dir: folder.path().to_owned(),
            runtime_dir: memory.path().to_owned(),
            engine: EngineChoice::Memory,
            policy: "/nowhere/policy.toml".into(),
            heartbeat: Duration::from_millis(200),
            images: Some(ImageLimits::default()),
            network_pool: Default::default(),
            network_port: 0,
            proxy_socket: None,
            labels: vec![],
            generic: vec![],
        };
        Self { config, engine: MemoryEngine::new(Behaviour::default()), running: None, _folder: folder, memory }
    }

    fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (config, engine) = (self.config.clone(), self.engine.clone());
        let task = tokio::spawn(async move {
            outrigger_agent::run::run(config, Arc::default(), engine, async { stopped.await.unwrap() }).await.unwrap();
        });
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.send(ByeReason::Restart).unwrap();
        timeout(DEADLINE, task).await.unwrap().unwrap();
    }

    /// As kill -9 does: nothing is said or saved any more.
    async fn kill(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
        drop(stop);
    }

    async fn eventually(&self, what: &str, is: impl Fn(&MemoryEngine) -> bool) {
        let wait = async {
            while !is(&self.engine) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

const FLEET: FleetId = FleetId(0xf1ee7);

fn want(generation: u64, placements: &[u64]) -> DownMessage {
    let spec = ContainerSpec { image: "web:1".into(), ..ContainerSpec::default() };
    let one = |&placement: &u64| Assigned {
        placement: PlacementId(placement),
        replica: format!("shop/web.{placement}").parse().unwrap(),
        spec: 0,
        goal: Goal::Run,
        loss: LossPolicy::Available,
    };
    let stamp = Stamp { epoch: Epoch(1), generation: Generation(generation) };
    DownMessage::Want(Assignment {
        fleet: FLEET,
        stamp,
        specs: vec![spec],
        replicas: placements.iter().map(one).collect(),
        networks: vec![],
    })
}

fn status(message: UpMessage) -> Option<Status> {
    if let UpMessage::Status(status) = message { Some(status) } else { None }
}

fn running(engine: &MemoryEngine) -> Vec<u64> {
    let containers = engine.containers();
    containers.iter().filter(|one| one.state.is_running()).map(|one| one.placement.0).collect()
}

async fn until_running(hub: &mut FakeHub, placements: &[u64]) -> Status {
    let ids = |replicas: &[Observed]| replicas.iter().map(|one| one.placement.0).collect::<Vec<_>>();
    hub.message("status with all running", |message| {
        status(message).filter(|status| {
            ids(&status.replicas) == placements && status.replicas.iter().all(|one| one.phase == Phase::Running)
        })
    })
    .await
}

async fn session_of_hello(hub: &mut FakeHub) -> SessionNumber {
    hub.message("hello", |message| if let UpMessage::Hello(hello) = message { Some(hello.session) } else { None }).await
}

/// A device that runs what its hub wants.
async fn device_that_runs(generation: u64, placements: &[u64]) -> (FakeHub, Device) {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    device.start();
    hub.send(&device.config.device, &want(generation, placements));
    until_running(&mut hub, placements).await;
    (hub, device)
}

#[tokio::test]
async fn a_device_says_hello_runs_what_is_wanted_and_tells() {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    device.start();
    let Heard::Connected(will) = hub.next().await else { panic!() };
    assert_eq!(will.reason, ByeReason::Lost);
    assert_eq!(
        hub.next().await,
        Heard::Subscribed(
            ["want", "routes", "lease", "ask", "certificate", "sealed"]
                .map(|channel| format!("or/1/pi/{channel}"))
                .into()
        )
    );
    let Heard::Message(UpMessage::Hello(hello)) = hub.next().await else { panic!() };
    assert_eq!((hello.session, hello.held, hello.heartbeat_ms), (will.session, None, 200));
    assert!(hello.facts.engine.is_some());
    // How the service network does is told besides, before or after it.
    let message = |heard| if let Heard::Message(message) = heard { status(message) } else { None };
    let first = hub.wait_for("the first status", message).await;
    assert_eq!((first.session, first.replicas.len()), (will.session, 0));
    hub.send(&device.config.device, &want(1, &[1, 2]));
    let status = until_running(&mut hub, &[1, 2]).await;
    assert_eq!(status.engine, EngineState::Up);
    assert_eq!(status.images, ["web:1"]);
    assert_eq!(running(&device.engine), [1, 2]);
    let report = hub.message("report", |m| if let UpMessage::Report(report) = m { Some(report) } else { None }).await;
    assert_eq!(report.session, will.session);
    device.stop().await;
    let reason = hub.message("bye", |m| if let UpMessage::Bye(bye) = m { Some(bye.reason) } else { None }).await;
    assert_eq!(reason, ByeReason::Restart);
    assert_eq!(hub.next().await, Heard::Disconnected);
    assert_eq!(running(&device.engine), [1, 2], "containers go on");
}

#[tokio::test]
async fn an_agent_that_is_killed_or_upgraded_adopts_its_containers() {
    let (mut hub, mut device) = device_that_runs(1, &[1, 2]).await;
    let before = device.engine.starts_and_stops();
    device.kill().await;
    device.start();
    until_running(&mut hub, &[1, 2]).await;
    device.stop().await;
    device.start();
    until_running(&mut hub, &[1, 2]).await;
    assert_eq!(device.engine.starts_and_stops(), before);
}

#[tokio::test]
async fn each_connection_is_a_new_session_that_subscribes_and_tells_everything_again() {
    let (mut hub, device) = device_that_runs(1, &[1]).await;
    let before = device.engine.starts_and_stops();
    let mut last = SessionNumber(0);
    for _ in 0..3 {
        hub.drop_connection();
        let will =
            hub.wait_for("will", |heard| if let Heard::Connected(will) = heard { Some(will) } else { None }).await;
        assert!(matches!(hub.next().await, Heard::Subscribed(topics) if topics.len() == 6));
        let session = session_of_hello(&mut hub).await;
        assert!(session > last && session == will.session);
        let status = until_running(&mut hub, &[1]).await;
        assert_eq!((status.session, status.held.unwrap().generation), (session, Generation(1)));
        last = session;
    }
    assert_eq!(device.engine.starts_and_stops(), before, "a broken connection stops and starts nothing");
}

#[tokio::test]
async fn a_device_that_boots_without_its_hub_starts_what_it_holds() {
    let (hub, mut device) = device_that_runs(1, &[1]).await;
    device.kill().await;
    drop(hub);
    device.engine.cut_power();
    device.config.hub = Some(HubAddress { host: "127.0.0.1".into(), port: 1 });
    device.start();
    device.eventually("it runs again", |engine| running(engine) == [1]).await;
}

#[tokio::test]
async fn garbage_and_older_assignments_are_dropped_and_the_session_goes_on() {
    let (mut hub, device) = device_that_runs(5, &[1]).await;
    for bytes in [vec![], vec![9, 9], vec![1, 0, 255, 255], vec![0; 5_000_000]] {
        hub.send_bytes("or/1/pi/want".into(), bytes);
    }
    hub.send(&device.config.device, &want(4, &[2, 3]));
    hub.send(&device.config.device, &want(6, &[1, 4]));
    let mut is_broken = false;
    hub.wait_for("status of generation 6", |heard| {
        is_broken |= heard == Heard::Broken;
        let Heard::Message(UpMessage::Status(status)) = heard else { return None };
        (status.replicas.len() == 2 && status.replicas.iter().all(|one| one.phase == Phase::Running)).then_some(())
    })
    .await;
    assert_eq!((running(&device.engine), is_broken), (vec![1, 4], false));
}

#[tokio::test]
async fn a_container_that_is_killed_is_back() {
    let (_hub, device) = device_that_runs(1, &[1]).await;
    assert!(device.engine.exit(PlacementId(1), 137));
    device.eventually("it runs again", |engine| running(engine) == [1]).await;
}

#[tokio::test]
async fn an_engine_that_restarts_is_reported_and_nothing_else_happens() {
    let (mut hub, device) = device_that_runs(1, &[1, 2]).await;
    let before = device.engine.starts_and_stops();
    device.engine.go_down("connection refused");
    let down = |message| status(message).filter(|status| matches!(&status.engine, EngineState::Down(_)));
    let status = hub.message("engine down", down).await;
    assert_eq!(status.replicas.len(), 2);
    device.engine.come_back();
    hub.message("engine up", |m| status_with(m, EngineState::Up)).await;
    assert_eq!((device.engine.starts_and_stops(), running(&device.engine)), (before, vec![1, 2]));
}

fn status_with(message: UpMessage, engine: EngineState) -> Option<Status> {
    status(message).filter(|status| status.engine == engine)
}

#[tokio::test]
async fn what_the_agent_has_pulled_is_known_to_the_next_one_and_what_was_there_is_not_its_own() {
    let mut hub = FakeHub::start().await;
    let mut device = Device::new(hub.address);
    device.engine.add_image("web:1");
    device.start();
    hub.send(&device.config.device, &want(1, &[1]));
    until_running(&mut hub, &[1]).await;
    let file = device.config.state_dir.join("images");
    assert!(!file.exists(), "nothing was pulled");

    let (_hub, device) = device_that_runs(1, &[1]).await;
    let file = device.config.state_dir.join("images");
    let is_pulled = |text: String| text.starts_with("sha256:") && text.ends_with(" web:1\n");
    device.eventually("it is written", |_| std::fs::read_to_string(&file).is_ok_and(is_pulled)).await;
}

#[tokio::test]
async fn a_hub_that_has_lost_its_store_stops_nothing_and_hears_whose_the_device_is() {
    let (mut stranger, device) = device_that_runs(7, &[1, 2]).await;
    let before = device.engine.starts_and_stops();
    // From here on what answers is another hub.
    stranger.drop_connection();
    stranger.wait_for("the end of the connection", |heard| matches!(heard, Heard::Broken).then_some(())).await;
    session_of_hello(&mut stranger).await;
    let DownMessage::Want(nothing) = want(99, &[]) else { panic!("no want") };
    let nothing = DownMessage::Want(Assignment { fleet: FleetId(1), ..nothing });
    stranger.send(&device.config.device, &nothing);
    let hello = |message| if let UpMessage::Hello(hello) = message { Some(hello.fleet) } else { None };
    assert_eq!(stranger.message("a second hello, for the refusal", hello).await, Some(FLEET));
    stranger.send(&device.config.device, &nothing);
    let report = |message| if let UpMessage::Report(report) = message { Some(report) } else { None };
    let statuses = stranger.message("report", report).await.statuses;
    assert!(statuses >= 1, "each heartbeat names the newest status");
    for _ in 0..5 {
        assert_eq!(stranger.message("report", report).await.held.map(|held| held.generation), Some(Generation(7)));
    }
    assert_eq!(device.engine.starts_and_stops(), before);
    assert_eq!(running(&device.engine), [1, 2]);
}

#[tokio::test]
async fn output_goes_no_faster_than_its_reader() {
    let (mut hub, device) = device_that_runs(1, &[1]).await;
    let written = 1024 * 1024;
    for _ in 0..64 {
        device.engine.write(PlacementId(1), LogStream::Stdout, &vec![b'x'; written / 64]);
    }
    let wish =
        LogsRequest { placement: PlacementId(1), tail: None, since_unix: None, follow: false, timestamps: false };
    hub.send(&device.config.device, &DownMessage::Ask(Ask::Logs(REQUEST, wish)));
    for sequence in 0..WINDOW {
        assert_eq!(answer(&mut hub).await.sequence, sequence);
    }
    // Nothing more comes until something is taken; what comes then is the next part, and not two.
    let (mut is_more, mut beats) = (false, 0);
    hub.message("two heartbeats", |message| {
        is_more |= matches!(message, UpMessage::Answer(_));
        beats += u8::from(matches!(message, UpMessage::Report(_)));
        (beats == 2).then_some(())
    })
    .await;
    assert!(!is_more);
    let mut read = WINDOW as usize * 2048;
    let mut sequence = WINDOW;
    loop {
        hub.send(&device.config.device, &DownMessage::Ask(Ask::Taken(REQUEST, sequence - 1)));
        let answer = answer(&mut hub).await;
        assert_eq!(answer.sequence, sequence);
        sequence += 1;
        match answer.body {
            AnswerBody::Logs(chunks) => read += chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(),
            AnswerBody::End => break,
            AnswerBody::Error(reason) => panic!("{reason}"),
        }
    }
    assert_eq!(read, written);
}

async fn answer(hub: &mut FakeHub) -> Answer {
    hub.message("answer", |message| if let UpMessage::Answer(answer) = message { Some(answer) } else { None }).await
}

/// Bytes of a heartbeat that has no news, as an MQTT packet: a device that is idle sends one each second, with 22 bytes of
/// TLS and 66 of TCP, IP and Ethernet around it. With 32 for keeping the connection alive it stays within 150.
const MOST_OF_A_HEARTBEAT: usize = 26;

/// So many reports that one without load is among them, and where the hub has named an assignment and a status.
const REPORTS: usize = 5;

async fn until_reports(hub: &mut FakeHub, count: usize) {
    let mut more = count.saturating_sub(hub.reports().len());
    while more > 0 {
        hub.message("report", |message| matches!(message, UpMessage::Report(_)).then_some(())).await;
        more = count.saturating_sub(hub.reports().len());
    }
}

#[tokio::test]
async fn a_heartbeat_says_its_topic_once_per_connection_and_is_small() {
    let mut hub = FakeHub::start_offering(1).await;
    let mut device = Device::new(hub.address);
    device.config.device = "a-device-with-a-long-name-such-as-people-give-to-their-devices".parse().unwrap();
    device.start();
    hub.send(&device.config.device, &want(1_000, &[1]));
    until_running(&mut hub, &[1]).await;
    let topic = format!("or/1/{}/report", device.config.device);
    until_reports(&mut hub, REPORTS).await;
    hub.drop_connection();
    let before = hub.reports().len();
    hub.wait_for("connection", |heard| matches!(heard, Heard::Connected(_)).then_some(())).await;
    until_reports(&mut hub, before + REPORTS).await;
    let reports = hub.reports();
    let in_full = reports.iter().filter(|report| report.topic == topic).count();
    assert_eq!(in_full, 2, "once on each connection: {reports:?}");
    assert!(reports.iter().all(|report| report.topic == topic || report.topic.is_empty()), "{reports:?}");
    let least = reports.iter().map(|report| report.bytes).min().unwrap();
    assert!(least <= MOST_OF_A_HEARTBEAT, "{least} bytes: {reports:?}");
}

#[tokio::test]
async fn a_broker_that_knows_no_short_topics_hears_them_in_full() {
    for offered in [None, Some(0)] {
        let mut hub = match offered {
            None => FakeHub::start().await,
            Some(aliases) => FakeHub::start_offering(aliases).await,
        };
        let mut device = Device::new(hub.address);
        device.start();
        until_reports(&mut hub, REPORTS).await;
        assert!(hub.reports().iter().all(|report| report.topic == "or/1/pi/report"), "{:?}", hub.reports());
        device.stop().await;
    }
}
