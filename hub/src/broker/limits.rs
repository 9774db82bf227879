//! How many sockets the embedded broker holds, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sockets in all. A connection costs about 40 kB.
const MAX_CONNECTIONS: usize = 32_768;
/// Sockets from one address: a site behind one router. Loopback is not limited: who is there is trusted with more.
const MAX_PER_ADDRESS: usize = 2_048;
/// Sockets of one address that have not said who they are. The broker drops them after 10 s, so a stranger holds this many
/// for as long as it likes, and no more.
const MAX_STRANGERS_PER_ADDRESS: usize = 64;
/// Strangers in all.
const MAX_STRANGERS: usize = 1_024;

/// The sockets that are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    total: usize,
    strangers: usize,
    by_address: HashMap<IpAddr, Held>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    total: usize,
    strangers: usize,
}

/// One open socket; its place is free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Limits,
    address: IpAddr,
    stranger: bool,
}

impl Limits {
    /// A place for a new socket from `address`; none if it or all together have too many.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let mut table = self.lock();
        let held = table.by_address.get(&address).copied().unwrap_or_default();
        let crowded = held.total >= MAX_PER_ADDRESS || held.strangers >= MAX_STRANGERS_PER_ADDRESS;
        if table.total >= MAX_CONNECTIONS || table.strangers >= MAX_STRANGERS || (crowded && !address.is_loopback()) {
            return None;
        }
        table.total += 1;
        table.strangers += 1;
        table.by_address.insert(address, Held { total: held.total + 1, strangers: held.strangers + 1 });
        Some(Place { limits: self.clone(), address, stranger: true })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The socket has said who it is.
    pub(super) fn introduced(&mut self) {
        if std::mem::take(&mut self.stranger) {
            let mut table = self.limits.lock();
            table.strangers -= 1;
            if let Some(held) = table.by_address.get_mut(&self.address) {
                held.strangers -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.introduced();
        let mut table = self.limits.lock();
        table.total -= 1;
        let left = table.by_address.get_mut(&self.address).map_or(0, |held| {
            held.total -= 1;
            held.total
        });
        if left == 0 {
            table.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_of_one_address_leave_room_for_others() {
        let limits = Limits::default();
        let [bad, good] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut held: Vec<_> = (0..MAX_STRANGERS_PER_ADDRESS).map(|_| limits.admit(bad).unwrap()).collect();
        assert!(limits.admit(bad).is_none());
        assert!(limits.admit(good).is_some());
        held[0].introduced();
        assert!(limits.admit(bad).is_some());
        drop(held);
        let table = limits.lock();
        assert_eq!((table.by_address.len(), table.total, table.strangers), (0, 0, 0));
    }
}
