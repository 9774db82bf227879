//! How many connections there may be: in all, and from one source, so that a flood from one harms no other. The same for
//! handshakes that are under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_protocol::DeviceName;

use crate::stream::MOST_PIPES;

/// Connections at most, whatever the limit of open files; each takes two files and up to 8 KiB while it is idle.
const MOST: usize = 65_536;
/// Part of all that one source may have.
const SHARE: usize = 4;
/// Files that are kept for everything else, pipes among it.
const SPARE_FILES: u64 = 256 + 2 * MOST_PIPES as u64;
/// Handshakes at a time: of all, and of one address.
const HANDSHAKES: usize = 256;
const HANDSHAKES_EACH: usize = 32;
/// Connections of one device.
const DEVICE_EACH: usize = 16;

/// Where a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A container, or somebody outside.
    Address(IpAddr),
    /// Another device's proxy.
    Device(DeviceName),
}

/// Counts connections.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    inner: Arc<Mutex<Counts>>,
}

#[derive(Debug)]
struct Counts {
    most: usize,
    each: usize,
    all: usize,
    by: HashMap<Source, usize>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    source: Source,
}

impl Limits {
    /// As many as the limit of open files allows, which is raised as far as it goes.
    pub(crate) fn of_this_process() -> Self {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut files = getrlimit(Resource::Nofile);
        if files.current < files.maximum {
            files.current = files.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, files) {
                tracing::warn!(%error, "cannot raise the limit of open files");
            }
        }
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(SPARE_FILES) / 2;
        Self::of_connections(usize::try_from(files).unwrap_or(MOST).min(MOST))
    }

    /// So many, of which one source may have its part.
    pub(crate) fn of_connections(most: usize) -> Self {
        Self::new(most, (most / SHARE).max(1))
    }

    /// Handshakes of devices that are under way: what strangers can make us do.
    pub(crate) fn of_handshakes() -> Self {
        Self::new(HANDSHAKES, HANDSHAKES_EACH)
    }

    /// Connections of devices: each needs one, and for a moment another while the one before ends.
    pub(crate) fn of_devices() -> Self {
        Self::new(MOST, DEVICE_EACH)
    }

    /// At most `most` in all, and `each` from one source.
    pub(crate) fn new(most: usize, each: usize) -> Self {
        Self { inner: Arc::new(Mutex::new(Counts { most, each, all: 0, by: HashMap::new() })) }
    }

    /// None: that would be too many.
    pub(crate) fn permit(&self, source: Source) -> Option<Permit> {
        let mut counts = self.lock();
        if counts.all >= counts.most || counts.by.get(&source).is_some_and(|count| *count >= counts.each) {
            return None;
        }
        counts.all += 1;
        *counts.by.entry(source.clone()).or_default() += 1;
        drop(counts);
        Some(Permit { limits: self.clone(), source })
    }

    /// Connections at present.
    pub(crate) fn all(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.lock();
        counts.all -= 1;
        if let Some(count) = counts.by.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Source {
        Source::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn one_source_gets_its_part_and_leaves_the_rest_to_others() {
        let limits = Limits::new(8, 2);
        let held: Vec<_> = (0..5).filter_map(|_| limits.permit(from(1))).collect();
        assert_eq!(held.len(), 2);
        let others: Vec<_> = (2..9).filter_map(|last| limits.permit(from(last))).collect();
        assert_eq!((others.len(), limits.all()), (6, 8), "all together have a limit too");
        drop((held, others));
        assert_eq!((limits.all(), limits.lock().by.len()), (0, 0), "nothing is kept of who has gone");
    }
}
