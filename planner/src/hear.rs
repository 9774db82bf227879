//! What devices say, taken in. Nothing here can fail: what makes no sense is ignored, and the reply says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_protocol::{
    Bye, ByeReason, DeviceName, EngineState, Generation, Hello, Lease, Moment, Report, SessionNumber, Stamp, Status,
};

use crate::device::{Device, Hints};
use crate::fleet::Fleet;
use crate::note::{Note, NoteKind, span};
use crate::plan::Liveness;
use crate::record::{DeviceRecord, Key};
use crate::table::DeviceIx;
use crate::wish::Availability;

/// What a device said.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one is held at a time, and moved once")]
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

/// Reports in a row that tell of a status which has not come, after which the device is asked. One may overtake it.
const PATIENCE: u32 = 2;
/// A device is not asked who it is more often than this.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// A device that holds an old assignment is sent the present one again after this.
const RESEND: Duration = Duration::from_secs(5);

/// Messages that waited while the hub was away have all been taken so long after it can hear again.
const WAITED: Duration = Duration::from_secs(1);

impl Reply {
    fn ignored() -> Self {
        Self { ignored: true, ..Self::default() }
    }
}

impl Fleet {
    /// A device was heard. Cannot fail: what makes no sense is ignored, and the reply says so.
    pub fn hear(&mut self, name: &DeviceName, message: Heard, now: Moment) -> Reply {
        self.basis += 1;
        match message {
            Heard::Hello(hello) => self.hear_hello(name, hello, now),
            Heard::Report(report) => self.hear_report(name, &report, now),
            Heard::Status(status) => self.hear_status(name, status, now),
            Heard::Bye(bye) => self.hear_bye(name, bye, now),
        }
    }

    /// The hub or its broker could not hear for so long, until `now`. That is never counted as anybody's silence.
    pub fn paused(&mut self, gap: Duration, now: Moment) {
        self.basis += 1;
        self.deaf += gap;
        self.last_word = self.last_word.map(|(at, patience)| ((at + gap).min(now), patience));
        if let Some(safe) = &mut self.safe {
            safe.back_at = safe.back_at.map(|at| (at + gap).min(now));
        }
        let all: Vec<DeviceIx> = self.devices.iter().map(|(ix, _)| ix).collect();
        for ix in all {
            let Some(device) = self.devices.get_mut(ix) else { continue };
            if device.liveness == Liveness::Lost {
                continue;
            }
            let later = |at: Moment| (at + gap).min(now);
            let before = device.heard_at;
            device.heard_at = later(before);
            device.deaf_until = device.deaf_until.map(later);
            device.hints.will_at = device.hints.will_at.map(later);
            device.hints.bye = device.hints.bye.map(|(reason, at)| (reason, later(at)));
            device.engine_away_at = device.engine_away_at.map(later);
            let heard_at = device.heard_at;
            if self.silent.remove(&(before, ix)) {
                self.silent.insert((heard_at, ix));
            }
        }
    }

    /// The hub, or its broker, was away for long enough that connections may have broken for it; it can hear again now.
    /// Devices get the start grace to return.
    pub fn reconnecting(&mut self, now: Moment) {
        self.basis += 1;
        let all: Vec<DeviceIx> = self.devices.iter().map(|(ix, _)| ix).collect();
        for ix in all {
            if let Some(device) = self.devices.get_mut(ix) {
                device.deaf_until = Some(now);
                self.dirty.devices.insert(ix);
            }
        }
    }

    fn hear_hello(&mut self, name: &DeviceName, hello: Hello, now: Moment) -> Reply {
        if let Some(fleet) = hello.fleet.filter(|fleet| *fleet != self.id) {
            return self.hear_foreign(name, hello, fleet, now);
        }
        let mut reply = Reply::default();
        let known = self.devices.find(name);
        let Some(ix) = known.or_else(|| self.join(name, &hello, now, &mut reply)) else { return reply };
        if let Some(refused) = self.refuse_hello(ix, &hello) {
            return refused;
        }
        self.is_foreign_no_more(ix);
        let Some(device) = self.devices.get_mut(ix) else { return Reply::ignored() };
        let session = (hello.boot, hello.session);
        let silent_since = device.heard_at;
        let rebooted = device.session.is_some_and(|(boot, _)| boot != hello.boot);
        if let (true, Some((boot, _))) = (rebooted, device.session) {
            device.retire(boot);
        }
        if device.session != Some(session) {
            // The time between two connections says nothing about gaps within one.
            device.session = Some(session);
            device.is_refusal_told = false;
            device.is_excess_told = false;
            device.told_under = None;
            (device.heard_status, device.missed) = (0, 0);
            device.heard_at = rekey(&mut self.silent, ix, device.heard_at, now);
        }
        if device.machine != hello.machine {
            if known.is_some() {
                let text = format!("{name} is another installation than before");
                reply.notes.push(Note::of_device(NoteKind::DeviceChanged, name, text));
            }
            device.machine = hello.machine;
            self.unsaved.devices.insert(ix);
        }
        device.heartbeat = Duration::from_millis(u64::from(hello.heartbeat_ms));
        device.held = hello.held;
        if rebooted || device.liveness == Liveness::Lost {
            self.forget_phases(ix);
        }
        self.take_facts(ix, hello.facts);
        self.alive(ix, Some(silent_since), now, &mut reply);
        self.take_held(ix, hello.held, Duration::ZERO, now, &mut reply);
        reply
    }

    /// A device that was never heard before.
    fn join(&mut self, name: &DeviceName, hello: &Hello, now: Moment, reply: &mut Reply) -> Option<DeviceIx> {
        if self.is_full(name, reply) {
            return None;
        }
        let record = DeviceRecord {
            labels: BTreeMap::new(),
            availability: Availability::Active,
            // One that was forgotten and returns obeys nothing older than what it holds.
            generation: hello
                .held
                .filter(|held| held.epoch == self.epoch)
                .map_or(Generation(0), |held| held.generation),
            lease_from: Generation(0),
            machine: hello.machine,
            facts: None,
            lost: false,
            foreign: None,
        };
        let ix = self.add_device(name, record, now);
        if let Some(device) = self.devices.get_mut(ix) {
            device.came_at = Some(now);
        }
        self.unsaved.devices.insert(ix);
        // Even an empty assignment is published, so that what an earlier fleet left there is stopped.
        self.unsaved.assignments.insert(ix);
        reply.notes.push(Note::of_device(NoteKind::DeviceJoined, name, format!("{name} joined")));
        Some(ix)
    }

    /// Whether there are as many devices as there may be.
    pub(crate) fn is_full(&self, name: &DeviceName, reply: &mut Reply) -> bool {
        let most = self.policy.max_devices;
        let is_full = self.devices.len() >= most;
        if is_full {
            let text = format!("{name} may not join: there are {most} devices, the most that are allowed");
            reply.notes.push(Note::of_device(NoteKind::DeviceRefused, name, text));
            reply.ignored = true;
        }
        is_full
    }

    pub(crate) fn add_device(&mut self, name: &DeviceName, record: DeviceRecord, now: Moment) -> DeviceIx {
        let rank = self.rank_for(name);
        self.unsaved.gone.retain(|key| !matches!(key, Key::Device(gone) if gone == name));
        let ix = self.devices.insert(name.clone(), Device::new(name.clone(), rank, record, now));
        self.index_labels(ix, true);
        let facts = self.devices.get_mut(ix).and_then(|device| device.facts.take());
        if let Some(facts) = facts {
            self.take_facts(ix, facts);
            self.unsaved.devices.remove(&ix);
        }
        if self.devices.get(ix).is_some_and(|device| device.liveness == Liveness::Unheard) {
            self.silent.insert((now, ix));
        }
        self.dirty.devices.insert(ix);
        ix
    }

    /// Why a hello is not taken in.
    pub(crate) fn refuse_hello(&self, ix: DeviceIx, hello: &Hello) -> Option<Reply> {
        let device = self.devices.get(ix)?;
        let present = matches!(device.liveness, Liveness::Up | Liveness::Suspect) && device.session.is_some();
        if device.machine != hello.machine && present {
            let text = format!(
                "another machine claims the name {0}, which is connected; give it a name of its own (`--name`), and if its \
                 disk is a copy, remove the agent's state folder there",
                device.name
            );
            let notes = vec![Note::of_device(NoteKind::NameTaken, &device.name, text)];
            return Some(Reply { notes, ..Reply::ignored() });
        }
        let late = device.session.is_some_and(|(boot, session)| boot == hello.boot && session > hello.session)
            || device.retired.contains(&hello.boot);
        late.then(Reply::ignored)
    }

    /// The device, if the message is of its present connection.
    fn present(&mut self, name: &DeviceName, session: SessionNumber, now: Moment) -> Result<DeviceIx, Reply> {
        let mut reply = Reply::ignored();
        let Some(ix) = self.devices.find(name) else {
            // Never heard of. There is nowhere to keep when it was asked, and hellos are few.
            reply.ask_hello = true;
            return Err(reply);
        };
        let Some(device) = self.devices.get_mut(ix) else { return Err(reply) };
        if device.foreign.is_some_and(|foreign| foreign.session == Some(session)) {
            return Err(reply);
        }
        match device.session {
            // What comes right behind a goodbye was sent before it.
            Some((_, current)) if current == session && device.hints.bye.is_some_and(|(_, at)| now < at + WAITED) => {
                Err(reply)
            }
            Some((_, current)) if current == session => Ok(ix),
            Some((_, _)) | None => {
                reply.ask_hello = device.asked_at.is_none_or(|at| now.since(at) >= ASK_PAUSE);
                if reply.ask_hello {
                    device.asked_at = Some(now);
                }
                Err(reply)
            }
        }
    }

    fn hear_report(&mut self, name: &DeviceName, report: &Report, now: Moment) -> Reply {
        let ix = match self.present(name, report.session, now) {
            Ok(ix) => ix,
            Err(reply) => return reply,
        };
        let mut reply = Reply::default();
        let mut reorder = false;
        if let Some(device) = self.devices.get_mut(ix) {
            device.load = report.load.or(device.load);
            // Within one connection what a device holds only grows.
            device.held = device.held.max(report.held);
            reorder = device.load.is_some_and(|load| device.smooth.take(&load, now));
        }
        for usage in &report.usage {
            if let Some(copy) = self.placements.get_mut(&usage.placement).filter(|copy| copy.device == ix) {
                copy.usage = Some(*usage);
            }
        }
        self.alive(ix, None, now, &mut reply);
        reply.ask_hello = self.misses_status(ix, report, now);
        if reorder {
            self.rank_anew(ix);
        }
        reply.lease = self.renew(ix, report, now);
        let held = self.devices.get(ix).and_then(|device| device.held);
        self.take_held(ix, held, RESEND, now, &mut reply);
        reply
    }

    /// Whether to ask for a status that the device has sent and that has not come: a confirmed message is lost with the
    /// broker that has confirmed it, or came before the hello and was not understood. What does not come at all is asked
    /// for less and less often.
    fn misses_status(&mut self, ix: DeviceIx, report: &Report, now: Moment) -> bool {
        let Some(device) = self.devices.get_mut(ix) else { return false };
        if report.statuses <= device.heard_status {
            device.missed = 0;
            return false;
        }
        device.missed = device.missed.saturating_add(1);
        let is_due = device.missed >= PATIENCE && device.missed.is_power_of_two();
        let asks = is_due && device.asked_at.is_none_or(|at| now.since(at) >= ASK_PAUSE);
        if asks {
            device.asked_at = Some(now);
        }
        asks
    }

    /// A lease is renewed only for a device that holds nothing exclusive that it must not.
    fn renew(&mut self, ix: DeviceIx, report: &Report, now: Moment) -> Option<Lease> {
        let epoch = self.epoch;
        let device = self.devices.get_mut(ix).filter(|device| device.exclusive > 0)?;
        let oldest = Stamp { epoch, generation: device.lease_from };
        device.held.filter(|held| *held >= oldest && held.epoch == epoch)?;
        device.lease_at = Some(now);
        Some(Lease { epoch, session: report.session, sequence: report.sequence })
    }

    fn hear_status(&mut self, name: &DeviceName, status: Status, now: Moment) -> Reply {
        let ix = match self.present(name, status.session, now) {
            Ok(ix) => ix,
            Err(reply) => return reply,
        };
        let mut reply = Reply::default();
        if self.devices.get(ix).is_some_and(|device| status.number < device.heard_status) {
            // Delivered again, after a newer one.
            return Reply::ignored();
        }
        let held = status.held;
        if let Some(device) = self.devices.get_mut(ix) {
            device.heard_status = status.number;
            // An engine that does not answer hides what may still run.
            device.told_under = held.filter(|_| !matches!(status.engine, EngineState::Down(_)));
        }
        self.alive(ix, None, now, &mut reply);
        self.take_held(ix, held, RESEND, now, &mut reply);
        self.take_status(ix, status, now, &mut reply);
        reply
    }

    fn hear_bye(&mut self, name: &DeviceName, bye: Bye, now: Moment) -> Reply {
        let Some(ix) = self.devices.find(name) else { return Reply::ignored() };
        let Some(device) = self.devices.get_mut(ix) else { return Reply::ignored() };
        // A will that comes late names an older connection than the present one.
        if device.session.is_none_or(|(_, session)| session != bye.session) || device.liveness == Liveness::Lost {
            return Reply::ignored();
        }
        let mut reply = Reply::default();
        let why = match bye.reason {
            ByeReason::Lost if device.hints.bye.is_some() => return Reply::ignored(),
            ByeReason::Lost => "its connection broke",
            ByeReason::Restart => "its agent restarts; its containers go on",
            ByeReason::Shutdown => "it shuts down",
            ByeReason::Leave => "it leaves the fleet",
        };
        let liveness = if bye.reason == ByeReason::Lost {
            device.hints.will_at = Some(now);
            Liveness::Suspect
        } else {
            device.hints.bye = Some((bye.reason, now));
            Liveness::Away
        };
        let kind = if bye.reason == ByeReason::Lost { NoteKind::DeviceSuspect } else { NoteKind::DeviceBye };
        reply.notes.push(Note::of_device(kind, name, format!("{name} is {liveness}")).because(why));
        self.note_word(ix, now);
        self.set_liveness(ix, liveness, why.to_owned());
        self.dirty.devices.insert(ix);
        reply
    }

    /// A message of its present connection has come. A hello says since when there was silence: over connections.
    fn alive(&mut self, ix: DeviceIx, silent_since: Option<Moment>, now: Moment, reply: &mut Reply) {
        self.note_word(ix, now);
        let Some(device) = self.devices.get_mut(ix) else { return };
        let before = device.liveness;
        let silent_for = now.since(silent_since.unwrap_or(device.heard_at));
        if before != Liveness::Unheard && device.session.is_some() {
            device.gaps.learn(now.since(device.heard_at), now);
        }
        device.heard_at = rekey(&mut self.silent, ix, device.heard_at, now);
        device.hints = Hints::default();
        // What had been waiting while the hub was away says nothing about the connection now.
        device.deaf_until = device.deaf_until.filter(|since| now < *since + WAITED);
        device.confirmed = false;
        if before == Liveness::Up {
            return;
        }
        let name = device.name.clone();
        // What was published while it was not heard may not have reached it.
        let present = Stamp { epoch: self.epoch, generation: device.generation };
        reply.publish |= device.held.is_none_or(|held| held < present);
        if before == Liveness::Lost {
            // On the same connection no status was lost, so what was seen of its copies still holds.
            device.returned_at = Some(now);
            device.came_at = Some(now);
        }
        self.excuse_pulls(ix, now);
        self.set_liveness(ix, Liveness::Up, "it is heard".to_owned());
        self.dirty.devices.insert(ix);
        let text = match before {
            Liveness::Unheard => format!("{name} is heard"),
            Liveness::Up | Liveness::Suspect | Liveness::Away | Liveness::Lost => {
                format!("{name} is heard again after {}", span(silent_for))
            }
        };
        reply.notes.push(Note::of_device(NoteKind::DeviceUp, &name, text));
    }

    /// What the device says about which assignment it holds.
    fn take_held(&mut self, ix: DeviceIx, held: Option<Stamp>, patience: Duration, now: Moment, reply: &mut Reply) {
        let epoch = self.epoch;
        let Some(device) = self.devices.get_mut(ix) else { return };
        device.held = held;
        let present = Stamp { epoch, generation: device.generation };
        if let Some(held) = held.filter(|held| *held > present) {
            // It says so with each report; once for each connection is enough to hear.
            if !std::mem::replace(&mut device.is_refusal_told, true) {
                let text = format!(
                    "{} holds an assignment of a later hub than this one ({held}, here {present}) and obeys nothing older; \
                     restore this hub's latest backup, or stop that agent and remove its state folder",
                    device.name
                );
                reply.notes.push(Note::of_device(NoteKind::DeviceRefused, &device.name, text));
            }
        } else if held != Some(present) && now.since(device.bumped_at) >= patience {
            device.bumped_at = now;
            reply.publish = true;
        }
    }

    /// Moves the numbers apart that names are compared by, and finds one for a new name between its neighbours.
    fn rank_for(&mut self, name: &DeviceName) -> u64 {
        const GAP: u64 = 1 << 32;
        let rank = |fleet: &Self, found: Option<DeviceIx>| found.and_then(|ix| fleet.devices.get(ix)).map(|d| d.rank);
        let below = rank(self, self.devices.range(..name.clone()).next_back().map(|(_, ix)| ix));
        let above = rank(self, self.devices.range(name.clone()..).next().map(|(_, ix)| ix));
        let low = below.unwrap_or(0);
        let high = above.unwrap_or_else(|| low.saturating_add(GAP * 2));
        let between = low + (high - low) / 2;
        if between > low && between < high {
            return between;
        }
        let all: Vec<DeviceIx> = self.devices.iter().map(|(ix, _)| ix).collect();
        for (place, ix) in (1..).zip(all) {
            if let Some(device) = self.devices.get_mut(ix) {
                device.rank = place * GAP;
            }
            self.rank_anew(ix);
        }
        self.rank_for(name)
    }
}

/// A device was heard at another moment than before.
fn rekey(silent: &mut BTreeSet<(Moment, DeviceIx)>, ix: DeviceIx, before: Moment, now: Moment) -> Moment {
    if before != now && silent.remove(&(before, ix)) {
        silent.insert((now, ix));
    }
    now
}
