//! Who was not let in, and why: said once for each address and reason, then only counted.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

/// Addresses and reasons that are remembered; after so many different ones nothing is said any more.
const MAX: usize = 1024;

/// What was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    said: Arc<Mutex<HashSet<(IpAddr, String)>>>,
}

impl Refused {
    /// Somebody was not let in.
    pub(super) fn say(&self, from: IpAddr, who: &str, reason: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAX && said.insert((from, format!("{who} {reason}"))) {
            warn!(%from, who, reason, "a connection was refused; further ones like it are only counted");
        }
    }
}
