//! The fleet: everything that the hub knows, owned by one task.

use std::time::Duration;

use outrigger_protocol::{
    Assignment, Bye, DeviceName, Epoch, Hello, Lease, Moment, PlacementId, Report, ServiceRef, Status,
};

use crate::Note;
use crate::explain::{Explanation, ReplicaExplanation};
use crate::plan::{Committed, Plan};
use crate::policy::Policy;
use crate::record::Record;
use crate::view::{CopyView, DeviceView, ReplicaView, ServiceView, StackView, Totals};
use crate::wish::{Refusal, Wish};

/// Everything that the hub knows of devices, services and copies.
#[derive(Debug, Clone)]
pub struct Fleet {
    policy: Policy,
    epoch: Epoch,
}

/// What a device said.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Who it is.
    Hello(Hello),
    /// A heartbeat.
    Report(Report),
    /// Its copies.
    Status(Status),
    /// It goes away, or its connection has.
    Bye(Bye),
}

/// What is to be sent to a device for what it said, and what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Ask it who it is: its connection is not known.
    pub ask_hello: bool,
    /// Renew its leases.
    pub lease: Option<Lease>,
    /// Publish its assignment again: it holds an older one, or none.
    pub publish: bool,
    /// The message was of an older connection or of another machine, and was ignored.
    pub ignored: bool,
    /// What happened.
    pub notes: Vec<Note>,
}

impl Fleet {
    /// A fleet of which nothing is known yet.
    #[must_use]
    pub fn new(policy: Policy, epoch: Epoch) -> Self {
        Self { policy, epoch }
    }

    /// A fleet as it was saved. Nothing has been heard: nothing is lost and nothing moves until devices are heard or the
    /// start grace has passed.
    #[must_use]
    pub fn restore(records: impl IntoIterator<Item = Record>, policy: Policy, epoch: Epoch, now: Moment) -> Restored {
        let _ = (records, now);
        Restored { fleet: Self::new(policy, epoch), ignored: vec![] }
    }

    /// A device was heard. Cannot fail: what makes no sense is ignored, and the reply says so.
    pub fn hear(&mut self, device: &DeviceName, message: Heard, now: Moment) -> Reply {
        let _ = (device, message, now);
        Reply::default()
    }

    /// The hub or its broker could not hear for so long, until `now`. That is never counted as anybody's silence.
    pub fn paused(&mut self, gap: Duration, now: Moment) {
        let _ = (gap, now);
    }

    /// What must be saved before the wish counts. Changes nothing.
    pub fn check(&self, wish: &Wish) -> Result<Vec<Record>, Refusal> {
        let _ = wish;
        Ok(vec![])
    }

    /// Fulfils a wish whose records ([`Fleet::check`]) are saved.
    pub fn wish(&mut self, wish: Wish, now: Moment) -> Result<Vec<Note>, Refusal> {
        let _ = (wish, now);
        Ok(vec![])
    }

    /// Carries a plan out in memory: what it changes is then in [`Fleet::assignment`].
    pub fn commit(&mut self, plan: &Plan) -> Committed {
        let _ = plan;
        Committed::default()
    }

    /// Plans and commits until nothing is left to do now. The moment is when to do so again if nothing is heard.
    pub fn settle(&mut self, now: Moment) -> (Committed, Option<Moment>) {
        let plan = reconcile(self, now);
        (self.commit(&plan), plan.look_again_at)
    }

    /// What a device is to run.
    #[must_use]
    pub fn assignment(&self, device: &DeviceName) -> Option<Assignment> {
        let _ = device;
        None
    }

    /// All devices, by name.
    pub fn devices(&self) -> impl Iterator<Item = DeviceView<'_>> {
        std::iter::empty()
    }

    /// One device.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<DeviceView<'_>> {
        let _ = name;
        None
    }

    /// All stacks, by name.
    pub fn stacks(&self) -> impl Iterator<Item = StackView<'_>> {
        std::iter::empty()
    }

    /// All services, by stack and name.
    pub fn services(&self) -> impl Iterator<Item = ServiceView<'_>> {
        std::iter::empty()
    }

    /// One service.
    #[must_use]
    pub fn service(&self, name: &ServiceRef) -> Option<ServiceView<'_>> {
        let _ = name;
        None
    }

    /// The replicas of a service, by number; nothing if there is no such service.
    pub fn replicas(&self, service: &ServiceRef) -> impl Iterator<Item = ReplicaView<'_>> {
        let _ = service;
        std::iter::empty()
    }

    /// The copies assigned to a device, by replica.
    pub fn copies_on(&self, device: &DeviceName) -> impl Iterator<Item = CopyView<'_>> {
        let _ = device;
        std::iter::empty()
    }

    /// One copy.
    #[must_use]
    pub fn copy(&self, placement: PlacementId) -> Option<CopyView<'_>> {
        let _ = placement;
        None
    }

    /// The fleet in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::default()
    }

    /// Why nothing moves at present, if so.
    #[must_use]
    pub fn safe_mode(&self) -> Option<&str> {
        None
    }

    /// Why the replicas of a service are where they are, or wait; of one of them if its number is given.
    #[must_use]
    pub fn explain(&self, service: &ServiceRef, number: Option<u32>, now: Moment) -> Option<Explanation> {
        let _ = (service, number, now);
        None::<(Explanation, ReplicaExplanation)>.map(|pair| pair.0)
    }

    /// The settings.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// A restored fleet.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The fleet.
    pub fleet: Fleet,
    /// Records that fit nothing else, such as a copy on a device that is not there; for the log.
    pub ignored: Vec<String>,
}

/// What should change now. Looks only at what has become dirty; the same fleet always gives the same plan.
#[must_use]
pub fn reconcile(fleet: &Fleet, now: Moment) -> Plan {
    let _ = fleet;
    Plan { at: now, basis: 0, changes: vec![], look_again_at: None }
}
