//! Planted bugs: proof that the simulator finds what it is there to find.
//!
//! None of them is in the product. Each sits at a seam of the simulator: a message changed on its way, an effect swallowed,
//! a clock that lies. What the cores then do is what they would do if their own code were wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrigger_agent::core::{Action, Effect, Input};
use outrigger_agent::engine::{EngineEvent, LossLabel};
use outrigger_hub::core::Effect as HubEffect;
use outrigger_planner::{Key, Policy, Record};
use outrigger_protocol::{
    ByeReason, Bytes, Channel, DownMessage, Facts, Generation, Goal, LossPolicy, MilliCpu, Moment, PlacementId,
    SessionNumber, Stamp, UpMessage,
};

use super::device::Device;
use super::disk::Store;
use super::queue::Time;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The agent takes every assignment for a newer one.
    ObeysOlder,
    /// The agent's disk says written and has not.
    LyingDisk,
    /// The agent does not see the containers that run when it starts.
    AdoptsNothing,
    /// The agent counts its lease from the answer instead of from its report.
    LeaseFromAnswer,
    /// The agent does not stop exclusive copies when their lease runs out.
    KeepsExclusive,
    /// The hub takes lost devices for dead, and does not wait for their leases.
    ForgetsLeases,
    /// The agent stops nothing that it is not to run any more.
    KeepsSuperseded,
    /// One device never gets an assignment after its first few.
    LosesWants,
    /// The hub does not know safe mode.
    NoSafeMode,
    /// Devices claim four times what they have.
    Overcommits,
    /// Devices claim another rack than they are in.
    WrongLabels,
    /// The agent's clock is the time of day.
    WallClock,
    /// The agent tells its status again and again.
    StatusStorm,
    /// The hub takes a will for one of the present connection.
    LateWills,
    /// The hub counts the time in which it stood still as silence.
    CountsPause,
    /// The hub forgets its placements when it restarts.
    ForgetsPlacements,
    /// The hub's disk loses the last batch in a crash.
    LyingStore,
    /// The hub publishes before it has saved.
    PublishesFirst,
    /// The hub sends different assignments under one stamp.
    ReusesStamps,
    /// Something is decided by what no seed knows.
    Chance,
}

/// All of them.
pub const ALL: [Bug; 20] = [
    Bug::ObeysOlder,
    Bug::LyingDisk,
    Bug::AdoptsNothing,
    Bug::LeaseFromAnswer,
    Bug::KeepsExclusive,
    Bug::ForgetsLeases,
    Bug::KeepsSuperseded,
    Bug::LosesWants,
    Bug::NoSafeMode,
    Bug::Overcommits,
    Bug::WrongLabels,
    Bug::WallClock,
    Bug::StatusStorm,
    Bug::LateWills,
    Bug::CountsPause,
    Bug::ForgetsPlacements,
    Bug::LyingStore,
    Bug::PublishesFirst,
    Bug::ReusesStamps,
    Bug::Chance,
];

/// What no seed knows.
static UNKNOWN: AtomicU64 = AtomicU64::new(0);

/// The planted bug and what it remembers.
#[derive(Debug)]
pub struct BugState {
    bug: Option<Bug>,
    forged: BTreeMap<Stamp, Stamp>,
    forgeries: u64,
    last_report: BTreeMap<u128, u32>,
    last_status: BTreeMap<u128, UpMessage>,
    sessions: BTreeMap<usize, SessionNumber>,
    wants: u32,
    published: u32,
    before: Option<Store>,
    latest: Option<Store>,
    exclusive: BTreeMap<PlacementId, ()>,
}

impl BugState {
    /// Nothing is planted, or this.
    #[must_use]
    pub fn new(bug: Option<Bug>) -> Self {
        Self {
            bug,
            forged: BTreeMap::new(),
            forgeries: 0,
            last_report: BTreeMap::new(),
            last_status: BTreeMap::new(),
            sessions: BTreeMap::new(),
            wants: 0,
            published: 0,
            before: None,
            latest: None,
            exclusive: BTreeMap::new(),
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// What a device says of itself.
    #[must_use]
    pub fn facts(&self, mut facts: Facts) -> Facts {
        if self.is(Bug::Overcommits) {
            facts.memory = Bytes(facts.memory.0 * 4);
            facts.cpu = MilliCpu(facts.cpu.0 * 4);
        }
        if self.is(Bug::WrongLabels) {
            facts.labels = vec![("rack".to_owned(), "r0".to_owned())];
        }
        facts
    }

    /// What an agent's disk has after its process, or the power, has gone.
    pub fn lying_disk(&self, device: &mut Device) {
        if self.is(Bug::LyingDisk) {
            let earlier = device.duty.earlier.clone();
            device.file.forget_last(earlier);
        }
    }

    /// The first list of containers that an agent gets.
    #[must_use]
    pub fn first_list(&self, word: EngineEvent) -> EngineEvent {
        match word {
            EngineEvent::Listed(_) if self.is(Bug::AdoptsNothing) => EngineEvent::Listed(vec![]),
            other => other,
        }
    }

    /// What an agent's core gets to hear.
    #[must_use]
    pub fn agent_input(&mut self, device: &Device, input: Input) -> Option<Input> {
        match input {
            Input::Down(DownMessage::Want(mut want)) if self.is(Bug::ObeysOlder) => {
                let forged = Stamp { generation: Generation(1_000_000 + self.forgeries), ..want.stamp };
                self.forgeries += 1;
                self.forged.insert(forged, want.stamp);
                want.stamp = forged;
                Some(Input::Down(DownMessage::Want(want)))
            }
            Input::Down(DownMessage::Lease(mut lease)) if self.is(Bug::LeaseFromAnswer) => {
                lease.sequence = self.last_report.get(&device.machine).copied().unwrap_or(lease.sequence);
                Some(Input::Down(DownMessage::Lease(lease)))
            }
            other => Some(other),
        }
    }

    /// The stamp under which a core waits for its save.
    #[must_use]
    pub fn saved_stamp(&self, _device: usize, stamp: Stamp) -> Stamp {
        self.forged.iter().rev().find(|(_, original)| **original == stamp).map_or(stamp, |(forged, _)| *forged)
    }

    /// The clock that an agent's core is given.
    #[must_use]
    pub fn agent_clock(&self, device: &Device, now: Time) -> Moment {
        match self.bug {
            Some(Bug::WallClock) => Moment(device.wall(now)),
            Some(Bug::Chance) => {
                let twist = UNKNOWN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
                Moment(device.clock(now).0 + twist)
            }
            _ => device.clock(now),
        }
    }

    /// What comes of what an agent's core wants.
    #[must_use]
    pub fn agent_effects(&mut self, device: &Device, now: Moment, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            match effect {
                Effect::Publish(UpMessage::Report(report)) => {
                    self.last_report.insert(device.machine, report.sequence);
                }
                Effect::Publish(status @ UpMessage::Status(_)) if self.is(Bug::StatusStorm) => {
                    self.last_status.insert(device.machine, status.clone());
                }
                _ => (),
            }
        }
        let mut kept: Vec<Effect> = effects.into_iter().filter(|effect| !self.swallows(device, effect)).collect();
        for effect in &mut kept {
            if let Effect::Save(assignment) = effect
                && let Some(original) = self.forged.get(&assignment.stamp)
            {
                assignment.stamp = *original;
            }
        }
        if let Some(status) = self.last_status.get(&device.machine).filter(|_| now.0 % 3 == 0) {
            kept.push(Effect::Publish(status.clone()));
        }
        kept
    }

    fn swallows(&mut self, device: &Device, effect: &Effect) -> bool {
        let Effect::Act(_, action) = effect else { return false };
        let wanted = device.agent.as_ref().map(|agent| agent.core.wanted());
        match (self.bug, action) {
            (Some(Bug::KeepsExclusive), Action::Create(new)) => {
                if new.loss == LossLabel::Exclusive {
                    self.exclusive.insert(new.placement, ());
                }
                false
            }
            (Some(Bug::KeepsExclusive), Action::Stop(placement, ..)) => {
                self.exclusive.contains_key(placement) && wanted.is_some_and(|wanted| wanted.runs(*placement))
            }
            (Some(Bug::KeepsSuperseded), Action::Stop(placement, ..) | Action::Remove(placement, _)) => {
                wanted.is_some_and(|wanted| !wanted.replicas.contains_key(placement))
            }
            _ => false,
        }
    }

    /// What a hub finds in its store.
    #[must_use]
    pub fn loaded(&self, mut records: Vec<Record>) -> Vec<Record> {
        if self.is(Bug::ForgetsPlacements) {
            records.retain(|record| !matches!(record.key, Key::Placement(_)));
        }
        records
    }

    /// The hub's settings.
    #[must_use]
    pub fn policy(&self, mut policy: Policy) -> Policy {
        if self.is(Bug::NoSafeMode) {
            policy.safe_from = u32::MAX;
        }
        if self.is(Bug::ForgetsLeases) {
            policy.lease_margin = Duration::ZERO;
        }
        policy
    }

    /// Records as the hub's core writes them; a hub that forgets leases holds them shorter than its devices do.
    #[must_use]
    pub fn shortens_lease(&self, loss: LossPolicy) -> LossPolicy {
        match loss {
            LossPolicy::Exclusive { lease } if self.is(Bug::ForgetsLeases) => LossPolicy::Exclusive { lease: lease * 3 },
            other => other,
        }
    }

    /// A batch is written.
    pub fn store_written(&mut self, store: &Store) {
        if self.is(Bug::LyingStore) {
            self.before = self.latest.replace(store.clone());
        }
    }

    /// What the hub's disk has after a crash.
    pub fn lying_store(&mut self, store: &mut Store) {
        if let Some(before) = self.before.take() {
            *store = before;
            self.latest = None;
        }
    }

    /// Whether the hub is told that a batch is durable before it is.
    #[must_use]
    pub fn is_saved_early(&self) -> bool {
        self.is(Bug::PublishesFirst)
    }

    /// A message of a device as the hub's core gets it.
    #[must_use]
    pub fn at_hub(&mut self, device: usize, mut message: UpMessage) -> UpMessage {
        match &mut message {
            UpMessage::Hello(hello) => {
                self.sessions.insert(device, hello.session);
            }
            UpMessage::Bye(bye) if self.is(Bug::LateWills) && bye.reason == ByeReason::Lost => {
                bye.session = self.sessions.get(&device).copied().unwrap_or(bye.session);
            }
            UpMessage::Bye(_) | UpMessage::Report(_) | UpMessage::Status(_) | UpMessage::Answer(_) => (),
        }
        message
    }

    /// What comes of what the hub's core wants.
    #[must_use]
    pub fn hub_effects(&mut self, mut effects: Vec<HubEffect>) -> Vec<HubEffect> {
        for effect in &mut effects {
            let HubEffect::Send { message: DownMessage::Want(want), .. } = effect else { continue };
            for one in &mut want.replicas {
                one.loss = self.shortens_lease(one.loss);
            }
            self.published += 1;
            if self.is(Bug::ReusesStamps) && self.published % 5 == 0 {
                want.replicas.retain(|one| one.goal == Goal::Prepare);
            }
        }
        effects
    }

    /// Whether a message of the hub is lost on its way to everybody.
    #[must_use]
    pub fn loses_want(&mut self, channel: Channel) -> bool {
        if !self.is(Bug::LosesWants) || channel != Channel::Want {
            return false;
        }
        self.wants += 1;
        self.wants > 20
    }

    /// Moments that a hub believes it was awake at, while it stood still until this one.
    #[must_use]
    pub fn resumed_at(&self, since: Moment, now: Moment) -> Option<Vec<Moment>> {
        let moments = (1..).map(|step| since + Duration::from_millis(step * 400)).take_while(|at| *at < now);
        self.is(Bug::CountsPause).then(|| moments.collect())
    }

    /// Whether what an agent is told is what it takes it for.
    #[must_use]
    pub fn is_faithful(&self) -> bool {
        !self.is(Bug::ObeysOlder)
    }
}
