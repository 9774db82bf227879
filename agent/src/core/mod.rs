//! The agent without its surroundings: a state machine that is told what happens and when, and says what to do.
//!
//! It reads no clock, opens nothing and waits for nothing, so one process can run hundreds of agents through power cuts
//! and partitions from a seed. `step` is deterministic: the same inputs give the same effects.

mod action;
mod ask;
mod assign;
mod converge;
mod files;
mod fleet;
mod heartbeat;
mod hold;
mod lease;
mod mesh;
mod message;
mod networks;
mod observed;
mod renewal;
mod routes;
mod status;
mod track;
mod wanted;

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_protocol::{
    Assignment, Bye, Channel, DownMessage, Epoch, Facts, FleetId, Hello, Lease, Moment, PlacementId, Renew, RequestId,
    SessionNumber, Stamp, UpMessage,
};

pub use action::{Action, ActionId, ImageKey, Outcome, Success};
pub use ask::MAX_REQUESTS;
pub use converge::{Authority, Bounds, MAX_CHECKS, MAX_LAYS, MAX_PULLS, MAX_STARTS, MAX_STOPS, converge};
pub use files::{FilesTrack, Lack};
pub use lease::Term;
pub use mesh::{Keep, KeptMesh, Mesh, ProxyEvent};
pub use message::{Effect, Held, Input, Remark, Settings};
pub use observed::{ImageTrack, Link, Observed, Presence};
pub use renewal::OwnCertificate;
pub use status::cut;
pub use track::{LONGEST_PAUSE, Over, Track, pause};
pub use wanted::{Wanted, WantedReplica};

use fleet::fleet_of;
use heartbeat::Heartbeat;
use lease::LeaseKeeper;
use renewal::Renewal;
use status::{Sources, Teller};

/// Remarks kept for whoever takes them; further ones are lost.
const MAX_REMARKS: usize = 64;
/// Time that the hub is given to say something newer than what was on the disk. A hub that answers needs a tenth of it;
/// without one, a device starts its replicas so much later.
const HUB_FIRST: Duration = Duration::from_secs(2);
/// The agent without its surroundings.
#[derive(Debug, Clone)]
pub struct Core {
    settings: Settings,
    facts: Facts,
    wall: (Moment, u64),
    session: Option<SessionNumber>,
    highest_epoch: Epoch,
    held: Option<Stamp>,
    saving: Option<Box<Assignment>>,
    /// Came before anybody could say whether it is to be obeyed.
    early: Option<Box<Assignment>>,
    /// That another fleet is not obeyed has been told on this connection.
    is_refusal_told: bool,
    unsaved: Option<Unsaved>,
    wanted: Wanted,
    observed: Observed,
    bounds: Bounds,
    leases: LeaseKeeper,
    heartbeat: Heartbeat,
    teller: Teller,
    tell_at: Moment,
    is_changed: bool,
    requests: BTreeSet<RequestId>,
    renewal: Renewal,
    mesh: Mesh,
    next_action: u64,
    is_stopping: bool,
    remarks: Vec<Remark>,
}

/// An assignment that could not be saved.
#[derive(Debug, Clone)]
struct Unsaved {
    assignment: Box<Assignment>,
    reason: String,
    /// How often saving has failed in a row.
    failures: u32,
    /// Never, while an attempt is under way.
    retry_at: Moment,
}

impl Core {
    /// An agent that has just started, with what its disk had.
    #[must_use]
    pub fn new(settings: Settings, facts: Facts, held: Held) -> Self {
        let heartbeat = Heartbeat::new(settings.heartbeat);
        let bounds = Bounds {
            device: settings.device.clone(),
            authority: Authority::Nobody,
            starts_from: Moment::NEVER,
            is_confirmed: false,
            renewed_at: None,
        };
        let mut core = Self {
            settings,
            facts,
            wall: (Moment::ZERO, 0),
            session: None,
            highest_epoch: Epoch::default(),
            held: None,
            saving: None,
            early: None,
            is_refusal_told: false,
            unsaved: None,
            wanted: Wanted::default(),
            observed: Observed::default(),
            bounds,
            leases: LeaseKeeper::default(),
            heartbeat,
            teller: Teller::default(),
            tell_at: Moment::NEVER,
            is_changed: true,
            requests: BTreeSet::new(),
            renewal: Renewal::default(),
            mesh: Mesh::new(KeptMesh::default()),
            next_action: 0,
            is_stopping: false,
            remarks: Vec::new(),
        };
        match held {
            Held::Nothing => (),
            Held::Unreadable => core.remark(Remark::Unreadable),
            Held::Assignment(assignment) => {
                core.highest_epoch = assignment.stamp.epoch;
                core.adopt(&assignment, Authority::Assignment, Moment::ZERO);
            }
        }
        core
    }

    /// The same, with the lease that an agent before it had in this boot of the device ([`Self::renewed_at`]). Without it
    /// exclusive replicas end at once: the hub may have started others.
    #[must_use]
    pub fn with_lease(mut self, renewed_at: Option<Moment>) -> Self {
        self.leases.resume(renewed_at);
        self.bounds.renewed_at = renewed_at;
        self
    }

    /// The same, with the secrets and configs that an agent before it has left for these copies in this boot.
    #[must_use]
    pub fn with_files(mut self, laid: BTreeSet<PlacementId>) -> Self {
        self.observed.found_files(laid);
        self
    }

    /// When the report was sent that the hub has answered last. Worth keeping where it survives the agent but not the boot.
    #[must_use]
    pub fn renewed_at(&self) -> Option<Moment> {
        self.bounds.renewed_at
    }

    /// Something has happened: what is to be done, in this order.
    #[must_use]
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.bounds.starts_from == Moment::NEVER {
            self.bounds.starts_from = now + HUB_FIRST;
        }
        let is_news = !matches!(input, Input::Wall(_) | Input::Load(_) | Input::Usage(_));
        self.is_changed |= is_news && input != Input::Tick;
        if matches!(input, Input::Engine(_) | Input::Done(..)) {
            self.mesh.mark();
        }
        self.apply(now, input, &mut effects);
        if !self.is_stopping {
            self.save_again(now, &mut effects);
            if is_news {
                self.act(now, &mut effects);
                self.network(now, &mut effects);
            }
            self.report(now, &mut effects);
        }
        effects
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn wake_at(&self, now: Moment) -> Moment {
        let tracks = self.observed.tracks.values().flat_map(|track| {
            let unhealthy = track.unhealthy_since.map_or(Moment::NEVER, |since| since + converge::UNHEALTHY_FOR);
            let unseen = track.unseen.as_ref().map_or(Moment::NEVER, |(since, _)| *since + converge::UNSEEN_FOR);
            [track.retry_at, track.stop_retry_at, unseen, unhealthy]
        });
        let images = self.observed.images.values().map(|image| image.retry_at);
        let files = self.observed.files.values().map(|files| files.retry_at);
        let lease = hold::lease_due(&self.wanted, &self.observed, &self.bounds, now);
        let relist = self.observed.relist_at.unwrap_or(Moment::NEVER);
        let networks = self.observed.networks.wake_at();
        let others = [self.bounds.starts_from, lease, relist];
        let next = tracks
            .chain(images)
            .chain(networks)
            .chain(files)
            .chain(others)
            .filter(|at| *at > now)
            .min()
            .unwrap_or(Moment::NEVER);
        let save = self.unsaved.as_ref().map_or(Moment::NEVER, |unsaved| unsaved.retry_at);
        let renewal = self.session.map_or(Moment::NEVER, |_| self.renewal.due_at(now, self.unix_ms(now) / 1000));
        let mesh = self.mesh.wake_at(self.session.is_some());
        next.min(self.heartbeat.due_at()).min(self.tell_at).min(save).min(renewal).min(mesh)
    }

    /// What is to run here, for those who sample or count it.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What is known of the engine.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Exclusive containers that run, with the first process of each and the moment from which it must be killed past the
    /// engine, which has then failed to do so.
    #[must_use]
    pub fn overdue(&self) -> Vec<(PlacementId, u32, Moment)> {
        hold::overdue(&self.wanted, &self.observed, &self.bounds)
    }

    /// What somebody may want to read, since the last time.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(remark);
        }
    }

    /// The fleet that the device belongs to, as far as is known; none: it takes the first.
    #[must_use]
    pub fn fleet(&self) -> Option<FleetId> {
        fleet_of(self.held_fleet(), &self.observed)
    }

    /// The assignment that the device holds.
    #[must_use]
    pub fn held(&self) -> Option<Stamp> {
        self.held
    }

    fn apply(&mut self, now: Moment, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Wall(unix_ms) => self.wall = (now, unix_ms),
            Input::Facts(facts) => self.learn(*facts, now, effects),
            Input::Connected(session) => self.connected(session, now, effects),
            Input::Disconnected => self.disconnected(effects),
            Input::Down(message) => self.hear(message, now, effects),
            Input::Unsent(channel) => self.unsent(channel, now),
            Input::Engine(event) => {
                let unix_s = self.unix_s(now);
                self.observed.hear(event, &self.wanted, now, unix_s);
                if let Some(early) = self.early.take_if(|_| self.observed.has_listed) {
                    self.want(*early, now, effects);
                }
                if let Some(early) = self.mesh.early.take_if(|_| self.observed.has_listed) {
                    self.route(*early);
                }
            }
            Input::Done(id, outcome) => {
                let unix_s = self.unix_s(now);
                let action = self.observed.under_way.get(&id);
                if let Some(remark) = action.and_then(|one| self.observed.files_remark(one, &outcome, &self.wanted)) {
                    self.remark(remark);
                }
                self.observed.done(id, outcome, &self.wanted, now, unix_s);
            }
            Input::Pulling(id, progress) => self.observed.pulling(id, progress),
            Input::Saved(stamp, result) => self.saved(stamp, result, now),
            Input::Load(load) => self.heartbeat.load(load),
            Input::Usage(usage) => self.heartbeat.usage(usage),
            Input::Answered(request) => {
                self.requests.remove(&request);
            }
            Input::Certificate(own) => self.renewal.is(own, now),
            Input::Renewed(Ok(own)) => {
                self.remark(Remark::Renewed(own.not_after_s));
                self.renewal.is(own, now);
            }
            Input::Renewed(Err(reason)) => self.remark(Remark::NotRenewed(reason)),
            Input::Proxy(event) => self.mesh.hear(event),
            Input::Reach(reach) => self.mesh.reach(reach),
            Input::Tick => (),
            Input::Stop(reason) => {
                self.is_stopping = true;
                self.mesh.keep_due(now, true, effects);
                if let Some(session) = self.session {
                    effects.push(Effect::Publish(UpMessage::Bye(Bye { session, reason })));
                }
            }
        }
    }

    fn unix_ms(&self, now: Moment) -> u64 {
        let (at, unix_ms) = self.wall;
        unix_ms.saturating_add(u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX))
    }

    fn unix_s(&self, now: Moment) -> i64 {
        i64::try_from(self.unix_ms(now) / 1000).unwrap_or(i64::MAX)
    }

    fn learn(&mut self, facts: Facts, now: Moment, effects: &mut Vec<Effect>) {
        if facts == self.facts {
            return;
        }
        self.facts = facts;
        self.hello(now, effects);
    }

    fn connected(&mut self, session: SessionNumber, now: Moment, effects: &mut Vec<Effect>) {
        self.session = Some(session);
        self.is_refusal_told = false;
        self.leases.begin(session);
        self.bounds.is_confirmed = false;
        self.observed.files_wait_no_longer(now);
        self.heartbeat.begin(session, now);
        self.renewal.connected(now);
        self.mesh.connected();
        self.hello(now, effects);
    }

    /// Says who it is; the whole status follows.
    fn hello(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Some(session) = self.session else { return };
        let hello = Hello {
            boot: self.settings.boot,
            session,
            machine: self.settings.machine,
            fleet: self.fleet(),
            held: self.held,
            unix_ms: self.unix_ms(now),
            heartbeat_ms: u32::try_from(self.settings.heartbeat.as_millis()).unwrap_or(u32::MAX),
            facts: self.facts.clone(),
        };
        effects.push(Effect::Publish(UpMessage::Hello(Box::new(hello))));
        self.teller.begin(session, now);
    }

    fn disconnected(&mut self, effects: &mut Vec<Effect>) {
        self.session = None;
        self.heartbeat.end();
        self.teller.end();
        effects.extend(std::mem::take(&mut self.requests).into_iter().map(Effect::Cancel));
    }

    fn unsent(&mut self, channel: Channel, now: Moment) {
        match channel {
            Channel::Hello | Channel::Status => self.teller.again(now),
            // A heartbeat that cannot be sent now is worth nothing later, and the asker of an answer asks again.
            Channel::Report | Channel::Bye | Channel::Answer => (),
            // Asked again after its pause.
            Channel::Renew => (),
            Channel::Mesh => self.mesh.unsent(now),
            Channel::Unseal => (),
            Channel::Want
            | Channel::Routes
            | Channel::Lease
            | Channel::Ask
            | Channel::Certificate
            | Channel::Sealed => (),
        }
    }

    fn hear(&mut self, message: DownMessage, now: Moment, effects: &mut Vec<Effect>) {
        match message {
            DownMessage::Want(assignment) => self.want(assignment, now, effects),
            DownMessage::Lease(lease) => self.lease(lease),
            DownMessage::Ask(ask) => self.asked(ask, now, effects),
            DownMessage::Routes(routes) => self.route(routes),
            // The shell gives it to whoever has asked.
            DownMessage::Sealed(_) => (),
            DownMessage::Certificate(certificate) => effects.push(Effect::Adopt(Box::new(certificate))),
        }
    }

    fn lease(&mut self, lease: Lease) {
        if self.leases.renew(lease, self.highest_epoch) {
            self.highest_epoch = lease.epoch;
            self.bounds.renewed_at = self.leases.renewed_at();
        }
    }

    fn act(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let images = self.wanted.images();
        let is_unwanted = |action: &Action| match action {
            Action::Pull(image) | Action::Check(image) => !images.contains(image),
            Action::Lay(placement, _) => !self.wanted.runs(*placement),
            Action::Create(_)
            | Action::Start(..)
            | Action::Stop(..)
            | Action::Remove(..)
            | Action::List
            | Action::Inspect(..)
            | Action::Clear(_)
            | Action::MakeNetwork(..)
            | Action::RemoveNetwork(..)
            | Action::ListNetworks => false,
        };
        let unwanted: Vec<ActionId> =
            self.observed.under_way.iter().filter(|(_, action)| is_unwanted(action)).map(|(id, _)| *id).collect();
        for id in unwanted {
            self.observed.abort(id);
            effects.push(Effect::Abort(id));
        }
        for action in converge(&self.wanted, &self.observed, &self.bounds, now) {
            let id = ActionId(self.next_action);
            self.next_action += 1;
            self.observed.issue(id, action.clone(), &self.wanted, now);
            self.is_changed = true;
            effects.push(Effect::Act(id, action));
        }
    }

    fn report(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.is_changed || self.tell_at <= now {
            self.is_changed = false;
            let sources = Sources {
                held: self.held,
                wanted: &self.wanted,
                observed: &self.observed,
                bounds: &self.bounds,
                unsaved: self.unsaved.as_ref().map(|unsaved| unsaved.reason.as_str()),
            };
            let (status, tell_at) = self.teller.tell(&sources, now);
            self.tell_at = tell_at;
            effects.extend(status.map(|status| Effect::Publish(UpMessage::Status(status))));
        }
        if let Some(report) = self.heartbeat.beat(now, self.teller.number(), self.held) {
            self.leases.report_sent(report.sequence, now);
            effects.push(Effect::Publish(UpMessage::Report(report)));
        }
        if let Some(session) = self.session
            && let Some(request) = self.renewal.ask(now, self.unix_ms(now) / 1000)
        {
            effects.push(Effect::Publish(UpMessage::Renew(Renew { session, request })));
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod stories;
