//! Who gets the next request.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const NOW: Moment = Moment(1_000_000);

fn copy(number: u64, is_local: bool) -> Candidate {
    Candidate { placement: PlacementId(number), is_local, is_ready: true, is_reachable: true }
}

fn of(candidates: &[Candidate]) -> Balancer {
    let mut balancer = Balancer::new(7);
    balancer.set(Affinity::None, candidates, NOW);
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
fn a_copy_here_is_preferred_while_it_has_no_more_to_do_than_others() {
    let mut balancer = of(&[copy(1, true), copy(2, false)]);
    for _ in 0..100 {
        let chosen = balancer.begin(NOW, CLIENT, &[]).unwrap();
        assert_eq!(chosen, PlacementId(1), "one request at a time stays here");
        balancer.end(chosen);
    }
    let counts = spread(&mut balancer, 300);
    assert!((149..=151).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn a_slow_copy_here_gives_way_and_is_tried_again_in_time() {
    let mut balancer = of(&[copy(1, true), copy(2, false)]);
    for _ in 0..3 {
        balancer.answered(PlacementId(1), Duration::from_millis(50), NOW);
        balancer.answered(PlacementId(2), Duration::from_millis(5), NOW);
    }
    assert_eq!(balancer.begin(NOW, CLIENT, &[]), Some(PlacementId(2)));
    balancer.end(PlacementId(2));
    let later = Moment(NOW.0 + 120_000);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)));
}

#[test]
fn a_copy_that_failed_gets_nothing_then_one_then_all_again() {
    let mut balancer = of(&[copy(1, false), copy(2, false)]);
    balancer.failed(PlacementId(1), Cause::Copy, NOW);
    assert_eq!(spread(&mut balancer, 20), BTreeMap::from([(2, 20)]));
    assert_eq!(balancer.ejected().collect::<Vec<_>>(), [PlacementId(1)]);
    let later = Moment(NOW.0 + 1000);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)), "the trial");
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(2)));
    balancer.connected(PlacementId(1), Duration::from_micros(90), later);
    assert_eq!(balancer.ejected().count(), 0);
    assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(1)), "it has least to do");
}

fn lost(number: u64) -> Candidate {
    Candidate { is_reachable: false, ..copy(number, false) }
}

#[test]
fn a_copy_whose_device_is_not_reached_is_not_even_tried_and_comes_back_as_it_was() {
    let both = [copy(1, false), copy(2, false)];
    let mut balancer = of(&both);
    for number in [1, 2] {
        balancer.connected(PlacementId(number), Duration::from_millis(1), NOW);
    }
    // What is seen before the line is known to be lost.
    for _ in 0..2 {
        balancer.late(PlacementId(1), Duration::from_millis(100), NOW);
    }
    balancer.set(Affinity::None, &[lost(1), copy(2, false)], NOW);
    let later = Moment(NOW.0 + 20_000);
    for _ in 0..50 {
        assert_eq!(balancer.begin(later, CLIENT, &[]), Some(PlacementId(2)), "no trial either");
        balancer.end(PlacementId(2));
    }
    assert_eq!(balancer.ejected().collect::<Vec<_>>(), [PlacementId(1)]);
    // One that was under way all the time.
    balancer.connected(PlacementId(1), Duration::from_secs(3), later);
    balancer.set(Affinity::None, &both, later);
    balancer.connected(PlacementId(1), Duration::from_secs(3), later);
    assert_eq!(balancer.ejected().count(), 0);
    let counts = spread(&mut balancer, 100);
    assert!((45..=55).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn a_line_that_is_back_does_not_bring_back_a_copy_that_had_failed_itself() {
    let mut balancer = of(&[copy(1, false), copy(2, false)]);
    balancer.failed(PlacementId(1), Cause::Copy, NOW);
    balancer.set(Affinity::None, &[lost(1), copy(2, false)], NOW);
    balancer.set(Affinity::None, &[copy(1, false), copy(2, false)], NOW);
    assert_eq!(spread(&mut balancer, 20), BTreeMap::from([(2, 20)]));
}

#[test]
fn where_no_device_is_reached_they_are_tried_all_the_same() {
    let mut balancer = of(&[lost(1), lost(2)]);
    assert_eq!(spread(&mut balancer, 20).len(), 2);
}

#[test]
fn where_all_have_failed_they_are_tried_all_the_same() {
    let mut balancer = of(&[copy(1, false), copy(2, false)]);
    balancer.failed(PlacementId(1), Cause::Copy, NOW);
    balancer.failed(PlacementId(2), Cause::Copy, Moment(NOW.0 + 10));
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
    balancer.set(Affinity::None, &[draining], NOW);
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
        balancer.set(Affinity::ClientAddress, &all, NOW);
        let choose = |balancer: &mut Balancer, client: u32| {
            balancer.begin(NOW, IpAddr::V4(client.into()), &[]).unwrap()
        };
        let before: Vec<_> = clients.iter().map(|client| choose(&mut balancer, *client)).collect();
        balancer.failed(PlacementId(gone), Cause::Copy, NOW);
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
        steps in proptest::collection::vec((0_u8..9, 0_u64..4, 0_u64..5000), 1..200),
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
                3 => balancer.failed(placement, Cause::Line, now),
                4 => balancer.late(placement, took, now),
                5 => balancer.stayed_mute(placement, now),
                7 => balancer.set(Affinity::None, &[copy(0, true), lost(1), lost(2), copy(3, false)], now),
                6 => balancer.set(Affinity::None, &all[..=usize::try_from(number).unwrap()], now),
                _ => (),
            }
            prop_assert!(balancer.begin(now, CLIENT, &[]).is_some());
        }
    }
}
