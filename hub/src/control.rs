//! The control task: it owns the core, feeds it, and carries out what it decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::Event;
use outrigger_planner::{NoteKind, Severity};
use outrigger_protocol::{DeviceName, Moment, UpMessage};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::broker::{Happening, Outgoing};
use crate::clock;
use crate::core::{BatchId, Effect, HubCore, Input, Remark, WishError, WishId};
use crate::handle::{Control, EventLog, MAX_EVENTS, look};
use crate::history::Histories;
use crate::pki::Pki;
use crate::run::notify;
use crate::store::{Writer, Written};

/// Happenings that are taken before one plan is made.
const BATCH: usize = 512;
/// Events without a change beside them are saved after this: one write for many.
const SAVE_EVENTS_AFTER: Duration = Duration::from_secs(30);
/// Time for a save that is under way when the hub stops.
const LAST_SAVE_WITHIN: Duration = Duration::from_secs(10);

/// The control task.
pub(crate) struct Shell {
    core: HubCore,
    events: EventLog,
    histories: Histories,
    outgoing: mpsc::Sender<Outgoing>,
    writer: Writer,
    wishes: HashMap<WishId, oneshot::Sender<Result<(), WishError>>>,
    next_wish: u64,
    next_event: u64,
    unsaved_events: Vec<Arc<Event>>,
    events_being_saved: Vec<Arc<Event>>,
    is_saving: bool,
    save_events_at: Option<Moment>,
    watchdog: Option<Watchdog>,
    pki: Option<Pki>,
}

/// Tells systemd that the control task goes round.
struct Watchdog {
    every: Duration,
    next: Moment,
}

impl Shell {
    pub(crate) fn new(
        core: HubCore,
        events: EventLog,
        histories: Histories,
        outgoing: mpsc::Sender<Outgoing>,
        writer: Writer,
        pki: Option<Pki>,
    ) -> Self {
        // Higher than any number given before, also where an older state was restored: readers name the last one seen.
        let next_event = (events.newest() + 1).max(clock::unix_ms().saturating_mul(1000));
        let watchdog = sd_notify::watchdog_enabled().map(|limit| Watchdog { every: limit / 3, next: Moment::ZERO });
        Self {
            core,
            events,
            histories,
            outgoing,
            writer,
            wishes: HashMap::new(),
            next_wish: 1,
            next_event,
            unsaved_events: Vec::new(),
            events_being_saved: Vec::new(),
            is_saving: false,
            save_events_at: None,
            watchdog,
            pki,
        }
    }

    /// Goes round until told to stop.
    pub(crate) async fn run(
        mut self,
        mut happenings: mpsc::Receiver<Happening>,
        mut questions: mpsc::Receiver<Control>,
        mut written: mpsc::Receiver<Written>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut heard = Vec::with_capacity(BATCH);
        let mut inputs = Vec::new();
        let mut reporting = Vec::new();
        loop {
            // All may be cancelled: channels lose nothing, a sleep holds nothing.
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                Some(done) = written.recv() => inputs.extend(self.written(done)),
                Some(question) = questions.recv() => inputs.extend(self.question(question).await),
                _ = happenings.recv_many(&mut heard, BATCH) => {
                    reporting.extend(heard.iter().filter_map(reporter));
                    inputs.extend(heard.drain(..).map(to_input));
                }
                () = clock::sleep_until(self.core.wake_at()) => inputs.push(Input::Tick),
            }
            let now = clock::now();
            if !inputs.is_empty() {
                for effect in self.core.step_all(now, inputs.drain(..)) {
                    self.carry_out(effect).await;
                }
            }
            reporting.drain(..).for_each(|device| self.record_load(&device, now));
            self.save_events(now).await;
            self.feed_watchdog(now);
        }
        self.finish(written).await;
    }

    async fn question(&mut self, question: Control) -> Option<Input> {
        match question {
            Control::Wish { wish, reply } => {
                let id = WishId(self.next_wish);
                self.next_wish += 1;
                self.wishes.insert(id, reply);
                Some(Input::Wish { id, wish })
            }
            Control::Remark(remark) => {
                self.write_down(&remark);
                None
            }
            Control::View(view) => {
                look(view, &self.core);
                None
            }
            Control::Backup { chunks } => {
                self.writer.backup(chunks).await;
                None
            }
        }
    }

    fn written(&mut self, done: Written) -> Option<Input> {
        self.is_saving = false;
        let events = std::mem::take(&mut self.events_being_saved);
        if done.result.is_err() {
            self.unsaved_events.splice(0..0, events);
            self.unsaved_events.truncate(MAX_EVENTS);
        }
        match (done.batch, done.result) {
            (Some(batch), Ok(())) => Some(Input::Saved(batch)),
            (Some(batch), Err(reason)) => Some(Input::SaveFailed { batch, reason }),
            (None, Ok(())) => None,
            (None, Err(reason)) => {
                warn!(reason, "events could not be saved; they are kept in memory");
                None
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Save { batch, records } => self.save(Some(batch), records).await,
            Effect::Send { device, message } => self.send(Outgoing::Send { device, message }).await,
            Effect::Quarantine { device } => self.quarantine(device),
            Effect::Clear { device } => self.send(Outgoing::Clear { device }).await,
            Effect::Reply { id, result } => {
                if let Some(reply) = self.wishes.remove(&id) {
                    // Who asked may have gone away; the wish counts all the same.
                    let _ = reply.send(result);
                }
            }
            Effect::Remark(remark) => self.write_down(&remark),
        }
    }

    /// In a task of its own: the store that has to save it may be waiting for us.
    fn quarantine(&self, device: DeviceName) {
        let Some(pki) = self.pki.clone() else { return };
        tokio::spawn(async move {
            if let Err(fault) = pki.quarantine(&device, "two machines with one identity").await {
                error!(%device, %fault, "the quarantine could not be saved; the device is still let in");
            }
        });
    }

    async fn send(&self, message: Outgoing) {
        if self.outgoing.send(message).await.is_err() {
            debug!("a message was dropped: the broker has stopped");
        }
    }

    async fn save(&mut self, batch: Option<BatchId>, records: Vec<outrigger_planner::Record>) {
        let events = std::mem::take(&mut self.unsaved_events);
        // Several saves may wait for the thread; all their events are kept until each is known to be saved.
        self.events_being_saved.extend(events.iter().cloned());
        self.is_saving = true;
        self.save_events_at = None;
        self.writer.save(batch, records, events).await;
    }

    async fn save_events(&mut self, now: Moment) {
        if self.unsaved_events.is_empty() || self.is_saving {
            return;
        }
        let due = *self.save_events_at.get_or_insert(now + SAVE_EVENTS_AFTER);
        if now >= due {
            self.save(None, vec![]).await;
        }
    }

    fn write_down(&mut self, remark: &Remark) {
        if let Some(device) = remark.device.as_ref().filter(|_| remark.kind == NoteKind::DeviceForgotten.as_str()) {
            self.histories.forget(device);
        }
        let event = event(self.next_event, remark);
        self.next_event += 1;
        log(&event);
        let event = self.events.push(event);
        self.unsaved_events.push(event);
    }

    /// The load as the fleet knows it: a report leaves it out where it has not changed.
    fn record_load(&self, device: &DeviceName, now: Moment) {
        if let Some(load) = self.core.fleet().device(device).and_then(|view| view.load) {
            self.histories.record(device, &load, now);
        }
    }

    fn feed_watchdog(&mut self, now: Moment) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.next) {
            watchdog.next = now + watchdog.every;
            notify(sd_notify::NotifyState::Watchdog);
        }
    }

    /// Waits for the save that is under way, saves the last events, and closes the store.
    async fn finish(mut self, mut written: mpsc::Receiver<Written>) {
        let last = async {
            if self.is_saving {
                written.recv().await;
            }
            if !self.unsaved_events.is_empty() {
                self.save(None, vec![]).await;
                written.recv().await;
            }
        };
        if tokio::time::timeout(LAST_SAVE_WITHIN, last).await.is_err() {
            return error!("the store does not answer; the hub stops without it");
        }
        self.writer.finish().await;
    }
}

fn reporter(happening: &Happening) -> Option<DeviceName> {
    match happening {
        Happening::Heard { device, message: UpMessage::Report(_) } => Some(device.clone()),
        Happening::Heard { .. }
        | Happening::Up
        | Happening::Down { .. }
        | Happening::NameTaken { .. }
        | Happening::Flooding { .. }
        | Happening::Garbage { .. }
        | Happening::FoughtOver { .. }
        | Happening::Kept { .. } => None,
    }
}

fn to_input(happening: Happening) -> Input {
    match happening {
        Happening::Heard { device, message } => Input::Heard { device, message },
        Happening::Up => Input::LinkUp,
        Happening::Down { reason } => Input::LinkDown { reason },
        Happening::NameTaken { device, by } => Input::NameTaken { device, by },
        Happening::Flooding { device } => Input::Flooding(device),
        Happening::Garbage { device, reason } => Input::Garbage { device, reason },
        Happening::FoughtOver { device } => Input::FoughtOver(device),
        Happening::Kept { device } => Input::Kept(device),
    }
}

fn event(id: u64, remark: &Remark) -> Event {
    Event {
        id,
        at_unix_ms: clock::unix_ms(),
        kind: remark.kind.to_owned(),
        severity: match remark.severity {
            Severity::Info => outrigger_api::Severity::Info,
            Severity::Warning => outrigger_api::Severity::Warning,
            Severity::Error => outrigger_api::Severity::Error,
        },
        device: remark.device.as_ref().map(ToString::to_string),
        stack: remark.stack.as_ref().map(ToString::to_string),
        service: remark.service.as_ref().map(ToString::to_string),
        replica: remark.replica.as_ref().map(ToString::to_string),
        message: remark.message.clone(),
        reason: remark.reason.clone(),
    }
}

/// One line for each decision and each thing that someone should know.
fn log(event: &Event) {
    macro_rules! line {
        ($level:ident) => {
            $level!(
                kind = event.kind,
                device = event.device,
                service = event.service,
                replica = event.replica,
                reason = event.reason,
                "{}",
                event.message
            )
        };
    }
    match event.severity {
        outrigger_api::Severity::Info => line!(info),
        outrigger_api::Severity::Warning => line!(warn),
        outrigger_api::Severity::Error => line!(error),
    }
}
