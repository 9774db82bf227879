//! A hub with its broker as one agent sees them: accepts its connection, confirms what must be confirmed, hands on what it
//! says, and sends what a test wants. Speaks real MQTT over real TCP.

#![allow(dead_code)] // each of the tests that share this uses a part of it

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use outrigger_protocol::{Bye, Channel, DeviceName, DownMessage, Topic, UpMessage, decode_up, encode_down};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Longest wait of a test for anything.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What the agent did.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It showed this certificate.
    Shown(Option<Vec<u8>>),
    /// It connected, with this will.
    Connected(Bye),
    /// It subscribed to these.
    Subscribed(Vec<String>),
    /// It said something.
    Message(UpMessage),
    /// It disconnected in good order.
    Disconnected,
    /// Its connection broke.
    Broken,
}

/// One report as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnTheWire {
    /// Empty where a number stood for it.
    pub topic: String,
    /// All bytes of the packet.
    pub bytes: usize,
}

/// How this broker deals with short forms of topics.
#[derive(Debug, Clone, Default)]
struct Aliases {
    offered: Option<u16>,
    reports: Arc<Mutex<Vec<OnTheWire>>>,
}

enum Order {
    Publish(String, Vec<u8>),
    Drop,
}

/// The hub.
pub struct FakeHub {
    pub address: SocketAddr,
    heard: mpsc::UnboundedReceiver<Heard>,
    orders: mpsc::UnboundedSender<Order>,
    reports: Arc<Mutex<Vec<OnTheWire>>>,
}

impl FakeHub {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, Aliases::default()).await
    }

    /// One whose broker knows so many short forms of topics.
    pub async fn start_offering(aliases: u16) -> Self {
        let aliases = Aliases { offered: Some(aliases), ..Aliases::default() };
        Self::start_with("127.0.0.1:0".parse().unwrap(), aliases).await
    }

    async fn start_with(address: SocketAddr, aliases: Aliases) -> Self {
        let reports = Arc::clone(&aliases.reports);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard_by, heard) = mpsc::unbounded_channel();
        let (orders, mut inbox) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let ended = serve(socket, &aliases, &heard_by, &mut inbox).await;
                if ended.is_none() && heard_by.send(Heard::Broken).is_err() {
                    return;
                }
            }
        });
        Self { address, heard, orders, reports }
    }

    /// The same behind TLS.
    pub async fn start_tls(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard_by, heard) = mpsc::unbounded_channel();
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let aliases = Aliases::default();
        let reports = Arc::clone(&aliases.reports);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(socket) = acceptor.accept(socket).await else { continue };
                let chain = socket.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                let is_heard = heard_by.send(Heard::Shown(chain.first().map(|leaf| leaf.as_ref().to_vec()))).is_ok();
                let ended = serve(socket, &aliases, &heard_by, &mut inbox).await;
                if ended.is_none() && heard_by.send(Heard::Broken).is_err() || !is_heard {
                    return;
                }
            }
        });
        Self { address, heard, orders, reports }
    }

    /// The next thing that the agent does.
    pub async fn next(&mut self) -> Heard {
        timeout(DEADLINE, self.heard.recv()).await.expect("the agent does something").unwrap()
    }

    /// The next thing that the agent does, however long it takes.
    pub async fn next_or_nothing(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Waits for what `pick` picks; skips the rest.
    pub async fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Heard) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = pick(self.heard.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    pub async fn message<T>(&mut self, what: &str, mut pick: impl FnMut(UpMessage) -> Option<T>) -> T {
        self.wait_for(what, |heard| if let Heard::Message(message) = heard { pick(message) } else { None }).await
    }

    pub fn send(&self, device: &DeviceName, message: &DownMessage) {
        let topic = Topic::new(device, message.channel()).to_string();
        self.send_bytes(topic, encode_down(message).unwrap());
    }

    pub fn send_bytes(&self, topic: String, bytes: Vec<u8>) {
        assert!(self.orders.send(Order::Publish(topic, bytes)).is_ok());
    }

    /// The reports so far.
    pub fn reports(&self) -> Vec<OnTheWire> {
        self.reports.lock().unwrap().clone()
    }

    /// Cuts the connection.
    pub fn drop_connection(&self) {
        assert!(self.orders.send(Order::Drop).is_ok());
    }
}

/// Serves one connection; none if it broke.
async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    aliases: &Aliases,
    heard: &mpsc::UnboundedSender<Heard>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<()> {
    let mut buffer = BytesMut::new();
    let mut is_subscribed = false;
    let mut known = BTreeMap::new();
    loop {
        tokio::select! {
            read = socket.read_buf(&mut buffer) => if read.ok()? == 0 { return None },
            // As a broker does with what is retained: it is delivered once there is a subscription.
            order = orders.recv(), if is_subscribed => match order? {
                Order::Drop => return None,
                Order::Publish(topic, bytes) => {
                    let mut publish = Publish::new(topic, QoS::AtLeastOnce, bytes, None);
                    publish.pkid = 1;
                    write(&mut socket, Packet::Publish(publish)).await?;
                }
            },
        }
        loop {
            let before = buffer.len();
            match Packet::read(&mut buffer, None) {
                Ok(Packet::Disconnect(_)) => {
                    heard.send(Heard::Disconnected).ok()?;
                    return Some(());
                }
                Ok(packet) => {
                    is_subscribed |= matches!(packet, Packet::Subscribe(_));
                    let packet = in_full(packet, before - buffer.len(), &mut known, aliases);
                    answer(&mut socket, packet, aliases.offered, heard).await?;
                }
                Err(Error::InsufficientBytes(_)) => break,
                // The crate writes a plain disconnect that it cannot read itself.
                Err(Error::PayloadRequired) => {
                    heard.send(Heard::Disconnected).ok()?;
                    return Some(());
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// As a broker does: what has a number in place of a topic gets its topic.
fn in_full(packet: Packet, bytes: usize, known: &mut BTreeMap<u16, Bytes>, aliases: &Aliases) -> Packet {
    let Packet::Publish(mut publish) = packet else { return packet };
    let said = String::from_utf8(publish.topic.to_vec()).unwrap();
    if let Some(number) = publish.properties.as_ref().and_then(|properties| properties.topic_alias) {
        assert!((1..=aliases.offered.unwrap_or(0)).contains(&number), "a number that was not offered: {number}");
        if said.is_empty() {
            publish.topic = known.get(&number).expect("the number means something").clone();
        } else {
            known.insert(number, publish.topic.clone());
        }
    }
    if publish.topic.ends_with(b"/report") {
        aliases.reports.lock().unwrap().push(OnTheWire { topic: said, bytes });
    }
    Packet::Publish(publish)
}

async fn answer(
    socket: &mut (impl AsyncWrite + Unpin),
    packet: Packet,
    aliases: Option<u16>,
    heard: &mpsc::UnboundedSender<Heard>,
) -> Option<()> {
    match packet {
        Packet::Connect(_, will, _) => {
            let will = decode_up(Channel::Bye, &will.unwrap().message).unwrap();
            let UpMessage::Bye(bye) = will else { panic!("{will:?}") };
            heard.send(Heard::Connected(bye)).ok()?;
            let properties = aliases.map(knowing);
            let ack = ConnAck { session_present: false, code: ConnectReturnCode::Success, properties };
            write(socket, Packet::ConnAck(ack)).await
        }
        Packet::Subscribe(subscribe) => {
            let topics = subscribe.filters.iter().map(|filter| filter.path.clone()).collect();
            heard.send(Heard::Subscribed(topics)).ok()?;
            let return_codes = subscribe.filters.iter().map(|f| SubscribeReasonCode::Success(f.qos)).collect();
            write(socket, Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None })).await
        }
        Packet::Publish(publish) => {
            let topic: Topic = std::str::from_utf8(&publish.topic).unwrap().parse().unwrap();
            heard.send(Heard::Message(decode_up(topic.channel, &publish.payload).unwrap())).ok()?;
            if publish.qos == QoS::AtLeastOnce {
                write(socket, Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
            }
            Some(())
        }
        Packet::PingReq(_) => write(socket, Packet::PingResp(PingResp)).await,
        _ => Some(()),
    }
}

async fn write(socket: &mut (impl AsyncWrite + Unpin), packet: Packet) -> Option<()> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).unwrap();
    socket.write_all(&bytes).await.ok()
}

/// What a broker says that knows so many short forms of topics, and nothing else.
fn knowing(aliases: u16) -> ConnAckProperties {
    ConnAckProperties {
        topic_alias_max: Some(aliases),
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        reason_string: None,
        user_properties: vec![],
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}
