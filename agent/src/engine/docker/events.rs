//! Docker's event stream, made reliable: it ends when the engine restarts, may hang for ever, and forgets what happened
//! while nobody listened. So each connection begins with the whole list, and a ping finds out whether the engine lives.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::super::{ContainerId, EngineError, EngineEvent};
use super::{DockerEngine, boxed, failure};

/// How often a living engine is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long it may take to say so. A loaded Raspberry Pi needs seconds.
const PING: Duration = Duration::from_secs(10);
/// Every so many pings the whole list is told again, in case an event was lost; the first one comes early, because the
/// list of a new connection may have been taken just before the engine began to send events.
const LIST_EVERY: u32 = 6;
/// First and longest wait before the next try to reach an engine that is down.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Why watching has ended.
enum Ended {
    /// Nobody listens.
    Unheard,
    /// The engine does not answer.
    Lost(EngineError),
}

impl DockerEngine {
    pub(super) async fn watch_events(&self, events: &mpsc::Sender<EngineEvent>) {
        let mut is_lost = false;
        let mut wait = RETRY.0;
        loop {
            let mut has_listed = false;
            match self.watch_connection(events, &mut has_listed).await {
                Ended::Unheard => return,
                Ended::Lost(error) => {
                    if has_listed {
                        wait = RETRY.0;
                    }
                    if has_listed || !is_lost {
                        warn!(%error, "the container engine is lost");
                        if events.send(EngineEvent::Lost(error.to_string())).await.is_err() {
                            return;
                        }
                    }
                    is_lost = true;
                }
            }
            // An engine that comes up is found quickly; one that stays down costs little.
            tokio::select! {
                () = events.closed() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY.1),
            }
        }
    }

    async fn watch_connection(&self, events: &mpsc::Sender<EngineEvent>, has_listed: &mut bool) -> Ended {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return Ended::Lost(error),
        };
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![self.scope_label()]),
        ]);
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let mut stream = std::pin::pin!(client.events(Some(options)));
        // The request is sent with the first poll: begin to listen, then list.
        let early = futures_util::poll!(stream.next());
        if let Err(ended) = self.tell_list(events).await {
            return ended;
        }
        if !*has_listed {
            *has_listed = true;
            info!("the container engine answers");
        }
        if let std::task::Poll::Ready(event) = early
            && let Err(ended) = self.tell_event(event, events).await
        {
            return ended;
        }
        self.follow(stream, events).await
    }

    async fn follow(
        &self,
        mut stream: impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
        events: &mpsc::Sender<EngineEvent>,
    ) -> Ended {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings: u32 = 0;
        loop {
            // All may be cancelled: the stream keeps what it has, a tick is only late, nobody listening stays so.
            let told = tokio::select! {
                event = stream.next() => self.tell_event(event, events).await,
                _ = ping.tick() => {
                    pings = pings.wrapping_add(1);
                    if pings % LIST_EVERY == 2 { self.tell_list(events).await } else { self.ping().await }
                }
                () = events.closed() => return Ended::Unheard,
            };
            if let Err(ended) = told {
                return ended;
            }
        }
    }

    async fn ping(&self) -> Result<(), Ended> {
        let client = self.client().map_err(Ended::Lost)?;
        boxed("ping", PING, client.ping()).await.map(drop).map_err(Ended::Lost)
    }

    async fn tell_list(&self, events: &mpsc::Sender<EngineEvent>) -> Result<(), Ended> {
        let networks = self.list_networks().await.map_err(Ended::Lost)?.ours;
        events.send(EngineEvent::Networks(networks)).await.map_err(|_| Ended::Unheard)?;
        let listed = self.list_ours().await.map_err(Ended::Lost)?;
        events.send(EngineEvent::Listed(listed)).await.map_err(|_| Ended::Unheard)
    }

    /// An event names a container; what is told is how that container is now.
    async fn tell_event(
        &self,
        event: Option<Result<EventMessage, bollard::errors::Error>>,
        events: &mpsc::Sender<EngineEvent>,
    ) -> Result<(), Ended> {
        let message = match event {
            None => {
                return Err(Ended::Lost(EngineError::Unreachable { reason: "it ended its event stream".to_owned() }));
            }
            Some(Err(error)) => return Err(Ended::Lost(failure::of(&error))),
            Some(Ok(message)) => message,
        };
        let action = message.action.unwrap_or_default();
        let Some(id) = message.actor.and_then(|actor| actor.id) else { return Ok(()) };
        if !matters(&action) {
            return Ok(());
        }
        debug!(container = id, action, "the engine tells");
        let told = match self.inspect_by(&id).await.map_err(Ended::Lost)? {
            Some(container) => EngineEvent::Changed(container),
            None => EngineEvent::Gone(ContainerId(id.into())),
        };
        events.send(told).await.map_err(|_| Ended::Unheard)
    }
}

/// Whether an event changes what we know. `create` does not: whoever makes a container starts it next. Podman says
/// `died` and `remove` where Docker says `die` and `destroy`.
fn matters(action: &str) -> bool {
    const ACTIONS: [&str; 9] = ["start", "die", "died", "oom", "destroy", "remove", "pause", "unpause", "rename"];
    ACTIONS.contains(&action) || action.starts_with("health_status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_healthchecks_themselves_are_not_looked_into() {
        for action in ["exec_create: /check", "exec_start: /check", "exec_die", "create", "attach", "kill", "stop"] {
            assert!(!matters(action), "{action}");
        }
        for action in ["start", "die", "oom", "destroy", "health_status: healthy"] {
            assert!(matters(action), "{action}");
        }
    }
}
