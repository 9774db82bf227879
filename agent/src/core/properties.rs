//! The core on a model device under random assignments, crashes, restarts, broken connections and lost leases.

use std::time::Duration;

use outrigger_protocol::{DownMessage, Goal, LossPolicy, Moment};
use proptest::prelude::*;

use super::Held;
use super::model::{Copy, Device, assignment_of, one, spec};

const LEASE: Duration = Duration::from_secs(10);

/// What the world does next.
#[derive(Debug, Clone)]
enum Step {
    /// The hub sends an assignment, perhaps an old one again.
    Want {
        epoch: u32,
        generation: u64,
        wanted: u8,
        goal: Goal,
    },
    /// Time passes.
    Pass(u64),
    /// The connection breaks, or comes back.
    Disconnect,
    Connect,
    /// The hub's renewals get lost, or arrive again.
    Deaf,
    Heard,
    /// A container ends by itself.
    Crash {
        placement: u64,
        code: i64,
    },
    /// The agent dies and starts again.
    RestartAgent,
    /// The engine does not answer; then it does.
    EngineLost,
    EngineBack,
}

fn step() -> impl Strategy<Value = Step> {
    let goal = prop_oneof![4 => Just(Goal::Run), 1 => Just(Goal::Prepare)];
    prop_oneof![
        4 => (0_u32..3, 0_u64..6, any::<u8>(), goal)
            .prop_map(|(epoch, generation, wanted, goal)| Step::Want { epoch, generation, wanted, goal }),
        6 => (1_u64..15_000).prop_map(Step::Pass),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Connect),
        1 => Just(Step::Deaf),
        1 => Just(Step::Heard),
        2 => (1_u64..=8, 0_i64..3).prop_map(|(placement, code)| Step::Crash { placement, code }),
        1 => Just(Step::RestartAgent),
        1 => Just(Step::EngineLost),
        1 => Just(Step::EngineBack),
    ]
}

/// The copies that the bits name. Those with even numbers are exclusive.
fn copies(wanted: u8) -> Vec<Copy> {
    (1..=8_u64)
        .filter(|bit| wanted & (1 << (bit - 1)) != 0)
        .map(|bit| {
            let (replica, spec, _) = one(bit, spec());
            let loss = if bit % 2 == 0 { LossPolicy::Exclusive { lease: LEASE } } else { LossPolicy::Available };
            (replica, spec, loss)
        })
        .collect()
}

struct World {
    device: Device,
    newest: Option<(u32, u64)>,
    wanted: Vec<u64>,
    is_engine_up: bool,
}

impl World {
    fn new() -> Self {
        let mut device = Device::new(Held::Nothing);
        device.hub_answers = true;
        device.list();
        device.connect();
        Self { device, newest: None, wanted: Vec::new(), is_engine_up: true }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Want { epoch, generation, wanted, goal } => self.want(*epoch, *generation, *wanted, *goal),
            Step::Pass(ms) => self.pass(Duration::from_millis(*ms)),
            Step::Disconnect => self.device.disconnect(),
            Step::Connect => self.device.connect(),
            Step::Deaf => self.device.hub_answers = false,
            Step::Heard => self.device.hub_answers = true,
            Step::Crash { placement, code } => {
                if self.device.running().contains(placement) {
                    self.device.engine.end(*placement, *code);
                }
            }
            Step::RestartAgent => {
                self.device.restart_agent();
                self.is_engine_up = true;
            }
            Step::EngineLost => {
                self.device.engine_lost("gone");
                self.is_engine_up = false;
            }
            Step::EngineBack => self.engine_back(),
        }
    }

    fn engine_back(&mut self) {
        if !self.is_engine_up {
            self.device.list();
            self.is_engine_up = true;
        }
    }

    fn want(&mut self, epoch: u32, generation: u64, wanted: u8, goal: Goal) {
        if !self.device.is_connected {
            return;
        }
        let stamp = (epoch, generation);
        // A hub never sends two different assignments of one stamp.
        if self.newest == Some(stamp) {
            return;
        }
        self.device.hear(DownMessage::Want(assignment_of(epoch, generation, &copies(wanted), goal)));
        if self.newest.is_none_or(|newest| stamp > newest) {
            self.newest = Some(stamp);
            let runs = goal == Goal::Run;
            self.wanted = (1..=8).filter(|bit| runs && wanted & (1 << (bit - 1)) != 0).collect();
        }
        // It is on the disk before anything else happens: what an agent that dies before that has never promised.
        self.pass(Duration::from_millis(10));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.device.now + time;
        while self.device.now < until {
            let left = until.since(self.device.now);
            self.device.run(left.min(Duration::from_millis(100)));
            self.check();
        }
    }

    fn check(&self) {
        if let Some((epoch, generation)) = self.newest {
            let held = self.device.core.held().unwrap();
            assert_eq!((held.epoch.0, held.generation.0), (epoch, generation), "the newest assignment is held");
        }
        assert!(self.device.engine.most_starts <= super::MAX_STARTS);
        assert!(self.device.engine.most_pulls <= super::MAX_PULLS);
        if !self.is_engine_up {
            return; // Nobody can stop a container then; the hub knows that the engine is down and does not replace it.
        }
        let over = self.hub_may_replace();
        let exclusive = self.device.running().into_iter().filter(|placement| placement % 2 == 0).collect::<Vec<_>>();
        assert!(exclusive.is_empty() || self.device.now <= over, "{exclusive:?} at {}, over {over}", self.device.now);
    }

    /// From here on the hub may start exclusive copies elsewhere.
    fn hub_may_replace(&self) -> Moment {
        self.device.last_answer + LEASE
    }
}

/// All is well again.
fn settle(world: &mut World) {
    world.engine_back();
    world.device.hub_answers = true;
    world.device.connect();
    world.device.run(Duration::from_secs(900));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Only the newest assignment is obeyed, no copy is started twice at once, limits hold, and no exclusive copy outlives
    /// what the hub thinks its lease is. When all is well again, exactly what is wanted runs.
    #[test]
    fn whatever_happens_the_device_is_safe_and_settles(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            let was_down = !world.is_engine_up;
            world.take(step);
            if was_down && world.is_engine_up {
                // The engine, or the agent, is back: exclusive copies whose lease ended meanwhile go now.
                world.device.run(Duration::from_secs(3));
            }
        }
        settle(&mut world);
        prop_assert_eq!(world.device.running(), world.wanted.clone());
        let told: Vec<u64> = world.device.status().replicas.iter().map(|one| one.placement.0).collect();
        prop_assert!(world.wanted.iter().all(|placement| told.contains(placement)));
    }

    /// A restart of the agent changes nothing that runs, unless it is exclusive.
    #[test]
    fn a_restart_at_any_moment_restarts_no_available_copy(wanted in any::<u8>(), pause in 0_u64..30_000) {
        let wanted = wanted & 0b0101_0101;
        let mut world = World::new();
        world.want(1, 1, wanted, Goal::Run);
        world.pass(Duration::from_secs(30));
        let before = (world.device.engine.starts, world.device.engine.stops, world.device.running());
        world.pass(Duration::from_millis(pause));
        world.take(&Step::RestartAgent);
        world.pass(Duration::from_secs(30));
        prop_assert_eq!((world.device.engine.starts, world.device.engine.stops, world.device.running()), before);
    }

    /// The same inputs give the same effects.
    #[test]
    fn the_core_is_deterministic(steps in proptest::collection::vec(step(), 1..30)) {
        let mut worlds = [World::new(), World::new()];
        for world in &mut worlds {
            for step in &steps {
                world.take(step);
            }
        }
        let [a, b] = worlds;
        prop_assert_eq!(a.device.told, b.device.told);
        prop_assert_eq!(a.device.engine.graces, b.device.engine.graces);
    }
}
