//! `logs -f`: several replicas at once, each from copy to copy.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use outrigger_api::{LogFrame, LogsQuery, ProblemKind};

use super::seen::Seen;
use super::{Shape, parse, replica_names, show};
use crate::args::MAX_FOLLOWED;
use crate::clock::Deadline;
use crate::resolve::Target;
use crate::style::Tone;
use crate::{Client, Exit, Failure, Output};

/// Lines that wait for a slow reader; then the hub waits, and then the device.
const QUEUE: usize = 256;
/// Before the output of a copy is asked for again, and between two looks for new replicas.
const PAUSE: Duration = Duration::from_secs(1);

/// Replicas that are named when some are left out.
const MOST_NAMED: usize = 8;

/// What a thread that follows one replica tells.
enum News {
    Frame(LogFrame),
    /// The replica is no longer wanted.
    Gone(String),
    /// Why nothing comes at present.
    Trouble(String),
    Failed(Failure),
}

/// The replicas that are followed, and those for which there is no room.
struct Followers<'a> {
    client: &'a Client,
    sender: SyncSender<News>,
    /// Each takes a connection and a thread here, and a place at the hub.
    most: usize,
    /// Of those that were there first, what the user asked for is shown; later ones are followed from their beginning.
    first: BTreeSet<String>,
    query: &'a LogsQuery,
    followed: BTreeSet<String>,
    left_out: Vec<String>,
}

impl Followers<'_> {
    /// Follows these as far as there is room. Gives what to tell of those that are left out, if that is new.
    fn begin(&mut self, names: Vec<String>) -> Option<String> {
        let all = names.len();
        let mut left_out = Vec::new();
        for name in names {
            if self.followed.contains(&name) {
                continue;
            }
            if self.followed.len() >= self.most {
                left_out.push(name);
                continue;
            }
            self.followed.insert(name.clone());
            let (client, sender) = (self.client.clone(), self.sender.clone());
            let query = match self.first.contains(&name) {
                true => self.query.clone(),
                false => LogsQuery { tail: None, since: None, ..self.query.clone() },
            };
            // It ends with the process: nobody waits for what it would still read.
            thread::spawn(move || follow_one(&client, &name, query, &sender));
        }
        let is_new = left_out != self.left_out;
        self.left_out = left_out;
        (is_new && !self.left_out.is_empty()).then(|| told_of_left_out(&self.left_out, self.followed.len(), all))
    }
}

fn told_of_left_out(left_out: &[String], followed: usize, all: usize) -> String {
    let named: Vec<&str> = left_out.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = match left_out.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let choice = match u16::try_from(all) {
        Ok(all) if all <= MAX_FOLLOWED => format!("--max-replicas {all} follows all; or name the replicas you want"),
        Ok(_) | Err(_) => format!("name the replicas you want; --max-replicas takes up to {MAX_FOLLOWED}"),
    };
    format!("following {followed} of {all} replicas, without {}{more}; {choice}", named.join(", "))
}

pub(super) fn follow(
    client: &Client,
    targets: &[Target],
    names: Vec<String>,
    most: usize,
    query: &LogsQuery,
    shape: &Shape,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (sender, receiver) = sync_channel(QUEUE);
    let (first, followed) = (names.iter().cloned().collect(), BTreeSet::new());
    let mut followers = Followers { client, sender, most, first, query, followed, left_out: Vec::new() };
    let tell = |told: Option<String>, out: &mut Output| {
        if let Some(told) = told {
            out.note(Tone::Warning, &told);
        }
    };
    tell(followers.begin(names), out);
    let mut look_again = Deadline::after(PAUSE);
    let mut last_trouble = String::new();
    loop {
        if look_again.is_over() {
            // A hub that is away says nothing new.
            tell(replica_names(client, targets).ok().and_then(|names| followers.begin(names)), out);
            look_again = Deadline::after(PAUSE);
        }
        match receiver.recv_timeout(PAUSE) {
            Ok(News::Frame(frame)) => show(&frame, query.timestamps, shape, out)?,
            Ok(News::Gone(name)) if matches!(targets, [Target::Replica { .. }]) => {
                return Err(Failure::NotFound {
                    what: "replica",
                    name,
                    hint: "`outrigger ps` lists what there is".into(),
                });
            }
            Ok(News::Gone(name)) => drop(followers.followed.remove(&name)),
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
