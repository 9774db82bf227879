//! Messages on their way between agents, broker and hub.

use outrigger_agent::core::Input;
use outrigger_protocol::{Bye, ByeReason, Channel, UpMessage, decode_down, encode_up};

use super::net::{ConnId, key};
use super::queue::Time;
use super::world::{End, Event, World};

/// The agent's keep-alive; it gives up a connection that is silent for twice that, the broker after one and a half.
const KEEP_ALIVE: Time = 5_000;
/// Longest pause between attempts to connect, as the agent has it.
const LONGEST_PAUSE: u64 = 10_000;

impl World {
    /// The agent tries to connect.
    pub fn connect(&mut self, device: usize, life: u32) {
        let is_present = self.devices[device].life == life && self.devices[device].agent.is_some();
        if !is_present || self.devices[device].conn.is_some() {
            return;
        }
        let answers = self.broker.is_alive && !(self.hub.is_embedded && self.hub.paused.is_some());
        if !answers || !self.devices[device].link.is_whole() || self.devices[device].held_up.is_some() {
            self.connect_later(device);
            return;
        }
        let now = self.now;
        let session = self.devices[device].next_session(now);
        let will = encode_up(&UpMessage::Bye(Bye { session, reason: ByeReason::Lost })).unwrap_or_default();
        let (conn, will_of_before) = self.broker.open(device, will);
        self.devices[device].conn = Some(conn);
        if let Some(will) = will_of_before {
            self.sometimes.count("a connection was taken over");
            self.will_to_hub(device, will);
        }
        let delay = self.chance.net.range(1, 20);
        self.after(delay, Event::Connected(device, life, conn));
        // The broker has the subscriptions before the device is told: what it keeps is sent at once.
        for channel in [Channel::Want, Channel::Routes] {
            if let Some(bytes) = self.broker.retained.get(&(device, key(channel))).cloned() {
                self.deliver(conn, channel, bytes, delay);
            }
        }
    }

    /// Tries again after a pause: full jitter, growing.
    pub fn connect_later(&mut self, device: usize) {
        let attempts = self.devices[device].attempts.min(12);
        self.devices[device].attempts += 1;
        let most = (200.0 * 1.5_f64.powi(i32::try_from(attempts).unwrap_or(12))).min(LONGEST_PAUSE as f64) as u64;
        let pause = self.chance.net.range(2, most);
        let life = self.devices[device].life;
        self.after(pause, Event::Connect(device, life));
    }

    /// The device learns that its connection stands.
    pub fn connected(&mut self, device: usize, life: u32, conn: ConnId) {
        let one = &mut self.devices[device];
        if one.life != life || one.conn != Some(conn) {
            return;
        }
        one.attempts = 0;
        one.sent_sequence = 0;
        let (wall, session) = (one.wall(self.now), one.session);
        self.line(|| format!("d{device} connected, session {session}"));
        self.agent_input(device, Input::Wall(wall));
        self.agent_input(device, Input::Connected(session));
    }

    /// The device sends.
    pub fn send_up(&mut self, device: usize, message: &UpMessage) {
        let Some(conn) = self.devices[device].conn else { return };
        let channel = message.channel();
        let Ok(bytes) = encode_up(message) else {
            self.check.fail("every message fits its channel", format!("d{device} {channel:?}"));
            return;
        };
        self.devices[device].duty.sent[usize::from(key(channel))] += 1;
        let link = self.devices[device].link.clone();
        if !channel.is_confirmed() && self.chance.net.chance(link.loss) {
            return;
        }
        let at = self.broker.arrival(conn, channel, &link, self.now, &mut self.chance.net);
        if channel.is_confirmed() && self.chance.net.chance(link.twice) {
            self.sometimes.count("a confirmed message came twice");
            self.queue.push(at, Event::AtBroker(conn, channel, bytes.clone()));
        }
        self.queue.push(at, Event::AtBroker(conn, channel, bytes));
    }

    /// A message arrives at the broker.
    pub fn at_broker(&mut self, conn: ConnId, channel: Channel, bytes: Vec<u8>) {
        let Some(open) = self.broker.conns.get_mut(&conn).filter(|open| open.at_broker) else { return };
        let device = open.device;
        let loses = self.broker.loses_statuses;
        if loses > 0 && channel == Channel::Status && self.chance.rare.chance(loses) {
            self.sometimes.count("a confirmed status was lost");
            self.line(|| format!("a status of d{device} is lost"));
            return;
        }
        let link = &self.devices[device].link;
        if !link.up || link.waits_behind(channel, &open.held_up) {
            open.held_up.push((channel, bytes));
        } else {
            self.reach_hub(device, channel, bytes, 0);
        }
    }

    /// The broker sends to a device that has subscribed; `extra`: not before so long.
    pub fn deliver(&mut self, conn: ConnId, channel: Channel, bytes: Vec<u8>, extra: Time) {
        let Some(open) = self.broker.conns.get(&conn).filter(|open| open.at_broker) else { return };
        let link = self.devices[open.device].link.clone();
        if !channel.is_confirmed() && self.chance.net.chance(link.loss) {
            return;
        }
        let at = self.broker.arrival(conn, channel, &link, self.now + extra, &mut self.chance.net);
        if channel.is_confirmed() && self.chance.net.chance(link.twice) {
            self.queue.push(at, Event::AtDevice(conn, channel, bytes.clone()));
        }
        self.queue.push(at, Event::AtDevice(conn, channel, bytes));
    }

    /// A message arrives at a device.
    pub fn at_device(&mut self, conn: ConnId, channel: Channel, bytes: Vec<u8>) {
        let Some(open) = self.broker.conns.get_mut(&conn).filter(|open| open.at_device) else { return };
        let device = open.device;
        let link = &self.devices[device].link;
        if !link.down || link.waits_behind(channel, &open.held_down) {
            open.held_down.push((channel, bytes));
            return;
        }
        self.trace.count(&[11, self.now, device as u64]);
        self.trace.count_bytes(&bytes);
        let Ok(message) = decode_down(channel, &bytes) else { return };
        self.line(|| format!("d{device} gets {}", super::show::down(&message)));
        self.check_received(device, &message);
        self.take_routes(device, &message);
        self.agent_input(device, Input::Down(message));
    }

    /// A link changes; nobody is told.
    pub fn set_link(&mut self, device: usize, up: bool, down: bool) {
        let link = &mut self.devices[device].link;
        if (link.up, link.down) == (up, down) {
            return;
        }
        (link.up, link.down) = (up, down);
        link.cuts += 1;
        let (cuts, is_whole) = (link.cuts, link.is_whole());
        self.line(|| format!("d{device} link: up {up}, down {down}"));
        if is_whole {
            // TCP tries again later and later; what waited does not come at once.
            let delay = self.chance.net.range(5, 2500);
            self.after(delay, Event::Flush(device, cuts));
            return;
        }
        let open: Vec<ConnId> =
            self.broker.conns.iter().filter(|(_, conn)| conn.device == device).map(|(id, _)| *id).collect();
        for conn in open {
            let heard = self.chance.net.range(0, KEEP_ALIVE);
            self.after(KEEP_ALIVE * 2 - heard, Event::KeepAlive(conn, cuts, End::Device));
            self.after(KEEP_ALIVE * 3 / 2 + heard / 2, Event::KeepAlive(conn, cuts, End::Broker));
        }
    }

    /// The link is back: what waited comes through, then what either end has given up meanwhile is seen by the other.
    pub fn flush(&mut self, device: usize, cuts: u32) {
        if self.devices[device].link.cuts != cuts {
            return;
        }
        let open: Vec<ConnId> =
            self.broker.conns.iter().filter(|(_, conn)| conn.device == device).map(|(id, _)| *id).collect();
        for id in open {
            let Some(conn) = self.broker.conns.get_mut(&id) else { continue };
            let (up, down) = (std::mem::take(&mut conn.held_up), std::mem::take(&mut conn.held_down));
            let (at_broker, at_device) = (conn.at_broker, conn.at_device);
            if !(up.is_empty() && down.is_empty()) {
                self.sometimes.count("a cut link came back before anybody noticed");
            }
            for (channel, bytes) in up {
                self.at_broker(id, channel, bytes);
            }
            for (channel, bytes) in down {
                self.at_device(id, channel, bytes);
            }
            if at_broker && !at_device {
                self.after(1, Event::BrokerSees(id));
            }
            if at_device && !at_broker {
                self.after(1, Event::DeviceSees(id));
            }
        }
    }

    /// Nothing was heard for the time of the keep-alive.
    pub fn keep_alive(&mut self, conn: ConnId, cuts: u32, end: End) {
        let Some(open) = self.broker.conns.get(&conn) else { return };
        let link = &self.devices[open.device].link;
        if link.cuts != cuts || link.is_whole() {
            return;
        }
        match end {
            End::Broker => self.broker_sees(conn),
            End::Device => self.device_sees(conn),
        }
    }

    /// The broker gives a connection up: the hub gets the will.
    pub fn broker_sees(&mut self, conn: ConnId) {
        let Some((device, at_device)) = self.broker.conns.get(&conn).map(|open| (open.device, open.at_device)) else {
            return;
        };
        let Some(will) = self.broker.close_at_broker(conn) else { return };
        self.line(|| format!("the broker gives the connection of d{device} up"));
        if at_device && self.devices[device].link.down {
            self.after(1, Event::DeviceSees(conn));
        }
        self.will_to_hub(device, will);
    }

    /// A will may take longer than what comes after it: brokers send it from another task.
    fn will_to_hub(&mut self, device: usize, will: Vec<u8>) {
        if will.is_empty() {
            return;
        }
        let late = if self.devices[device].link.overtakes { self.chance.net.range(0, 400) } else { 0 };
        self.reach_hub(device, Channel::Bye, will, late);
    }

    /// The device gives a connection up.
    pub fn device_sees(&mut self, conn: ConnId) {
        let Some(device) = self.broker.conns.get(&conn).map(|open| open.device) else { return };
        if !self.broker.close_at_device(conn) || self.devices[device].conn != Some(conn) {
            return;
        }
        self.line(|| format!("d{device} gives its connection up"));
        self.devices[device].conn = None;
        if self.devices[device].link.up {
            self.after(1, Event::BrokerSees(conn));
        }
        self.agent_input(device, Input::Disconnected);
        if self.devices[device].agent.is_some() {
            self.connect_later(device);
        }
    }

    /// The device's process or machine is gone, and its end of the connection with it. Only a kernel that still runs says
    /// so to the broker.
    pub fn drop_connection(&mut self, device: usize, is_told: bool) {
        let Some(conn) = self.devices[device].conn.take() else { return };
        self.broker.close_at_device(conn);
        if is_told && self.devices[device].link.up {
            let delay = self.chance.net.range(1, 10);
            self.after(delay, Event::BrokerSees(conn));
        } else if self.broker.conns.contains_key(&conn) {
            self.after(KEEP_ALIVE * 3 / 2, Event::BrokerSees(conn));
        }
    }

    /// The broker's process or machine ends.
    pub fn broker_dies(&mut self, keeps_retained: bool, is_told: bool) {
        if !self.broker.is_alive {
            return;
        }
        self.line(|| "the broker ends".to_owned());
        for conn in self.broker.die(keeps_retained) {
            let Some(device) = self.broker.conns.get(&conn).map(|open| open.device) else { continue };
            let hears = is_told && self.devices[device].link.down;
            let delay =
                if hears { self.chance.net.range(1, 20) } else { self.chance.net.range(KEEP_ALIVE, 2 * KEEP_ALIVE) };
            self.after(delay, Event::DeviceSees(conn));
        }
    }

    /// The broker stands still, within a hub that does, for so long: devices give up after their keep-alive.
    pub fn broker_stands_still(&mut self, for_ms: Time) {
        let open: Vec<ConnId> = self.broker.conns.keys().copied().collect();
        for conn in open {
            let after = self.chance.net.range(KEEP_ALIVE, 2 * KEEP_ALIVE);
            if after < for_ms {
                self.after(after, Event::DeviceSees(conn));
            }
        }
    }

    /// The broker is back.
    pub fn broker_starts(&mut self) {
        self.line(|| "the broker starts".to_owned());
        self.broker.is_alive = true;
    }
}
