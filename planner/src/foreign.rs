//! Devices of other fleets: seen, shown, and left alone.
//!
//! A hub whose store was lost is started anew and finds devices that belong to the fleet it was. They do not obey it, and it
//! must not count on them: for this fleet such a device is as good as lost, whatever it reports.

use std::collections::BTreeMap;

use outrigger_protocol::{DeviceName, FleetId, Generation, Hello, Moment, SessionNumber};

use crate::device::Hints;
use crate::fleet::Fleet;
use crate::hear::Reply;
use crate::note::{Note, NoteKind};
use crate::plan::Liveness;
use crate::record::DeviceRecord;
use crate::table::DeviceIx;
use crate::wish::Availability;

/// Whose a device is instead of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// The fleet that it belongs to.
    pub fleet: FleetId,
    /// The connection on which it said so; none: it did before the hub's start.
    pub session: Option<SessionNumber>,
}

/// Why a device of that fleet is not used.
pub(crate) fn why(fleet: FleetId) -> String {
    format!("it belongs to another fleet ({fleet})")
}

impl Fleet {
    /// A device says that it belongs to another fleet.
    pub(crate) fn hear_foreign(&mut self, name: &DeviceName, hello: Hello, fleet: FleetId, now: Moment) -> Reply {
        let mut reply = Reply::default();
        let known = self.devices.find(name);
        if let Some(refused) = known.and_then(|ix| self.refuse_hello(ix, &hello)) {
            return refused;
        }
        let Some(ix) = known.or_else(|| self.note_foreign(name, &hello, fleet, now, &mut reply)) else { return reply };
        reply.ignored = true;
        let foreign = Foreign { fleet, session: Some(hello.session) };
        let Some(device) = self.devices.get_mut(ix) else { return reply };
        let before = device.foreign.replace(foreign);
        // What was published for it while it was ours, or before it said whose it is, must not wait for it for ever.
        reply.publish = known.is_some() && before.is_none();
        // It may return to this fleet without a reboot, so its boot is not retired.
        (device.session, device.held, device.told_under) = (None, None, None);
        device.hints = Hints::default();
        device.machine = hello.machine;
        self.take_facts(ix, hello.facts);
        self.touch_peer(ix);
        self.unsaved.devices.insert(ix);
        self.set_liveness(ix, Liveness::Lost, why(fleet));
        self.dirty.devices.insert(ix);
        if before != Some(foreign) {
            reply.notes.push(self.refusal(name, fleet));
        }
        reply
    }

    /// A device that was never heard before is shown, so that somebody sees why it does nothing.
    fn note_foreign(
        &mut self,
        name: &DeviceName,
        hello: &Hello,
        fleet: FleetId,
        now: Moment,
        reply: &mut Reply,
    ) -> Option<DeviceIx> {
        if self.is_full(name, reply) {
            return None;
        }
        let record = DeviceRecord {
            labels: BTreeMap::new(),
            availability: Availability::Active,
            generation: Generation(0),
            lease_from: Generation(0),
            machine: hello.machine,
            facts: None,
            lost: true,
            foreign: Some(fleet),
        };
        Some(self.add_device(name, record, now))
    }

    fn refusal(&self, name: &DeviceName, fleet: FleetId) -> Note {
        let text = format!(
            "{name} belongs to another fleet ({fleet}; this one is {}) and is left alone: what runs there goes on. If this \
             hub has lost its store, stop it and run `outrigger-hub restore` with a backup; if the device is to join this \
             fleet, run `outrigger-agent leave` on it",
            self.id
        );
        Note::of_device(NoteKind::DeviceRefused, name, text)
    }

    /// A device that belonged to another fleet belongs to this one, or to none, by now.
    pub(crate) fn is_foreign_no_more(&mut self, ix: DeviceIx) {
        if self.devices.get_mut(ix).is_some_and(|device| device.foreign.take().is_some()) {
            self.unsaved.devices.insert(ix);
            self.touch_peer(ix);
        }
    }
}
