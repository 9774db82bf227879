//! Who may connect to the embedded broker, and what each may publish and subscribe: only below its own name.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use mqtt5::WillMessage;
use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::error::Result;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use outrigger_protocol::{Channel, DeviceName, Topic};
use tracing::debug;

use super::limits::Place;
use super::presence::{Entry, Presence};
use super::{Counters, Happening, Inbox};
use crate::clock;

/// Longest keep-alive in seconds. A device without one would hold its socket for ever after its cable is cut.
const MAX_KEEP_ALIVE: u16 = 120;

/// Decides for one connection.
pub(super) struct Gate {
    inbox: Inbox,
    presence: Presence,
    place: Mutex<Place>,
}

impl Gate {
    pub(super) fn new(inbox: Inbox, presence: Presence, place: Place) -> Self {
        Self { inbox, presence, place: Mutex::new(place) }
    }

    async fn lets_in(&self, connect: &ConnectPacket, from: SocketAddr) -> AuthResult {
        let refusal = match refusal(connect) {
            None => self.taken(&connect.client_id, from).await,
            Some(refusal) => Some(refusal),
        };
        match refusal {
            None => {
                self.place.lock().unwrap_or_else(PoisonError::into_inner).introduced();
                AuthResult::success()
            }
            Some((code, reason)) => {
                Counters::add(&self.inbox.counters().connections_refused);
                debug!(%from, client = connect.client_id, reason, "connection refused");
                AuthResult::fail_with_reason(code, reason)
            }
        }
    }

    /// Whether another machine has the name and lives.
    async fn taken(&self, device: &str, from: SocketAddr) -> Option<(ReasonCode, &'static str)> {
        let Entry::Taken { tell } = self.presence.enter(device, from.ip(), clock::now()) else { return None };
        if tell && let Ok(device) = device.parse() {
            self.inbox.tell(Happening::NameTaken { device, by: from.ip() }).await;
        }
        Some((ReasonCode::NotAuthorized, "another machine is connected under this name"))
    }

    fn allows(&self, client: &str, topic: &str, direction: fn(Channel) -> bool) -> bool {
        let own = topic.parse::<Topic>().is_ok_and(|topic| topic.device.as_str() == client && direction(topic.channel));
        if !own {
            Counters::add(&self.inbox.counters().publishes_refused);
        }
        own
    }
}

/// Why a connection is refused; none if it is welcome.
fn refusal(connect: &ConnectPacket) -> Option<(ReasonCode, &'static str)> {
    let Ok(device) = connect.client_id.parse::<DeviceName>() else {
        return Some((ReasonCode::ClientIdentifierNotValid, "the client id is no device's name"));
    };
    if connect.keep_alive == 0 || connect.keep_alive > MAX_KEEP_ALIVE {
        return Some((ReasonCode::ImplementationSpecificError, "the keep-alive must be 1 to 120 seconds"));
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
        Box::pin(ready(self.allows(client, topic, Channel::is_up)))
    }

    fn authorize_subscribe<'a>(&'a self, client: &str, _user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        // A filter with a wildcard parses as no topic. That is the point: each wildcard filter costs time on every publish.
        Box::pin(ready(self.allows(client, filter, |channel| !channel.is_up())))
    }
}
