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

/// Each copy takes its connections one after another, and so long for each.
const TAKES_MS: u64 = 11;
/// Whoever has waited this long leaves: the work that is done for him later is done for nobody.
const LEAVES_MS: u64 = 3000;

#[derive(Debug, Default)]
struct Crowd {
    requests: u64,
    attempts: u64,
    /// Of the requests of the last ten seconds: all, and those that a copy took in time for its client.
    last: u64,
    last_served: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The attempt is taken by its copy.
    Taken {
        request: usize,
        copy: usize,
    },
    Arrives,
    /// The request has waited for so long that a second copy may be asked.
    Waits {
        request: usize,
    },
}

/// Requests come to three copies, however many wait: so long after the one before, which follows from the time.
fn crowd(seed: u64, every_ms: impl Fn(u64) -> u64, lasts_ms: u64) -> Crowd {
    let mut balancer = Balancer::new(seed);
    let candidates: Vec<_> = (0..3)
        .map(|number| Candidate { placement: PlacementId(number), is_local: false, is_ready: true, is_reachable: true })
        .collect();
    let begin = 1_000_000;
    balancer.set(Affinity::None, &candidates, Moment(begin));
    let mut free_at = vec![begin; candidates.len()];
    let last_from = begin + lasts_ms - 10_000;
    let mut crowd = Crowd::default();
    // Of each request: since when, and whom it has asked; nobody once it is over.
    let mut asked: Vec<(u64, Vec<(PlacementId, u64)>)> = vec![];
    let mut events = BinaryHeap::from([Reverse((begin, Step::Arrives))]);
    while let Some(Reverse((at, step))) = events.pop() {
        let now = Moment(at);
        let chosen = match step {
            Step::Arrives if at >= begin + lasts_ms => continue,
            Step::Arrives => {
                events.push(Reverse((at + every_ms(at - begin), Step::Arrives)));
                asked.push((at, vec![]));
                crowd.requests += 1;
                crowd.last += u64::from(at >= last_from);
                (asked.len() - 1, balancer.begin(now, CLIENT, &[]))
            }
            Step::Waits { request } if asked[request].1.is_empty() => continue,
            Step::Waits { request } => {
                let tried: Vec<_> = asked[request].1.iter().map(|one| one.0).collect();
                (request, balancer.begin_another(now, CLIENT, &tried))
            }
            Step::Taken { request, copy } => {
                let (since, others) = &mut asked[request];
                let placement = PlacementId(u64::try_from(copy).unwrap());
                if let Some((_, from)) = others.iter().find(|one| one.0 == placement).copied() {
                    balancer.connected(placement, now.since(Moment(from)), now);
                    crowd.last_served += u64::from(*since >= last_from && at - *since < LEAVES_MS);
                    for (other, from) in others.drain(..) {
                        if other != placement {
                            balancer.late(other, now.since(Moment(from)), now);
                        }
                        balancer.end(other);
                    }
                }
                continue;
            }
        };
        let (request, Some(placement)) = chosen else { continue };
        crowd.attempts += 1;
        asked[request].1.push((placement, at));
        let copy = usize::try_from(placement.0).unwrap();
        free_at[copy] = free_at[copy].max(at) + TAKES_MS;
        events.push(Reverse((free_at[copy], Step::Taken { request, copy })));
        if asked[request].1.len() == 1 {
            let hedge = u64::try_from(balancer.hedge_after().as_millis()).unwrap();
            events.push(Reverse((at + hedge, Step::Waits { request })));
        }
    }
    crowd
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn where_all_have_too_much_to_do_nobody_makes_much_more_of_it(seed in any::<u64>(), every_ms in 1_u64..4) {
        let seconds = 20;
        let crowd = crowd(seed, |_| every_ms, seconds * 1000);
        let most = crowd.requests + crowd.requests / 5 + 10 * (seconds + 10);
        prop_assert!(crowd.attempts <= most, "{crowd:?}");
    }

    /// Twice as many requests as the copies can take, for two seconds, and then three quarters. If each that waits were sent
    /// twice, these would be half as much again as the copies can take, and all would wait for ever.
    #[test]
    fn a_moment_of_too_much_passes(seed in any::<u64>()) {
        let crowd = crowd(seed, |at| if at < 2000 { 2 } else { 5 }, 60_000);
        prop_assert_eq!(crowd.last_served, crowd.last, "{:?}", crowd);
    }
}
