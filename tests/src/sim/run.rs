//! One run: a fleet settles, has trouble, is left alone, and must then run exactly what is wanted.

use std::time::Duration;

use outrigger_planner::{Policy, Rebalance};

use super::check::Broken;
use super::hub::Hub;
use super::profile::Profile;
use super::queue::Time;
use super::rng::Rng;
use super::show;
use super::sometimes::Sometimes;
use super::world::{Event, Setup, World};

/// Time for a fleet that is new, or healed, to settle: pauses between restarts grow to some minutes.
const SETTLES_WITHIN: Time = 480_000;
/// It counts as settled when it has been for so long.
const SETTLED_FOR: u32 = 5;
/// Nothing is moved back any more when nothing was for so long; and how often that may be waited for.
const CALM: Time = 75_000;
const CALMS_WITHIN: u32 = 12;
/// How long a settled fleet is watched.
const WATCHED: Time = 20_000;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What did not hold.
    pub broken: Option<Broken>,
    /// When, in true time.
    pub at: Time,
    /// The same for the same seed.
    pub hash: u64,
    /// What was reached.
    pub sometimes: Sometimes,
    /// The last lines of the trace, or all.
    pub lines: Vec<String>,
    /// What the seed was about.
    pub profile: Profile,
}

/// Runs a seed.
#[must_use]
pub fn run(setup: Setup) -> Outcome {
    let profile = Profile::of(setup.seed);
    let mut world = make(setup, profile);
    world.line(|| format!("seed {:#x}, {profile:?}, {} devices", setup.seed, world_size(setup.seed)));
    settle_down(&mut world, profile);
    if world.check.broken.is_none() {
        trouble(&mut world, profile);
    }
    if world.check.broken.is_none() {
        recover(&mut world);
    }
    if world.check.broken.is_none() {
        watch(&mut world);
    }
    if world.check.broken.is_some() {
        let known = world.hub.core.as_ref().map(|core| show::fleet(core.fleet())).unwrap_or_default();
        known.into_iter().for_each(|line| world.line(|| line));
    }
    Outcome {
        broken: world.check.broken.take(),
        at: world.now,
        hash: world.trace.hash(),
        sometimes: world.sometimes.clone(),
        lines: world.trace.lines(),
        profile,
    }
}

fn world_size(seed: u64) -> usize {
    Profile::of(seed).devices(&mut Rng::new(seed).fork(78))
}

fn make(setup: Setup, profile: Profile) -> World {
    let mut rng = Rng::new(setup.seed).fork(78);
    let devices = profile.devices(&mut rng);
    // Shorter than a run waits for a fleet to settle.
    let mut policy = Policy { avoid_for: Duration::from_secs(120), ..Policy::default() };
    if profile == Profile::Quiet {
        // Moving back is no fault, and would hide one.
        policy.rebalance = Rebalance::Never;
    }
    let hub = Hub::new(policy, rng.chance(500));
    let (link, manners) = (profile.link(&mut rng), profile.manners(&mut rng));
    let mut world = World::new(setup, devices, hub, &link, &manners);
    if !world.hub.is_embedded {
        world.queue.push(0, Event::BrokerStarts);
    }
    world.queue.push(rng.range(0, 3000), Event::HubStarts);
    mix_heartbeats(&mut world, profile, &mut rng.fork(79));
    for device in 0..devices {
        world.power_on(device);
    }
    world.queue.push(9_000, Event::Sample);
    world
}

/// Agents may have heartbeats of their own. In a quiet run they have not: one of two seconds and a killed agent are too much
/// silence by right.
fn mix_heartbeats(world: &mut World, profile: Profile, rng: &mut Rng) {
    if profile == Profile::Quiet || rng.chance(500) {
        return;
    }
    for device in &mut world.devices {
        device.heartbeat = Duration::from_millis([500, 1000, 1500, 2000][rng.index(4)]);
    }
    world.sometimes.count("agents had heartbeats of their own");
}

/// A new fleet gets its first stacks.
fn settle_down(world: &mut World, profile: Profile) {
    world.run_until(6_000);
    world.operator_begins(profile);
    wait_until_settled(world, "a new fleet runs exactly what is wanted");
}

fn trouble(world: &mut World, profile: Profile) {
    let end = world.now + profile.trouble(&mut world.chance.fault);
    world.check.is_still = profile == Profile::Quiet;
    if profile.has_wishes() {
        world.after(1000, Event::Operate);
    }
    world.plan_faults(profile, end);
    world.plan_rare_faults(profile, end);
    if world.chance.fault.chance(500) {
        world.run_until(world.now + (end - world.now) / 3);
        world.take_backup();
    }
    world.run_until(end);
}

fn recover(world: &mut World) {
    world.operator.is_busy = false;
    world.heal();
    wait_until_settled(world, "a healed fleet runs exactly what is wanted");
    world.check.is_still = false;
}

fn wait_until_settled(world: &mut World, invariant: &'static str) {
    let end = world.now + SETTLES_WITHIN;
    let mut settled_for = 0;
    while world.check.broken.is_none() && settled_for < SETTLED_FOR {
        let next = world.now + 1000;
        world.run_until(next);
        world.settle_wishes();
        match world.settled() {
            Ok(()) => settled_for += 1,
            Err(reason) => {
                settled_for = 0;
                if world.now > end {
                    world.check.fail(invariant, reason);
                }
            }
        }
    }
}

/// A settled fleet has nothing to say but its heartbeats, and stays as it is.
fn watch(world: &mut World) {
    world.check.is_idle = true;
    calm_down(world);
    for device in &mut world.devices {
        device.duty.sent = [0; 12];
        device.duty.steps = 0;
    }
    world.check.hub_ticks = 0;
    world.check.is_still = true;
    let end = world.now + WATCHED;
    world.run_until(end);
    if world.check.broken.is_some() {
        return;
    }
    if let Err(reason) = world.settled() {
        world.check.fail("a settled fleet stays as it is", reason);
    }
    check_rates(world);
}

/// Work is moved back to devices that have stayed for a while, one copy at a time; that must come to an end.
fn calm_down(world: &mut World) {
    for _ in 0..CALMS_WITHIN {
        let placed = world.check.placed();
        let next = world.now + CALM;
        world.run_until(next);
        if world.check.broken.is_some() || world.check.placed() == placed {
            return;
        }
    }
    world.check.fail("work is moved back and then stays", format!("{} copies were placed", world.check.placed()));
}

fn check_rates(world: &mut World) {
    let seconds = u32::try_from(WATCHED / 1000).unwrap_or(1);
    let mut noisy = Vec::new();
    for device in &world.devices {
        let [hello, report, status, bye, answer, rest @ ..] = device.duty.sent;
        let beats = u32::try_from(u128::from(WATCHED) / device.heartbeat.as_millis()).unwrap_or(1);
        let most = beats.max(seconds) * 8;
        // Loads ride along with reports; a status may differ by nothing but what has run for longer.
        let rest: u32 = rest.iter().sum();
        if hello + bye + answer + rest > 0 || report > beats + 2 || status > 2 || device.duty.steps > most {
            noisy.push(format!("{}: {:?}, {} steps", device.name, device.duty.sent, device.duty.steps));
        }
    }
    if world.check.hub_ticks > u64::from(seconds) * (4 + 2 * world.devices.len() as u64) {
        noisy.push(format!("the hub: {} steps", world.check.hub_ticks));
    }
    if !noisy.is_empty() {
        world.check.fail("a settled fleet sends its heartbeats and nothing else", noisy.join("; "));
    }
}
