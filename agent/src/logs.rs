//! Answers questions for the output of a container, no faster than the asker takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{Answer, AnswerBody, LogChunk, LogsRequest, Moment, RequestId, UpMessage, WINDOW};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::engine::{ContainerId, Engine};
use crate::mqtt::Sender;

/// Fewest and most bytes of output in one part.
const PART: (usize, usize) = (1024, 32 * 1024);
/// Bytes of the first parts.
const FIRST_PART: usize = 2 * 1024;
/// A part that is taken within this leaves room for larger ones.
const QUICK: Duration = Duration::from_millis(250);
/// A part that takes longer holds up the heartbeats that share its line.
const SLOW: Duration = Duration::from_secs(1);
/// Pieces that the engine may be ahead.
const AHEAD: usize = 4;
/// An asker that takes nothing for so long is gone. One that only looks at a page of output is not.
const PATIENCE: Duration = Duration::from_secs(600);

/// Answers one question. `taken` holds how many parts the asker has taken.
pub async fn answer<E: Engine>(
    engine: Arc<E>,
    clock: Clock,
    sender: Sender,
    request: RequestId,
    container: ContainerId,
    wish: LogsRequest,
    taken: watch::Receiver<u32>,
) {
    let (chunks, inbox) = mpsc::channel(AHEAD);
    let mut parts = Parts { sender, request, sequence: 0, taken, pace: Pace::default(), clock };
    let (result, is_heard) = tokio::join!(engine.logs(&container, &wish, chunks), forward(inbox, &mut parts));
    if is_heard {
        let body = match result {
            Ok(()) => AnswerBody::End,
            Err(error) => AnswerBody::Error(error.to_string()),
        };
        parts.send(body).await;
    }
}

/// Sends on what the engine gives until there is no more; returns whether somebody still takes it.
async fn forward(mut inbox: mpsc::Receiver<LogChunk>, parts: &mut Parts) -> bool {
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(chunk) => chunk,
            None => match inbox.recv().await {
                Some(chunk) => chunk,
                None => return true,
            },
        };
        let mut part = Vec::new();
        left_over = fill(&mut part, first, &mut inbox, parts.pace.size());
        if !parts.send(AnswerBody::Logs(part)).await {
            return false;
        }
    }
}

/// Fills a part with what is there without waiting; returns what has no room in it.
fn fill(
    part: &mut Vec<LogChunk>,
    first: LogChunk,
    inbox: &mut mpsc::Receiver<LogChunk>,
    size: usize,
) -> Option<LogChunk> {
    let mut room = size;
    let mut next = Some(first);
    while let Some(mut chunk) = next {
        if chunk.bytes.len() > room {
            let rest = chunk.bytes.split_off(room);
            let rest = LogChunk { stream: chunk.stream, bytes: rest };
            if !chunk.bytes.is_empty() {
                part.push(chunk);
            }
            return Some(rest);
        }
        room -= chunk.bytes.len();
        part.push(chunk);
        next = inbox.try_recv().ok();
    }
    None
}

/// The parts of one answer.
struct Parts {
    sender: Sender,
    request: RequestId,
    sequence: u32,
    taken: watch::Receiver<u32>,
    pace: Pace,
    clock: Clock,
}

impl Parts {
    /// Sends a part as soon as the window allows; returns whether anybody still takes them.
    async fn send(&mut self, body: AnswerBody) -> bool {
        let sequence = self.sequence;
        let has_room = |taken: &u32| sequence < taken.saturating_add(WINDOW);
        match tokio::time::timeout(PATIENCE, self.taken.wait_for(has_room)).await {
            Ok(Ok(taken)) => self.pace.taken(*taken, self.clock.now()),
            Ok(Err(_)) | Err(_) => return false,
        }
        self.pace.sent(sequence, self.clock.now());
        self.sequence += 1;
        let answer = UpMessage::Answer(Answer { request: self.request, sequence, body });
        self.sender.send(&answer).await.is_ok()
    }
}

/// How large the parts are: output shares its connection with the heartbeats, and must not make them late on a slow line.
#[derive(Debug)]
struct Pace {
    size: usize,
    /// Parts that have not been taken, and when they were sent.
    sent: VecDeque<(u32, Moment)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: FIRST_PART, sent: VecDeque::new() }
    }
}

impl Pace {
    fn size(&self) -> usize {
        self.size
    }

    fn sent(&mut self, sequence: u32, now: Moment) {
        self.sent.push_back((sequence, now));
    }

    /// So many parts have been taken.
    fn taken(&mut self, count: u32, now: Moment) {
        let mut last = None;
        while let Some((_, at)) = self.sent.pop_front_if(|(sequence, _)| *sequence < count) {
            last = Some(at);
        }
        let (smallest, largest) = PART;
        match last.map(|at| now.since(at)) {
            Some(time) if time <= QUICK => self.size = (self.size * 2).min(largest),
            Some(time) if time > SLOW => self.size = (self.size / 2).max(smallest),
            Some(_) | None => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_protocol::LogStream;

    use super::*;

    fn chunk(length: usize) -> LogChunk {
        LogChunk { stream: LogStream::Stdout, bytes: vec![b'x'; length] }
    }

    #[test]
    fn small_pieces_share_a_part_and_large_ones_are_split() {
        let (sender, mut inbox) = mpsc::channel(8);
        sender.try_send(chunk(10)).unwrap();
        sender.try_send(chunk(1000)).unwrap();
        let mut part = Vec::new();
        let rest = fill(&mut part, chunk(10), &mut inbox, 1000).unwrap();
        assert_eq!(part.iter().map(|one| one.bytes.len()).collect::<Vec<_>>(), [10, 10, 980]);
        assert_eq!(rest.bytes.len(), 20);
    }
    #[test]
    fn parts_grow_while_they_are_taken_quickly_and_shrink_on_a_slow_line() {
        let mut pace = Pace::default();
        let mut now = Moment(0);
        let mut take = |pace: &mut Pace, sequence: u32, time: Duration| {
            pace.sent(sequence, now);
            now = now + time;
            pace.taken(sequence + 1, now);
            pace.size()
        };
        let quick: Vec<usize> = (0..6).map(|sequence| take(&mut pace, sequence, QUICK)).collect();
        assert_eq!(quick, [4096, 8192, 16_384, 32_768, 32_768, 32_768]);
        assert_eq!(take(&mut pace, 6, SLOW), 32_768);
        let slow: Vec<usize> = (7..14).map(|sequence| take(&mut pace, sequence, SLOW * 2)).collect();
        assert_eq!(slow, [16_384, 8192, 4096, 2048, 1024, 1024, 1024]);
    }
}
