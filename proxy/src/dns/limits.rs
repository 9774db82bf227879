//! How much a container may ask at a time. One that floods is not answered; the others do not notice.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Questions and connections of one address at a time. A resolver asks two for each name (A and AAAA), and again after a
/// while: a program that looks up many names at once stays below.
const PER_ADDRESS: usize = 64;
/// Of all addresses: each waiting one costs a socket and a few kilobytes.
const OF_ALL: usize = 512;

/// Counts what is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// The right to have one thing under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Limits,
    address: IpAddr,
}

impl Limits {
    /// None: there is enough under way for this address, or altogether.
    pub(super) fn permit(&self, address: IpAddr) -> Option<Permit> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&address).copied().unwrap_or_default();
        // No address may have so much that nothing is left for others.
        if own >= PER_ADDRESS || counts.values().sum::<usize>() >= OF_ALL {
            return None;
        }
        counts.insert(address, own + 1);
        Some(Permit { limits: self.clone(), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_what_others_need_and_gets_back_what_it_gives() {
        let limits = Limits::default();
        let (loud, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut held: Vec<_> = std::iter::from_fn(|| limits.permit(loud)).collect();
        assert_eq!(held.len(), PER_ADDRESS);
        assert!(limits.permit(quiet).is_some());
        held.pop();
        assert!(limits.permit(loud).is_some());
        held.clear();
        assert!(limits.0.lock().unwrap().is_empty(), "nothing is kept of who asks nothing");
    }
}
