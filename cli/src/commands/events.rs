//! `events`: what happened, and (`-f`) what happens.

use std::thread;
use std::time::Duration;

use outrigger_api::{Event, EventQuery, Severity};

use super::words;
use crate::args::{Events, Format, SeverityChoice};
use crate::output::Look;
use crate::resolve::{self, Target};
use crate::style::Tone;
use crate::{Client, Exit, Failure, Output, amounts, clock};

/// Before a lost stream is taken up again.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn run(client: &Client, args: &Events, out: &mut Output) -> Result<Exit, Failure> {
    let mut query = query_of(client, args)?;
    let not_before =
        args.since.map(|span| clock::unix_ms().saturating_sub(span.as_millis().try_into().unwrap_or(u64::MAX)));
    let mut list = client.events(&query)?;
    list.events.retain(|event| not_before.is_none_or(|limit| event.at_unix_ms >= limit));
    if !args.follow {
        out.answer(
            &list,
            |list| list.events.iter().map(|event| event.id.to_string()).collect(),
            |list, look| list.events.iter().map(|event| line(event, look)).collect(),
        )?;
        return Ok(Exit::Ok);
    }
    query.limit = None;
    // What happened while nobody looked is asked for by number; a hub without any event yet has number 0.
    query.since = Some(list.events.iter().map(|event| event.id).max().unwrap_or(0).max(latest(client)?));
    for event in &list.events {
        show(event, out)?;
    }
    loop {
        match follow(client, &mut query, out) {
            Ok(()) => (),
            Err(Failure::Unreachable { .. } | Failure::Interrupted { .. }) => {
                out.note(Tone::Warning, &format!("the hub at {} went away; trying again", client.hub()));
            }
            Err(failure) => return Err(failure),
        }
        thread::sleep(PAUSE);
    }
}

/// The number of the newest event of all, so that filters do not bring old ones back.
fn latest(client: &Client) -> Result<u64, Failure> {
    let query = EventQuery { limit: Some(1), ..EventQuery::default() };
    Ok(client.events(&query)?.events.last().map_or(0, |event| event.id))
}

/// Shows events while they come, and remembers in the query how far it came.
fn follow(client: &Client, query: &mut EventQuery, out: &mut Output) -> Result<(), Failure> {
    let mut data = String::new();
    for line in client.event_stream(query)? {
        let line = line?;
        if let Some(part) = line.strip_prefix("data:") {
            data.push_str(part.strip_prefix(' ').unwrap_or(part));
            continue;
        }
        if !line.is_empty() {
            continue;
        }
        // What is no event is something that a newer hub tells, or a comment that keeps the connection alive.
        if let Ok(event) = serde_json::from_str::<Event>(&data) {
            query.since = Some(event.id.max(query.since.unwrap_or(0)));
            show(&event, out)?;
        }
        data.clear();
    }
    Ok(())
}

fn query_of(client: &Client, args: &Events) -> Result<EventQuery, Failure> {
    let mut query = EventQuery {
        limit: Some(args.limit),
        device: args.device.clone(),
        stack: args.stack.clone(),
        severity: args.severity.map(|severity| match severity {
            SeverityChoice::Info => Severity::Info,
            SeverityChoice::Warning => Severity::Warning,
            SeverityChoice::Error => Severity::Error,
        }),
        ..EventQuery::default()
    };
    if let Some(of) = &args.of {
        match resolve::target(client, of)? {
            Target::Service(service) => query.service = Some(service),
            Target::Replica { name, .. } => query.replica = Some(name),
        }
    }
    Ok(query)
}

fn show(event: &Event, out: &mut Output) -> Result<(), Failure> {
    match out.format() {
        Format::Json => out.json_line(event),
        Format::Names => out.lines([event.id.to_string()]),
        Format::Table => {
            let look = out.look();
            out.lines([line(event, look)])
        }
    }
}

fn line(event: &Event, look: Look) -> String {
    let (tone, severity) = words::severity(event.severity);
    let reason = event.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!(
        "{}  {}  {}{}",
        look.paint.text(Tone::Dim, &amounts::utc(event.at_unix_ms)),
        look.paint.text(tone, &format!("{severity:7}")),
        look.paint.text(Tone::Plain, &event.message),
        look.paint.text(Tone::Dim, &reason),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            id: 7,
            at_unix_ms: 1_795_366_594_123,
            kind: "device_lost".into(),
            severity: Severity::Warning,
            device: Some("pi-3".into()),
            stack: None,
            service: None,
            replica: None,
            message: "pi-3 is lost".into(),
            reason: Some("not heard\nfor 4 s".into()),
        };
        assert_eq!(line(&event, Look::PLAIN), "2026-11-22T16:56:34Z  warning  pi-3 is lost (not heard for 4 s)");
    }
}
