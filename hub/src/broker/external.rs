//! An external broker, such as mosquitto: the hub is an ordinary client of it.
//!
//! After any error the client is thrown away and made anew. Nothing of value is lost by that, because the core publishes
//! every assignment again after [`Happening::Up`], and it rules out the client library's known states from which it never
//! recovers by itself.

use std::time::Duration;

use outrigger_protocol::Channel;
use outrigger_trust::{CertificateDer, TlsError, client_config};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::{Counters, Happening, Inbox, Outgoing};
use crate::pki::{HUB_NAME, Pki, PkiError};

/// Time between probes of the broker. The library's own pings come every 5 s at best, later than a device counts as lost.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Probes without an answer after which the broker counts as gone.
const MAX_UNANSWERED: u32 = 2;
/// First pause before a new attempt; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause. Short, because while it lasts the hub hears nobody.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Requests that may wait for the connection.
const REQUESTS: usize = 256;
/// Unsubscribed from as a probe: the broker must answer, whatever its access rules are, and nothing changes.
const PROBE: &str = "outrigger/probe";

/// Which broker, and as whom.
#[derive(Debug, Clone)]
pub struct Account {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Our client id there.
    pub client_id: String,
    /// User and password, if it asks for them.
    pub login: Option<(String, String)>,
    /// Who may have signed its certificate, besides our own authority; none: no TLS.
    pub tls: Option<Vec<CertificateDer<'static>>>,
}

/// A running client of an external broker; it stops when dropped.
#[derive(Debug)]
pub struct External {
    _tasks: JoinSet<()>,
}

/// Why a connection came to its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Connection(#[from] Box<rumqttc::v5::ConnectionError>),
    #[error("the broker refused to let us hear `{0}`")]
    SubscriptionRefused(String),
    #[error("the broker has not answered for {} s", MAX_UNANSWERED)]
    Silent,
    #[error("the hub has no identity to show to the broker")]
    NoIdentity,
    #[error("the hub cannot prove to the broker who it is")]
    Identity(#[from] PkiError),
    #[error("TLS to the broker cannot be prepared")]
    Tls(#[from] TlsError),
    #[error("the broker closed the connection")]
    Closed,
    #[error("too much waits to be sent to the broker")]
    Stuck,
}

/// Begins to connect, and goes on for ever. Messages go to `inbox`; what comes from `outgoing` is published.
#[must_use]
pub fn start(account: Account, pki: Option<Pki>, inbox: Inbox, outgoing: mpsc::Receiver<Outgoing>) -> External {
    let (current, client) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_all(client, inbox.counters().clone(), outgoing));
    tasks.spawn(stay_connected(account, pki, inbox, current));
    External { _tasks: tasks }
}

async fn stay_connected(account: Account, pki: Option<Pki>, inbox: Inbox, current: watch::Sender<Option<AsyncClient>>) {
    let mut pause = FIRST_PAUSE;
    let mut said_down = false;
    loop {
        let (broken, was_up) = match options(&account, pki.as_ref()) {
            Ok(options) => {
                let (client, events) = AsyncClient::new(options, REQUESTS);
                let mut connection = Connection::new(client, events, &inbox, &current);
                (connection.run().await, connection.is_up)
            }
            Err(broken) => (broken, false),
        };
        current.send_replace(None);
        if was_up || !said_down {
            said_down = true;
            let reason = Chain(&broken).to_string();
            warn!(broker = account.host, port = account.port, reason, "the broker is down");
            inbox.tell(Happening::Down { reason }).await;
        }
        pause = if was_up { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

fn options(account: &Account, pki: Option<&Pki>) -> Result<MqttOptions, Broken> {
    // A broker that knows us by our certificate knows us by the name in it.
    let client_id = if account.tls.is_some() { HUB_NAME } else { &account.client_id };
    let mut options = MqttOptions::new(client_id, &account.host, account.port);
    let largest = Channel::UP.map(Channel::max_payload).into_iter().max().unwrap_or(0) + 4096;
    let largest = largest.max(Channel::Want.max_payload() + 4096);
    options
        .set_clean_start(true)
        .set_keep_alive(Duration::from_secs(5))
        .set_connection_timeout(5)
        .set_max_packet_size(u32::try_from(largest).ok())
        .set_request_channel_capacity(REQUESTS);
    if let Some((user, password)) = &account.login {
        options.set_credentials(user, password);
    }
    if let Some(authorities) = &account.tls {
        // Made for each connection: our own certificate is always a fresh one.
        let pki = pki.ok_or(Broken::NoIdentity)?;
        let trusted: Vec<_> = pki.trusted().into_iter().chain(authorities.iter().cloned()).collect();
        let tls = client_config(&trusted, Some(pki.client_identity()?), None)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    Ok(options)
}

/// One connection, from its making to its end.
struct Connection<'a> {
    client: AsyncClient,
    events: EventLoop,
    inbox: &'a Inbox,
    current: &'a watch::Sender<Option<AsyncClient>>,
    probes: Interval,
    unanswered: u32,
    is_up: bool,
}

impl<'a> Connection<'a> {
    fn new(
        client: AsyncClient,
        events: EventLoop,
        inbox: &'a Inbox,
        current: &'a watch::Sender<Option<AsyncClient>>,
    ) -> Self {
        let mut probes = interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { client, events, inbox, current, probes, unanswered: 0, is_up: false }
    }

    async fn run(&mut self) -> Broken {
        // The library's poll must not be cancelled while it connects: it would begin again.
        match self.events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => (),
            Ok(_) => return Broken::Closed,
            Err(error) => return Box::new(error).into(),
        }
        if self.client.try_subscribe_many(filters()).is_err() {
            return Broken::Stuck;
        }
        loop {
            // Both may be cancelled: a connected poll waits for bytes, requests and a timer, all of which it keeps.
            let step = tokio::select! {
                event = self.events.poll() => match event {
                    Ok(event) => self.take(event).await,
                    Err(error) => Err(Box::new(error).into()),
                },
                _ = self.probes.tick() => self.probe(),
            };
            if let Err(broken) = step {
                return broken;
            }
        }
    }

    fn probe(&mut self) -> Result<(), Broken> {
        if self.unanswered >= MAX_UNANSWERED {
            return Err(Broken::Silent);
        }
        self.unanswered += 1;
        // A full channel means that much is being sent; that the broker takes it is proof enough of its life.
        let _ = self.client.try_unsubscribe(PROBE);
        Ok(())
    }

    async fn take(&mut self, event: Event) -> Result<(), Broken> {
        let Event::Incoming(incoming) = event else { return Ok(()) };
        self.unanswered = 0;
        match incoming {
            Incoming::Publish(publish) => {
                let topic = String::from_utf8_lossy(&publish.topic);
                match topic.parse() {
                    Ok(outrigger_protocol::Topic { device, channel }) if !channel.is_up() => {
                        if !publish.payload.is_empty() {
                            self.inbox.tell(Happening::Kept { device }).await;
                        }
                    }
                    _ => self.inbox.receive(&topic, &publish.payload).await,
                }
                Ok(())
            }
            Incoming::SubAck(ack) => self.subscribed(&ack.return_codes).await,
            Incoming::Disconnect(_) => Err(Broken::Closed),
            _ => Ok(()),
        }
    }

    async fn subscribed(&mut self, codes: &[SubscribeReasonCode]) -> Result<(), Broken> {
        let refused = codes.iter().zip(filters()).find(|(code, _)| !matches!(code, SubscribeReasonCode::Success(_)));
        if let Some((_, filter)) = refused {
            return Err(Broken::SubscriptionRefused(filter.path));
        }
        if !std::mem::replace(&mut self.is_up, true) {
            info!("connected to the broker");
            self.current.send_replace(Some(self.client.clone()));
            self.inbox.tell(Happening::Up).await;
        }
        Ok(())
    }
}

/// All that devices publish, and what is kept for them, so that nothing is kept for devices that have left.
fn filters() -> Vec<Filter> {
    let up = Channel::UP.into_iter().map(|channel| {
        let qos = if channel.is_confirmed() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        Filter::new(channel.of_all_devices(), qos)
    });
    let mut kept = Filter::new(Channel::Want.of_all_devices(), QoS::AtMostOnce);
    kept.nolocal = true;
    kept.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
    up.chain([kept]).collect()
}

/// Publishes what the hub has to say, in a task of its own: awaiting the library's queue where it is emptied would stop it
/// for ever. While the broker is down everything is dropped; the core says it again when it is up.
async fn publish_all(
    client: watch::Receiver<Option<AsyncClient>>,
    counters: std::sync::Arc<Counters>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    while let Some(message) = outgoing.recv().await {
        let Some(client) = client.borrow().clone() else { continue };
        let packets = match message.to_packets() {
            Ok(packets) => packets,
            Err(error) => {
                Counters::add(&counters.too_large);
                error!(device = %message.device(), %error, "cannot send");
                continue;
            }
        };
        for packet in packets {
            let qos = if packet.confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            Counters::add(&counters.sent);
            if let Err(error) = client.publish(packet.topic, qos, packet.retain, packet.payload).await {
                debug!(%error, "the connection to the broker ended while sending");
            }
        }
    }
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
