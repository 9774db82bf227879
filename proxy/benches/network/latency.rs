//! What a proxy adds to the time of a request at a steady rate. Requests are due at fixed times, and each counts from the
//! time at which it was due, so that one that is stuck counts against those behind it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::now;
use crate::place::Place;

const CONNECTIONS: usize = 16;
const SPAN: Duration = Duration::from_secs(2);
const QUESTION: &[u8] = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n";

/// What was seen at a rate.
pub struct Seen {
    /// 99 of 100 requests were answered within this.
    pub p99: Duration,
    pub requests_per_second: f64,
}

/// At this many requests per second, or as many as there can be if it is infinite.
pub fn at_rate(place: &Place, cpu: usize, address: SocketAddr, per_second: f64) -> Result<Seen> {
    let every = Duration::from_secs_f64(CONNECTIONS as f64 / per_second);
    place.inside(cpu, || {
        let begin = now() + Duration::from_millis(10);
        let clients = (0..CONNECTIONS)
            .map(|index| Client::connect(address, begin + every.mul_f64(index as f64 / CONNECTIONS as f64)));
        let mut clients = clients.collect::<Result<Vec<_>>>()?;
        while now() < begin + SPAN {
            turn(&mut clients, every)?;
        }
        let mut all: Vec<_> = clients.into_iter().flat_map(|client| client.took).collect();
        all.sort_unstable();
        let p99 = all.get(all.len() * 99 / 100).copied().context("no request was answered")?;
        Ok(Seen { p99, requests_per_second: all.len() as f64 / SPAN.as_secs_f64() })
    })
}

/// A connection that asks at fixed times.
struct Client {
    stream: TcpStream,
    /// Bytes of each answer.
    length: usize,
    due: Instant,
    was_busy: bool,
    /// Since when an answer is waited for, and how much of it is missing.
    asked: Option<(Instant, usize)>,
    took: Vec<Duration>,
}

impl Client {
    fn connect(address: SocketAddr, due: Instant) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let length = ask(&mut stream, QUESTION)?;
        Ok(Self { stream, length, due, was_busy: false, asked: None, took: vec![] })
    }

    fn ask_if_due(&mut self, every: Duration) -> Result<()> {
        let now = now();
        if self.due > now {
            return Ok(());
        }
        if self.asked.is_some() {
            self.was_busy = true;
            return Ok(());
        }
        // That we ourselves were woken late is nobody's fault.
        let since = if self.was_busy && every > Duration::ZERO { self.due } else { now };
        self.stream.write_all(QUESTION)?;
        self.asked = Some((since, self.length));
        (self.due, self.was_busy) = (self.due + every, false);
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        let mut piece = [0; 1024];
        let Some((since, missing)) = self.asked else { return Ok(()) };
        let read = self.stream.read(&mut piece)?;
        anyhow::ensure!(read > 0 && read <= missing, "{read} bytes came of an answer of which {missing} were missing");
        self.asked = Some((since, missing - read));
        if read == missing {
            self.took.push(since.elapsed());
            self.asked = None;
        }
        Ok(())
    }
}

/// Asks where it is time to, and hears what is there, which is waited for until it is time again.
fn turn(clients: &mut [Client], every: Duration) -> Result<()> {
    for client in &mut *clients {
        client.ask_if_due(every)?;
    }
    let idle = clients.iter().filter(|client| client.asked.is_none());
    let next = idle.map(|client| client.due.saturating_duration_since(now())).min().unwrap_or(SPAN);
    let next = Timespec { tv_sec: i64::try_from(next.as_secs())?, tv_nsec: next.subsec_nanos().into() };
    let mut ready: Vec<_> = clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
    poll(&mut ready, Some(&next))?;
    let heard: Vec<_> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
    for (client, _) in clients.iter_mut().zip(heard).filter(|(_, is_heard)| *is_heard) {
        client.hear()?;
    }
    Ok(())
}

/// One request; the answer is read to its end. Its length, with its head.
pub fn ask(stream: &mut TcpStream, question: &[u8]) -> Result<usize> {
    stream.write_all(question)?;
    let mut answer = vec![];
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..length).unwrap_or_default());
        anyhow::ensure!(length > 0, "the connection broke off");
        if let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
            let whole = head + 4 + length.trim().parse::<usize>()?;
            while answer.len() < whole {
                let length = stream.read(&mut piece)?;
                anyhow::ensure!(length > 0, "the connection broke off");
                answer.extend_from_slice(piece.get(..length).unwrap_or_default());
            }
            return Ok(whole);
        }
    }
}
