//! Who may connect to the embedded broker, and what each may publish and subscribe: only below its own name.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mqtt5::WillMessage;
use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::error::Result;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use outrigger_protocol::{Channel, DeviceName, Topic};
use tokio::sync::broadcast;

use super::flow::{Flow, Pace};
use super::presence::{Entry, Presence};
use super::refused::Refused;
use super::{Counters, Happening, Inbox};
use crate::clock;
use crate::pki::{AllowList, KeptOut};
use crate::sockets::Place;

/// Longest keep-alive in seconds. A device without one would hold its socket for ever after its cable is cut. So long only
/// for devices with the slowest heartbeat, each byte of which costs somebody money; whether a device lives is not judged
/// by it.
const MAX_KEEP_ALIVE: u16 = 900;

/// Decides for one connection.
pub(super) struct Gate {
    inbox: Inbox,
    presence: Presence,
    place: Mutex<Place>,
    refused: Refused,
    bound: Option<Bound>,
    flow: Mutex<Flow>,
    /// Ends the connection.
    cut: broadcast::Sender<()>,
    /// As whom it was let in.
    named: Arc<OnceLock<DeviceName>>,
}

/// Who has proven to be whom by its certificate.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) device: DeviceName,
    pub(super) key: [u8; 32],
    pub(super) allow: AllowList,
}

impl Bound {
    pub(super) fn check(&self) -> std::result::Result<(), KeptOut> {
        self.allow.check(&self.device, &self.key)
    }
}

impl Gate {
    /// `bound`: as whom the connection was proven to be; none: nobody was asked, as on loopback.
    pub(super) fn new(
        inbox: Inbox,
        presence: Presence,
        place: Place,
        refused: Refused,
        bound: Option<Bound>,
        cut: broadcast::Sender<()>,
    ) -> Self {
        let flow = Mutex::new(Flow::new(clock::now()));
        Self { inbox, presence, place: Mutex::new(place), refused, bound, flow, cut, named: Arc::default() }
    }

    /// As whom the connection is let in, once it is.
    pub(super) fn named(&self) -> Arc<OnceLock<DeviceName>> {
        Arc::clone(&self.named)
    }

    async fn lets_in(&self, connect: &ConnectPacket, from: SocketAddr) -> AuthResult {
        let refusal = match (refusal(connect), &self.bound) {
            (Some(refusal), _) => Some(refusal),
            (None, Some(bound)) => self.unproven(connect, bound),
            (None, None) => self.taken(&connect.client_id, from).await,
        };
        match refusal {
            None => {
                self.place.lock().unwrap_or_else(PoisonError::into_inner).introduced();
                // A connection introduces itself once.
                let _ = connect.client_id.parse().map(|device| self.named.set(device));
                AuthResult::success()
            }
            Some((code, reason)) => {
                Counters::add(&self.inbox.counters().connections_refused);
                let who: String = connect.client_id.chars().take(80).collect();
                self.refused.say(from.ip(), &who, reason);
                AuthResult::fail_with_reason(code, reason)
            }
        }
    }

    /// Whether another machine has the name and lives.
    async fn taken(&self, device: &str, from: SocketAddr) -> Option<(ReasonCode, &'static str)> {
        let tell = match self.presence.enter(device, from.ip(), clock::now()) {
            Entry::Welcome => return None,
            Entry::Fight => {
                if let Ok(device) = device.parse() {
                    self.inbox.tell(Happening::FoughtOver { device }).await;
                }
                return None;
            }
            Entry::Taken { tell } => tell,
        };
        if tell && let Ok(device) = device.parse() {
            self.inbox.tell(Happening::NameTaken { device, by: from.ip() }).await;
        }
        Some((ReasonCode::NotAuthorized, "another machine is connected under this name"))
    }

    /// Whether the name is not the one in the certificate, or that one may not come in any more. Two machines with one
    /// certificate both come in, one after the other: their hellos tell that they are two.
    fn unproven(&self, connect: &ConnectPacket, bound: &Bound) -> Option<(ReasonCode, &'static str)> {
        if connect.client_id != bound.device.as_str() {
            return Some((ReasonCode::NotAuthorized, "the client id is not the name in the certificate"));
        }
        if let Err(kept_out) = bound.check() {
            let reason = match kept_out {
                KeptOut::Unknown => "the device was removed, or has never joined",
                KeptOut::OtherKey => "the name has joined anew with another key",
                KeptOut::Quarantined => "the device is in quarantine",
            };
            return Some((ReasonCode::NotAuthorized, reason));
        }
        let is_waiting = self.presence.is_cut_off(&connect.client_id, clock::now());
        is_waiting
            .then_some((ReasonCode::QuotaExceeded, "the device was cut off for sending too much; it may come soon"))
    }

    fn allows(&self, client: &str, topic: &str, direction: fn(Channel) -> bool) -> bool {
        let is_proven = self.bound.as_ref().is_none_or(|bound| bound.device.as_str() == client);
        let own = is_proven
            && topic.parse::<Topic>().is_ok_and(|topic| topic.device.as_str() == client && direction(topic.channel));
        if !own {
            Counters::add(&self.inbox.counters().publishes_refused);
        }
        own
    }
}

impl Gate {
    /// Takes one message at the pace that it may come at.
    async fn take(&self, client: &str) {
        let pace = self.flow.lock().unwrap_or_else(PoisonError::into_inner).pace(clock::now());
        match pace {
            Pace::Go => (),
            // Nothing else is read from this socket meanwhile, so the sender is stopped by its own network.
            Pace::Wait(pause) => tokio::time::sleep(pause).await,
            Pace::Cut => {
                if self.presence.cut_off(client, clock::now())
                    && let Ok(device) = client.parse()
                {
                    self.inbox.tell(Happening::Flooding { device }).await;
                }
                // Nobody listens: the connection is ending already.
                let _ = self.cut.send(());
            }
        }
    }
}

/// Why a connection is refused; none if it is welcome.
fn refusal(connect: &ConnectPacket) -> Option<(ReasonCode, &'static str)> {
    let Ok(device) = connect.client_id.parse::<DeviceName>() else {
        return Some((ReasonCode::ClientIdentifierNotValid, "the client id is no device's name"));
    };
    if connect.keep_alive == 0 || connect.keep_alive > MAX_KEEP_ALIVE {
        return Some((ReasonCode::ImplementationSpecificError, "the keep-alive must be 1 to 900 seconds"));
    }
    connect.will.as_ref().and_then(|will| will_refusal(&device, will))
}

/// Wills do not pass the broker's publish hook, and a kept one would outlive its device.
fn will_refusal(device: &DeviceName, will: &WillMessage) -> Option<(ReasonCode, &'static str)> {
    if will.topic != Topic::new(device, Channel::Bye).to_string() {
        return Some((ReasonCode::NotAuthorized, "the will must be the device's own bye"));
    }
    if will.retain {
        return Some((ReasonCode::RetainNotSupported, "the will must not be retained"));
    }
    (will.payload.len() > Channel::Bye.max_payload()).then_some((ReasonCode::PacketTooLarge, "the will is too large"))
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Gate {
    fn authenticate<'a>(&'a self, connect: &'a ConnectPacket, from: SocketAddr) -> Answer<'a, Result<AuthResult>> {
        Box::pin(async move { Ok(self.lets_in(connect, from).await) })
    }

    fn authorize_publish<'a>(&'a self, client: &str, _user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        let (allowed, client) = (self.allows(client, topic, Channel::is_up), client.to_owned());
        Box::pin(async move {
            self.take(&client).await;
            allowed
        })
    }

    fn authorize_subscribe<'a>(&'a self, client: &str, _user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        // A filter with a wildcard parses as no topic. That is the point: each wildcard filter costs time on every publish.
        Box::pin(ready(self.allows(client, filter, |channel| !channel.is_up())))
    }
}
