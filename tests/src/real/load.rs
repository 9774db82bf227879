//! Requests at a steady rate, and which of them failed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::clock::{monotonic, rest};

/// So many requests are sent each second, each in a connection of its own.
pub const RATE: u32 = 200;
/// A request that takes longer has failed for its user.
const PATIENCE: Duration = Duration::from_secs(3);

/// Goes on until it is ended.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Asked>>,
    began: Instant,
}

/// A request: when it was due, and what was wrong with its answer.
type Asked = (Duration, Result<(), String>);

/// What became of the requests; times count from the first of them.
#[derive(Debug, Clone)]
pub struct Failures {
    /// When the fault was.
    pub at: Duration,
    /// Which requests failed: when they began, and how.
    pub failed: Vec<(Duration, String)>,
    /// How many there were.
    pub count: usize,
}

impl Failures {
    /// Those that began neither shortly before the fault nor within `grace` after it.
    #[must_use]
    pub fn beyond(&self, grace: Duration) -> Vec<&(Duration, String)> {
        self.failed.iter().filter(|(began, _)| *began > self.at + grace || *began + grace < self.at).collect()
    }
}

impl Load {
    /// Asks `host:port` for `/` under the name of a host.
    #[must_use]
    pub fn begin(address: String, host: &str) -> Self {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), monotonic());
        let (stopping, host) = (Arc::clone(&stop), host.to_owned());
        let thread = thread::spawn(move || {
            let mut asked = vec![];
            for number in 0.. {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let due = began + Duration::from_secs(1) / RATE * number;
                rest(due.saturating_duration_since(monotonic()));
                let (address, host) = (address.clone(), host.clone());
                let request = move || request(&address, &host).map_err(|error| format!("{error:#}"));
                asked.push((due - began, thread::spawn(request)));
            }
            let ended = |(at, request): (Duration, thread::JoinHandle<Result<(), String>>)| {
                (at, request.join().unwrap_or_else(|_| Err("panicked".to_owned())))
            };
            asked.into_iter().map(ended).collect()
        });
        Self { stop, thread, began }
    }

    /// Time since the first request.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// No further requests; waits for those that are under way.
    pub fn end(self) -> Result<Vec<Asked>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the load has panicked")
    }
}

/// Requests to `address`, two seconds before `fault` and six after it.
pub fn failures_while(address: String, host: &str, fault: impl FnOnce() -> Result<()>) -> Result<Failures> {
    let load = Load::begin(address, host);
    rest(Duration::from_secs(2));
    let at = load.now();
    fault()?;
    rest(Duration::from_secs(6));
    let all = load.end()?;
    let count = all.len();
    let failed = all.into_iter().filter_map(|(at, result)| Some((at, result.err()?))).collect();
    Ok(Failures { at, failed, count })
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
    fn only_failures_around_the_fault_are_excused() {
        let second = Duration::from_secs;
        let failed = [1, 9, 10, 11, 12].map(|at| (second(at), "reset".to_owned())).to_vec();
        let failures = Failures { at: second(10), failed, count: 100 };
        let beyond: Vec<_> = failures.beyond(second(1)).into_iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(beyond, [1, 12]);
    }
}
