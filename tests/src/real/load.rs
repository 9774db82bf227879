//! Requests at a steady rate, and which of them failed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lab::ActedAt;
use crate::clock::{rest, since_epoch};

/// So many requests are sent each second, each in a connection of its own.
pub const RATE: u32 = 200;
/// A request that takes longer has failed for its user.
const PATIENCE: Duration = Duration::from_secs(3);

/// A request, in times since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When it was sent.
    pub began: Duration,
    /// When it was answered, or given up.
    pub ended: Duration,
    /// What was wrong with its answer; none: nothing.
    pub trouble: Option<String>,
}

/// When a fault was, as nearly as is known, in times since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Not before.
    pub from: Duration,
    /// Not after.
    pub to: Duration,
}

impl From<ActedAt> for When {
    fn from(at: ActedAt) -> Self {
        Self { from: at, to: at }
    }
}

impl When {
    /// While something was done that takes a moment.
    pub fn of(act: impl FnOnce() -> Result<()>) -> Result<Self> {
        let from = since_epoch();
        act()?;
        Ok(Self { from, to: since_epoch() })
    }
}

/// What became of the requests.
#[derive(Debug, Clone)]
pub struct Failures {
    /// When the fault was.
    pub at: When,
    /// Which requests failed.
    pub failed: Vec<Asked>,
    /// How many there were.
    pub count: usize,
}

impl Failures {
    /// Those that were not under way when the fault came, nor sent within `grace` after it: how, and how long after it.
    #[must_use]
    pub fn beyond(&self, grace: Duration) -> Vec<String> {
        let excused = |asked: &&Asked| asked.began <= self.at.to + grace && asked.ended >= self.at.from;
        let told = |asked: &Asked| {
            let after = asked.began.as_secs_f64() - self.at.from.as_secs_f64();
            format!("{after:+.3} s: {}", asked.trouble.as_deref().unwrap_or_default())
        };
        self.failed.iter().filter(|asked| !excused(asked)).map(told).collect()
    }
}

/// Requests to each `host:port` in turn for `/` under the name of a host; two seconds before `fault`, which says when it was, and
/// six after it.
pub fn failures_while<W: Into<When>>(at: &[String], host: &str, fault: impl FnOnce() -> Result<W>) -> Result<Failures> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopping, addresses, host) = (Arc::clone(&stop), at.to_vec(), host.to_owned());
    let load = thread::spawn(move || ask_until(&stopping, &addresses, &host));
    rest(Duration::from_secs(2));
    let at = fault();
    rest(Duration::from_secs(6));
    stop.store(true, Ordering::Relaxed);
    let mut all = load.join().ok().context("the load has panicked")?;
    let count = all.len();
    all.retain(|asked| asked.trouble.is_some());
    Ok(Failures { at: at?.into(), failed: all, count })
}

/// None waits for the answer of another.
fn ask_until(stop: &AtomicBool, addresses: &[String], host: &str) -> Vec<Asked> {
    let first = since_epoch();
    let mut sent = vec![];
    for (number, address) in (0..).zip(addresses.iter().cycle()) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        rest((first + Duration::from_secs(1) / RATE * number).saturating_sub(since_epoch()));
        let (address, host) = (address.to_owned(), host.to_owned());
        sent.push(thread::spawn(move || {
            let began = since_epoch();
            let trouble = request(&address, &host).err().map(|error| format!("{error:#}"));
            Asked { began, ended: since_epoch(), trouble }
        }));
    }
    sent.into_iter().filter_map(|request| request.join().ok()).collect()
}

fn request(address: &str, host: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET / HTTP/1.0\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(" 200 "), "{answer:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_under_way_at_the_fault_or_sent_right_after_it_is_excused() {
        let asked = |began, ended| Asked {
            began: Duration::from_secs(began),
            ended: Duration::from_secs(ended),
            trouble: Some("reset".to_owned()),
        };
        let failed = vec![asked(5, 7), asked(5, 12), asked(11, 14), asked(13, 14)];
        let failures = Failures { at: Duration::from_secs(10).into(), failed, count: 100 };
        assert_eq!(failures.beyond(Duration::from_secs(1)), ["-5.000 s: reset", "+3.000 s: reset"]);
    }
}
