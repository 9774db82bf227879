//! `logs`: what replicas write. Of several, one after the other; with `-f` all at once, and a copy that is started
//! elsewhere is followed there.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use outrigger_api::{LogFrame, LogOutput, LogsQuery, ProblemKind, ReplicaQuery};

use crate::args::{Format, Logs};
use crate::clock::{self, Deadline};
use crate::inert::{Colours, inert, log_line};
use crate::output::Screen;
use crate::resolve::{self, Target};
use crate::style::{Paint, Tone};
use crate::{Client, Exit, Failure, Output};

/// Lines that wait for a slow reader; then the hub waits, and then the device.
const QUEUE: usize = 256;
/// Before the output of a copy is asked for again, and between two looks for new replicas.
const PAUSE: Duration = Duration::from_secs(1);
/// Replicas followed at once. Each takes a connection and a thread.
const MOST_FOLLOWED: usize = 32;

pub(crate) fn run(client: &Client, args: &Logs, out: &mut Output) -> Result<Exit, Failure> {
    let target = resolve::target(client, &args.of)?;
    let names = replica_names(client, &target)?;
    if names.is_empty() && !args.follow {
        out.note(Tone::Dim, &format!("{} has no replicas", target.service()));
        return Ok(Exit::Ok);
    }
    let since = args.since.map(|span| {
        let at = clock::unix_ms() / 1000;
        i64::try_from(at.saturating_sub(span.as_secs())).unwrap_or(i64::MAX)
    });
    let query = LogsQuery { tail: args.tail, since, follow: args.follow, timestamps: args.timestamps };
    let shape = Shape {
        format: out.format(),
        screen: out.screen(),
        paint: out.paint(),
        prefix: !args.no_prefix && matches!(target, Target::Service(_)) && (names.len() > 1 || args.follow),
        width: names.iter().map(|name| short(name).len()).max().unwrap_or(0),
    };
    if args.follow {
        follow(client, &target, names, &query, &shape, out)
    } else {
        read_all(client, &names, &query, &shape, out)
    }
}

fn replica_names(client: &Client, target: &Target) -> Result<Vec<String>, Failure> {
    match target {
        Target::Replica { name, .. } => Ok(vec![name.clone()]),
        Target::Service(service) => {
            let query = ReplicaQuery { service: Some(service.clone()), ..ReplicaQuery::default() };
            Ok(client.replicas(&query)?.replicas.into_iter().map(|replica| replica.name).collect())
        }
    }
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

/// What a thread that follows one replica tells.
enum News {
    Frame(LogFrame),
    /// The replica is no longer wanted.
    Gone(String),
    /// Why nothing comes at present.
    Trouble(String),
    Failed(Failure),
}

fn follow(
    client: &Client,
    target: &Target,
    names: Vec<String>,
    query: &LogsQuery,
    shape: &Shape,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (sender, receiver) = sync_channel(QUEUE);
    let mut followed = BTreeSet::new();
    let begin = |names: Vec<String>, query: &LogsQuery, followed: &mut BTreeSet<String>| {
        for name in names {
            if followed.len() < MOST_FOLLOWED && followed.insert(name.clone()) {
                let (client, query, sender) = (client.clone(), query.clone(), sender.clone());
                // It ends with the process: nobody waits for what it would still read.
                thread::spawn(move || follow_one(&client, &name, query, &sender));
            }
        }
    };
    begin(names, query, &mut followed);
    // Replicas that are added later are followed from their beginning.
    let later = LogsQuery { tail: None, since: None, ..query.clone() };
    let mut look_again = Deadline::after(PAUSE);
    let mut last_trouble = String::new();
    loop {
        if look_again.is_over() {
            begin(replica_names(client, target).unwrap_or_default(), &later, &mut followed);
            look_again = Deadline::after(PAUSE);
        }
        match receiver.recv_timeout(PAUSE) {
            Ok(News::Frame(frame)) => show(&frame, query.timestamps, shape, out)?,
            Ok(News::Gone(name)) if matches!(target, Target::Replica { .. }) => {
                return Err(Failure::NotFound {
                    what: "replica",
                    name,
                    hint: "`outrigger ps` lists what there is".into(),
                });
            }
            Ok(News::Gone(name)) => drop(followed.remove(&name)),
            // That the hub is away is told once, not by each replica.
            Ok(News::Trouble(trouble)) if trouble == last_trouble => (),
            Ok(News::Trouble(trouble)) => {
                out.note(Tone::Warning, &trouble);
                last_trouble = trouble;
            }
            Ok(News::Failed(failure)) => return Err(failure),
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Ok),
        }
    }
}

/// Follows one replica from copy to copy. Times are asked for always: they tell, when a connection was lost, what has
/// been shown already.
fn follow_one(client: &Client, name: &str, mut query: LogsQuery, sender: &SyncSender<News>) {
    query.timestamps = true;
    let mut seen = Seen::default();
    let mut told = String::new();
    loop {
        let trouble = match follow_copy(client, name, &mut query, &mut seen, sender) {
            Ok(trouble) => trouble,
            Err(last) => return drop(sender.send(last)),
        };
        if let Some(trouble) = trouble.filter(|trouble| *trouble != told) {
            told.clone_from(&trouble);
            if sender.send(News::Trouble(trouble)).is_err() {
                return;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Follows the copy that is there now, to its end. Gives what keeps it from being followed, if it is worth telling; an
/// error is the last that can be told of this replica.
fn follow_copy(
    client: &Client,
    name: &str,
    query: &mut LogsQuery,
    seen: &mut Seen,
    sender: &SyncSender<News>,
) -> Result<Option<String>, News> {
    let waits = |failure: Failure| match failure {
        Failure::Refused(problem) if problem.kind == ProblemKind::NotFound => Err(News::Gone(name.to_owned())),
        Failure::Refused(problem) => Ok(Some(format!("{name}: {problem}; still waiting"))),
        failure @ (Failure::Unreachable { .. } | Failure::Interrupted { .. }) => {
            Ok(Some(format!("{failure}; still waiting")))
        }
        failure => Err(News::Failed(failure)),
    };
    match client.replica(name) {
        Ok(replica) => match replica.copy {
            Some(copy) => seen.begin(copy.placement, query),
            None => return Ok(Some(format!("{name}: no device can take it; still waiting"))),
        },
        Err(failure) => return waits(failure),
    }
    let lines = match client.replica_logs(name, query) {
        Ok(lines) => lines,
        // The copy has gone between the two questions. If the replica has too, the next look tells.
        Err(Failure::Refused(problem)) if problem.kind == ProblemKind::NotFound => return Ok(None),
        Err(failure) => return waits(failure),
    };
    for line in lines {
        let Ok(line) = line else { break };
        match parse(&line) {
            LogFrame::End { error, .. } => return Ok(error.map(|error| format!("{name}: {error}; still waiting"))),
            frame if !seen.is_new(&frame) => (),
            frame => sender.send(News::Frame(frame)).map_err(|error| error.0)?,
        }
    }
    Ok(None)
}

/// How far the output of a copy was shown. Only within stdout, and within stderr, do times come in order.
#[derive(Debug, Default)]
struct Seen {
    placement: Option<String>,
    stdout: Shown,
    stderr: Shown,
}

/// How far one of the two was shown.
#[derive(Debug, Default)]
struct Shown {
    /// Time of the last line.
    last: Option<Moment>,
    /// What was shown before the present connection: up to this time.
    before: Option<Moment>,
}

impl Seen {
    /// Sets the query for the copy that is there now: a new one from its beginning, the same one from where it was left.
    fn begin(&mut self, placement: String, query: &mut LogsQuery) {
        match &self.placement {
            None => (),
            Some(known) if *known == placement => {
                let last = [self.stdout.last, self.stderr.last];
                // From the one that is further behind; what the other has shown since is left out line by line.
                if let Some(since) = last.into_iter().flatten().map(|(seconds, _)| seconds).min() {
                    (query.tail, query.since) = (None, Some(since));
                }
                self.stdout.before = self.stdout.last;
                self.stderr.before = self.stderr.last;
            }
            Some(_) => {
                (query.tail, query.since) = (None, None);
                (self.stdout, self.stderr) = (Shown::default(), Shown::default());
            }
        }
        self.placement = Some(placement);
    }

    /// Whether a frame was not shown yet. A line without a time that can be read is shown rather than lost.
    fn is_new(&mut self, frame: &LogFrame) -> bool {
        let LogFrame::Line { time: Some(time), output, .. } = frame else { return true };
        let Some(moment) = moment(time) else { return true };
        let shown = match output {
            LogOutput::Stdout => &mut self.stdout,
            LogOutput::Stderr => &mut self.stderr,
        };
        let is_new = shown.before.is_none_or(|before| moment > before);
        if is_new {
            shown.last = Some(moment);
        }
        is_new
    }
}

/// Seconds since 1970, and nanoseconds.
type Moment = (i64, u32);

/// Reads a time in RFC 3339. Engines leave the zeros at the end of the fraction out, so it cannot be compared as text.
fn moment(time: &str) -> Option<Moment> {
    let fraction = time.get(19..)?.strip_prefix('.').unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).take(9);
    let (value, places) =
        digits.fold((0, 0), |(value, places), digit| (value * 10 + u32::from(digit - b'0'), places + 1));
    Some((unix_seconds(time)?, value * 10u32.pow(9 - places)))
}

/// Seconds since 1970 of a time in RFC 3339; days by Howard Hinnant's `days_from_civil`.
fn unix_seconds(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let of_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(days * 86_400 + of_day - zone_seconds(time.get(19..)?)?)
}

/// How far a zone is ahead of UTC: `Z`, `+02:00`, with the fraction of a second before it or not.
fn zone_seconds(rest: &str) -> Option<i64> {
    let Some(at) = rest.find(['+', '-']) else { return rest.ends_with('Z').then_some(0) };
    let (hours, minutes) = rest[at + 1..].split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some(if rest[at..].starts_with('-') { -seconds } else { seconds })
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
    width: usize,
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
        let name = format!("{:width$} | ", short(replica), width = shape.width);
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

/// The name without its stack: all are of one service.
fn short(replica: &str) -> &str {
    replica.split_once('/').map_or(replica, |(_, short)| short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str) -> LogFrame {
        line_of(LogOutput::Stdout, time)
    }

    fn line_of(output: LogOutput, time: &str) -> LogFrame {
        LogFrame::Line { replica: "shop/web.1".into(), output, time: Some(time.into()), text: "hello".into() }
    }

    #[test]
    fn a_line_says_whose_it_is_and_cannot_act_on_a_terminal() {
        let terminal = Screen::Terminal { columns: 80, rows: 24 };
        let mut shape = Shape { format: Format::Table, screen: terminal, paint: Paint::Plain, prefix: true, width: 6 };
        assert_eq!(shown_line("shop/web.1", None, "\u{1b}[2J\u{1b}[31mhi", &shape), "web.1  | hi");
        shape.screen = Screen::Other;
        shape.prefix = false;
        assert_eq!(shown_line("shop/web.1", Some("T"), "\u{1b}[31mhi", &shape), "T \u{1b}[31mhi");
    }

    #[test]
    fn after_a_lost_connection_no_line_is_shown_twice() {
        let (mut seen, mut query) = (Seen::default(), LogsQuery { tail: Some(5), ..LogsQuery::default() });
        seen.begin("2a".into(), &mut query);
        assert_eq!(query.tail, Some(5));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000001Z")));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000002Z")));
        let late = line_of(LogOutput::Stderr, "2026-11-22T16:56:33.000000009Z");
        assert!(seen.is_new(&late), "stderr has a time of its own");
        seen.begin("2a".into(), &mut query);
        assert_eq!((query.tail, query.since), (None, Some(1_795_366_593)));
        assert!(!seen.is_new(&late));
        assert!(!seen.is_new(&line("2026-11-22T16:56:34.000000002Z")));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000003Z")));
    }

    #[test]
    fn a_fraction_without_its_zeros_is_the_same_moment() {
        let of = |text: &str| moment(&format!("2026-11-22T16:56:34{text}")).unwrap();
        assert_eq!(of(".120000000Z"), of(".12Z"));
        assert_eq!(of("+00:00"), of(".0Z"));
        assert!(of(".119999999Z") < of(".12Z"));
    }

    #[test]
    fn times_of_every_zone_are_understood() {
        for time in ["2026-11-22T16:56:34Z", "2026-11-22T18:56:34.123+02:00", "2026-11-22T11:26:34.5-05:30"] {
            assert_eq!(unix_seconds(time), Some(1_795_366_594), "{time}");
        }
        for bad in ["", "yesterday", "2026-11-22T16:56:34", "2026-11-22T16:56:34+x", "2026-11-22 ü6:56:34Z"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_copy_elsewhere_is_read_from_its_beginning_whatever_its_clock_says() {
        let (mut seen, mut query) = (Seen::default(), LogsQuery::default());
        seen.begin("2a".into(), &mut query);
        assert!(seen.is_new(&line("2026-11-22T16:56:34Z")));
        seen.begin("2b".into(), &mut query);
        assert_eq!((query.tail, query.since), (None, None));
        assert!(seen.is_new(&line("2020-01-01T00:00:00Z")));
    }
}
