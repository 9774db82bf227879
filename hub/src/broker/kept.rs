//! What is kept for devices that subscribe later. The broker crate could keep it too, but looks through all of it for each
//! subscription: a fleet that comes back at once would pay with the square of its size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The last payload of each kept topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    payloads: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl Kept {
    /// Keeps a payload instead of the one before; an empty one clears the topic.
    pub(super) fn keep(&self, topic: &str, payload: &Bytes) {
        let mut payloads = self.lock();
        if payload.is_empty() {
            payloads.remove(topic);
        } else {
            payloads.insert(topic.to_owned(), payload.clone());
        }
    }

    /// What is kept on a topic.
    pub(super) fn of(&self, topic: &str) -> Option<Bytes> {
        self.lock().get(topic).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
