//! Where payloads from devices become messages, on their way to the control loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrigger_protocol::{Channel, DeviceName, Moment, Topic, Unseal, UpMessage, decode_up};
use tokio::sync::mpsc;
use tracing::warn;

use super::{Answers, Counters, Happening};
use crate::clock;
use crate::pki::{AllowList, Request};

/// Happenings that may wait for the control loop: a few seconds of a large fleet.
pub const CAPACITY: usize = 8192;
/// Places that heartbeats leave free for what counts more.
const KEPT_FROM_HEARTBEATS: usize = CAPACITY / 4;
/// Devices and channels whose garbage is told at a time; with so many different ones it is only counted.
const MAX_COMPLAINTS: usize = 1024;
/// Garbage of one device on one channel is told no more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(600);

/// A device, or a topic of none, and what its garbage came on.
type Complaint = (String, Option<Channel>);

/// Decodes what devices publish and hands it on: answers to who asked, the rest to the control loop.
#[derive(Debug, Clone)]
pub struct Inbox {
    sender: mpsc::Sender<Happening>,
    answers: Answers,
    counters: Arc<Counters>,
    complained: Arc<Mutex<HashMap<Complaint, Moment>>>,
    guard: Option<Guard>,
    unseal: Option<mpsc::Sender<(DeviceName, Box<Unseal>)>>,
}

/// Where devices have identities: who is heard at all, and who answers what concerns certificates.
#[derive(Debug, Clone)]
struct Guard {
    allow: AllowList,
    requests: mpsc::Sender<Request>,
}

impl Guard {
    fn request(&self, request: Request) {
        // When too many ask at once the rest ask again.
        let _ = self.requests.try_send(request);
    }
}

impl Inbox {
    /// An inbox and the end at which the control loop reads.
    #[must_use]
    pub fn new(answers: Answers) -> (Self, mpsc::Receiver<Happening>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let inbox =
            Self { sender, answers, counters: Arc::default(), complained: Arc::default(), guard: None, unseal: None };
        (inbox, receiver)
    }

    /// Hears only devices on this list, whoever let them in, and hands on what concerns their certificates.
    #[must_use]
    pub fn guarded(self, allow: AllowList, requests: mpsc::Sender<Request>) -> Self {
        Self { guard: Some(Guard { allow, requests }), ..self }
    }

    /// Hands on what devices ask of the secrets.
    #[must_use]
    pub fn unsealing(self, questions: mpsc::Sender<(DeviceName, Box<Unseal>)>) -> Self {
        Self { unseal: Some(questions), ..self }
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Takes one payload. Waits while the control loop is behind, so that a device that talks much slows only itself;
    /// heartbeats are dropped instead, because a late one is worth nothing.
    pub(super) async fn receive(&self, topic: &str, payload: &[u8]) {
        let Ok(topic) = topic.parse::<Topic>() else {
            if self.counts_garbage(topic, None) {
                warn!(
                    from = topic,
                    "dropped a message on a topic of no device; further ones are only counted for a while"
                );
            }
            return;
        };
        if self.guard.as_ref().is_some_and(|guard| !guard.allow.hears(&topic.device)) {
            Counters::add(&self.counters.publishes_refused);
            return;
        }
        match decode_up(topic.channel, payload) {
            Ok(message) => self.deliver(topic.device, message).await,
            Err(error) => self.complain(topic.device, Some(topic.channel), error.to_string()).await,
        }
    }

    async fn deliver(&self, device: DeviceName, message: UpMessage) {
        Counters::add(&self.counters.received);
        match message {
            UpMessage::Answer(answer) => self.answers.deliver(&device, answer),
            UpMessage::Report(_) if self.sender.capacity() <= KEPT_FROM_HEARTBEATS => {
                Counters::add(&self.counters.heartbeats_shed);
            }
            message @ (UpMessage::Hello(_)
            | UpMessage::Report(_)
            | UpMessage::Status(_)
            | UpMessage::Bye(_)
            | UpMessage::Mesh(_)) => {
                if let (UpMessage::Hello(_), Some(guard)) = (&message, &self.guard) {
                    guard.request(Request::Arrived(device.clone()));
                }
                self.tell(Happening::Heard { device, message }).await;
            }
            UpMessage::Unseal(question) => {
                if let Some(unseal) = &self.unseal {
                    // When too many ask at once the rest ask again.
                    let _ = unseal.try_send((device, question));
                }
            }
            UpMessage::Renew(renew) => {
                if let Some(guard) = &self.guard {
                    guard.request(Request::Renew(device, renew.request));
                }
            }
        }
    }

    /// Hands on what is no message of a device.
    pub(super) async fn tell(&self, happening: Happening) {
        // The control loop is gone only when the hub stops.
        let _ = self.sender.send(happening).await;
    }

    /// A device has sent what cannot be read, on a channel or in a packet that was not even taken in.
    pub(super) async fn complain(&self, device: DeviceName, channel: Option<Channel>, reason: String) {
        if !self.counts_garbage(device.as_str(), channel) {
            return;
        }
        warn!(%device, ?channel, reason, "dropped a message; further ones like it are only counted for a while");
        self.tell(Happening::Garbage { device, reason }).await;
    }

    /// Counts a message that cannot be read. Whether it is time to tell of it.
    fn counts_garbage(&self, who: &str, channel: Option<Channel>) -> bool {
        Counters::add(&self.counters.malformed);
        let now = clock::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let complaint = (who.chars().take(120).collect(), channel);
        let is_recent = |at: &Moment| now.since(*at) < COMPLAIN_EVERY;
        // First of all, because whoever sends one sends many.
        if complained.get(&complaint).is_some_and(is_recent) {
            return false;
        }
        complained.retain(|_, at| is_recent(at));
        if complained.len() >= MAX_COMPLAINTS {
            return false;
        }
        complained.insert(complaint, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use outrigger_protocol::{Bye, ByeReason, Report, SessionNumber, encode_up};

    use super::*;

    fn bytes(message: &UpMessage) -> Vec<u8> {
        encode_up(message).unwrap()
    }

    fn report() -> UpMessage {
        UpMessage::Report(Report {
            session: SessionNumber(1),
            sequence: 1,
            statuses: 0,
            held: None,
            load: None,
            usage: vec![],
        })
    }

    #[tokio::test]
    async fn heartbeats_are_shed_before_anything_that_counts() {
        let (inbox, mut events) = Inbox::new(Answers::default());
        for _ in 0..CAPACITY {
            inbox.receive("or/1/pi/report", &bytes(&report())).await;
        }
        let bye = UpMessage::Bye(Bye { session: SessionNumber(1), reason: ByeReason::Restart });
        inbox.receive("or/1/pi/bye", &bytes(&bye)).await;
        let totals = inbox.counters().totals();
        assert_eq!(totals.heartbeats_shed, KEPT_FROM_HEARTBEATS as u64);
        drop(inbox);
        let mut last = None;
        while let Some(happening) = events.recv().await {
            last = Some(happening);
        }
        assert!(matches!(last, Some(Happening::Heard { message: UpMessage::Bye(_), .. })));
    }

    #[tokio::test]
    async fn garbage_is_counted_and_dropped() {
        let (inbox, mut events) = Inbox::new(Answers::default());
        for payload in [&b""[..], b"\x09", b"\x01\xff\xff", &[1; 70_000]] {
            inbox.receive("or/1/pi/report", payload).await;
        }
        inbox.receive("somewhere/else", b"x").await;
        inbox.receive("or/1/pi/report", &bytes(&report())).await;
        assert_eq!(inbox.counters().totals().malformed, 5);
        let told = events.recv().await;
        assert!(matches!(told, Some(Happening::Garbage { .. })), "{told:?}");
        let next = events.recv().await;
        assert!(matches!(next, Some(Happening::Heard { .. })), "four alike are told once: {next:?}");
    }
}
