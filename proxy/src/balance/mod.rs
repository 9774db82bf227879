//! Which copy gets the next request. Pure: time, chance and what happened are arguments.
//!
//! Of two copies chosen by chance the one with less to do takes it (Mitzenmacher, "The power of two choices in randomized
//! load balancing"); "to do" is the number of open requests times how long one takes there. Copies on this device come
//! first unless they are worse by more than `REMOTE_FACTOR`.

mod health;
mod latency;

use std::net::IpAddr;
use std::time::Duration;

use outrigger_protocol::{Affinity, Moment, PlacementId};

use health::{Health, Standing};
use latency::{Histogram, Mean};

/// A copy elsewhere costs the network besides; it must be better by this factor.
const REMOTE_FACTOR: u64 = 2;
/// One copy is better than another if it is better by one part in this many.
const CLEAR: u64 = 4;
/// Differences below this are noise.
const NOISE_MICROS: u64 = 100;
/// A second copy is tried after this long at the earliest. Connecting takes less in every network that deserves the name.
const HEDGE_FLOOR: Duration = Duration::from_millis(100);
/// And at the latest, however slow the network is.
const HEDGE_CEILING: Duration = Duration::from_secs(1);

/// A copy as the balancer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub placement: PlacementId,
    /// Whether it runs on this device.
    pub is_local: bool,
    /// Whether it takes new requests.
    pub is_ready: bool,
}

/// What one device knows of the copies of one service.
#[derive(Debug)]
pub struct Balancer {
    copies: Vec<Known>,
    connects: Histogram,
    affinity: Affinity,
    chance: fastrand::Rng,
}

#[derive(Debug)]
struct Known {
    candidate: Candidate,
    in_flight: u32,
    connect: Mean,
    answer: Mean,
    health: Health,
}

impl Known {
    /// What one more request costs here.
    fn cost(&self, now: Moment) -> u64 {
        let each = NOISE_MICROS.saturating_add(self.connect.micros(now)).saturating_add(self.answer.micros(now));
        each.saturating_mul(u64::from(self.in_flight) + 1)
    }
}

impl Balancer {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let chance = fastrand::Rng::with_seed(seed);
        Self { copies: vec![], connects: Histogram::default(), affinity: Affinity::None, chance }
    }

    /// The copies there are now. What is known of those that stay is kept.
    pub fn set(&mut self, affinity: Affinity, candidates: &[Candidate]) {
        self.affinity = affinity;
        self.copies.retain(|known| candidates.iter().any(|new| new.placement == known.candidate.placement));
        for &candidate in candidates {
            match self.known(candidate.placement) {
                Some(known) => known.candidate = candidate,
                None => self.copies.push(Known {
                    candidate,
                    in_flight: 0,
                    connect: Mean::default(),
                    answer: Mean::default(),
                    health: Health::default(),
                }),
            }
        }
    }

    /// The copy for a request of this client, and not one of `tried`. It counts as busy until [`Self::end`].
    ///
    /// A copy that failed comes last but is not left out: where all have failed, trying is better than refusing.
    pub fn begin(&mut self, now: Moment, client: IpAddr, tried: &[PlacementId]) -> Option<PlacementId> {
        let open = |known: &&Known| known.candidate.is_ready && !tried.contains(&known.candidate.placement);
        let best = self.copies.iter().filter(open).map(|known| known.health.standing(now)).min()?;
        // One on trial takes the first request that comes by: if it fails, the client is helped by another copy.
        let trial = |known: &&Known| known.health.standing(now) == Standing::OnTrial;
        let chosen = match self.copies.iter().filter(open).find(trial).filter(|_| tried.is_empty()) {
            Some(known) => known.candidate.placement,
            None if best == Standing::Ejected => {
                let soonest = self.copies.iter().filter(open).min_by_key(|known| known.health.until())?;
                soonest.candidate.placement
            }
            None => {
                let same: Vec<_> = (0..self.copies.len())
                    .filter(|index| {
                        let found = self.copies.get(*index);
                        found.filter(open).is_some_and(|known| known.health.standing(now) == best)
                    })
                    .collect();
                match self.affinity {
                    Affinity::ClientAddress => self.sticky(&same, client)?,
                    Affinity::None => self.cheapest(&same, now)?,
                }
            }
        };
        let known = self.known(chosen)?;
        known.in_flight += 1;
        known.health.begin();
        Some(chosen)
    }

    /// The copy that this client always gets as long as it is there (rendezvous hashing: when a copy goes, only its own
    /// clients move).
    fn sticky(&self, among: &[usize], client: IpAddr) -> Option<PlacementId> {
        let placements =
            among.iter().filter_map(|index| self.copies.get(*index)).map(|known| known.candidate.placement);
        placements.max_by_key(|placement| (mixed(client, *placement), *placement))
    }

    fn cheapest(&mut self, among: &[usize], now: Moment) -> Option<PlacementId> {
        let side = |wanted: bool, copies: &[Known]| -> Vec<usize> {
            let is_on = |index: &usize| copies.get(*index).is_some_and(|known| known.candidate.is_local == wanted);
            among.iter().copied().filter(is_on).collect()
        };
        let local = self.better_of_two(&side(true, &self.copies), now);
        let remote = self.better_of_two(&side(false, &self.copies), now);
        match (local, remote) {
            (Some((here, cost)), Some((there, other))) => {
                Some(if cost <= other.saturating_mul(REMOTE_FACTOR) { here } else { there })
            }
            (one, other) => one.or(other).map(|(placement, _)| placement),
        }
    }

    /// The first is as good as any if neither has less to do: what is measured differs by chance too.
    fn better_of_two(&mut self, among: &[usize], now: Moment) -> Option<(PlacementId, u64)> {
        let first = self.chance.usize(..among.len().max(1));
        let mut second = self.chance.usize(..among.len().saturating_sub(1).max(1));
        if second >= first {
            second += 1;
        }
        let known = |at: usize| among.get(at).and_then(|index| self.copies.get(*index));
        let (one, other) = (known(first), known(second));
        let chosen = match (one, other) {
            (Some(one), Some(other)) => {
                let (here, there) = (one.cost(now), other.cost(now));
                let is_clear = here.abs_diff(there) > here.max(there) / CLEAR;
                let is_less = if is_clear { there < here } else { other.in_flight < one.in_flight };
                if is_less { other } else { one }
            }
            (one, other) => one.or(other)?,
        };
        Some((chosen.candidate.placement, chosen.cost(now)))
    }

    /// The request is over, whatever came of it.
    pub fn end(&mut self, placement: PlacementId) {
        if let Some(known) = self.known(placement) {
            known.in_flight = known.in_flight.saturating_sub(1);
            known.health.undecided();
        }
    }

    /// It took this long to reach the copy.
    pub fn connected(&mut self, placement: PlacementId, took: Duration, now: Moment) {
        self.connects.add(took);
        if let Some(known) = self.known(placement) {
            known.connect.add(took, now);
            known.health.good();
        }
    }

    /// The copy's first byte came this long after the client's.
    pub fn answered(&mut self, placement: PlacementId, took: Duration, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.answer.add(took, now);
            known.health.spoke();
        }
    }

    /// The copy could not be reached, or broke off before it had answered anything.
    pub fn failed(&mut self, placement: PlacementId, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.health.failed(now);
        }
    }

    /// The copy was given a request and ended the connection without a byte.
    pub fn stayed_mute(&mut self, placement: PlacementId, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.health.stayed_mute(now);
        }
    }

    /// Another copy was there first, after this long.
    pub fn late(&mut self, placement: PlacementId, waited: Duration, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.connect.raise(waited, now);
            known.health.late(now);
        }
    }

    /// How long a copy may take to be reached before another one is tried as well.
    #[must_use]
    pub fn hedge_after(&self) -> Duration {
        self.connects.p99().unwrap_or_default().clamp(HEDGE_FLOOR, HEDGE_CEILING)
    }

    /// Copies that failed and have not been seen to work since.
    pub fn ejected(&self) -> impl Iterator<Item = PlacementId> {
        self.copies.iter().filter(|known| known.health.is_ejected()).map(|known| known.candidate.placement)
    }

    fn known(&mut self, placement: PlacementId) -> Option<&mut Known> {
        self.copies.iter_mut().find(|known| known.candidate.placement == placement)
    }
}

/// A number that looks random and is the same on every device (`splitmix64`, Steele et al. 2014).
fn mixed(client: IpAddr, placement: PlacementId) -> u64 {
    let address = match client {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let mix = |value: u64| {
        let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    #[expect(clippy::cast_possible_truncation, reason = "both halves count")]
    let (high, low) = ((address >> 64) as u64, address as u64);
    mix(mix(mix(high) ^ low) ^ placement.0)
}

#[cfg(test)]
mod tests;
