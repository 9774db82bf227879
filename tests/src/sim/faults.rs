//! Faults: what goes wrong, when, and how it ends. All of it follows from the seed.

use outrigger_protocol::ServiceRef;

use super::device::Device;
use super::engine::End;
use super::profile::Profile;
use super::queue::Time;
use super::world::{Event, World};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A device without power.
    PowerCut(usize),
    /// A device that reboots in order.
    Reboot(usize),
    /// An agent that is killed, and back after so long.
    AgentKilled(usize, Time),
    /// An agent that restarts in order, as for an upgrade.
    AgentRestarts(usize, Time),
    /// An agent that gets no time.
    AgentHeldUp(usize, Time),
    /// A link that is cut: upwards, downwards, or both.
    LinkCut(usize, Way),
    /// A link that is slow: milliseconds at most.
    LinkSlow(usize, Time),
    /// A link that loses: thousandths.
    LinkLossy(usize, u64),
    /// An engine that does not answer; whether its containers end with it.
    EngineDown(usize, bool),
    /// An engine whose disk is full.
    EngineFull(usize),
    /// A registry that does not answer to this device.
    RegistryDown(usize),
    /// An agent's disk that is full.
    DiskFull(usize),
    /// An agent's file with a flipped bit, found as the agent is killed.
    FileDamaged(usize),
    /// A service whose containers end soon after each start on this device.
    Crashing(usize, ServiceRef, bool),
    /// A service that is not healthy on this device.
    Unhealthy(usize, ServiceRef),
    /// One container ends.
    ContainerEnds(usize, u64, bool),
    /// The time of day jumps.
    ClockJumps(usize, i64),
    /// More than half of the fleet is cut off at once.
    MassCut(Vec<usize>),
    /// The hub's process ends after so many effects and is back after a while.
    HubCrashes(u32),
    /// The hub's process or machine is away.
    HubAway(bool),
    /// The hub stands still.
    HubStandsStill(Time),
    /// The hub's disk is full.
    StoreFull,
    /// The hub's disk is slow.
    StoreSlow,
    /// The broker (of its own process) restarts; whether it keeps what it retained.
    BrokerAway(bool),
    /// The line between hub and broker is cut.
    HubLineCut,
    /// The hub's store is replaced by an earlier backup, with a higher epoch.
    Restored,
    /// The hub is started without its store, which is found and restored later.
    StoreLost,
    /// Statuses that the broker has confirmed get lost, every second one.
    StatusesLost,
}

/// Which way a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the device sends is lost.
    Up,
    /// What is sent to the device is lost.
    Down,
    /// Both.
    Both,
}

impl World {
    /// Plans faults over the time from now to `end`.
    pub fn plan_faults(&mut self, profile: Profile, end: Time) {
        let mut at = self.now + 500;
        while at < end {
            let Some(fault) = self.draw_fault(profile) else { return };
            let lasts = self.draw_length(&fault);
            self.queue.push(at, Event::Begin(fault.clone()));
            self.queue.push(at + lasts, Event::Finish(fault));
            at += self.chance.fault.range(200, profile.calm_between());
            if let Profile::Mass = profile {
                // One at a time: what two that overlap mean is another question.
                at += lasts + 15_000;
            }
        }
    }

    fn draw_length(&mut self, fault: &Fault) -> Time {
        let chance = &mut self.chance.fault;
        match fault {
            Fault::HubStandsStill(_) | Fault::HubCrashes(_) | Fault::ContainerEnds(..) | Fault::ClockJumps(..) => 1,
            Fault::HubAway(_) | Fault::BrokerAway(_) | Fault::HubLineCut => chance.range(200, 12_000),
            Fault::MassCut(_) => chance.range(3_000, 25_000),
            Fault::LinkCut(..) if chance.chance(400) => chance.range(200, 5_000),
            Fault::StoreFull | Fault::DiskFull(_) => chance.range(500, 15_000),
            _ if chance.chance(300) => chance.range(100, 3_000),
            _ => chance.range(3_000, 40_000),
        }
    }

    /// A fault begins.
    pub fn begin(&mut self, fault: Fault) {
        if self.check.is_healing || self.is_too_much(&fault) {
            return;
        }
        self.trace.count(&[41, self.now]);
        self.line(|| format!("FAULT {fault:?}"));
        self.check.fault_begins(&fault, self.now);
        match &fault {
            Fault::PowerCut(device) => self.power_off(*device),
            Fault::Reboot(device) => self.shut_down(*device),
            Fault::AgentKilled(device, back) => self.kill_agent(*device, *back),
            Fault::AgentRestarts(device, back) => self.restart_agent(*device, *back),
            Fault::AgentHeldUp(device, time) => self.hold_up(*device, self.now + time),
            Fault::LinkCut(device, way) => self.set_link(*device, *way == Way::Down, *way == Way::Up),
            Fault::LinkSlow(device, most) => self.devices[*device].link.delay.1 = *most,
            Fault::LinkLossy(device, loss) => self.devices[*device].link.loss = *loss,
            Fault::EngineDown(device, ends) => self.engine_down(*device, *ends),
            Fault::EngineFull(device) => self.devices[*device].engine.manners.disk_full = true,
            Fault::RegistryDown(device) => self.devices[*device].engine.manners.registry_down = true,
            Fault::DiskFull(device) => self.devices[*device].file.is_full = true,
            Fault::FileDamaged(device) => self.damage_file(*device),
            Fault::Crashing(device, service, is_memory) => {
                let end = End { code: if *is_memory { 137 } else { 1 }, out_of_memory: *is_memory };
                self.devices[*device].engine.manners.crashing.insert(service.clone(), end);
            }
            Fault::Unhealthy(device, service) => {
                self.devices[*device].engine.manners.unhealthy.insert(service.clone());
            }
            Fault::ContainerEnds(device, choice, is_memory) => self.end_container(*device, *choice, *is_memory),
            Fault::ClockJumps(device, by) => self.jump_clock(*device, *by),
            Fault::MassCut(devices) => {
                for device in devices {
                    self.set_link(*device, false, false);
                }
            }
            Fault::HubCrashes(after) => self.hub.crash_in = Some((*after, self.now + 2_000)),
            Fault::HubAway(is_machine) => self.hub_dies(*is_machine),
            Fault::HubStandsStill(time) => self.pause_hub(*time),
            Fault::StoreFull => self.hub.store.is_full = true,
            Fault::StoreSlow => self.hub.write = (50, 1500),
            Fault::BrokerAway(keeps) => {
                self.broker_dies(*keeps, true);
                self.hub_will_miss(true);
            }
            Fault::HubLineCut => self.set_hub_line(false),
            Fault::Restored => self.restore_backup(),
            Fault::StoreLost => self.lose_store(),
            Fault::StatusesLost => self.broker.loses_statuses = 500,
        }
        self.ongoing.push(fault);
    }

    /// Plans what is drawn apart from the other faults, so that these are the same with and without it.
    pub fn plan_rare_faults(&mut self, profile: Profile, end: Time) {
        if profile == Profile::Mass || end < self.now + 5_000 {
            return;
        }
        for (fault, chance, most) in [(Fault::StoreLost, 150, 12_000), (Fault::StatusesLost, 250, 30_000)] {
            if self.chance.rare.chance(chance) {
                let at = self.chance.rare.range(self.now + 1_000, end - 1_000);
                let lasts = self.chance.rare.range(500, most);
                self.queue.push(at, Event::Begin(fault.clone()));
                self.queue.push(at + lasts, Event::Finish(fault));
            }
        }
    }

    /// An agent that is killed again before it is back is lost by right: a quiet run is not about that.
    fn is_too_much(&mut self, fault: &Fault) -> bool {
        if let Fault::Restored = fault {
            // Somebody who looks for a lost store does not put a backup in its place meanwhile.
            return self.hub.lost.is_some();
        }
        if let Fault::HubLineCut | Fault::BrokerAway(_) = fault {
            // Nor one whose return nobody can hear before the hub knows that it is deaf.
            let killed = |device: &Device| device.killed_at > 0 && self.now < device.killed_at + 5_000;
            return self.check.is_still && self.devices.iter().any(killed);
        }
        let (Fault::AgentKilled(device, _) | Fault::AgentRestarts(device, _)) = fault else { return false };
        let before = std::mem::replace(&mut self.devices[*device].killed_at, self.now);
        self.check.is_still && before > 0 && self.now < before + 20_000
    }

    /// A fault ends.
    pub fn finish(&mut self, fault: &Fault) {
        let Some(index) = self.ongoing.iter().position(|other| other == fault) else { return };
        self.ongoing.remove(index);
        self.line(|| format!("fault ends: {fault:?}"));
        self.undo(fault);
        self.check.fault_ends(fault, self.now);
    }

    fn undo(&mut self, fault: &Fault) {
        match fault {
            Fault::PowerCut(device) | Fault::Reboot(device) => self.power_on(*device),
            Fault::LinkCut(device, _) => self.set_link(*device, true, true),
            Fault::LinkSlow(device, _) => self.devices[*device].link.delay.1 = 30,
            Fault::LinkLossy(device, _) => self.devices[*device].link.loss = 0,
            Fault::EngineDown(device, _) => self.engine_up(*device),
            Fault::EngineFull(device) => self.devices[*device].engine.manners.disk_full = false,
            Fault::RegistryDown(device) => self.devices[*device].engine.manners.registry_down = false,
            Fault::DiskFull(device) => self.devices[*device].file.is_full = false,
            Fault::Crashing(device, service, _) => {
                self.devices[*device].engine.manners.crashing.remove(service);
            }
            Fault::Unhealthy(device, service) => {
                self.devices[*device].engine.manners.unhealthy.remove(service);
                let outs = self.devices[*device].engine.recover_health();
                self.engine_outs(*device, outs);
            }
            Fault::MassCut(devices) => {
                for device in devices {
                    self.set_link(*device, true, true);
                }
            }
            Fault::HubAway(_) => self.hub_starts(),
            Fault::StoreLost => self.find_store(),
            Fault::StatusesLost => self.broker.loses_statuses = 0,
            Fault::StoreFull => self.hub.store.is_full = false,
            Fault::StoreSlow => self.hub.write = (1, 20),
            Fault::BrokerAway(_) if !self.hub.is_embedded => self.broker_starts(),
            Fault::HubLineCut => self.set_hub_line(true),
            Fault::AgentKilled(..)
            | Fault::AgentRestarts(..)
            | Fault::AgentHeldUp(..)
            | Fault::FileDamaged(_)
            | Fault::ContainerEnds(..)
            | Fault::ClockJumps(..)
            | Fault::HubCrashes(_)
            | Fault::HubStandsStill(_)
            | Fault::BrokerAway(_)
            | Fault::Restored => (),
        }
    }

    /// All faults end, for good.
    pub fn heal(&mut self) {
        self.line(|| "ALL FAULTS END".to_owned());
        self.check.is_healing = true;
        for fault in std::mem::take(&mut self.ongoing) {
            self.undo(&fault);
            self.check.fault_ends(&fault, self.now);
        }
        for device in &mut self.devices {
            device.link.loss = 0;
        }
        self.hub.crash_in = None;
    }

    fn engine_down(&mut self, device: usize, ends_containers: bool) {
        if self.devices[device].is_on && self.devices[device].engine.is_up {
            let outs = self.devices[device].engine.go_down(ends_containers);
            self.engine_outs(device, outs);
        }
    }

    fn engine_up(&mut self, device: usize) {
        if self.devices[device].is_on && !self.devices[device].engine.is_up {
            let outs = self.devices[device].engine.come_up();
            self.engine_outs(device, outs);
        }
    }

    fn damage_file(&mut self, device: usize) {
        self.devices[device].file.damage();
        self.sometimes.count("the file of an agent was damaged");
        self.kill_agent(device, 1_000);
        self.check.file_damaged(&mut self.devices[device]);
    }

    fn end_container(&mut self, device: usize, choice: u64, is_memory: bool) {
        let end = End { code: 137, out_of_memory: is_memory };
        let outs = self.devices[device].engine.end_one(choice, end);
        if is_memory && !outs.is_empty() {
            self.sometimes.count("a container was killed for memory");
        }
        self.engine_outs(device, outs);
    }

    fn jump_clock(&mut self, device: usize, by: i64) {
        self.sometimes.count("the time of day jumped");
        self.devices[device].wall_ms += by;
    }

    fn restore_backup(&mut self) {
        let Some(backup) = self.hub.backup.clone() else { return };
        self.hub_dies(false);
        self.hub.store.replace(backup);
        self.hub.epoch.0 += 1;
        self.restored_to_backup();
        self.after(3_000, Event::HubStarts);
    }
}
