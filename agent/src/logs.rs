//! Answers questions for the output of a container, no faster than the asker takes it.

use std::sync::Arc;
use std::time::Duration;

use outrigger_protocol::{Answer, AnswerBody, LogChunk, LogsRequest, RequestId, UpMessage, WINDOW};
use tokio::sync::{mpsc, watch};

use crate::engine::{ContainerId, Engine};
use crate::mqtt::Sender;

/// Most bytes of output in one part.
const PART: usize = 32 * 1024;
/// Pieces that the engine may be ahead.
const AHEAD: usize = 4;
/// An asker that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers one question. `taken` holds how many parts the asker has taken.
pub async fn answer<E: Engine>(
    engine: Arc<E>,
    sender: Sender,
    request: RequestId,
    container: ContainerId,
    wish: LogsRequest,
    taken: watch::Receiver<u32>,
) {
    let (chunks, inbox) = mpsc::channel(AHEAD);
    let mut parts = Parts { sender, request, sequence: 0, taken };
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
        left_over = fill(&mut part, first, &mut inbox);
        if !parts.send(AnswerBody::Logs(part)).await {
            return false;
        }
    }
}

/// Fills a part with what is there without waiting; returns what has no room in it.
fn fill(part: &mut Vec<LogChunk>, first: LogChunk, inbox: &mut mpsc::Receiver<LogChunk>) -> Option<LogChunk> {
    let mut room = PART;
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
}

impl Parts {
    /// Sends a part as soon as the window allows; returns whether anybody still takes them.
    async fn send(&mut self, body: AnswerBody) -> bool {
        let sequence = self.sequence;
        let has_room = |taken: &u32| sequence < taken.saturating_add(WINDOW);
        match tokio::time::timeout(PATIENCE, self.taken.wait_for(has_room)).await {
            Ok(Ok(_)) => (),
            Ok(Err(_)) | Err(_) => return false,
        }
        self.sequence += 1;
        let answer = UpMessage::Answer(Answer { request: self.request, sequence, body });
        self.sender.send(&answer).await.is_ok()
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
        sender.try_send(chunk(PART)).unwrap();
        let mut part = Vec::new();
        let rest = fill(&mut part, chunk(10), &mut inbox).unwrap();
        assert_eq!(part.iter().map(|one| one.bytes.len()).collect::<Vec<_>>(), [10, 10, PART - 20]);
        assert_eq!(rest.bytes.len(), 20);
    }
}
