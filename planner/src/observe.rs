//! What devices say about themselves and their copies, kept.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{
    EngineState, ExitCause, Facts, MAX_REPLICAS_PER_DEVICE, Moment, Observed, Phase, PlacementId, Status,
};

use crate::fleet::Fleet;
use crate::hear::Reply;
use crate::index::Shape;
use crate::note::{Note, NoteKind};
use crate::record::Stage;
use crate::service::Placement;
use crate::table::{DeviceIx, ServiceIx};

/// Images of one device that are remembered; they only speak for a device, so those beyond are no loss.
const MOST_IMAGES: usize = 2_000;

impl Fleet {
    /// What the device is.
    pub(crate) fn take_facts(&mut self, ix: DeviceIx, facts: Facts) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        if device.facts.as_ref() == Some(&facts) {
            return;
        }
        let (before, now) = (device.facts.as_ref().map(Shape::of), Shape::of(&facts));
        let also_ran = device.facts.as_ref().is_some_and(|facts| !facts.also_runs.is_empty());
        self.index.also_runs =
            (self.index.also_runs + usize::from(!facts.also_runs.is_empty())).saturating_sub(usize::from(also_ran));
        let policy = device.facts.as_ref().map(|facts| facts.policy);
        let is_other_policy = policy.is_some_and(|policy| policy != facts.policy);
        device.facts = Some(facts);
        if is_other_policy {
            self.forget_refusals(ix);
        }
        if before != Some(now) {
            self.reshape(ix, before, now);
        }
        self.unsaved.devices.insert(ix);
        self.rank_anew(ix);
        self.dirty.room.insert(ix);
        self.touch_copies(ix);
        self.touch_peer(ix);
    }

    /// A device has another size than before.
    fn reshape(&mut self, ix: DeviceIx, before: Option<Shape>, now: Shape) {
        self.index.resize(now, 1);
        if let Some(before) = before {
            self.index.resize(before, -1);
        }
        let Some(device) = self.devices.get(ix) else { return };
        let services: BTreeSet<ServiceIx> =
            device.placements.iter().filter_map(|id| self.placements.get(id)).map(|copy| copy.service).collect();
        for six in services {
            let Some(service) = self.services.get_mut(six).filter(|service| service.has.has(ix)) else { continue };
            *service.cover.entry(now).or_insert(0) += 1;
            if let Some(cover) = before.and_then(|before| service.cover.get_mut(&before)) {
                *cover = cover.saturating_sub(1);
            }
        }
    }

    /// Puts a device under its labels, or takes it from there.
    pub(crate) fn index_labels(&mut self, ix: DeviceIx, present: bool) {
        let Some(device) = self.devices.get(ix) else { return };
        for (key, value) in &device.labels {
            let label = (key.clone(), value.to_ascii_lowercase());
            if present {
                self.labelled.entry(label).or_default().insert(ix);
            } else if let Some(devices) = self.labelled.get_mut(&label) {
                devices.remove(&ix);
                if devices.is_empty() {
                    self.labelled.remove(&label);
                }
            }
        }
    }

    /// What was seen of its copies before is no longer known to be so.
    pub(crate) fn forget_phases(&mut self, ix: DeviceIx) {
        let Some(device) = self.devices.get(ix) else { return };
        for id in &device.placements {
            if let Some(copy) = self.placements.get_mut(id) {
                copy.seen = None;
                copy.unheard = false;
                copy.running_since = None;
            }
        }
        self.touch_copies(ix);
    }

    /// What the device sees of its engine, its images and its copies.
    pub(crate) fn take_status(&mut self, ix: DeviceIx, status: Status, now: Moment, reply: &mut Reply) {
        self.note_excess(ix, &status, reply);
        self.see_leaving(ix, &status);
        self.take_engine(ix, status.engine, now, reply);
        self.take_images(ix, status.images);
        let mut seen: BTreeMap<PlacementId, Observed> =
            status.replicas.into_iter().map(|observed| (observed.placement, observed)).collect();
        let Some(device) = self.devices.get(ix) else { return };
        let ids: Vec<PlacementId> = device.placements.iter().copied().collect();
        for id in ids {
            let observed = seen.remove(&id);
            let Some(copy) = self.placements.get_mut(&id) else { continue };
            let slot = (copy.service, copy.number);
            let was_unheard = std::mem::take(&mut copy.unheard);
            if was_unheard || copy.stage == Stage::Stop {
                self.dirty.slots.insert(slot);
            }
            match observed {
                Some(observed) => self.take_observed(ix, id, observed, now, reply),
                // It is listed as soon as the device holds an assignment with it; before that, its absence says nothing.
                None if copy.seen.take().is_some() => {
                    copy.running_since = None;
                    self.touched(slot);
                }
                None if was_unheard => self.touched(slot),
                None => (),
            }
        }
    }

    /// A device that tells of more than any device can have is faulty or lies. What belongs to no copy of ours is not kept, and
    /// neither are images beyond the limit; this is said once for each connection.
    fn note_excess(&mut self, ix: DeviceIx, status: &Status, reply: &mut Reply) {
        let (copies, images) = (status.replicas.len(), status.images.len());
        let Some(device) = self.devices.get_mut(ix) else { return };
        let is_much = copies > MAX_REPLICAS_PER_DEVICE || images > MOST_IMAGES;
        if is_much && !std::mem::replace(&mut device.is_excess_told, true) {
            let name = device.name.clone();
            let text = format!(
                "{name} tells of {copies} copies and {images} images, more than a device can have; not all is kept"
            );
            reply.notes.push(Note::of_device(NoteKind::DeviceRefused, &name, text));
        }
    }

    fn take_engine(&mut self, ix: DeviceIx, engine: EngineState, now: Moment, reply: &mut Reply) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        if device.engine.as_ref() == Some(&engine) {
            return;
        }
        let name = device.name.clone();
        let note = match &engine {
            EngineState::Up if device.engine.is_none() => None,
            EngineState::Up => Some(Note::of_device(
                NoteKind::EngineUp,
                &name,
                format!("the container engine of {name} answers again"),
            )),
            EngineState::Down(why) => {
                let text = format!("the container engine of {name} does not answer");
                Some(Note::of_device(NoteKind::EngineDown, &name, text).because(why))
            }
            EngineState::StorageFailed(why) => {
                let text = format!("the storage of {name} has failed or is full; nothing new is started there");
                Some(Note::of_device(NoteKind::StorageFailed, &name, text).because(why))
            }
        };
        reply.notes.extend(note);
        let down = matches!(engine, EngineState::Down(_));
        device.engine_away_at = if down { device.engine_away_at.or(Some(now)) } else { None };
        device.engine = Some(engine);
        self.rank_anew(ix);
        self.touch_copies(ix);
        self.dirty.devices.insert(ix);
    }

    fn take_images(&mut self, ix: DeviceIx, images: Vec<String>) {
        let Some(device) = self.devices.get_mut(ix) else { return };
        if images.len() == device.images.len() && images.iter().all(|image| device.images.contains(image)) {
            return;
        }
        let images = images.into_iter().take(MOST_IMAGES).collect();
        let before = std::mem::replace(&mut device.images, images);
        for image in before.difference(&device.images) {
            if let Some(holders) = self.holders.get_mut(image) {
                holders.remove(&ix);
                if holders.is_empty() {
                    self.holders.remove(image);
                }
            }
        }
        for image in device.images.difference(&before) {
            self.holders.entry(image.clone()).or_default().insert(ix);
        }
    }

    /// What the device sees of one copy.
    fn take_observed(&mut self, ix: DeviceIx, id: PlacementId, observed: Observed, now: Moment, reply: &mut Reply) {
        let Some(copy) = self.placements.get_mut(&id).filter(|copy| copy.device == ix) else { return };
        let slot = (copy.service, copy.number);
        let before = copy.seen.as_ref();
        let same = before.is_some_and(|seen| {
            same_phase(&seen.phase, &observed.phase)
                && seen.restarts == observed.restarts
                && seen.last_exit == observed.last_exit
        });
        let began = before.map(|seen| seen.phase.clone());
        let restarted = before.is_some_and(|seen| seen.restarts != observed.restarts);
        let working = matches!(observed.phase, Phase::Running | Phase::Completed);
        copy.running_since = working.then(|| copy.running_since.filter(|_| !restarted).unwrap_or(now));
        let made = matches!(observed.phase, Phase::Starting | Phase::Running | Phase::Unhealthy | Phase::Completed);
        copy.pulled |= made || observed.phase == Phase::Prepared;
        if before.is_none_or(|seen| seen.phase != observed.phase) {
            copy.pull_moved_at = now - self.deaf;
        }
        copy.seen_at = now;
        copy.seen = Some(Box::new(observed));
        if same {
            return;
        }
        let note = phase_note(copy, began.as_ref());
        let keeps = made && copy.stage == Stage::Run && !copy.content.need.volumes.is_empty();
        let content = keeps.then(|| copy.content.clone());
        self.take_refusal(id);
        self.touched(slot);
        if let Some(content) = content {
            self.settle_home(slot, ix, &content);
        }
        reply.notes.extend(note.and_then(|note| self.name_note(slot, ix, note)));
    }

    /// What the owner of the device has said to the present content of a service is kept.
    fn take_refusal(&mut self, id: PlacementId) {
        let Some(copy) = self.placements.get(&id) else { return };
        let why = match copy.phase() {
            Some(Phase::Refused { reason }) => Some(reason.clone()),
            _ => None,
        };
        let (six, ix, revision) = (copy.service, copy.device, copy.revision);
        let Some(service) = self.services.get_mut(six).filter(|service| service.revision == revision) else { return };
        match why {
            Some(why) => service.refused.insert(ix, why),
            None => service.refused.remove(&ix),
        };
    }

    /// The owner of a device may allow more than before.
    fn forget_refusals(&mut self, ix: DeviceIx) {
        let all: Vec<ServiceIx> = self.services.iter().map(|(six, _)| six).collect();
        for six in all {
            if let Some(service) = self.services.get_mut(six) {
                service.refused.remove(&ix);
            }
        }
    }

    /// A device was not heard for a while: its pulls may have got on meanwhile.
    pub(crate) fn excuse_pulls(&mut self, ix: DeviceIx, now: Moment) {
        let Some(device) = self.devices.get(ix) else { return };
        for id in &device.placements {
            if let Some(copy) = self.placements.get_mut(id) {
                copy.pull_moved_at = now - self.deaf;
            }
        }
    }

    fn touched(&mut self, (six, number): (ServiceIx, u32)) {
        self.refresh(six, number);
        self.dirty.slots.insert((six, number));
        if self.services.get(six).is_some_and(|service| service.roll.active) {
            self.dirty.rolls.insert(six);
        }
    }

    fn name_note(&self, (six, number): (ServiceIx, u32), ix: DeviceIx, note: PhaseNote) -> Option<Note> {
        let service = self.services.get(six)?.name.clone();
        let device = &self.devices.get(ix)?.name;
        let replica = outrigger_protocol::ReplicaName { service, number };
        let text = format!("{replica} {} on {device}", note.what);
        let named = Note::of_replica(note.kind, &replica, text).on(device);
        Some(match note.why {
            Some(why) => named.because(why),
            None => named,
        })
    }
}

/// What happened to a copy, before it is named.
struct PhaseNote {
    kind: NoteKind,
    what: &'static str,
    why: Option<String>,
}

/// Progress of a pull and the time left of a back-off are no news.
fn same_phase(before: &Phase, now: &Phase) -> bool {
    match (before, now) {
        (Phase::Pulling { .. }, Phase::Pulling { .. }) => true,
        (Phase::BackOff { reason: before, .. }, Phase::BackOff { reason: now, .. }) => before == now,
        (before, now) => before == now,
    }
}

fn phase_note(copy: &Placement, before: Option<&Phase>) -> Option<PhaseNote> {
    let seen = copy.seen.as_ref()?;
    let failed = |what, why: &str| Some(PhaseNote { kind: NoteKind::ReplicaFailed, what, why: Some(why.to_owned()) });
    match &seen.phase {
        phase if before.is_some_and(|before| same_phase(before, phase)) => None,
        Phase::Running => Some(PhaseNote { kind: NoteKind::ReplicaRunning, what: "runs", why: None }),
        Phase::Completed => Some(PhaseNote { kind: NoteKind::ReplicaRunning, what: "has completed", why: None }),
        Phase::Unhealthy => failed("is unhealthy", "its healthcheck fails"),
        Phase::BackOff { reason, .. } if seen.last_exit == Some(ExitCause::OutOfMemory) => {
            failed("was killed for memory", reason)
        }
        Phase::BackOff { reason, .. } => failed("failed and is tried again", reason),
        Phase::Failed { reason } => failed("failed and is given up", reason),
        Phase::Refused { reason } => failed("is not allowed", reason),
        Phase::LeaseOver => failed("was stopped", "its lease has run out"),
        Phase::Waiting | Phase::Pulling { .. } | Phase::Prepared | Phase::Starting | Phase::Stopping => None,
    }
}
