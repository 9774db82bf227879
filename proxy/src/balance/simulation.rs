//! Clients that ask, wait for the answer and ask again, in virtual time: who gets how much, and how long it takes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proptest::prelude::*;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// A copy of the simulation.
#[derive(Debug, Clone, Copy)]
struct Place {
    is_local: bool,
    /// How long the way there and back takes, and the answer of a copy that has nothing else to do.
    way_ms: u64,
    work_ms: u64,
    /// Requests that it works on at the same time without becoming slower.
    cores: u64,
}

const HERE: Place = Place { is_local: true, way_ms: 0, work_ms: 20, cores: 4 };
const THERE: Place = Place { is_local: false, way_ms: 1, ..HERE };

#[derive(Debug, Default)]
struct Outcome {
    answered: BTreeMap<u64, u64>,
    took_ms: u64,
}

impl Outcome {
    fn share(&self, number: u64) -> f64 {
        let count = |number: &u64| f64::from(u32::try_from(self.answered.get(number).copied().unwrap_or(0)).unwrap());
        count(&number) / self.answered.keys().map(count).sum::<f64>()
    }

    fn mean_ms(&self) -> f64 {
        f64::from(u32::try_from(self.took_ms).unwrap())
            / f64::from(u32::try_from(self.answered.values().sum::<u64>()).unwrap())
    }
}

/// How long a simulation lasts.
const LASTS_MS: u64 = 20_000;

/// So many clients, each without a pause. `slow_from`: from then on the first copy takes ten times as long.
fn simulate(seed: u64, places: &[Place], clients: u64, slow_from: u64) -> Outcome {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut balancer = Balancer::new(seed);
    let candidates: Vec<_> = (0..)
        .zip(places)
        .map(|(number, place)| Candidate {
            placement: PlacementId(number),
            is_local: place.is_local,
            is_ready: true,
            is_reachable: true,
        })
        .collect();
    let begin = 1_000_000;
    balancer.set(Affinity::None, &candidates, Moment(begin));
    let mut busy = vec![0_u64; places.len()];
    let mut outcome = Outcome::default();
    // (when, who is done, since when); nobody: a client begins.
    let mut events: BinaryHeap<Reverse<(u64, Option<u64>, u64)>> =
        (0..clients).map(|_| Reverse((begin, None, begin))).collect();
    while let Some(Reverse((at, done, since))) = events.pop() {
        let now = Moment(at);
        if let Some(number) = done {
            let index = usize::try_from(number).unwrap();
            busy[index] -= 1;
            balancer.answered(PlacementId(number), now.since(Moment(since)), now);
            balancer.end(PlacementId(number));
            *outcome.answered.entry(number).or_default() += 1;
            outcome.took_ms += at - since;
        }
        if at >= begin + LASTS_MS {
            continue;
        }
        let PlacementId(number) = balancer.begin(now, CLIENT, &[]).unwrap();
        let index = usize::try_from(number).unwrap();
        let place = places[index];
        busy[index] += 1;
        balancer.connected(PlacementId(number), Duration::from_millis(place.way_ms), now);
        let work = if index == 0 && at >= begin + slow_from { place.work_ms * 10 } else { place.work_ms };
        let work = work * chance.u64(80..=125) / 100 * busy[index].div_ceil(place.cores);
        events.push(Reverse((at + place.way_ms + work, Some(number), at)));
    }
    outcome
}

const NEVER: u64 = u64::MAX / 2;
const SERVICE: [Place; 3] = [HERE, THERE, THERE];

#[test]
fn one_request_at_a_time_stays_here_but_for_a_look_elsewhere() {
    let outcome = simulate(1, &SERVICE, 1, NEVER);
    assert!(outcome.share(0) > 0.97, "{outcome:?}");
    assert_eq!(outcome.answered.len(), 3, "each copy is tried, so that something is known of it");
}

#[test]
fn a_copy_here_that_becomes_slow_is_left() {
    let outcome = simulate(2, &SERVICE, 1, 10_000);
    // 500 requests before, and then hardly any.
    assert!((450..600).contains(&outcome.answered[&0]), "{outcome:?}");
    assert!(outcome.mean_ms() < 30.0, "{outcome:?}");
}

#[test]
fn a_copy_here_that_is_twice_as_slow_is_left_even_if_nobody_else_asks() {
    let slow = Place { work_ms: 50, ..HERE };
    let outcome = simulate(3, &[slow, THERE, THERE], 1, NEVER);
    assert!(outcome.share(0) < 0.1, "{outcome:?}");
}

#[test]
fn copies_far_away_get_little_until_the_one_here_has_too_much_to_do() {
    let far = Place { way_ms: 100, ..THERE };
    let idle = simulate(4, &[HERE, far, far], 2, NEVER);
    assert!(idle.share(0) > 0.9, "{idle:?}");
    let full = simulate(4, &[HERE, far, far], 60, NEVER);
    assert!(full.share(1) > 0.15 && full.share(2) > 0.15, "{full:?}");
}

#[test]
fn a_new_copy_is_not_flooded_before_it_has_answered() {
    let mut balancer = Balancer::new(5);
    let candidate =
        |number| Candidate { placement: PlacementId(number), is_local: false, is_ready: true, is_reachable: true };
    let now = Moment(1_000_000);
    balancer.set(Affinity::None, &[candidate(0), candidate(1)], now);
    for number in 0..2 {
        (0..10).for_each(|_| balancer.answered(PlacementId(number), Duration::from_millis(20), now));
    }
    balancer.set(Affinity::None, &[candidate(0), candidate(1), candidate(2)], now);
    let mut counts = BTreeMap::<_, u32>::new();
    (0..90).for_each(|_| *counts.entry(balancer.begin(now, CLIENT, &[]).unwrap()).or_default() += 1);
    assert!(counts[&PlacementId(2)] <= 35, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn under_load_no_copy_of_equal_speed_is_idle(seed in any::<u64>(), clients in 3_u64..60, way_ms in 0_u64..4) {
        let there = Place { way_ms, ..THERE };
        let outcome = simulate(seed, &[HERE, there, there], clients, NEVER);
        for number in 0..3 {
            prop_assert!(outcome.share(number) > 0.2, "{outcome:?}");
        }
    }

    #[test]
    fn work_goes_where_it_is_done_sooner(seed in any::<u64>(), clients in 6_u64..60, factor in 3_u64..10) {
        let weak = Place { work_ms: HERE.work_ms * factor, ..HERE };
        let outcome = simulate(seed, &[weak, THERE, THERE], clients, NEVER);
        prop_assert!(outcome.share(0) < 0.25, "{outcome:?}");
    }
}
