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
    let query = query_of(client, args)?;
    let now = clock::unix_ms();
    let not_before = args.since.map_or(0, |span| now.saturating_sub(span.as_millis().try_into().unwrap_or(u64::MAX)));
    if args.follow {
        return follow(client, query, not_before, out);
    }
    let mut list = client.events(&query)?;
    let is_cut = list.truncated && list.events.first().is_some_and(|oldest| oldest.at_unix_ms >= not_before);
    if is_cut && args.since.is_some() {
        out.note(Tone::Warning, "the first events of that time are left out or no longer kept");
    }
    list.events.retain(|event| event.at_unix_ms >= not_before);
    let surplus = list.events.len().saturating_sub(limit_of(args) as usize);
    list.events.drain(..surplus);
    out.answer(
        &list,
        |list| list.events.iter().map(|event| event.id.to_string()).collect(),
        |list, look| list.events.iter().map(|event| line(event, look)).collect(),
    )?;
    Ok(Exit::Ok)
}

/// Whether the hub is reached. One that never was is a failure, one that goes away is told once.
#[derive(Debug, PartialEq, Eq)]
enum Link {
    Untried,
    Up,
    Lost,
}

/// Shows the latest events and then those that come. A stream that breaks is taken up again after the last one shown.
fn follow(client: &Client, query: EventQuery, not_before: u64, out: &mut Output) -> Result<Exit, Failure> {
    let mut query = EventQuery { limit: query.limit.filter(|&limit| limit > 0), ..query };
    let mut link = Link::Untried;
    loop {
        match read_stream(client, &mut query, not_before, &mut link, out) {
            Ok(()) => (),
            Err(Failure::Unreachable { .. } | Failure::Interrupted { .. }) if link != Link::Untried => (),
            Err(failure) => return Err(failure),
        }
        if link == Link::Up {
            out.note(Tone::Warning, &format!("the hub at {} went away; trying again", client.hub()));
            link = Link::Lost;
        }
        thread::sleep(PAUSE);
    }
}

/// Reads one stream to its end, and remembers in the query how far it came.
fn read_stream(
    client: &Client,
    query: &mut EventQuery,
    not_before: u64,
    link: &mut Link,
    out: &mut Output,
) -> Result<(), Failure> {
    let stream = client.event_stream(query)?;
    *link = Link::Up;
    let mut message = Message::default();
    for line in stream {
        let Some(whole) = message.take(&line?) else { continue };
        if let Some(id) = whole.id {
            (query.since, query.limit) = (Some(id), None);
        }
        if whole.kind == "gap" {
            out.note(Tone::Warning, &format!("there is a gap here: {}", whole.data));
        }
        // What is no event is something that a newer hub tells.
        let Ok(event) = serde_json::from_str::<Event>(&whole.data) else { continue };
        if event.at_unix_ms >= not_before {
            show(&event, out)?;
        }
    }
    Ok(())
}

/// One message of a stream of server-sent events, while its lines come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    /// How far the stream has come; also without data, of events that are not ours.
    id: Option<u64>,
    kind: String,
    data: String,
}

impl Message {
    /// Takes a line; the whole message if it ends with it. Comments and fields that we do not need are passed over.
    fn take(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            return Some(std::mem::take(self)).filter(|message| message.id.is_some() || !message.data.is_empty());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.parse().ok().or(self.id),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => (),
        }
        None
    }
}

fn limit_of(args: &Events) -> u32 {
    args.limit.unwrap_or(if args.since.is_some() { 1000 } else { 100 })
}

fn query_of(client: &Client, args: &Events) -> Result<EventQuery, Failure> {
    let mut query = EventQuery {
        limit: Some(limit_of(args)),
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
    fn a_stream_is_cut_into_messages() {
        let stream = ": hello\n\nid: 1\ndata: a\ndata:b\nretry: 2\n\nevent: gap\ndata: lost\n\nid: 4\n\n";
        let mut message = Message::default();
        let whole: Vec<Message> = stream.lines().filter_map(|line| message.take(line)).collect();
        let expected = [(Some(1), "", "a\nb"), (None, "gap", "lost"), (Some(4), "", "")];
        assert_eq!(whole, expected.map(|(id, kind, data)| Message { id, kind: kind.into(), data: data.into() }));
    }

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
