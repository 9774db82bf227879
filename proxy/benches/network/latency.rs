//! What a proxy adds to the time of a request at a steady rate. Requests are due at fixed times, and each counts from the
//! time at which it was due, so that one that is stuck counts against those behind it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::clock::{now, rest};
use crate::place::Place;

const CONNECTIONS: u32 = 16;
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
    let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / per_second);
    place.inside(cpu, || {
        let begin = now() + Duration::from_millis(50);
        // Threads are in the place and on the processor of the one that starts them.
        let mut all = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|index| scope.spawn(move || client(address, begin + every * index / CONNECTIONS, every)))
                .collect();
            let joined = clients.into_iter().map(|client| client.join().expect("a client does not panic"));
            joined.collect::<Result<Vec<_>>>()
        })?
        .concat();
        all.sort_unstable();
        let p99 = all.get(all.len() * 99 / 100).copied().context("no request was answered")?;
        Ok(Seen { p99, requests_per_second: all.len() as f64 / SPAN.as_secs_f64() })
    })
}

fn client(address: SocketAddr, begin: Instant, every: Duration) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut took = vec![];
    let mut due = begin;
    while now() < begin + SPAN {
        let is_late = due <= now();
        rest(due.saturating_duration_since(now()));
        // That we ourselves were woken late is nobody's fault.
        let asked = if is_late && every > Duration::ZERO { due } else { now() };
        ask(&mut stream, QUESTION)?;
        took.push(asked.elapsed());
        due += every;
    }
    Ok(took)
}

/// One request; the answer is read to its end.
pub fn ask(stream: &mut TcpStream, question: &[u8]) -> Result<()> {
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
            return Ok(());
        }
    }
}
