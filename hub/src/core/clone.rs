//! Two machines with one identity: a copied SD card. One machine has one boot id at a time, so boot ids A, B, A, B within a
//! minute are two machines.

use std::collections::HashMap;
use std::time::Duration;

use outrigger_protocol::{BootId, DeviceName, Hello, Moment, SessionNumber};

/// Boot ids that alternate within this time are two machines.
const WITHIN: Duration = Duration::from_secs(60);
/// A, B, A, B: a single return could be a message that was long on its way.
const TURNS: usize = 4;

/// Hellos of each device whose boot id was another than that of the one before.
#[derive(Debug, Default)]
pub(super) struct Clones {
    turns: HashMap<DeviceName, Vec<Turn>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    boot: BootId,
    session: SessionNumber,
    at: Moment,
}

impl Clones {
    /// A device has said hello. Whether it has now proven to be two machines.
    pub(super) fn hears(&mut self, device: &DeviceName, hello: &Hello, now: Moment) -> bool {
        let turn = Turn { boot: hello.boot, session: hello.session, at: now };
        let turns = self.turns.entry(device.clone()).or_default();
        if let Some(last) = turns.last_mut().filter(|last| last.boot == turn.boot) {
            last.session = last.session.max(turn.session);
            return false;
        }
        // An old message once more: a machine that lives has a session that was not there before.
        if turns.iter().any(|old| old.boot == turn.boot && old.session >= turn.session) {
            return false;
        }
        turns.push(turn);
        if turns.len() > TURNS {
            turns.remove(0);
        }
        let [a, b, c, d] = turns.as_slice() else { return false };
        let is_two = a.boot == c.boot && b.boot == d.boot && d.at.since(a.at) <= WITHIN;
        if is_two {
            self.turns.remove(device);
        }
        is_two
    }

    /// The device is forgotten.
    pub(super) fn forget(&mut self, device: &DeviceName) {
        self.turns.remove(device);
    }
}
