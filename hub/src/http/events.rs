//! Events: a list, and a live stream (SSE) that a reader takes up again where it left off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use outrigger_api::{Event, EventList, EventQuery, Problem};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::problem::{Answer, InQuery, Refused, malformed};
use super::{Api, Ends};
use crate::access::{Caller, Scope};
use crate::handle::{EventLog, MAX_EVENTS};

/// Events in one answer, if the reader does not say.
const DEFAULT_LIMIT: usize = 100;
/// Most events in one answer.
const MAX_LIMIT: usize = 1000;
/// Nothing happened for so long: a comment keeps proxies and readers from giving the connection up.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A reader whose connection broke comes back after this.
const RETRY: Duration = Duration::from_secs(2);

/// The latest events that match.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(EventQuery),
    responses((status = 200, description = "The oldest first", body = EventList))
)]
pub async fn list(State(api): State<Api>, caller: Caller, InQuery(query): InQuery<EventQuery>) -> Answer<EventList> {
    let log = api.hub.events();
    let limit = limit_of(&query).unwrap_or(DEFAULT_LIMIT);
    let since = query.since.unwrap_or(0);
    let asked = Asked { query, scope: caller.scope };
    let query = &asked.query;
    // One more than is given out, to know whether there is more.
    let mut found = log.latest(limit + 1, |event| event.id > since && asked.matches(event));
    let is_cut = found.len() > limit;
    if is_cut {
        found.remove(0);
    }
    let truncated = is_cut || query.since.is_some_and(|since| is_gone(log, since));
    Ok(Json(EventList { events: found.iter().map(|event| Event::clone(event)).collect(), truncated }))
}

fn limit_of(query: &EventQuery) -> Option<usize> {
    query.limit.map(|limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT))
}

/// Whether events after `since` are no longer kept, or `since` was given by a hub with another past.
fn is_gone(log: &EventLog, since: u64) -> bool {
    since > log.newest() || since > 0 && log.oldest().is_some_and(|oldest| oldest > since + 1)
}

/// What a reader wants to see, and may.
struct Asked {
    query: EventQuery,
    scope: Scope,
}

impl Asked {
    fn matches(&self, event: &Event) -> bool {
        let query = &self.query;
        let wanted =
            |asked: &Option<String>, has: Option<&String>| asked.as_ref().is_none_or(|asked| Some(asked) == has);
        self.scope.sees(event.stack.as_deref())
            && wanted(&query.kind, Some(&event.kind))
            && wanted(&query.device, event.device.as_ref())
            && wanted(&query.stack, event.stack.as_ref())
            && wanted(&query.service, event.service.as_ref())
            && wanted(&query.replica, event.replica.as_ref())
            && query.severity.is_none_or(|least| event.severity >= least)
    }
}

/// Events as they happen, as server-sent events: `id` is the event's number, `data` an Event as JSON. With the header
/// `Last-Event-ID` or `since`, what came after that event is sent first; with `limit`, so many of the latest. A message
/// of type `gap` says that some in between are no longer kept. A message with an `id` only says how far the stream has
/// come: at its beginning, and where events that do not match have happened since.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(EventQuery, ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event seen")),
    responses(
        (status = 200, description = "The stream", body = Event, content_type = "text/event-stream"),
        (status = 429, description = "Too many streams are open", body = Problem),
    )
)]
pub async fn stream(
    State(api): State<Api>,
    caller: Caller,
    InQuery(query): InQuery<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let seen = match headers.get("last-event-id") {
        Some(text) => Some(number(text.as_bytes()).ok_or_else(|| malformed("`Last-Event-ID` is no event's number"))?),
        None => query.since,
    };
    let place = api.stream_place()?;
    let ends = Ends { stopping: api.stopping.clone(), caller: Box::pin(api.access.end_of(&caller)) };
    let asked = Asked { query, scope: caller.scope };
    let reader = Reader::new(api.hub.events().clone(), asked, seen, ends, place);
    let live = Sse::new(messages(reader)).keep_alive(KeepAlive::new().interval(HEARTBEAT).text(""));
    // nginx would otherwise gather the stream in its buffers.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], live).into_response())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// What a reader is told.
enum Item {
    /// Something happened.
    Happened(Arc<Event>),
    /// Some events before the next are no longer kept.
    Gap,
    /// All up to this one has been told or does not match: where a reader whose connection breaks is to go on.
    Mark(u64),
}

/// One reader of the stream.
struct Reader {
    log: EventLog,
    live: broadcast::Receiver<Arc<Event>>,
    asked: Asked,
    waiting: VecDeque<Arc<Event>>,
    /// Number of the last event taken out of the log, matching or not.
    seen: u64,
    /// How far the reader knows that it has come.
    told: Option<u64>,
    /// When to say how far it has come.
    beat: Interval,
    is_gap: bool,
    ends: Ends,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn new(log: EventLog, asked: Asked, since: Option<u64>, ends: Ends, place: OwnedSemaphorePermit) -> Self {
        // First the stream, then a number, then the list up to it: what is above the number comes by the stream.
        let live = log.subscribe();
        let newest = log.newest();
        let is_gap = since.is_some_and(|since| is_gone(&log, since));
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        let (after, limit) = match (since, limit_of(&asked.query)) {
            (Some(since), _) if since > newest => (0, MAX_EVENTS),
            (Some(since), _) => (since, MAX_EVENTS),
            (None, Some(limit)) => (0, limit),
            (None, None) => (newest, 0),
        };
        let waiting = log.latest(limit, |event| event.id > after && event.id <= newest && asked.matches(event));
        Self { log, live, asked, waiting: waiting.into(), seen: newest, told: None, beat, is_gap, ends, _place: place }
    }

    /// What is next; none when the hub stops, or the reader's token no longer counts.
    async fn next(&mut self) -> Option<Item> {
        loop {
            if std::mem::take(&mut self.is_gap) {
                return Some(Item::Gap);
            }
            if let Some(event) = self.waiting.pop_front() {
                self.told = self.told.map(|_| event.id);
                return Some(Item::Happened(event));
            }
            if self.told.is_none() {
                return Some(self.mark());
            }
            // All may be cancelled: nothing is taken by a wait that does not end.
            let received = tokio::select! {
                received = self.live.recv() => Some(received),
                _ = self.beat.tick(), if self.told != Some(self.seen) => None,
                () = self.ends.reached() => return None,
            };
            let Some(received) = received else { return Some(self.mark()) };
            match received {
                Ok(event) if event.id > self.seen => {
                    self.seen = event.id;
                    if self.asked.matches(&event) {
                        self.waiting.push_back(event);
                    }
                }
                Ok(_) => (),
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn mark(&mut self) -> Item {
        self.told = Some(self.seen);
        Item::Mark(self.seen)
    }

    /// The reader was too slow for the stream: it goes on from the list.
    fn catch_up(&mut self) {
        let (seen, newest) = (self.seen, self.log.newest());
        self.is_gap = is_gone(&self.log, seen);
        let asked = &self.asked;
        let missed = |event: &Event| event.id > seen && event.id <= newest && asked.matches(event);
        self.waiting = self.log.latest(MAX_EVENTS, missed).into();
        self.seen = newest;
    }
}

fn messages(reader: Reader) -> impl Stream<Item = Result<Message, Infallible>> {
    unfold(reader, |mut reader| async move { Some((Ok(message(&reader.next().await?)), reader)) })
}

fn message(item: &Item) -> Message {
    let message = match item {
        Item::Gap => Message::default().event("gap").data("some events are no longer kept"),
        Item::Mark(id) => Message::default().id(id.to_string()),
        // An event is texts and numbers: it always serialises.
        Item::Happened(event) => {
            Message::default().id(event.id.to_string()).data(serde_json::to_string(&**event).unwrap_or_default())
        }
    };
    message.retry(RETRY)
}

#[cfg(test)]
mod tests {
    use outrigger_api::Severity;
    use tokio::sync::{Semaphore, watch};

    use super::*;

    fn happened(id: u64) -> Event {
        Event {
            id,
            at_unix_ms: 0,
            kind: "device_up".into(),
            severity: Severity::Info,
            device: Some("pi".into()),
            stack: None,
            service: None,
            replica: None,
            message: "pi is heard".into(),
            reason: None,
        }
    }

    struct Case {
        log: EventLog,
        reader: Reader,
        stop: watch::Sender<bool>,
    }

    /// A log with the events 1 to 5, and a reader.
    fn case(since: Option<u64>) -> Case {
        let log = EventLog::new((1..=5).map(happened).collect());
        let (stop, stopping) = watch::channel(false);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let asked = Asked { query: EventQuery::default(), scope: Scope::Fleet };
        let ends = Ends { stopping, caller: Box::pin(std::future::pending()) };
        Case { reader: Reader::new(log.clone(), asked, since, ends, place), log, stop }
    }

    /// Numbers of the next messages, but for marks; 0 for a gap.
    async fn take(reader: &mut Reader, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            match reader.next().await.unwrap() {
                Item::Gap => numbers.push(0),
                Item::Happened(event) => numbers.push(event.id),
                Item::Mark(_) => (),
            }
        }
        numbers
    }

    async fn mark(reader: &mut Reader) -> u64 {
        match reader.next().await.unwrap() {
            Item::Mark(id) => id,
            Item::Gap | Item::Happened(_) => panic!("this is no mark"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_knows_where_it_is_also_if_nothing_matches() {
        let mut case = case(None);
        case.reader.asked.query.device = Some("other".into());
        assert_eq!(mark(&mut case.reader).await, 5);
        (6..=8).for_each(|id| drop(case.log.push(happened(id))));
        assert_eq!(mark(&mut case.reader).await, 8);
        assert!(tokio::time::timeout(10 * HEARTBEAT, case.reader.next()).await.is_err(), "there is nothing new");
    }

    #[tokio::test]
    async fn a_reader_goes_on_after_the_event_that_it_names() {
        let mut case = case(Some(3));
        case.log.push(happened(6));
        assert_eq!(take(&mut case.reader, 3).await, [4, 5, 6]);
        case.stop.send_replace(true);
        assert!(case.reader.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_was_too_slow_for_the_stream_misses_nothing_that_is_kept() {
        let mut case = case(None);
        (6..2006).for_each(|id| drop(case.log.push(happened(id))));
        assert_eq!(take(&mut case.reader, 2000).await, (6..2006).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_reader_that_was_far_too_slow_is_told_of_the_gap() {
        let mut case = case(None);
        let last = 20 + MAX_EVENTS as u64;
        (6..=last).for_each(|id| drop(case.log.push(happened(id))));
        assert_eq!(take(&mut case.reader, 3).await, [0, 21, 22]);
    }
}
