//! What the embedded broker lets in, keeps out, and survives. The same facts must hold for whatever broker crate is used.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_hub::broker::{Answers, Door, Embedded, Happening, Inbox, Outgoing, Totals, start_embedded};
use outrigger_protocol::{
    Assignment, Bye, ByeReason, Channel, DeviceName, DownMessage, Epoch, Generation, Report, SessionNumber, Stamp,
    Topic, UpMessage, encode_up,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

struct Broker {
    broker: Embedded,
    happenings: mpsc::Receiver<Happening>,
    outgoing: mpsc::Sender<Outgoing>,
    inbox: Inbox,
}

impl Broker {
    async fn start() -> Self {
        let (inbox, mut happenings) = Inbox::new(Answers::default());
        let (outgoing, to_broker) = mpsc::channel(64);
        let broker =
            start_embedded("127.0.0.1:0".parse().unwrap(), Door::Plain, inbox.clone(), to_broker).await.unwrap();
        assert!(matches!(happenings.recv().await, Some(Happening::Up)));
        Self { broker, happenings, outgoing, inbox }
    }

    fn totals(&self) -> Totals {
        self.inbox.counters().totals()
    }

    async fn heard(&mut self) -> (DeviceName, UpMessage) {
        match timeout(SOON, self.happenings.recv()).await.expect("nothing was heard").unwrap() {
            Happening::Heard { device, message } => (device, message),
            other => panic!("{other:?}"),
        }
    }

    async fn publish(&self, device: &str, generation: u64) {
        let message = DownMessage::Want(assignment(generation));
        self.outgoing.send(Outgoing::Send { device: name(device), message }).await.unwrap();
    }
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn assignment(generation: u64) -> Assignment {
    let stamp = Stamp { epoch: Epoch(1), generation: Generation(generation) };
    Assignment { stamp, ..Assignment::default() }
}

fn report(sequence: u32) -> UpMessage {
    UpMessage::Report(Report {
        session: SessionNumber(1),
        sequence,
        statuses: 0,
        held: None,
        load: None,
        usage: vec![],
    })
}

fn bye(session: u64, reason: ByeReason) -> UpMessage {
    UpMessage::Bye(Bye { session: SessionNumber(session), reason })
}

fn options(address: SocketAddr, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true).set_max_packet_size(Some(16 * 1024 * 1024));
    options
}

fn will_of(topic: &str, session: u64, retain: bool) -> LastWill {
    let payload = encode_up(&bye(session, ByeReason::Lost)).unwrap();
    LastWill::new(topic, payload, QoS::AtLeastOnce, retain, None)
}

/// A client with its received packets; dropped, its socket closes without a goodbye.
struct Client {
    client: AsyncClient,
    packets: mpsc::Receiver<Result<Packet, ConnectionError>>,
    task: JoinHandle<()>,
}

impl Client {
    fn dial(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 16);
        let (sender, packets) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                let packet = match events.poll().await {
                    Ok(Event::Incoming(packet)) => Ok(packet),
                    Ok(Event::Outgoing(_)) => continue,
                    Err(error) => Err(error),
                };
                let ended = packet.is_err();
                if sender.send(packet).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { client, packets, task }
    }

    async fn next(&mut self) -> Result<Packet, ConnectionError> {
        timeout(SOON, self.packets.recv()).await.expect("no packet came").expect("the client has ended")
    }

    /// Connected as a device with its proper will.
    async fn device(broker: &Broker, id: &str, session: u64) -> Self {
        let mut options = options(broker.broker.address, id);
        options.set_last_will(will_of(&format!("or/1/{id}/bye"), session, false));
        let mut client = Self::dial(options);
        assert!(matches!(client.next().await.unwrap(), Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success));
        client
    }

    async fn publish(&self, topic: &str, qos: QoS, payload: Vec<u8>) {
        self.client.publish(topic, qos, false, payload).await.unwrap();
    }

    async fn say(&self, id: &str, message: &UpMessage) {
        let topic = Topic::new(&name(id), message.channel()).to_string();
        self.publish(&topic, QoS::AtMostOnce, encode_up(message).unwrap()).await;
    }

    async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        loop {
            if let Packet::SubAck(ack) = self.next().await.unwrap() {
                return ack.return_codes[0];
            }
        }
    }

    async fn wanted(&mut self) -> u64 {
        loop {
            if let Packet::Publish(publish) = self.next().await.unwrap() {
                let message = outrigger_protocol::decode_down(Channel::Want, &publish.payload).unwrap();
                let DownMessage::Want(assignment) = message else { panic!("{message:?}") };
                return assignment.stamp.generation.0;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn refusal(options: MqttOptions) -> ConnectReturnCode {
    match Client::dial(options).next().await {
        Err(ConnectionError::ConnectionRefused(code)) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_device_is_heard_and_finds_its_assignment_whenever_it_subscribes() {
    let mut broker = Broker::start().await;
    broker.publish("pi", 7).await;
    let mut pi = Client::device(&broker, "pi", 1).await;
    pi.say("pi", &report(3)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(3)));
    assert!(matches!(pi.subscribe("or/1/pi/want").await, SubscribeReasonCode::Success(_)));
    assert_eq!(pi.wanted().await, 7);
    broker.publish("pi", 8).await;
    assert_eq!(pi.wanted().await, 8);
}

#[tokio::test]
async fn a_cleared_assignment_is_kept_no_longer() {
    let broker = Broker::start().await;
    broker.publish("pi", 7).await;
    broker.outgoing.send(Outgoing::Clear { device: name("pi") }).await.unwrap();
    broker.publish("other", 1).await;
    let mut other = Client::device(&broker, "other", 1).await;
    other.subscribe("or/1/other/want").await;
    assert_eq!(other.wanted().await, 1, "the broker has come so far");
    let mut pi = Client::device(&broker, "pi", 1).await;
    pi.subscribe("or/1/pi/want").await;
    broker.publish("pi", 9).await;
    assert_eq!(pi.wanted().await, 9);
}

#[tokio::test]
async fn a_device_publishes_only_below_its_own_name() {
    let mut broker = Broker::start().await;
    let mut pi = Client::device(&broker, "pi", 1).await;
    let payload = encode_up(&bye(1, ByeReason::Leave)).unwrap();
    for foreign in ["or/1/other/bye", "or/1/pi/want", "or/1/pi/bye/x", "somewhere"] {
        pi.publish(foreign, QoS::AtLeastOnce, payload.clone()).await;
        let Packet::PubAck(ack) = pi.next().await.unwrap() else { panic!() };
        assert_eq!(ack.reason, PubAckReason::NotAuthorized, "{foreign}");
    }
    pi.say("pi", &report(1)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(1)), "nothing else was heard");
}

#[tokio::test]
async fn a_device_subscribes_only_to_its_own_channels_by_their_exact_names() {
    let broker = Broker::start().await;
    let mut pi = Client::device(&broker, "pi", 1).await;
    for bad in ["or/1/other/want", "or/1/+/want", "or/1/pi/#", "#", "or/1/pi/hello", "$SYS/#", "$share/g/or/1/pi/want"]
    {
        let code = pi.subscribe(bad).await;
        assert!(!matches!(code, SubscribeReasonCode::Success(_)), "{bad}: {code:?}");
    }
    for channel in Channel::DOWN {
        let own = Topic::new(&name("pi"), channel).to_string();
        assert!(matches!(pi.subscribe(&own).await, SubscribeReasonCode::Success(_)), "{own}");
    }
}

#[tokio::test]
async fn who_is_no_device_or_brings_a_foreign_will_is_refused() {
    let broker = Broker::start().await;
    let address = broker.broker.address;
    for bad in ["Pi", "$hub", "a/b", "-x"] {
        assert_eq!(refusal(options(address, bad)).await, ConnectReturnCode::ClientIdentifierNotValid, "{bad}");
    }
    for (topic, retain) in [("or/1/other/bye", false), ("or/1/pi/hello", false), ("or/1/pi/bye", true)] {
        let mut options = options(address, "pi");
        options.set_last_will(will_of(topic, 1, retain));
        assert_ne!(refusal(options).await, ConnectReturnCode::Success, "{topic}");
    }
    // One of them the broker crate refuses by itself.
    assert_eq!(broker.totals().connections_refused, 6);
}

#[tokio::test]
async fn a_broken_connection_is_heard_as_a_bye_and_a_proper_goodbye_is_not() {
    let mut broker = Broker::start().await;
    drop(Client::device(&broker, "pi", 42).await);
    assert_eq!(broker.heard().await, (name("pi"), bye(42, ByeReason::Lost)));
    let polite = Client::device(&broker, "nuc", 1).await;
    polite.client.disconnect().await.unwrap();
    let mut other = Client::device(&broker, "other", 1).await;
    other.subscribe("or/1/other/want").await;
    other.say("other", &report(1)).await;
    assert_eq!(broker.heard().await.0, name("other"), "no bye of the polite one before");
}

#[tokio::test]
async fn garbage_and_oversized_payloads_are_dropped_and_the_session_goes_on() {
    let mut broker = Broker::start().await;
    let mut pi = Client::device(&broker, "pi", 1).await;
    for garbage in [vec![], vec![9, 9, 9], vec![1; 100], vec![1; 300_000]] {
        pi.publish("or/1/pi/status", QoS::AtLeastOnce, garbage).await;
        assert!(matches!(pi.next().await.unwrap(), Packet::PubAck(_)));
    }
    match timeout(SOON, broker.happenings.recv()).await.unwrap().unwrap() {
        Happening::Garbage { device, .. } => assert_eq!(device, name("pi")),
        other => panic!("{other:?}"),
    }
    pi.publish("or/1/pi/report", QoS::AtMostOnce, vec![1; 100_000]).await;
    match timeout(SOON, broker.happenings.recv()).await.unwrap().unwrap() {
        Happening::Garbage { device, .. } => assert_eq!(device, name("pi"), "another channel, another complaint"),
        other => panic!("{other:?}"),
    }
    pi.say("pi", &report(5)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(5)));
    assert_eq!(broker.totals().malformed, 5);
}

#[tokio::test]
async fn a_packet_larger_than_any_message_ends_only_its_own_connection() {
    let mut broker = Broker::start().await;
    let other = Client::device(&broker, "other", 1).await;
    let mut raw = TcpStream::connect(broker.broker.address).await.unwrap();
    // A CONNECT that promises 200 MB.
    raw.write_all(&[0x10, 0x80, 0x80, 0x80, 0x60]).await.unwrap();
    let mut rest = vec![];
    let ended = timeout(SOON, raw.read_to_end(&mut rest)).await.expect("it is still open");
    assert!(ended.is_err() || rest.len() < 64);
    other.say("other", &report(1)).await;
    assert_eq!(broker.heard().await.0, name("other"));
}

#[tokio::test]
async fn a_second_connection_of_a_name_replaces_the_first_and_their_wills_tell_them_apart() {
    let mut broker = Broker::start().await;
    broker.publish("pi", 3).await;
    let mut first = Client::device(&broker, "pi", 1).await;
    let mut second = Client::device(&broker, "pi", 2).await;
    loop {
        match first.next().await {
            Err(_) | Ok(Packet::Disconnect(_)) => break,
            Ok(_) => (),
        }
    }
    second.subscribe("or/1/pi/want").await;
    assert_eq!(second.wanted().await, 3);
    drop(second);
    loop {
        // The first one's will may come too, with its own old number.
        let (_, message) = broker.heard().await;
        if message == bye(2, ByeReason::Lost) {
            break;
        }
        assert_eq!(message, bye(1, ByeReason::Lost));
    }
}

#[tokio::test]
async fn a_machine_elsewhere_cannot_push_a_living_device_off_its_name() {
    let mut broker = Broker::start().await;
    let pi = Client::device(&broker, "pi", 1).await;
    pi.say("pi", &report(1)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(1)));
    // All of 127.0.0.0/8 is this machine.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut clone = socket.connect(broker.broker.address).await.unwrap();
    clone.write_all(&plain_connect("pi")).await.unwrap();
    let mut ack = [0; 4];
    clone.read_exact(&mut ack).await.unwrap();
    assert_ne!(ack[3], 0, "it was let in");
    match timeout(SOON, broker.happenings.recv()).await.unwrap().unwrap() {
        Happening::NameTaken { device, by } => {
            assert_eq!((device, by.to_string()), (name("pi"), "127.0.0.2".to_owned()));
        }
        other => panic!("{other:?}"),
    }
    pi.say("pi", &report(2)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(2)), "the first one goes on");
}

#[tokio::test]
async fn sockets_that_say_nothing_keep_nobody_out_and_are_closed() {
    let mut broker = Broker::start().await;
    let mut silent = vec![];
    for _ in 0..300 {
        silent.push(TcpStream::connect(broker.broker.address).await.unwrap());
    }
    let pi = Client::device(&broker, "pi", 1).await;
    pi.say("pi", &report(1)).await;
    assert_eq!(broker.heard().await, (name("pi"), report(1)));
    let mut byte = [0];
    let closed = timeout(Duration::from_secs(20), silent[0].read(&mut byte)).await.expect("it is still open");
    assert!(matches!(closed, Ok(0) | Err(_)));
}

#[tokio::test]
async fn many_devices_connect_at_once() {
    const DEVICES: usize = 400;
    let mut broker = Broker::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..DEVICES {
        let address = broker.broker.address;
        tasks.spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(&plain_connect(&format!("d{number}"))).await.unwrap();
            let mut ack = [0; 4];
            socket.read_exact(&mut ack).await.unwrap();
            assert_eq!(ack, [0x20, 2, 0, 0]);
            socket
        });
    }
    let mut sockets = vec![];
    while let Some(socket) = timeout(SOON, tasks.join_next()).await.unwrap() {
        sockets.push(socket.unwrap());
    }
    assert_eq!(sockets.len(), DEVICES);
    let pi = Client::device(&broker, "pi", 1).await;
    pi.say("pi", &report(1)).await;
    assert_eq!(broker.heard().await.0, name("pi"));
}

/// An MQTT 3.1.1 CONNECT with a clean session and a keep-alive of 60 s.
fn plain_connect(id: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, u8::try_from(id.len()).unwrap()];
    body.extend(id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

#[tokio::test]
async fn a_device_that_does_not_read_delays_no_other() {
    let broker = Broker::start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(broker.broker.address).await.unwrap();
    stuck.write_all(&plain_connect("stuck")).await.unwrap();
    let subscribe = b"\x82\x14\x00\x01\x00\x0for/1/stuck/want\x01";
    stuck.write_all(subscribe).await.unwrap();
    let mut acks = [0; 9];
    stuck.read_exact(&mut acks).await.unwrap();
    let mut pi = Client::device(&broker, "pi", 1).await;
    pi.subscribe("or/1/pi/want").await;
    let mut large = assignment(1);
    large.specs = vec![outrigger_protocol::ContainerSpec { image: "x".repeat(500_000), ..Default::default() }];
    let sent = async {
        for _ in 0..100 {
            let message = DownMessage::Want(large.clone());
            broker.outgoing.send(Outgoing::Send { device: name("stuck"), message }).await.unwrap();
        }
        broker.publish("pi", 5).await;
        pi.wanted().await
    };
    assert_eq!(timeout(SOON, sent).await.expect("the slow one holds the others up"), 5);
}
