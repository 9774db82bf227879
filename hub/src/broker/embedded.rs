//! The embedded broker: mqtt5's connection handling behind our own accept loop.
//!
//! The loop is our own because the crate's listeners let one silent socket block all others, and because each connection
//! gets its own gate. The crate's defaults that matter are all overridden here: files in the working folder, 256 MB
//! packets, `$SYS` topics, unlimited retained messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{future::Future, io, pin::Pin};

use mqtt5::QoS;
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::events::{
    BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientPublishEvent, ClientSubscribeEvent,
    PublishAction,
};
use mqtt5::broker::router::{DeliveryLanes, MessageRouter, SubscriptionRequest};
use mqtt5::broker::storage::QueueLimits;
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::tls_acceptor::TlsStreamWrapper;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::{BrokerConfig, ResourceLimits, ResourceMonitor};
use mqtt5::error::MqttError;
use mqtt5::packet::publish::PublishPacket;
use outrigger_protocol::{Channel, DeviceName, MAX_STATUS, MAX_WANT};
use outrigger_trust::Certificate;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, warn};

use super::gate::{Bound, Gate};
use super::kept::Kept;
use super::presence::Presence;
use super::refused::Refused;
use super::{Counters, Happening, Inbox, Outgoing, Packet};
use crate::clock;
use crate::pki::{AllowList, Pki};
use crate::sockets::{Bounds, Place, Sockets};

/// Largest packet from a device: the largest payload with its topic and properties.
const MAX_PACKET: usize = MAX_STATUS + 4096;
/// A connection costs about 40 kB. Strangers are dropped after 10 s, so one address holds its part for as long as it likes,
/// and no more.
const SOCKETS: Bounds =
    Bounds { all: 32_768, per_address: 2_048, strangers: 1_024, strangers_per_address: 64, spares_loopback: true };
/// Messages that wait for one slow device. Assignments replace each other, so few are worth keeping.
const MAX_QUEUED: usize = 64;
/// Messages of one device in a minute, whatever the gate lets through.
const MAX_MESSAGES_PER_MINUTE: u32 = 12_000;
/// Bytes of one device in a minute.
const MAX_BYTES_PER_MINUTE: u64 = 256 * 1024 * 1024;
/// Unacknowledged bytes after which the kernel gives a connection up; the MQTT keep-alive may be longer.
const USER_TIMEOUT_MS: u32 = 20_000;
/// Our own name at the broker. No device can have it.
const HUB: &str = "$hub";
/// Time for a TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Time for a connection that is cut to end in order: it may hang on a device that reads nothing.
const FAREWELL: Duration = Duration::from_secs(2);
/// Wills that may wait to be read: a site of this many devices may lose its power at once.
const WILLS: usize = 4096;

/// A running embedded broker; it stops when dropped.
#[derive(Debug)]
pub struct Embedded {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

struct Broker {
    router: Arc<MessageRouter>,
    config: Arc<BrokerConfig>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    inbox: Inbox,
    presence: Presence,
    sockets: Sockets,
    door: Door,
    refused: Refused,
}

/// How devices are spoken to.
#[derive(Debug, Clone)]
pub enum Door {
    /// In plain text, and nobody is asked who he is. For loopback.
    Plain,
    /// By TLS, and everybody shows a certificate.
    Tls(Pki),
}

/// Starts the broker on `listen`. Messages go to `inbox`; what comes from `outgoing` is published.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn start(
    listen: SocketAddr,
    door: Door,
    inbox: Inbox,
    outgoing: mpsc::Receiver<Outgoing>,
) -> io::Result<Embedded> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let counters = Arc::clone(inbox.counters());
    let router = Arc::new(
        MessageRouter::new()
            .with_fallback_queue_limits(QueueLimits { max_messages: MAX_QUEUED, max_bytes: 2 * MAX_WANT }),
    );
    let (kept, presence) = (Kept::default(), Presence::default());
    let events = Arc::new(Events {
        inbox: inbox.clone(),
        router: Arc::clone(&router),
        kept: kept.clone(),
        presence: presence.clone(),
    });
    let broker = Broker {
        router: Arc::clone(&router),
        config: Arc::new(config(events)),
        stats: Arc::new(BrokerStats::new()),
        monitor: Arc::new(ResourceMonitor::new(message_limits())),
        inbox: inbox.clone(),
        presence,
        sockets: Sockets::new(SOCKETS),
        door,
        refused: Refused::default(),
    };
    let mut tasks = JoinSet::new();
    hear_wills(&router, inbox.clone(), &mut tasks).await;
    let allow = match &broker.door {
        Door::Plain => None,
        Door::Tls(pki) => Some(pki.allow().clone()),
    };
    tasks.spawn(publish_all(Arc::clone(&router), kept, counters, allow, outgoing));
    inbox.tell(Happening::Up).await;
    tasks.spawn(accept(listener, Arc::new(broker)));
    Ok(Embedded { address, _tasks: tasks })
}

fn config(events: Arc<Events>) -> BrokerConfig {
    let mut config = BrokerConfig::new()
        .with_max_packet_size(MAX_PACKET)
        .with_maximum_qos(1)
        .with_session_expiry(Duration::ZERO)
        // Not limited by number, which the crate would count by looking through all of everybody's: the gate lets each
        // device have its four.
        .with_max_subscriptions_per_client(0)
        // Nothing: devices keep nothing here, and what the hub keeps for them is kept beside.
        .with_retain_available(false)
        .with_client_channel_capacity(MAX_QUEUED)
        .with_max_outbound_inflight(16);
    config.storage_config.enable_persistence = false;
    config.sys_topics_enabled = false;
    config.wildcard_subscription_available = false;
    config.shared_subscription_available = false;
    config.subscription_identifier_available = false;
    config.topic_alias_maximum = 16;
    config.server_receive_maximum = Some(64);
    config.event_handler = Some(events);
    config
}

fn message_limits() -> ResourceLimits {
    ResourceLimits {
        max_message_rate_per_client: MAX_MESSAGES_PER_MINUTE,
        max_bandwidth_per_client: MAX_BYTES_PER_MINUTE,
        rate_limit_window: Duration::from_secs(60),
        ..ResourceLimits::default()
    }
}

/// Accepts connections until the hub stops. Whoever is one too many is dropped at once.
async fn accept(listener: TcpListener, broker: Arc<Broker>) {
    let mut connections = JoinSet::new();
    loop {
        // Both may be cancelled: an accept that is not ready holds nothing, and a finished task stays finished.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => broker.serve(stream, peer, &mut connections),
                Err(error) => {
                    // Most often no file descriptor is left. Some will be soon.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => (),
        }
    }
}

impl Broker {
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let Some(place) = self.sockets.admit(peer.ip()) else {
            Counters::add(&self.inbox.counters().connections_refused);
            return debug!(%peer, "connection refused: too many");
        };
        let prepared = stream.set_nodelay(true).and_then(|()| {
            rustix::net::sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MS).map_err(io::Error::from)
        });
        if let Err(error) = prepared {
            return debug!(%peer, %error, "connection lost at once");
        }
        let broker = Arc::clone(self);
        connections.spawn(async move { broker.serve_one(stream, peer, place).await });
    }

    async fn serve_one(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let (transport, bound) = match &self.door {
            Door::Plain => (BrokerTransport::tcp(stream), None),
            Door::Tls(pki) => match shake_hands(pki, stream).await {
                Ok((stream, bound)) => (BrokerTransport::tls(TlsStreamWrapper::new(stream)), Some(bound)),
                Err(reason) => {
                    Counters::add(&self.inbox.counters().connections_refused);
                    return self.refused.say(peer.ip(), "", &reason);
                }
            },
        };
        let (cut, stopped) = broadcast::channel(1);
        let gate = Gate::new(
            self.inbox.clone(),
            self.presence.clone(),
            place,
            self.refused.clone(),
            bound.clone(),
            cut.clone(),
        );
        let named = gate.named();
        let handler = ClientHandler::new(
            transport,
            peer,
            Arc::clone(&self.config),
            Arc::clone(&self.router),
            Arc::new(gate),
            None,
            Arc::clone(&self.stats),
            Arc::clone(&self.monitor),
            stopped,
        );
        let connection = handler.run();
        tokio::pin!(connection);
        // Both may be cancelled: the connection is polled on right after.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = kept_out(bound.as_ref()) => {
                // Nobody listens: the connection is ending already.
                let _ = cut.send(());
                let farewell = tokio::time::timeout(FAREWELL, connection.as_mut()).await;
                if farewell.is_err() && let Some(bound) = &bound {
                    self.router.unregister_client(bound.device.as_str()).await;
                }
                debug!(%peer, "connection cut: the device may not be connected any more");
                farewell.unwrap_or(Ok(()))
            }
        };
        match (ended, named.get()) {
            (Err(error @ MqttError::PacketTooLarge { .. }), Some(device)) => {
                self.inbox.complain(device.clone(), None, format!("{error}; its connection was cut")).await;
            }
            (Err(error), _) => debug!(%peer, %error, "connection ended"),
            (Ok(()), _) => (),
        }
    }
}

/// Ends when the device may not be connected any more.
async fn kept_out(bound: Option<&Bound>) {
    let Some(bound) = bound else { return std::future::pending().await };
    let mut changes = bound.allow.changes();
    while bound.check().is_ok() {
        // The list goes only with the hub.
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Who it is, proven by its certificate; or why not.
async fn shake_hands(pki: &Pki, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Bound), String> {
    let acceptor = TlsAcceptor::from(pki.server_tls().mqtt());
    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
    let stream =
        shaken.map_err(|_| "the TLS handshake took too long".to_owned())?.map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.and_then(|certificate| Certificate::read(certificate).ok());
    let shown = shown.ok_or("the certificate cannot be read")?;
    let name = shown.common_name.ok_or("the certificate names nobody")?;
    let device = name.parse::<DeviceName>().map_err(|_| "the certificate names no device")?;
    // Whether it may come in is for the gate to say, which can tell it why not.
    Ok((stream, Bound { device, key: shown.key_digest, allow: pki.allow().clone() }))
}

/// Wills pass none of the broker's hooks, so the hub subscribes to them like a client. It is the only wildcard filter.
async fn hear_wills(router: &MessageRouter, inbox: Inbox, tasks: &mut JoinSet<()>) {
    let (lanes, mut received) = DeliveryLanes::channel(WILLS);
    let (displaced, kept) = oneshot::channel();
    router.register_client(HUB.to_owned(), lanes, router.queue_handle(HUB), displaced).await;
    let request = SubscriptionRequest::new(HUB, Channel::Bye.of_all_devices(), QoS::AtLeastOnce);
    if let Err(error) = router.subscribe(request).await {
        // Silence still tells that a device is lost, only later.
        error!(%error, "the broker does not hand over wills");
    }
    tasks.spawn(async move {
        let _kept = kept;
        while let Some(message) = received.recv().await {
            inbox.receive(&message.publish.topic_name, &message.publish.payload).await;
        }
    });
}

/// Publishes what the hub has to say. Never waits for a slow device: what does not fit is queued for it, or dropped.
async fn publish_all(
    router: Arc<MessageRouter>,
    kept: Kept,
    counters: Arc<Counters>,
    allow: Option<AllowList>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    while let Some(message) = outgoing.recv().await {
        // Its connection is being cut; until that is done it hears nothing more either.
        let is_heard = allow.as_ref().is_none_or(|allow| allow.hears(message.device()));
        if matches!(message, Outgoing::Send { .. }) && !is_heard {
            continue;
        }
        match message.to_packets() {
            Ok(packets) => {
                for packet in packets {
                    Counters::add(&counters.sent);
                    let retain = packet.retain;
                    let publish = to_publish(packet);
                    if retain {
                        kept.keep(&publish.topic_name, &publish.payload);
                    }
                    // A deadline that has passed: whoever does not take it at once finds it in its queue.
                    router.route_message_with_deadline(&publish, None, clock::timer_now()).await;
                }
            }
            Err(error) => {
                Counters::add(&counters.too_large);
                error!(device = %message.device(), %error, "cannot send");
            }
        }
    }
}

fn to_publish(packet: Packet) -> PublishPacket {
    let qos = if packet.confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    PublishPacket::new(packet.topic, packet.payload, qos)
}

/// The broker's hooks.
struct Events {
    inbox: Inbox,
    router: Arc<MessageRouter>,
    kept: Kept,
    presence: Presence,
}

type Done<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl BrokerEventHandler for Events {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Done<'a, ()> {
        Box::pin(async move {
            debug!(client = %event.client_id, "connected");
            self.count_connected().await;
        })
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Done<'a, PublishAction> {
        Box::pin(async move {
            self.presence.heard(&event.client_id, clock::now());
            self.inbox.receive(&event.topic, &event.payload).await;
            PublishAction::Handled
        })
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Done<'a, ()> {
        Box::pin(async move {
            for subscription in &event.subscriptions {
                // Only the device itself can subscribe to its topics, so a message to the topic is one to the device.
                if let Some(payload) = self.kept.of(&subscription.topic_filter) {
                    let publish = PublishPacket::new(&*subscription.topic_filter, payload, QoS::AtLeastOnce);
                    self.router.route_message_with_deadline(&publish, None, clock::timer_now()).await;
                }
            }
        })
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Done<'a, ()> {
        Box::pin(async move {
            // The event names only the client: after a takeover it is the old connection's, while the new one lives. So it
            // decides nothing; the will carries its session's number.
            let back = self.router.is_connected(&event.client_id).await;
            debug!(client = %event.client_id, reason = ?event.reason, back, "disconnected");
            if !back {
                self.presence.left(&event.client_id);
            }
            self.count_connected().await;
        })
    }
}

impl Events {
    async fn count_connected(&self) {
        // Less one: ourselves.
        let connected = self.router.client_count().await.saturating_sub(1);
        let connected = u64::try_from(connected).unwrap_or(u64::MAX);
        self.inbox.counters().connected.store(connected, Ordering::Relaxed);
    }
}
