//! The connection to the hub's broker. Only this file knows the MQTT crate.
//!
//! Each connection gets a client of its own, made anew: its will carries the number of the connection, and a client that
//! has got stuck (the crate has such bugs) is gone with its connection. Nothing is queued while there is no connection;
//! the core tells everything again on the next.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outrigger_protocol::{
    Bye, ByeReason, Channel, DeviceName, DownMessage, SessionNumber, Topic, UpMessage, decode_down, encode_up,
};
use outrigger_trust::{Trouble, trouble_of};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, ConnectReturnCode, Filter, LastWill, Packet, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::core::OwnCertificate;
use crate::way::{Turns, Way, WayError};

pub use crate::way::{Route, Target};

/// The broker hears of us at least so often, and a dead one is noticed after twice that.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Time to connect, and for the broker to accept us.
const CONNECT_SECONDS: u64 = 5;
/// Messages on their way to the broker's socket: all parts of answers that may be under way at once, and then some, so
/// that they never crowd out a heartbeat.
const QUEUE: usize = 256;
/// Messages that the broker has not confirmed. The crate keeps a slot for each.
const IN_FLIGHT: u16 = 32;
/// A connection that has held so long was a good one: the next attempt comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// A heartbeat that found the queue full so many times in a row means a client that is stuck.
const STUCK_AFTER: u32 = 10;
/// Failures that are remembered as told.
const MAX_TOLD: usize = 16;
/// Most bytes of a packet that we let the broker send: far above what any channel allows, because a larger one would end
/// the connection, and a retained one would end the next connection, too. What is above the channel's limit is dropped.
const MAX_PACKET: u32 = 16 * 1024 * 1024;

/// What the connection tells.
#[derive(Debug)]
pub enum MqttEvent {
    /// It stands.
    Connected {
        /// Its number.
        session: SessionNumber,
        /// Sends on it.
        sender: Sender,
        /// Our own address towards the broker, where it could be found out.
        address: Option<IpAddr>,
        /// The certificate that it was made with; none without TLS.
        certificate: Option<OwnCertificate>,
    },
    /// A message of the hub.
    Down(DownMessage),
    /// It stands no more.
    Disconnected,
}

/// Sends on one connection.
#[derive(Debug, Clone)]
pub struct Sender {
    client: AsyncClient,
    device: DeviceName,
    stuck: Arc<AtomicU32>,
    restart: Arc<Notify>,
}

/// A message could not be sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// The connection's queue is full.
    #[error("the connection takes no more messages")]
    Full,
    /// The message is larger than its channel allows.
    #[error("a message on `{channel:?}` cannot be sent")]
    Encode {
        /// Where.
        channel: Channel,
        /// Why.
        source: outrigger_protocol::PayloadError,
    },
}

impl Sender {
    /// Hands a message to the connection, without waiting.
    ///
    /// # Errors
    /// If the queue is full, or the message too large.
    pub fn try_send(&self, message: &UpMessage) -> Result<(), SendError> {
        let (topic, qos, bytes) = self.prepare(message)?;
        match self.client.try_publish(topic, qos, false, bytes) {
            Ok(()) => {
                self.stuck.store(0, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                if self.stuck.fetch_add(1, Ordering::Relaxed) + 1 == STUCK_AFTER {
                    self.restart.notify_one();
                }
                Err(SendError::Full)
            }
        }
    }

    /// Hands a message to the connection as soon as it takes one. Not for the task that polls the connection.
    ///
    /// # Errors
    /// If the connection is gone, or the message too large.
    pub async fn send(&self, message: &UpMessage) -> Result<(), SendError> {
        let (topic, qos, bytes) = self.prepare(message)?;
        self.client.publish(topic, qos, false, bytes).await.map_err(|_| SendError::Full)
    }

    /// Ends the connection after what has been handed to it. The broker forgets the will.
    pub fn close(&self) {
        let _ = self.client.try_disconnect();
    }

    fn prepare(&self, message: &UpMessage) -> Result<(String, QoS, Vec<u8>), SendError> {
        let channel = message.channel();
        let bytes = encode_up(message).map_err(|source| SendError::Encode { channel, source })?;
        Ok((Topic::new(&self.device, channel).to_string(), qos_of(channel), bytes))
    }
}

fn qos_of(channel: Channel) -> QoS {
    if channel.is_confirmed() { QoS::AtLeastOnce } else { QoS::AtMostOnce }
}

/// Keeps a connection for as long as somebody listens, or until it is closed on purpose.
pub async fn run(target: Target, clock: Clock, events: mpsc::Sender<MqttEvent>) {
    let mut backoff = Backoff::new(clock.unix_ms() ^ clock.now().0.rotate_left(32));
    let mut turns = Turns::default();
    let mut failure = Repeated::default();
    let mut session = SessionNumber(0);
    loop {
        let began = clock.now();
        // Two connections within a millisecond are still told apart.
        session = clock.session().max(SessionNumber(session.0 + 1));
        let ended = match target.way(turns.choice(), clock).await {
            Ok(way) => serve(&target, way, session, &events).await,
            Err(error) => Ended::Failed(error.into()),
        };
        if events.is_closed() {
            return;
        }
        match ended {
            Ended::OnPurpose => return,
            Ended::Failed(error) => {
                turns.failed();
                failure.tell(&target, &error);
            }
            Ended::Lost(error) => {
                failure = Repeated::default();
                turns.held();
                info!(%error, "the connection to the hub is lost");
                if events.send(MqttEvent::Disconnected).await.is_err() {
                    return;
                }
                if clock.now().since(began) >= GOOD_AFTER {
                    backoff.reset();
                }
            }
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    /// We closed it.
    OnPurpose,
    /// It never stood.
    Failed(LinkError),
    /// It stood.
    Lost(LinkError),
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum LinkError {
    #[error("{0}")]
    Way(#[from] WayError),
    #[error(
        "not let in: another machine is connected under the name {0}, or the broker wants a login. Give one of the two \
         another name (`--name`); if its disk is a copy, remove the agent's state folder there"
    )]
    NotLetIn(DeviceName),
    #[error(
        "the hub does not let {0} in: it was removed or quarantined there, or the name has joined anew with another key. \
         On the hub: `outrigger devices`; to join anew: `outrigger device invite --name {0}`. Containers run on"
    )]
    Refused(DeviceName),
    #[error(
        "the certificate of {0} has ended, because the device was away for too long. It must join anew: on the hub \
         `outrigger device invite --name {0}`, here the line that it prints with --again. Containers run on"
    )]
    Ended(DeviceName),
    #[error(
        "{0}: nothing was sent to it. This is not the hub that the device has joined, or that hub has been set up anew; \
         then join anew"
    )]
    Stranger(String),
    #[error("{0}")]
    Mqtt(#[from] Box<ConnectionError>),
    #[error("the broker refuses our subscriptions: {0:?}")]
    NoTopics(SubscribeReasonCode),
    #[error("the connection was stuck")]
    Stuck,
    #[error("nobody listens")]
    Unheard,
}

impl LinkError {
    /// What the crate says, in words on which somebody can act.
    fn of(error: ConnectionError, target: &Target, way: &Way) -> Self {
        let device = || target.device.clone();
        if matches!(error, ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized)) {
            return if way.tls.is_some() { Self::Refused(device()) } else { Self::NotLetIn(device()) };
        }
        match tls_error(&error).map(trouble_of) {
            Some(Trouble::OursExpired) => Self::Ended(device()),
            Some(Trouble::OursRefused | Trouble::OursMissing) => Self::Refused(device()),
            Some(Trouble::ServerUnknown) => Self::Stranger(error.to_string()),
            Some(Trouble::ServerExpired | Trouble::ServerNotYetValid | Trouble::ServerOtherName | Trouble::Other)
            | None => Self::Mqtt(Box::new(error)),
        }
    }
}

/// The TLS library's error in what came of it. An I/O error does not count what is inside it among its causes.
pub(crate) fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a tokio_rustls::rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inside = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        cause = inside.map(|inside| inside as _).or_else(|| error.source());
    }
    None
}

/// The address that packets to this one leave from. No packet is sent.
fn source_address(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn options(target: &Target, way: &Way, session: SessionNumber) -> MqttOptions {
    let address = way.address;
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut options = MqttOptions::new(target.device.as_str(), host, address.port());
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(MAX_PACKET);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_connection_timeout(CONNECT_SECONDS)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_connect_properties(properties)
        .set_network_options(network);
    if let Some(tls) = &way.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    let bye = UpMessage::Bye(Bye { session, reason: ByeReason::Lost });
    if let Ok(bytes) = encode_up(&bye) {
        let topic = Topic::new(&target.device, Channel::Bye).to_string();
        options.set_last_will(LastWill::new(topic, bytes, QoS::AtLeastOnce, false, None));
    }
    options
}

async fn serve(target: &Target, way: Way, session: SessionNumber, events: &mpsc::Sender<MqttEvent>) -> Ended {
    let address = way.address;
    let (client, mut connection) = AsyncClient::new(options(target, &way, session), QUEUE);
    match connection.poll().await {
        Ok(Event::Incoming(Packet::ConnAck(_))) => (),
        Ok(_) => return Ended::Failed(LinkError::Stuck),
        Err(error) => return Ended::Failed(LinkError::of(error, target, &way)),
    }
    // Before the hello, on the same connection: so the broker has our subscriptions before the hub can answer.
    let filters = [Channel::Want, Channel::Lease, Channel::Ask, Channel::Certificate, Channel::Sealed]
        .map(|channel| Filter::new(Topic::new(&target.device, channel).to_string(), qos_of(channel)));
    if client.try_subscribe_many(filters).is_err() {
        return Ended::Failed(LinkError::Stuck);
    }
    info!(%address, %session, tls = way.tls.is_some(), "connected to the hub");
    let restart = Arc::new(Notify::new());
    let sender = Sender {
        client,
        device: target.device.clone(),
        stuck: Arc::new(AtomicU32::new(0)),
        restart: Arc::clone(&restart),
    };
    let connected =
        MqttEvent::Connected { session, sender, address: source_address(address), certificate: way.certificate };
    if events.send(connected).await.is_err() {
        return Ended::Lost(LinkError::Unheard);
    }
    tokio::select! { // both end the connection, so what is cancelled is not missed
        ended = receive(&mut connection, events) => ended,
        () = restart.notified() => Ended::Lost(LinkError::Stuck),
    }
}

/// Polls the connection until it ends. Never waits for anything that waits for this.
async fn receive(connection: &mut EventLoop, events: &mpsc::Sender<MqttEvent>) -> Ended {
    let mut bad = 0_u64;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => match read(&publish) {
                Ok(message) => {
                    if events.send(MqttEvent::Down(message)).await.is_err() {
                        return Ended::Lost(LinkError::Unheard);
                    }
                }
                Err(reason) => {
                    bad += 1;
                    let topic = String::from_utf8_lossy(&publish.topic);
                    if bad.is_power_of_two() {
                        warn!(%topic, %reason, bad, "a message of the hub is dropped");
                    }
                }
            },
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                if let Some(code) = refused {
                    return Ended::Lost(LinkError::NoTopics(*code));
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ended::OnPurpose,
            Ok(_) => (),
            Err(error) => return Ended::Lost(Box::new(error).into()),
        }
    }
}

/// A message that makes no sense.
#[derive(Debug, Error)]
enum ReadError {
    #[error("its topic is no text")]
    Text,
    #[error(transparent)]
    Topic(#[from] outrigger_protocol::TopicError),
    #[error(transparent)]
    Payload(#[from] outrigger_protocol::PayloadError),
}

fn read(publish: &Publish) -> Result<DownMessage, ReadError> {
    let topic: Topic = std::str::from_utf8(&publish.topic).map_err(|_| ReadError::Text)?.parse()?;
    Ok(decode_down(topic.channel, &publish.payload)?)
}

/// Tells a failure that goes on once, not at each attempt. A hub with several addresses fails in several ways.
#[derive(Debug, Default)]
struct Repeated {
    told: Vec<String>,
}

impl Repeated {
    fn tell(&mut self, target: &Target, error: &LinkError) {
        let text = error.to_string();
        if self.told.contains(&text) {
            debug!(error = %text, "still no connection to the hub");
        } else {
            warn!(hub = %target.route, error = %text, "no connection to the hub; trying on");
            self.told.truncate(MAX_TOLD - 1);
            self.told.insert(0, text);
        }
    }
}
