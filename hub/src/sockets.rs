//! How many sockets a port holds, in all and from one address, so that nobody can take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many there may be. A stranger is who has not said yet who it is. One address may be a whole site behind a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) all: usize,
    pub(crate) per_address: usize,
    pub(crate) strangers: usize,
    pub(crate) strangers_per_address: usize,
    /// Whether loopback has the limits of all only: who is there is trusted with more.
    pub(crate) spares_loopback: bool,
}

/// The sockets that are open.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    bounds: Bounds,
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
pub(crate) struct Place {
    sockets: Sockets,
    address: IpAddr,
    stranger: bool,
}

impl Sockets {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, table: Arc::default() }
    }

    /// A place for a new socket from `address`; none if it or all together have too many.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut table = self.lock();
        let held = table.by_address.get(&address).copied().unwrap_or_default();
        let Bounds { all, per_address, strangers, strangers_per_address, spares_loopback } = self.bounds;
        let is_spared = spares_loopback && address.is_loopback();
        let is_crowded = held.total >= per_address || held.strangers >= strangers_per_address;
        if table.total >= all || table.strangers >= strangers || (is_crowded && !is_spared) {
            return None;
        }
        table.total += 1;
        table.strangers += 1;
        table.by_address.insert(address, Held { total: held.total + 1, strangers: held.strangers + 1 });
        Some(Place { sockets: self.clone(), address, stranger: true })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The socket has said who it is.
    pub(crate) fn introduced(&mut self) {
        if std::mem::take(&mut self.stranger) {
            let mut table = self.sockets.lock();
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
        let mut table = self.sockets.lock();
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
        let sockets = Sockets::new(Bounds {
            all: 100,
            per_address: 50,
            strangers: 40,
            strangers_per_address: 10,
            spares_loopback: true,
        });
        let [bad, good] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut held: Vec<_> = (0..10).map(|_| sockets.admit(bad).unwrap()).collect();
        assert!(sockets.admit(bad).is_none());
        assert!(sockets.admit(good).is_some());
        held[0].introduced();
        assert!(sockets.admit(bad).is_some());
        drop(held);
        let table = sockets.lock();
        assert_eq!((table.by_address.len(), table.total, table.strangers), (0, 0, 0));
    }
}
