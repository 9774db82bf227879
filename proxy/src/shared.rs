//! What all tasks of the proxy have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outrigger_protocol::{DeviceName, PlacementId, ServiceRef};
use tokio::sync::{Notify, watch};

use crate::balance::{Balancer, LineState, Need};
use crate::clock;
use crate::dial::DialError;
use crate::limits::Limits;
use crate::mesh::Mesh;
use crate::table::{Service, Table};

/// One per process.
#[derive(Debug)]
pub(crate) struct Shared {
    table: watch::Sender<Arc<Table>>,
    balancers: Mutex<HashMap<ServiceRef, Balancer>>,
    pub(crate) limits: Limits,
    pub(crate) mesh: Mesh,
    /// Something that the agent is told may have changed.
    pub(crate) changed: Notify,
    /// Requests that came to nothing since the start.
    failed: AtomicU64,
}

/// A copy that has been chosen for a request. It counts as busy until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    pub(crate) service: Arc<Service>,
    pub(crate) placement: PlacementId,
}

impl Shared {
    pub(crate) fn new(table: Table, limits: Limits) -> Self {
        let shared = Self {
            table: watch::Sender::new(Arc::new(table)),
            balancers: Mutex::new(HashMap::new()),
            limits,
            mesh: Mesh::default(),
            changed: Notify::new(),
            failed: AtomicU64::new(0),
        };
        shared.balance_anew(|_| true);
        shared
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// Hears of each new table.
    pub(crate) fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    pub(crate) fn replace(&self, table: Table) {
        self.table.send_replace(Arc::new(table));
        self.balance_anew(|_| true);
        self.changed.notify_one();
    }

    /// Another device is reached or is not.
    pub(crate) fn note_line(&self, device: &DeviceName, state: LineState) {
        if self.mesh.note_line(device, state) {
            self.balance_anew(|service| service.has_copies_on(device));
            self.changed.notify_one();
        }
    }

    /// Tells the balancers of these services which copies there are, and which of them are on devices that are reached.
    fn balance_anew(&self, of: impl Fn(&Service) -> bool) {
        let (table, now) = (self.table(), clock::now());
        let mut balancers = self.balancers();
        // Asked for under the lock, so that what is told last is what was known last.
        let lost = self.mesh.lost();
        balancers.retain(|name, _| table.service(name).is_some());
        for service in table.services().filter(|service| of(service)) {
            let balancer = balancers.entry(service.name.clone()).or_insert_with(|| Balancer::new(fastrand::u64(..)));
            balancer.set(service.traffic.affinity, &service.candidates(&lost), now);
        }
    }

    /// Asks or tells what is known of a service's copies; none: there is no such service any more.
    pub(crate) fn balance<T>(&self, service: &ServiceRef, act: impl FnOnce(&mut Balancer) -> T) -> Option<T> {
        self.balancers().get_mut(service).map(act)
    }

    /// Tells the balancer what became of a request to this copy, and the agent if that ejects it or brings it back.
    pub(crate) fn tell(&self, service: &ServiceRef, placement: PlacementId, act: impl FnOnce(&mut Balancer)) {
        let changed = self.balance(service, |balancer| {
            let is_ejected = |balancer: &Balancer| balancer.ejected().any(|ejected| ejected == placement);
            let before = is_ejected(balancer);
            act(balancer);
            before != is_ejected(balancer)
        });
        if changed == Some(true) {
            self.changed.notify_one();
        }
    }

    /// A request of a client came to nothing.
    pub(crate) fn note_failure(&self, service: &ServiceRef, error: &DialError) {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        // One of many says it all; each of them would fill the log.
        if failed.is_power_of_two() {
            let why: &dyn std::error::Error = error;
            tracing::warn!(%service, error = why, failed, "a request was refused");
        }
    }

    /// Copies that failed, in order.
    pub(crate) fn ejected(&self) -> Vec<PlacementId> {
        let mut all: Vec<_> = self.balancers().values().flat_map(Balancer::ejected).collect();
        all.sort_unstable();
        all
    }

    /// A copy for a request, and not one of `tried`.
    pub(crate) fn lease(
        self: &Arc<Self>,
        service: &Arc<Service>,
        client: std::net::IpAddr,
        tried: &[PlacementId],
        need: Need,
    ) -> Option<Lease> {
        let begin = |balancer: &mut Balancer| match need {
            Need::Known => balancer.begin(clock::now(), client, tried),
            Need::Guessed => balancer.begin_another(clock::now(), client, tried),
        };
        let placement = self.balance(&service.name, begin)??;
        Some(Lease { shared: Arc::clone(self), service: Arc::clone(service), placement })
    }

    fn balancers(&self) -> MutexGuard<'_, HashMap<ServiceRef, Balancer>> {
        self.balancers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Tells the balancer what became of it.
    pub(crate) fn tell(&self, act: impl FnOnce(&mut Balancer, PlacementId)) {
        self.shared.tell(&self.service.name, self.placement, |balancer| act(balancer, self.placement));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.balance(&self.service.name, |balancer| balancer.end(self.placement));
    }
}
