//! What happened lately: a bounded log in memory that many may read and one writes.
//!
//! Numbers grow across restarts of the hub (they begin at its start in microseconds since 1970), so that a reader who
//! was away, or outlived a hub, names the last one it saw and gets all that is kept of what came later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use outrigger_api::{Event, EventList, EventQuery, Severity};
use outrigger_planner::Note;
use tokio::sync::watch;

/// Events kept. At some 300 bytes each this is 3 MB when a large fleet has had a bad day.
pub const MAX_EVENTS: usize = 10_000;
/// Events in one answer, if the reader does not say.
const DEFAULT_LIMIT: usize = 100;
/// Most events in one answer.
pub const MAX_LIMIT: usize = 1000;

/// The log. Cheap to clone; all clones are the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    kept: Arc<Mutex<Kept>>,
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    /// Number of the event before the oldest that is kept.
    before: u64,
}

/// Events after a given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The oldest first.
    pub events: Vec<Arc<Event>>,
    /// Whether some in between are no longer kept.
    pub is_gap: bool,
    /// Where to go on reading: the number of the last event looked at, whether it matched or not.
    pub next: u64,
}

impl EventLog {
    /// An empty log of a hub that starts now.
    #[must_use]
    pub fn new(start_unix_ms: u64) -> Self {
        let before = start_unix_ms.saturating_mul(1000);
        Self {
            kept: Arc::new(Mutex::new(Kept { events: VecDeque::new(), before })),
            latest: watch::Sender::new(before),
        }
    }

    /// Writes down what happened.
    pub fn append(&self, note: &Note, at_unix_ms: u64) {
        let id = *self.latest.borrow() + 1;
        let event = Arc::new(event(id, note, at_unix_ms));
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.events.len() == MAX_EVENTS {
                kept.before = kept.events.pop_front().map_or(kept.before, |oldest| oldest.id);
            }
            kept.events.push_back(event);
        }
        // After the event is there: who wakes up finds it.
        self.latest.send_replace(id);
    }

    /// Wakes up when something was written; its value is the number of the latest event.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Number of the latest event; the next one has a higher one.
    #[must_use]
    pub fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// Up to `limit` events that match, from the first after `since` on. A number from the future is one that another hub
    /// gave, so everything is new to its reader.
    #[must_use]
    pub fn after(&self, since: u64, limit: usize, query: &EventQuery) -> Batch {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = kept.events.back().map_or(kept.before, |event| event.id);
        let is_foreign = since > latest;
        let since = if is_foreign { kept.before } else { since };
        let mut batch = Batch { events: Vec::new(), is_gap: is_foreign || since < kept.before, next: latest };
        let first = kept.events.partition_point(|event| event.id <= since);
        for event in kept.events.range(first..) {
            if batch.events.len() == limit {
                break;
            }
            batch.next = event.id;
            if matches(query, event) {
                batch.events.push(Arc::clone(event));
            }
        }
        batch
    }

    /// The latest events that match: after `query.since` if it is given, at most `query.limit` of them.
    #[must_use]
    pub fn list(&self, query: &EventQuery) -> EventList {
        let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let since = query.since.unwrap_or(0);
        let newer = kept.events.iter().rev().take_while(|event| event.id > since);
        let mut found: Vec<&Arc<Event>> = newer.filter(|event| matches(query, event)).take(limit + 1).collect();
        let is_cut = found.len() > limit;
        found.truncate(limit);
        found.reverse();
        let truncated = is_cut || query.since.is_some_and(|since| since < kept.before);
        EventList { events: found.into_iter().map(|event| Event::clone(event)).collect(), truncated }
    }
}

fn matches(query: &EventQuery, event: &Event) -> bool {
    let wanted = |asked: &Option<String>, has: Option<&String>| asked.as_ref().is_none_or(|asked| Some(asked) == has);
    wanted(&query.kind, Some(&event.kind))
        && wanted(&query.device, event.device.as_ref())
        && wanted(&query.stack, event.stack.as_ref())
        && wanted(&query.service, event.service.as_ref())
        && wanted(&query.replica, event.replica.as_ref())
        && query.severity.is_none_or(|least| event.severity >= least)
}

fn event(id: u64, note: &Note, at_unix_ms: u64) -> Event {
    Event {
        id,
        at_unix_ms,
        kind: note.kind.as_str().to_owned(),
        severity: match note.severity() {
            outrigger_planner::Severity::Info => Severity::Info,
            outrigger_planner::Severity::Warning => Severity::Warning,
            outrigger_planner::Severity::Error => Severity::Error,
        },
        device: note.device.as_ref().map(ToString::to_string),
        stack: note.stack.as_ref().map(ToString::to_string),
        service: note.service.as_ref().map(ToString::to_string),
        replica: note.replica.as_ref().map(ToString::to_string),
        message: note.message.clone(),
        reason: note.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use outrigger_planner::NoteKind;

    use super::*;

    fn note(kind: NoteKind, device: &str) -> Note {
        Note {
            kind,
            device: Some(device.parse().unwrap()),
            stack: None,
            service: None,
            replica: None,
            message: "m".to_owned(),
            reason: None,
        }
    }

    fn log_of(count: u64) -> EventLog {
        let log = EventLog::new(1);
        (0..count).for_each(|_| log.append(&note(NoteKind::DeviceUp, "pi"), 5));
        log
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        batch.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn a_reader_that_names_its_last_event_gets_all_later_ones_once() {
        let log = log_of(5);
        let batch = log.after(1002, 2, &EventQuery::default());
        assert_eq!((ids(&batch), batch.is_gap, batch.next), (vec![1003, 1004], false, 1004));
        let batch = log.after(batch.next, 2, &EventQuery::default());
        assert_eq!((ids(&batch), batch.is_gap, batch.next), (vec![1005], false, 1005));
        assert!(log.after(batch.next, 2, &EventQuery::default()).events.is_empty());
    }

    #[test]
    fn a_reader_from_before_a_restart_or_after_too_long_a_pause_is_told_of_the_gap() {
        let log = log_of(2);
        assert!(log.after(7, 9, &EventQuery::default()).is_gap, "numbers of an earlier hub are lower");
        let batch = log.after(9_999_999, 9, &EventQuery::default());
        assert_eq!((ids(&batch), batch.is_gap), (vec![1001, 1002], true), "the clock went back");
    }

    #[test]
    fn the_log_is_bounded_and_says_what_it_dropped() {
        let log = log_of(MAX_EVENTS as u64 + 10);
        assert_eq!(log.kept.lock().unwrap().events.len(), MAX_EVENTS);
        assert!(log.after(1009, 1, &EventQuery::default()).is_gap);
        assert!(!log.after(1010, 1, &EventQuery::default()).is_gap);
    }

    #[test]
    fn a_list_is_the_latest_that_match_the_oldest_first() {
        let log = log_of(3);
        log.append(&note(NoteKind::DeviceLost, "nuc"), 6);
        log.append(&note(NoteKind::DeviceUp, "pi"), 7);
        let of_pi = EventQuery { device: Some("pi".to_owned()), limit: Some(2), ..EventQuery::default() };
        let list = log.list(&of_pi);
        assert_eq!(list.events.iter().map(|event| event.id).collect::<Vec<_>>(), [1003, 1005]);
        assert!(list.truncated);
        let bad = EventQuery { severity: Some(Severity::Warning), ..EventQuery::default() };
        assert_eq!(log.list(&bad).events[0].kind, "device_lost");
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_up_to_the_new_event() {
        let log = log_of(0);
        let mut watch = log.watch();
        log.append(&note(NoteKind::DeviceUp, "pi"), 5);
        watch.changed().await.unwrap();
        assert_eq!(log.after(1000, 9, &EventQuery::default()).events.len(), 1);
    }
}
