//! Which devices are connected from where, so that a second machine cannot push a living one off its name.
//!
//! MQTT gives a name to whoever comes last. That is right for a device whose old connection is half open, and wrong for
//! a cloned SD card. The two are told apart by the old connection: if it was heard a moment ago and comes from another
//! address, it lives. Machines behind one router are told apart only by their hello, by the planner.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_protocol::Moment;

/// A connection that was heard within this time lives: two heartbeats.
const ALIVE: Duration = Duration::from_secs(2);
/// A name that is fought over is told about no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A living connection that is displaced so often within [`TELL_EVERY`] is no agent that connects anew.
const FIGHT: u32 = 4;

/// How long a device that was cut off for sending too much stays out.
const CUT_OFF_FOR: Duration = Duration::from_secs(30);

/// Who is connected.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    table: Arc<Mutex<HashMap<String, Connection>>>,
    cut_off: Arc<Mutex<HashMap<String, Moment>>>,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    address: IpAddr,
    heard_at: Moment,
    told_at: Option<Moment>,
    /// How often a living connection was displaced, and since when that is counted.
    displaced: (u32, Moment),
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is let in.
    Welcome,
    /// It is let in, and it is time to say that machines push each other off this name.
    Fight,
    /// Another machine has the name and lives; `tell` whether it is time to say so.
    Taken {
        /// Whether it is time to say so.
        tell: bool,
    },
}

impl Presence {
    /// A device wants to come in.
    pub(super) fn enter(&self, device: &str, address: IpAddr, now: Moment) -> Entry {
        let mut table = self.lock();
        if let Some(present) = table.get_mut(device)
            && present.address != address
            && now.since(present.heard_at) < ALIVE
        {
            let tell = present.told_at.is_none_or(|at| now.since(at) >= TELL_EVERY);
            if tell {
                present.told_at = Some(now);
            }
            return Entry::Taken { tell };
        }
        let before = table.get(device).copied();
        let lives = before.is_some_and(|before| now.since(before.heard_at) < ALIVE);
        let counted = before.map(|before| before.displaced).filter(|(_, since)| now.since(*since) < TELL_EVERY);
        let (count, since) = counted.unwrap_or((0, now));
        let count = count + u32::from(lives);
        let mut told_at = before.and_then(|before| before.told_at);
        let tells = count >= FIGHT && told_at.is_none_or(|at| now.since(at) >= TELL_EVERY);
        if tells {
            told_at = Some(now);
        }
        let connection = Connection { address, heard_at: now, told_at, displaced: (count, since) };
        table.insert(device.to_owned(), connection);
        if tells { Entry::Fight } else { Entry::Welcome }
    }

    /// A device is cut off for a while. Whether it was not already.
    pub(super) fn cut_off(&self, device: &str, now: Moment) -> bool {
        let mut cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        cut_off.retain(|_, at| now.since(*at) < CUT_OFF_FOR);
        cut_off.insert(device.to_owned(), now).is_none()
    }

    /// Whether a device is cut off at present.
    pub(super) fn is_cut_off(&self, device: &str, now: Moment) -> bool {
        let cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        cut_off.get(device).is_some_and(|at| now.since(*at) < CUT_OFF_FOR)
    }

    /// A device was heard.
    pub(super) fn heard(&self, device: &str, now: Moment) {
        if let Some(connection) = self.lock().get_mut(device) {
            connection.heard_at = now;
        }
    }

    /// A device has no connection any more.
    pub(super) fn left(&self, device: &str) {
        self.lock().remove(device);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Connection>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses() -> [IpAddr; 2] {
        ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_living_device_keeps_its_name_and_a_silent_one_gives_it_up() {
        let presence = Presence::default();
        let [here, there] = addresses();
        let mut now = Moment(1_000_000);
        assert_eq!(presence.enter("pi", here, now), Entry::Welcome);
        now = now + SECOND;
        presence.heard("pi", now);
        assert_eq!(presence.enter("pi", there, now + SECOND), Entry::Taken { tell: true });
        assert_eq!(presence.enter("pi", there, now + SECOND), Entry::Taken { tell: false });
        assert_eq!(presence.enter("pi", there, now + SECOND * 2), Entry::Welcome);
    }

    #[test]
    fn two_agents_of_one_machine_that_push_each_other_off_are_told_now_and_then() {
        let presence = Presence::default();
        let [here, _] = addresses();
        let start = Moment(1_000_000);
        let told: Vec<u64> = (0..180)
            .filter(|second| {
                presence.enter("pi", here, start + SECOND * u32::try_from(*second).unwrap()) == Entry::Fight
            })
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        // One that connects anew after a silence, or after a goodbye, fights with nobody.
        for turn in 0..20 {
            assert_eq!(presence.enter("nuc", here, start + SECOND * (3 * turn)), Entry::Welcome);
        }
    }

    #[test]
    fn the_same_machine_and_a_device_that_has_left_come_back_at_once() {
        let presence = Presence::default();
        let [here, there] = addresses();
        let now = Moment(1_000_000);
        assert_eq!(presence.enter("pi", here, now), Entry::Welcome);
        assert_eq!(presence.enter("pi", here, now), Entry::Welcome);
        presence.left("pi");
        assert_eq!(presence.enter("pi", there, now), Entry::Welcome);
    }
}
