//! A device that does at once whatever it is told, without any container.

#[path = "../facts/mod.rs"]
mod facts;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use facts::facts;
use outrigger_protocol::{
    Answer, AnswerBody, Arch, Ask, Assignment, BootId, Bye, ByeReason, Channel, ContainerSpec, DeviceName, DownMessage,
    EngineState, Facts, Goal, Hello, Load, LogChunk, LogStream, MeshStatus, Observed, Permille, Phase, PortProtocol,
    PublishMode, Report, RequestId, Routes, SessionNumber, Status, TakenPort, Throttling, Topic, UpMessage,
    decode_down, encode_up,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill};
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use tokio::task::JoinHandle;

const SESSION: SessionNumber = SessionNumber(1000);
const HEARTBEAT: Duration = Duration::from_millis(500);

/// What the test looks at.
#[derive(Debug, Default)]
struct Seen {
    assignment: Option<Assignment>,
    cancelled: Vec<RequestId>,
    following: Vec<RequestId>,
    routes: Option<Routes>,
    taken: Vec<TakenPort>,
}

pub struct Device {
    task: JoinHandle<()>,
    client: AsyncClient,
    name: DeviceName,
    seen: Arc<Mutex<Seen>>,
}

impl Device {
    pub fn connect(name: &str, broker: SocketAddr) -> Self {
        let name: DeviceName = name.parse().unwrap();
        let mut options = MqttOptions::new(name.to_string(), broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30)).set_clean_start(true);
        options.set_last_will(LastWill::new(
            Topic::new(&name, Channel::Bye).to_string(),
            encode_up(&UpMessage::Bye(Bye { session: SESSION, reason: ByeReason::Lost })).unwrap(),
            QoS::AtLeastOnce,
            false,
            None,
        ));
        let (client, mut events) = AsyncClient::new(options, 256);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let inside = Inside { name: name.clone(), client: client.clone(), seen: Arc::clone(&seen) };
        let task = tokio::spawn(async move {
            // Not in the loop: a poll that is cancelled while it connects begins again, and the connection that it leaves
            // behind takes its place as a second one of the same number.
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => inside.greet(),
                Ok(_) | Err(_) => return,
            }
            let mut heartbeat = tokio::time::interval(HEARTBEAT);
            let mut sequence = 0;
            loop {
                tokio::select! {
                    event = events.poll() => match event {
                        Ok(Event::Incoming(Incoming::Publish(publish))) => {
                            let topic: Topic = std::str::from_utf8(&publish.topic).unwrap().parse().unwrap();
                            if !publish.payload.is_empty() {
                                inside.told(decode_down(topic.channel, &publish.payload).unwrap());
                            }
                        }
                        Ok(_) => (),
                        Err(_) => return,
                    },
                    _ = heartbeat.tick() => {
                        sequence += 1;
                        let report = Report { session: SESSION, sequence, statuses: 0, held: None, load: Some(load()), usage: vec![] };
                        inside.say(&UpMessage::Report(report));
                    }
                }
            }
        });
        Self { task, client, name, seen }
    }

    /// The images that it is to run, one for each replica.
    /// A published port is taken by something else there.
    pub fn has_port_taken(&self, port: u16) {
        let taken = TakenPort { port, protocol: PortProtocol::Tcp, reason: "Address in use".into() };
        self.seen.lock().unwrap().taken.push(taken);
        say_mesh(&self.client, &self.name, &self.seen);
    }

    pub fn images(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let Some(assignment) = &seen.assignment else { return vec![] };
        let running = assignment.replicas.iter().filter(|assigned| assigned.goal == Goal::Run);
        running.map(|assigned| assignment.spec_of(assigned).unwrap().image.clone()).collect()
    }

    /// Questions that nobody waits for any more, as the hub said.
    pub fn cancelled(&self) -> usize {
        self.seen.lock().unwrap().cancelled.len()
    }

    /// Writes a line into every output that is followed.
    pub fn write(&self, sequence: u32, text: &str) {
        let seen = self.seen.lock().unwrap();
        for request in &seen.following {
            let chunk = LogChunk { stream: LogStream::Stderr, bytes: text.as_bytes().to_vec() };
            let answer = Answer { request: *request, sequence, body: AnswerBody::Logs(vec![chunk]) };
            publish(&self.client, &self.name, &UpMessage::Answer(answer));
        }
    }

    pub fn is_followed(&self) -> bool {
        !self.seen.lock().unwrap().following.is_empty()
    }

    /// Its power is cut.
    pub fn cut(self) {
        self.task.abort();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Inside {
    name: DeviceName,
    client: AsyncClient,
    seen: Arc<Mutex<Seen>>,
}

fn publish(client: &AsyncClient, device: &DeviceName, message: &UpMessage) {
    let topic = Topic::new(device, message.channel()).to_string();
    client.try_publish(topic, QoS::AtLeastOnce, false, encode_up(message).unwrap()).unwrap();
}

/// How the service network does: the newest routes are held.
fn say_mesh(client: &AsyncClient, device: &DeviceName, seen: &Mutex<Seen>) {
    let seen = seen.lock().unwrap();
    let held = seen.routes.as_ref().map(|routes| routes.number);
    let status = MeshStatus { session: SESSION, held, taken: seen.taken.clone(), ..MeshStatus::default() };
    publish(client, device, &UpMessage::Mesh(status));
}

/// Ports that an engine would open.
fn opened(spec: &ContainerSpec) -> Vec<(u16, u16, PortProtocol)> {
    let host = spec.ports.iter().filter(|port| port.mode == PublishMode::Host);
    host.filter_map(|port| Some((port.container, port.host?, port.protocol))).collect()
}

impl Inside {
    /// `192.0.2.3` for `pi-3`.
    fn address(&self) -> IpAddr {
        let number = self.name.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(200);
        IpAddr::from([192, 0, 2, number])
    }

    fn say(&self, message: &UpMessage) {
        publish(&self.client, &self.name, message);
    }

    fn greet(&self) {
        let filters =
            Channel::DOWN.map(|channel| Filter::new(Topic::new(&self.name, channel).to_string(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).unwrap();
        self.introduce();
    }

    fn introduce(&self) {
        self.say(&UpMessage::Hello(Box::new(Hello {
            boot: BootId(7),
            session: SESSION,
            machine: u128::from(self.name.as_str().bytes().map(u32::from).sum::<u32>()),
            fleet: None,
            held: None,
            unix_ms: 0,
            heartbeat_ms: 500,
            facts: Facts { mesh_port: Some(7946), address: Some(self.address()), ..facts(Arch::Arm64) },
        })));
        self.report_status();
    }

    fn told(&self, message: DownMessage) {
        match message {
            DownMessage::Want(assignment) => {
                self.seen.lock().unwrap().assignment = Some(assignment);
                self.report_status();
            }
            DownMessage::Ask(Ask::Hello) => self.introduce(),
            DownMessage::Ask(Ask::Logs(request, asked)) => self.answer(request, asked.follow),
            DownMessage::Ask(Ask::Cancel(request)) => self.seen.lock().unwrap().cancelled.push(request),
            DownMessage::Ask(Ask::Taken(..) | Ask::Renew)
            | DownMessage::Lease(_)
            | DownMessage::Certificate(_)
            | DownMessage::Sealed(_) => (),
            DownMessage::Routes(routes) => {
                self.seen.lock().unwrap().routes = Some(routes);
                say_mesh(&self.client, &self.name, &self.seen);
            }
        }
    }

    fn answer(&self, request: RequestId, follow: bool) {
        let chunk = |stream, bytes: &[u8]| LogChunk { stream, bytes: bytes.to_vec() };
        let chunks = vec![
            chunk(LogStream::Stdout, b"first\nsec"),
            chunk(LogStream::Stderr, b"oops\n"),
            chunk(LogStream::Stdout, b"ond\n"),
        ];
        self.say(&UpMessage::Answer(Answer { request, sequence: 0, body: AnswerBody::Logs(chunks) }));
        if follow {
            self.seen.lock().unwrap().following.push(request);
        } else {
            self.say(&UpMessage::Answer(Answer { request, sequence: 1, body: AnswerBody::End }));
        }
    }

    fn report_status(&self) {
        let seen = self.seen.lock().unwrap();
        let held = seen.assignment.as_ref();
        let replicas = held.iter().flat_map(|held| &held.replicas).map(|assigned| Observed {
            placement: assigned.placement,
            replica: assigned.replica.clone(),
            phase: match assigned.goal {
                Goal::Run => Phase::Running,
                Goal::Prepare => Phase::Prepared,
            },
            restarts: 0,
            since_s: 0,
            last_exit: None,
            container: "0123456789ab".into(),
            digest: String::new(),
            ports: held.and_then(|held| held.spec_of(assigned)).map(opened).unwrap_or_default(),
        });
        let status = Status {
            session: SESSION,
            number: 1,
            held: held.map(|held| held.stamp),
            engine: EngineState::Up,
            replicas: replicas.collect(),
            images: vec![],
        };
        self.say(&UpMessage::Status(status));
    }
}

fn load() -> Load {
    Load {
        cpu: Permille::new(250),
        memory: Permille::new(500),
        temperature: Some(481),
        throttling: Throttling::default(),
        ..Load::default()
    }
}
