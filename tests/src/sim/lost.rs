//! A hub that is started without its store, as after a failed disk: it must not undo what the fleet does.

use std::collections::BTreeMap;

use outrigger_planner::{Key, Value};
use outrigger_protocol::{Epoch, FleetId};

use super::device::Device;
use super::hub::FLEET;
use super::world::{Event, World};

/// The fleet of a hub that has lost its store.
pub const STRANGER: FleetId = FleetId(0x5742);

/// A store that is lost for a while, and the epoch that it had.
#[derive(Debug)]
pub struct LostStore {
    records: BTreeMap<Key, Value>,
    epoch: Epoch,
}

impl World {
    /// The hub's store is lost, and somebody starts the hub without one.
    pub fn lose_store(&mut self) {
        self.hub_dies(false);
        self.sometimes.count("a hub was started without its store");
        let lost = LostStore { records: self.hub.store.durable().clone(), epoch: self.hub.epoch };
        self.hub.lost = Some(lost);
        self.hub.store.replace(BTreeMap::new());
        (self.hub.fleet, self.hub.epoch) = (STRANGER, Epoch(1));
        self.after(500, Event::HubStarts);
    }

    /// It is found again: it is restored, which raises the epoch. Devices that nothing bound have followed the stranger;
    /// their owners have them leave it.
    pub fn find_store(&mut self) {
        let Some(LostStore { records, epoch }) = self.hub.lost.take() else { return };
        self.hub_dies(false);
        self.hub.store.replace(records);
        (self.hub.fleet, self.hub.epoch) = (FLEET, Epoch(epoch.0 + 1));
        for device in 0..self.devices.len() {
            self.leave_stranger(device);
        }
        self.after(500, Event::HubStarts);
    }

    /// A device that follows a stranger forgets it, as `outrigger-agent leave` does.
    pub fn leave_stranger(&mut self, device: usize) {
        let follows = |one: &Device| {
            let held = one.agent.as_ref().and_then(|agent| agent.core.fleet());
            held == Some(STRANGER) || one.file.durable().is_some_and(|file| file.fleet == STRANGER)
        };
        if !follows(&self.devices[device]) {
            return;
        }
        self.line(|| format!("d{device} leaves the stranger's fleet"));
        self.kill_agent(device, 1_000);
        let one = &mut self.devices[device];
        one.file.remove();
        (one.duty.newest, one.duty.earlier) = (None, None);
    }
}
