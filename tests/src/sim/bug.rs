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
    Bytes, Channel, DownMessage, Facts, FleetId, Generation, Goal, LossPolicy, MilliCpu, Moment, PlacementId, Stamp,
    UpMessage,
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
    /// The clocks of devices count six seconds where ten pass.
    SlowClock,
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
    /// The hub takes a broken connection for a lost device.
    HastyWills,
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
    /// Devices do not tell fleets apart.
    KnowsNoFleets,
    /// Heartbeats do not say how many statuses there were.
    CountsNoStatuses,
    /// Something is decided by what no seed knows.
    Chance,
}

/// All of them.
pub const ALL: [Bug; 22] = [
    Bug::ObeysOlder,
    Bug::LyingDisk,
    Bug::AdoptsNothing,
    Bug::SlowClock,
    Bug::KeepsExclusive,
    Bug::ForgetsLeases,
    Bug::KeepsSuperseded,
    Bug::LosesWants,
    Bug::NoSafeMode,
    Bug::Overcommits,
    Bug::WrongLabels,
    Bug::WallClock,
    Bug::StatusStorm,
    Bug::HastyWills,
    Bug::CountsPause,
    Bug::ForgetsPlacements,
    Bug::LyingStore,
    Bug::PublishesFirst,
    Bug::ReusesStamps,
    Bug::KnowsNoFleets,
    Bug::CountsNoStatuses,
    Bug::Chance,
];

impl Bug {
    /// What is no longer so with it; finding it means to find one of these broken.
    #[must_use]
    pub fn breaks(self) -> &'static [&'static str] {
        const RUNS: &str = "a healed fleet runs exactly what is wanted";
        const STILL: &str = "a restart of the hub, the broker or an agent moves nothing";
        const HEARD: &str = "no copy is moved from a device that was heard";
        const STAMP: &str = "one stamp has one document";
        match self {
            Self::ObeysOlder => &["no device obeys an older assignment"],
            Self::LyingDisk => &["what an agent has saved survives"],
            Self::AdoptsNothing => &["what runs is adopted"],
            Self::SlowClock | Self::KeepsExclusive | Self::ForgetsLeases => &["an exclusive replica runs once"],
            Self::KeepsSuperseded | Self::LosesWants => &[RUNS],
            Self::NoSafeMode => &["nothing moves while more than half of the fleet is silent"],
            Self::Overcommits | Self::WrongLabels => &["constraints, capacity and ports hold when a copy is placed"],
            Self::WallClock => &[STILL, HEARD],
            Self::StatusStorm => &["a settled fleet sends its heartbeats and nothing else"],
            Self::HastyWills => &[HEARD],
            Self::CountsPause => &[STILL],
            Self::ForgetsPlacements | Self::ReusesStamps => &[STAMP],
            Self::LyingStore => &["what was granted is in the store, and nothing that was refused"],
            Self::PublishesFirst => &["what is published was saved"],
            Self::KnowsNoFleets => {
                &["a device of one fleet obeys no other", "a restart of the hub, the broker or an agent stops nothing"]
            }
            Self::CountsNoStatuses => &[RUNS],
            Self::Chance => &[],
        }
    }
}

/// What no seed knows.
static UNKNOWN: AtomicU64 = AtomicU64::new(0);

/// The planted bug and what it remembers.
#[derive(Debug)]
pub struct BugState {
    bug: Option<Bug>,
    forged: BTreeMap<Stamp, Stamp>,
    forgeries: u64,
    last_status: BTreeMap<u128, UpMessage>,
    fleets: BTreeMap<Stamp, FleetId>,
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
            last_status: BTreeMap::new(),
            fleets: BTreeMap::new(),
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
    pub fn agent_input(&mut self, own: Option<FleetId>, input: Input) -> Input {
        match input {
            Input::Down(DownMessage::Want(mut want)) if self.is(Bug::KnowsNoFleets) => {
                if let Some(own) = own.filter(|own| *own != want.fleet) {
                    self.fleets.insert(want.stamp, std::mem::replace(&mut want.fleet, own));
                }
                Input::Down(DownMessage::Want(want))
            }
            Input::Down(DownMessage::Want(mut want)) if self.is(Bug::ObeysOlder) => {
                let forged = Stamp { generation: Generation(1_000_000 + self.forgeries), ..want.stamp };
                self.forgeries += 1;
                self.forged.insert(forged, want.stamp);
                want.stamp = forged;
                Input::Down(DownMessage::Want(want))
            }
            other => other,
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
            if let Effect::Publish(status @ UpMessage::Status(_)) = effect
                && self.is(Bug::StatusStorm)
            {
                self.last_status.insert(device.machine, status.clone());
            }
        }
        let mut kept: Vec<Effect> = effects.into_iter().filter(|effect| !self.swallows(device, effect)).collect();
        for effect in &mut kept {
            match effect {
                Effect::Save(assignment) => {
                    assignment.stamp = self.original(assignment.stamp);
                    assignment.fleet = self.fleets.get(&assignment.stamp).copied().unwrap_or(assignment.fleet);
                }
                Effect::Publish(UpMessage::Report(report)) => {
                    report.held = report.held.map(|held| self.original(held));
                    if self.bug == Some(Bug::CountsNoStatuses) {
                        report.statuses = 0;
                    }
                }
                Effect::Publish(UpMessage::Status(status)) => status.held = status.held.map(|held| self.original(held)),
                Effect::Publish(UpMessage::Hello(hello)) => {
                    hello.held = hello.held.map(|held| self.original(held));
                    hello.fleet = hello.fleet.filter(|_| self.bug != Some(Bug::KnowsNoFleets));
                }
                _ => (),
            }
        }
        if let Some(status) = self.last_status.get(&device.machine).filter(|_| now.0.is_multiple_of(3)) {
            kept.push(Effect::Publish(status.clone()));
        }
        kept
    }

    fn original(&self, stamp: Stamp) -> Stamp {
        self.forged.get(&stamp).copied().unwrap_or(stamp)
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
        if self.is(Bug::HastyWills) {
            policy.lost_after_will = Duration::ZERO;
        }
        policy
    }

    /// What a device is told; a hub that forgets leases holds them shorter than its devices do.
    #[must_use]
    pub fn shortens_lease(&self, loss: LossPolicy) -> LossPolicy {
        match loss {
            LossPolicy::Exclusive { lease } if self.is(Bug::ForgetsLeases) => {
                LossPolicy::Exclusive { lease: lease * 3 }
            }
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

    /// What comes of what the hub's core wants.
    #[must_use]
    pub fn hub_effects(&mut self, mut effects: Vec<HubEffect>) -> Vec<HubEffect> {
        for effect in &mut effects {
            let HubEffect::Send { message: DownMessage::Want(want), .. } = effect else { continue };
            for one in &mut want.replicas {
                one.loss = self.shortens_lease(one.loss);
            }
            self.published += 1;
            if self.is(Bug::ReusesStamps) && self.published.is_multiple_of(5) {
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
    pub fn resumed_at(&self, since: Moment, now: Moment) -> Vec<Moment> {
        let moments = (1..).map(|step| since + Duration::from_millis(step * 400)).take_while(|at| *at < now);
        if self.is(Bug::CountsPause) { moments.collect() } else { vec![] }
    }

    /// Milliseconds that a device's clock counts in a thousand seconds.
    #[must_use]
    pub fn rate(&self, rate: u64) -> u64 {
        if self.is(Bug::SlowClock) { 600_000 } else { rate }
    }

    /// Whether what an agent is told is what it takes it for.
    #[must_use]
    pub fn is_faithful(&self) -> bool {
        !self.is(Bug::ObeysOlder)
    }
}
