//! The network: one link per device, connections over it, and a broker between devices and hub.
//!
//! A link can be cut in one direction or both; nobody is told. What is under way then waits, as TCP would have it, and
//! arrives late when the link is back, even from a connection that the device has given up. Order holds per topic;
//! across topics messages may overtake each other.

use std::collections::BTreeMap;

use outrigger_protocol::Channel;

use super::queue::Time;
use super::rng::Rng;

/// Names one connection of a device to the broker.
pub type ConnId = u64;

/// The line between a device and the broker.
#[derive(Debug, Clone)]
pub struct Link {
    /// What the device sends arrives.
    pub up: bool,
    /// What is sent to the device arrives.
    pub down: bool,
    /// Counts changes of the two above.
    pub cuts: u32,
    /// Shortest and longest time of a message under way.
    pub delay: (Time, Time),
    /// Unconfirmed messages that get lost, in thousandths.
    pub loss: u64,
    /// Confirmed messages that come twice, in thousandths.
    pub twice: u64,
    /// Whether messages of different topics overtake each other.
    pub overtakes: bool,
}

impl Link {
    /// Whether a connection can be made.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.up && self.down
    }

    /// Whether a message has to wait although the link is back: what was sent before it on its topic still waits.
    #[must_use]
    pub fn waits_behind(&self, channel: Channel, held: &[(Channel, Vec<u8>)]) -> bool {
        held.iter().any(|(other, _)| !self.overtakes || *other == channel)
    }
}

/// One connection of a device to the broker. Each end has its own belief about whether it stands.
#[derive(Debug, Clone)]
pub struct Conn {
    /// Whose.
    pub device: usize,
    /// The broker believes that it stands.
    pub at_broker: bool,
    /// The device believes that it stands.
    pub at_device: bool,
    /// What the broker tells the hub if it breaks.
    pub will: Vec<u8>,
    /// Waits for the link, upwards.
    pub held_up: Vec<(Channel, Vec<u8>)>,
    /// Waits for the link, downwards.
    pub held_down: Vec<(Channel, Vec<u8>)>,
    last: BTreeMap<(bool, u8), Time>,
}

/// The broker: connections, and what it keeps for who subscribes later.
#[derive(Debug, Default)]
pub struct Broker {
    /// Whether it runs.
    pub is_alive: bool,
    /// Statuses that it loses although it has confirmed them, in thousandths.
    pub loses_statuses: u64,
    /// All connections that either end believes in.
    pub conns: BTreeMap<ConnId, Conn>,
    /// The connection of each device that the broker would deliver to.
    pub current: BTreeMap<usize, ConnId>,
    /// Retained messages.
    pub retained: BTreeMap<(usize, u8), Vec<u8>>,
    /// These as they are on its disk, where it writes them from time to time.
    pub on_disk: BTreeMap<(usize, u8), Vec<u8>>,
    next: ConnId,
}

/// A channel as a key.
#[must_use]
pub fn key(channel: Channel) -> u8 {
    match channel {
        Channel::Hello => 0,
        Channel::Report => 1,
        Channel::Status => 2,
        Channel::Bye => 3,
        Channel::Answer => 4,
        Channel::Want => 5,
        Channel::Routes => 6,
        Channel::Lease => 7,
        Channel::Ask => 8,
        Channel::Renew => 9,
        Channel::Certificate => 10,
        Channel::Mesh => 11,
        Channel::Unseal => 12,
        Channel::Sealed => 13,
    }
}

impl Broker {
    /// Opens a connection; the one that the device had before is closed at the broker, and returned with its will.
    pub fn open(&mut self, device: usize, will: Vec<u8>) -> (ConnId, Option<Vec<u8>>) {
        self.next += 1;
        let id = self.next;
        let before = self.current.insert(device, id).and_then(|old| self.close_at_broker(old));
        let conn = Conn {
            device,
            at_broker: true,
            at_device: true,
            will,
            held_up: Vec::new(),
            held_down: Vec::new(),
            last: BTreeMap::new(),
        };
        self.conns.insert(id, conn);
        (id, before)
    }

    /// The broker gives a connection up; returns the will if it had believed in it.
    pub fn close_at_broker(&mut self, id: ConnId) -> Option<Vec<u8>> {
        let conn = self.conns.get_mut(&id).filter(|conn| conn.at_broker)?;
        conn.at_broker = false;
        let (device, will) = (conn.device, conn.will.clone());
        if self.current.get(&device) == Some(&id) {
            self.current.remove(&device);
        }
        self.sweep(id);
        Some(will)
    }

    /// The device gives a connection up; returns whether it had believed in it.
    pub fn close_at_device(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.at_device) else { return false };
        conn.at_device = false;
        self.sweep(id);
        true
    }

    fn sweep(&mut self, id: ConnId) {
        if self.conns.get(&id).is_some_and(|conn| !conn.at_broker && !conn.at_device) {
            self.conns.remove(&id);
        }
    }

    /// The broker's process ends: it forgets all connections, and what it kept unless that is on its disk. Returns the
    /// connections that devices still believe in.
    pub fn die(&mut self, keeps_retained: bool) -> Vec<ConnId> {
        self.is_alive = false;
        self.current.clear();
        self.retained = if keeps_retained { self.on_disk.clone() } else { BTreeMap::new() };
        for conn in self.conns.values_mut() {
            conn.at_broker = false;
            conn.held_up.clear();
        }
        self.conns.retain(|_, conn| conn.at_device);
        self.conns.keys().copied().collect()
    }

    /// When a message that is sent now arrives: never before an earlier one of its topic.
    pub fn arrival(&mut self, id: ConnId, channel: Channel, link: &Link, now: Time, rng: &mut Rng) -> Time {
        let at = now + rng.range(link.delay.0, link.delay.1);
        let Some(conn) = self.conns.get_mut(&id) else { return at };
        let topic = if link.overtakes { key(channel) } else { u8::MAX };
        let last = conn.last.entry((channel.is_up(), topic)).or_default();
        *last = at.max(*last);
        *last
    }
}
