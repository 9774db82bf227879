//! Answers of devices to questions that clients wait for. They bypass the control loop: logs are many bytes and decide
//! nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_protocol::{Answer, DeviceName, RequestId, WINDOW};
use tokio::sync::mpsc;

/// Questions under way at one time. Each may hold [`WINDOW`] chunks of 64 KiB; agents send at most half of that.
const MAX_OPEN: usize = 128;

/// The questions under way.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    open: Mutex<HashMap<RequestId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    device: DeviceName,
    sender: mpsc::Sender<Answer>,
}

/// One question under way; forgotten when dropped.
#[derive(Debug)]
pub struct Open {
    /// Its name.
    pub request: RequestId,
    answers: Answers,
    receiver: mpsc::Receiver<Answer>,
}

impl Answers {
    /// Numbers questions from `first` on, so that answers to questions of an earlier hub find nobody.
    #[must_use]
    pub fn starting_at(first: u64) -> Self {
        Self { inner: Arc::new(Inner { next: AtomicU64::new(first), open: Mutex::default() }) }
    }

    /// Waits for answers of `device` from now on; none if too many questions are under way.
    #[must_use]
    pub fn open(&self, device: &DeviceName) -> Option<Open> {
        let mut open = self.lock();
        if open.len() >= MAX_OPEN {
            return None;
        }
        let request = RequestId(self.inner.next.fetch_add(1, Ordering::Relaxed));
        // One place more than the window, for the end.
        let (sender, receiver) = mpsc::channel(WINDOW as usize + 1);
        open.insert(request, Waiting { device: device.clone(), sender });
        Some(Open { request, answers: self.clone(), receiver })
    }

    /// Hands an answer to who waits for it. One that nobody waits for is dropped, and so is a question whose device sends
    /// more than it may.
    pub(super) fn deliver(&self, device: &DeviceName, answer: Answer) {
        let mut open = self.lock();
        let Some(waiting) = open.get(&answer.request).filter(|waiting| waiting.device == *device) else { return };
        let request = answer.request;
        if waiting.sender.try_send(answer).is_err() {
            open.remove(&request);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The next answer; none when the device has sent more than it may, or answered wrongly.
    pub async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.request);
    }
}

#[cfg(test)]
mod tests {
    use outrigger_protocol::AnswerBody;

    use super::*;

    fn answer(request: RequestId, sequence: u32) -> Answer {
        Answer { request, sequence, body: AnswerBody::End }
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_only_from_the_device_asked() {
        let answers = Answers::default();
        let (pi, other) = ("pi".parse().unwrap(), "other".parse().unwrap());
        let mut open = answers.open(&pi).unwrap();
        answers.deliver(&other, answer(open.request, 7));
        answers.deliver(&pi, answer(open.request, 0));
        assert_eq!(open.next().await, Some(answer(open.request, 0)));
    }

    #[tokio::test]
    async fn a_device_that_sends_more_than_the_window_is_cut_off() {
        let answers = Answers::default();
        let pi = "pi".parse().unwrap();
        let mut open = answers.open(&pi).unwrap();
        for sequence in 0..WINDOW + 5 {
            answers.deliver(&pi, answer(open.request, sequence));
        }
        let mut received = 0;
        while open.next().await.is_some() {
            received += 1;
        }
        assert_eq!(received, WINDOW + 1);
    }

    #[test]
    fn a_dropped_question_is_forgotten_and_makes_room() {
        let answers = Answers::default();
        let pi = "pi".parse().unwrap();
        let all: Vec<_> = (0..MAX_OPEN).map(|_| answers.open(&pi).unwrap()).collect();
        assert!(answers.open(&pi).is_none());
        drop(all);
        assert!(answers.open(&pi).is_some());
    }
}
