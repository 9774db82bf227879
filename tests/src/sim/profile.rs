//! What sort of trouble a seed is about. A run that meets everything at once shows little about any one promise.

use super::engine::Manners;
use super::faults::{Fault, Way};
use super::net::Link;
use super::queue::Time;
use super::rng::Rng;
use super::world::World;

/// A sort of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Hub, broker and agents restart and stand still, clocks jump, the network is untidy: nothing may move or stop.
    Quiet,
    /// Everything.
    Chaos,
    /// Exclusive services under partitions, power cuts and killed agents.
    Exclusive,
    /// More than half of the fleet falls silent at once: nothing may move.
    Mass,
    /// Services change all the time while devices come and go.
    Rolling,
    /// Disks are full, slow and damaged, processes crash between any two effects.
    Storage,
}

/// All profiles, the more interesting ones more often.
const DRAWN: [Profile; 12] = [
    Profile::Chaos,
    Profile::Chaos,
    Profile::Chaos,
    Profile::Exclusive,
    Profile::Exclusive,
    Profile::Exclusive,
    Profile::Quiet,
    Profile::Quiet,
    Profile::Mass,
    Profile::Rolling,
    Profile::Rolling,
    Profile::Storage,
];

impl Profile {
    /// That of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(77);
        DRAWN[rng.index(DRAWN.len())]
    }

    /// Devices in the fleet.
    pub fn devices(self, rng: &mut Rng) -> usize {
        let (low, high) = match self {
            Self::Mass => (4, 8),
            Self::Exclusive => (3, 5),
            Self::Quiet | Self::Chaos | Self::Rolling | Self::Storage => (3, 7),
        };
        usize::try_from(rng.range(low, high)).unwrap_or(3)
    }

    /// Longest time between two faults.
    #[must_use]
    pub fn calm_between(self) -> Time {
        match self {
            Self::Quiet => 9_000,
            Self::Mass => 40_000,
            Self::Exclusive => 7_000,
            Self::Chaos | Self::Rolling | Self::Storage => 6_000,
        }
    }

    /// How long faults go on.
    pub fn trouble(self, rng: &mut Rng) -> Time {
        match self {
            Self::Mass => rng.range(60_000, 100_000),
            Self::Quiet | Self::Chaos | Self::Exclusive | Self::Rolling | Self::Storage => rng.range(30_000, 120_000),
        }
    }

    /// Whether the operator wishes anything while there is trouble.
    #[must_use]
    pub fn has_wishes(self) -> bool {
        !matches!(self, Self::Quiet | Self::Mass)
    }

    /// Whether services may be exclusive.
    #[must_use]
    pub fn has_exclusive(self) -> bool {
        matches!(self, Self::Exclusive | Self::Storage)
    }

    /// The network of the seed.
    pub fn link(self, rng: &mut Rng) -> Link {
        // A heartbeat that was lost just before a mass cut makes its device fall silent before the others.
        let is_untidy = rng.chance(500) && self != Self::Mass;
        Link {
            up: true,
            down: true,
            cuts: 0,
            delay: (1, 30),
            loss: if is_untidy { 20 } else { 0 },
            twice: if is_untidy { 50 } else { 0 },
            overtakes: is_untidy,
        }
    }

    /// The engines of the seed. An exclusive copy needs an engine that does what it is told in time.
    pub fn manners(self, rng: &mut Rng) -> Manners {
        let slow = if self.has_exclusive() { 1 } else { rng.range(1, 4) };
        Manners {
            pull: (100, 1_500 * slow),
            start: (50, 350 * slow),
            stop: (5, 3_000),
            answer: (0, 15),
            registry_down: false,
            disk_full: false,
            crashing: Default::default(),
            unhealthy: Default::default(),
        }
    }
}

impl World {
    /// The next fault of this profile.
    pub fn draw_fault(&mut self, profile: Profile) -> Option<Fault> {
        let device = self.chance.fault.index(self.devices.len());
        Some(match profile {
            Profile::Quiet => self.quiet_fault(device),
            Profile::Exclusive => self.exclusive_fault(device),
            Profile::Mass => self.mass_fault(),
            Profile::Storage => self.storage_fault(device),
            Profile::Chaos | Profile::Rolling => match self.chance.fault.below(10) {
                0 | 1 => self.quiet_fault(device),
                2 | 3 => self.storage_fault(device),
                4 => self.engine_fault(device),
                5 => self.copy_fault(device),
                _ => self.device_fault(device),
            },
        })
    }

    /// What must stop and move nothing.
    fn quiet_fault(&mut self, device: usize) -> Fault {
        let is_embedded = self.hub.is_embedded;
        let chance = &mut self.chance.fault;
        match chance.below(8) {
            3 | 7 if is_embedded => Fault::HubAway(false),
            0 => Fault::HubCrashes(u32::try_from(chance.below(30)).unwrap_or(0)),
            1 => Fault::HubAway(chance.chance(500)),
            2 => Fault::HubStandsStill(chance.range(500, 20_000)),
            3 => Fault::BrokerAway(chance.chance(500)),
            4 => Fault::AgentKilled(device, chance.range(800, 1_500)),
            5 => Fault::AgentRestarts(device, chance.range(200, 5_000)),
            6 => Fault::ClockJumps(device, jump(chance)),
            _ => Fault::HubLineCut,
        }
    }

    fn device_fault(&mut self, device: usize) -> Fault {
        let chance = &mut self.chance.fault;
        match chance.below(9) {
            0 | 1 => Fault::PowerCut(device),
            2 => Fault::Reboot(device),
            3 | 4 => Fault::LinkCut(device, way(chance)),
            5 => Fault::LinkSlow(device, chance.range(100, 3_000)),
            6 => Fault::LinkLossy(device, chance.range(50, 400)),
            7 => Fault::AgentKilled(device, chance.range(800, 1_500)),
            _ => Fault::AgentHeldUp(device, chance.range(100, 12_000)),
        }
    }

    /// Faults under which an exclusive copy must not run twice. An engine that does not answer cannot stop anything, and an
    /// agent that gets no time for seconds does not either: these are not promised.
    fn exclusive_fault(&mut self, device: usize) -> Fault {
        let chance = &mut self.chance.fault;
        match chance.below(12) {
            0 | 1 => Fault::PowerCut(device),
            2 => Fault::Reboot(device),
            3..=5 => Fault::LinkCut(device, way(chance)),
            6 => Fault::LinkSlow(device, chance.range(100, 4_000)),
            7 => Fault::LinkLossy(device, chance.range(50, 600)),
            8 => Fault::AgentKilled(device, chance.range(800, 1_200)),
            9 => Fault::AgentHeldUp(device, chance.range(50, 700)),
            10 => Fault::ClockJumps(device, jump(chance)),
            _ => self.quiet_fault(device),
        }
    }

    fn mass_fault(&mut self) -> Fault {
        let all = self.devices.len();
        let mut order: Vec<usize> = (0..all).collect();
        self.chance.fault.shuffle(&mut order);
        let least = all / 2 + 1;
        let most = u64::try_from(all - least).unwrap_or(0);
        let many = least + usize::try_from(self.chance.fault.range(0, most)).unwrap_or(0);
        order.truncate(many);
        Fault::MassCut(order)
    }

    fn storage_fault(&mut self, device: usize) -> Fault {
        let chance = &mut self.chance.fault;
        match chance.below(9) {
            0 => Fault::StoreFull,
            1 => Fault::StoreSlow,
            2 => Fault::DiskFull(device),
            3 => Fault::FileDamaged(device),
            4 => Fault::PowerCut(device),
            5 if self.hub.backup.is_some() => Fault::Restored,
            5 | 6 => Fault::HubCrashes(u32::try_from(chance.below(30)).unwrap_or(0)),
            7 => Fault::AgentKilled(device, chance.range(800, 1_500)),
            _ => Fault::HubAway(true),
        }
    }

    fn engine_fault(&mut self, device: usize) -> Fault {
        let chance = &mut self.chance.fault;
        match chance.below(4) {
            0 => Fault::EngineDown(device, chance.chance(400)),
            1 => Fault::EngineFull(device),
            _ => Fault::RegistryDown(device),
        }
    }

    fn copy_fault(&mut self, device: usize) -> Fault {
        let services = self.operator.services();
        let chance = &mut self.chance.fault;
        let is_memory = chance.chance(300);
        match (chance.below(3), chance.pick(&services)) {
            (0, Some(service)) => Fault::Crashing(device, service.clone(), is_memory),
            (1, Some(service)) => Fault::Unhealthy(device, service.clone()),
            _ => Fault::ContainerEnds(device, chance.draw() >> 1, is_memory),
        }
    }
}

fn way(chance: &mut Rng) -> Way {
    [Way::Up, Way::Down, Way::Both, Way::Both][chance.index(4)]
}

/// An hour back, ten years on, 1970, or a second.
fn jump(chance: &mut Rng) -> i64 {
    [-3_600_000, 315_360_000_000, -1_780_000_000_000, 1_000][chance.index(4)]
}
