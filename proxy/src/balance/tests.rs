//! Who gets the next request.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const NOW: Moment = Moment(1_000_000);

fn copy(number: u64, is_local: bool) -> Candidate {
    Candidate { placement: PlacementId(number), is_local, is_ready: true }
}

fn of(candidates: &[Candidate]) -> Balancer {
    let mut balancer = Balancer::new(7);
    balancer.set(Affinity::None, candidates);
    balancer
}

fn spread(balancer: &mut Balancer, requests: usize) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(balancer.begin(NOW, CLIENT, &[]).unwrap().0).or_default() += 1;
    }
    counts
}

#[test]
fn open_requests_spread_evenly_over_equal_copies() {
    let counts = spread(&mut of(&[copy(1, false), copy(2, false), copy(3, false)]), 300);
    assert!(counts.values().all(|count| (90..=110).contains(count)), "{counts:?}");
}

#[test]
fn a_copy_here_is_preferred_until_it_is_twice_as_busy() {
    let mut balancer = of(&[copy(1, true), copy(2, false)]);
    for _ in 0..100 {
        let chosen = balancer.begin(NOW, CLIENT, &[]).unwrap();
        assert_eq!(chosen, PlacementId(1), "one request at a time stays here");
        balancer.end(chosen);
    }
    let counts = spread(&mut balancer, 300);
    assert!((190..=210).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn a_slow_copy_here_gives_way_and_is_tried_again_in_time() {
    let mut balancer = of(&[copy(1, true), copy(2, false)]);
    balancer.answered(PlacementId(1), Duration::from_millis(50), NOW);
    balancer.answered(PlacementId(2), Duration::from_millis(5), NOW);
    assert_eq!(balancer.begin(NOW, CLIENT, &[]), Some(PlacementId(2)));
    balancer.end(PlacementId(2));
    let later = Moment(NOW.0 + 120_000);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)));
}

#[test]
fn a_copy_that_failed_gets_nothing_then_one_then_all_again() {
    let mut balancer = of(&[copy(1, false), copy(2, false)]);
    balancer.failed(PlacementId(1), NOW);
    assert_eq!(spread(&mut balancer, 20), BTreeMap::from([(2, 20)]));
    assert_eq!(balancer.ejected().collect::<Vec<_>>(), [PlacementId(1)]);
    let later = Moment(NOW.0 + 1000);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)), "the trial");
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(2)));
    balancer.connected(PlacementId(1), Duration::from_micros(90), later);
    assert_eq!(balancer.ejected().count(), 0);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)), "it has least to do");
}

#[test]
fn where_all_have_failed_they_are_tried_all_the_same() {
    let mut balancer = of(&[copy(1, false), copy(2, false)]);
    balancer.failed(PlacementId(1), NOW);
    balancer.failed(PlacementId(2), Moment(NOW.0 + 10));
    assert_eq!(balancer.begin(NOW, CLIENT, &[]), Some(PlacementId(1)), "the one whose time comes first");
    assert_eq!(balancer.begin(NOW, CLIENT, &[PlacementId(1)]), Some(PlacementId(2)));
    assert_eq!(balancer.begin(NOW, CLIENT, &[PlacementId(1), PlacementId(2)]), None);
}

#[test]
fn copies_that_are_about_to_stop_take_nothing_new() {
    let mut draining = copy(1, true);
    draining.is_ready = false;
    let mut balancer = of(&[draining, copy(2, false)]);
    assert_eq!(spread(&mut balancer, 50), BTreeMap::from([(2, 50)]));
    balancer.set(Affinity::None, &[draining]);
    assert_eq!(balancer.begin(NOW, CLIENT, &[]), None);
}

#[test]
fn the_second_try_comes_after_a_tenth_of_a_second_or_what_is_usual() {
    let mut balancer = of(&[copy(1, false)]);
    assert_eq!(balancer.hedge_after(), Duration::from_millis(100));
    (0..100).for_each(|_| balancer.connected(PlacementId(1), Duration::from_millis(150), NOW));
    assert_eq!(balancer.hedge_after(), Duration::from_micros(262_144));
    (0..1000).for_each(|_| balancer.connected(PlacementId(1), Duration::from_secs(9), NOW));
    assert_eq!(balancer.hedge_after(), Duration::from_secs(1));
}

proptest! {
    #[test]
    fn a_client_stays_with_its_copy_and_moves_only_when_that_one_goes(
        clients in proptest::collection::vec(any::<u32>(), 1..50), gone in 0_u64..5,
    ) {
        let all: Vec<_> = (0..5).map(|number| copy(number, number == 0)).collect();
        let mut balancer = of(&all);
        balancer.set(Affinity::ClientAddress, &all);
        let choose = |balancer: &mut Balancer, client: u32| {
            balancer.begin(NOW, IpAddr::V4(client.into()), &[]).unwrap()
        };
        let before: Vec<_> = clients.iter().map(|client| choose(&mut balancer, *client)).collect();
        balancer.failed(PlacementId(gone), NOW);
        for (client, before) in clients.iter().zip(&before) {
            let after = choose(&mut balancer, *client);
            prop_assert_eq!(*before == PlacementId(gone), after != *before);
        }
        balancer.connected(PlacementId(gone), Duration::ZERO, NOW);
        for (client, before) in clients.iter().zip(&before) {
            prop_assert_eq!(choose(&mut balancer, *client), *before);
        }
    }

    #[test]
    fn whatever_happens_a_ready_copy_is_found_and_counts_never_go_below_nothing(
        steps in proptest::collection::vec((0_u8..8, 0_u64..4, 0_u64..5000), 1..200),
    ) {
        let all: Vec<_> = (0..4).map(|number| copy(number, number % 2 == 0)).collect();
        let mut balancer = of(&all);
        let mut now = NOW;
        for (step, number, ms) in steps {
            let (placement, took) = (PlacementId(number), Duration::from_millis(ms));
            now = Moment(now.0 + ms);
            match step {
                0 => balancer.end(placement),
                1 => balancer.connected(placement, took, now),
                2 => balancer.answered(placement, took, now),
                3 => balancer.failed(placement, now),
                4 => balancer.late(placement, took, now),
                5 => balancer.stayed_mute(placement, now),
                6 => balancer.set(Affinity::None, &all[..=usize::try_from(number).unwrap()]),
                _ => (),
            }
            prop_assert!(balancer.begin(now, CLIENT, &[]).is_some());
        }
    }
}
