//! `logs`: what replicas write. Of several, one after the other; with `-f` all at once, and a copy that is started
//! elsewhere is followed there.

mod follow;
mod seen;

use std::collections::BTreeSet;

use outrigger_api::{LogFrame, LogsQuery, ReplicaQuery};

use crate::args::{Format, Logs};
use crate::clock;
use crate::inert::{Colours, inert, log_line};
use crate::output::Screen;
use crate::resolve::{self, Target};
use crate::style::{Paint, Tone};
use crate::{Client, Exit, Failure, Output};

pub(crate) fn run(client: &Client, args: &Logs, out: &mut Output) -> Result<Exit, Failure> {
    let targets = args.of.iter().map(|of| resolve::target(client, of)).collect::<Result<Vec<_>, _>>()?;
    let names = replica_names(client, &targets)?;
    if names.is_empty() && !args.follow {
        let services: Vec<&str> = targets.iter().map(Target::service).collect();
        out.note(Tone::Dim, &format!("{} has no replicas", services.join(", ")));
        return Ok(Exit::Ok);
    }
    let since = args.since.map(|span| {
        let at = clock::unix_ms() / 1000;
        i64::try_from(at.saturating_sub(span.as_secs())).unwrap_or(i64::MAX)
    });
    let query = LogsQuery { tail: args.tail, since, follow: args.follow, timestamps: args.timestamps };
    let shape = Shape::new(&targets, &names, args, out);
    if args.follow {
        follow::follow(client, &targets, names, usize::from(args.max_replicas), &query, &shape, out)
    } else {
        read_all(client, &names, &query, &shape, out)
    }
}

/// The replicas that are meant, each once.
fn replica_names(client: &Client, targets: &[Target]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for target in targets {
        match target {
            Target::Replica { name, .. } => names.push(name.clone()),
            Target::Service(service) => {
                let query = ReplicaQuery { service: Some(service.clone()), ..ReplicaQuery::default() };
                names.extend(client.replicas(&query)?.replicas.into_iter().map(|replica| replica.name));
            }
        }
    }
    let mut known = BTreeSet::new();
    names.retain(|name| known.insert(name.clone()));
    Ok(names)
}

/// One replica after the other. A replica that cannot be read does not keep the others from being shown.
fn read_all(
    client: &Client,
    names: &[String],
    query: &LogsQuery,
    shape: &Shape,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let mut first_failure = None;
    for name in names {
        match read_one(client, name, query, shape, out) {
            Ok(()) => (),
            Err(failure @ Failure::Write(_)) => return Err(failure),
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => {
                out.note(Tone::Warning, &format!("{name}: {failure}"));
                first_failure.get_or_insert(failure);
            }
        }
    }
    first_failure.map_or(Ok(Exit::Ok), Err)
}

fn read_one(client: &Client, name: &str, query: &LogsQuery, shape: &Shape, out: &mut Output) -> Result<(), Failure> {
    for frame in client.replica_logs(name, query)? {
        let frame = parse(&frame?);
        if let LogFrame::End { error: Some(reason), .. } = &frame {
            return Err(Failure::Stuck {
                message: format!("the output of {name} ended early: {reason}"),
                hint: "`outrigger ps` tells how it is".into(),
            });
        }
        show(&frame, query.timestamps, shape, out)?;
    }
    Ok(())
}

/// What is not understood is something that a newer hub tells.
fn parse(line: &str) -> LogFrame {
    serde_json::from_str(line).unwrap_or(LogFrame::Other)
}

/// How lines are shown.
struct Shape {
    format: Format,
    screen: Screen,
    paint: Paint,
    prefix: bool,
    /// Whether lines come of several stacks: then names are whole.
    whole_names: bool,
    width: usize,
}

impl Shape {
    fn new(targets: &[Target], names: &[String], args: &Logs, out: &Output) -> Self {
        let stacks: BTreeSet<_> = targets.iter().map(|target| target.service().split('/').next()).collect();
        let is_one = matches!(targets, [Target::Replica { .. }]);
        let shape = Self {
            format: out.format(),
            screen: out.screen(),
            paint: out.paint(),
            prefix: !args.no_prefix && !is_one && (names.len() > 1 || args.follow),
            whole_names: stacks.len() > 1,
            width: 0,
        };
        Self { width: names.iter().map(|name| shape.name(name).len()).max().unwrap_or(0), ..shape }
    }

    fn name<'a>(&self, replica: &'a str) -> &'a str {
        if self.whole_names { replica } else { replica.split_once('/').map_or(replica, |(_, short)| short) }
    }
}

fn show(frame: &LogFrame, timestamps: bool, shape: &Shape, out: &mut Output) -> Result<(), Failure> {
    let LogFrame::Line { replica, time, text, .. } = frame else { return Ok(()) };
    if shape.format == Format::Json {
        return out.json_line(frame);
    }
    out.lines([shown_line(replica, time.as_deref().filter(|_| timestamps), text, shape)])
}

fn shown_line(replica: &str, time: Option<&str>, text: &str, shape: &Shape) -> String {
    let mut line = String::new();
    if shape.prefix {
        let number = replica.rsplit_once('.').and_then(|(_, number)| number.parse::<usize>().ok()).unwrap_or(0);
        let tone = Tone::Series((number % 250) as u8);
        let name = format!("{:width$} | ", shape.name(replica), width = shape.width);
        line.push_str(&shape.paint.text(tone, &name));
    }
    if let Some(time) = time {
        line.push_str(&inert(time));
        line.push(' ');
    }
    match (shape.screen, shape.paint) {
        (Screen::Other, _) => line.push_str(text),
        (Screen::Terminal { .. }, Paint::Colour) => line.push_str(&log_line(text, Colours::Keep)),
        (Screen::Terminal { .. }, Paint::Plain) => line.push_str(&log_line(text, Colours::Drop)),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_it_is_and_cannot_act_on_a_terminal() {
        let terminal = Screen::Terminal { columns: 80, rows: 24 };
        let (format, paint) = (Format::Table, Paint::Plain);
        let mut shape = Shape { format, screen: terminal, paint, prefix: true, whole_names: false, width: 6 };
        assert_eq!(shown_line("shop/web.1", None, "\u{1b}[2J\u{1b}[31mhi", &shape), "web.1  | hi");
        shape.screen = Screen::Other;
        shape.prefix = false;
        assert_eq!(shown_line("shop/web.1", Some("T"), "\u{1b}[31mhi", &shape), "T \u{1b}[31mhi");
    }
}
