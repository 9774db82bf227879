//! Which copy gets the next request. Pure: time, chance and what happened are arguments.
//!
//! Of two copies chosen by chance the one with less to do takes it (Mitzenmacher, "The power of two choices in randomized
//! load balancing"); "to do" is the number of open requests times how long one takes there, the way included. Copies on this
//! device come first where they are neither slower nor busier. Decision 0021 says what follows from that.

mod budget;
mod health;
mod latency;
mod line;

use std::net::IpAddr;
use std::time::Duration;

use outrigger_protocol::{Affinity, Moment, PlacementId};

use budget::Budget;
pub use health::Cause;
use health::{Health, Standing};
use latency::{Histogram, Mean, NOISE_MICROS, Setback};
pub use line::{Line, LineState};

/// A copy elsewhere is better than one here if it is better by one part in this many.
const CLEAR: u64 = 4;
/// And than another one elsewhere. What is known of a copy is what the last few requests happened to take: with less, all
/// requests of one client at a time would go to one copy.
const CLEAR_ELSEWHERE: u64 = 2;
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
    /// Whether its device is reached, as far as is known.
    pub is_reachable: bool,
}

/// Why a copy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nobody else is at work on the request.
    Known,
    /// Somebody may be, but has not said anything for a while.
    Guessed,
}

/// What one device knows of the copies of one service.
#[derive(Debug)]
pub struct Balancer {
    copies: Vec<Known>,
    connects: Histogram,
    budget: Budget,
    affinity: Affinity,
    chance: fastrand::Rng,
}

#[derive(Debug)]
struct Known {
    candidate: Candidate,
    in_flight: u32,
    connect: Mean,
    answer: Mean,
    setback: Setback,
    health: Health,
    /// What was known of its speed when its device was reached last.
    before: Option<(Mean, Mean)>,
    /// Requests that began earlier say nothing about its speed: they have waited for the line.
    since: Moment,
}

impl Known {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            in_flight: 0,
            connect: Mean::default(),
            answer: Mean::default(),
            setback: Setback::default(),
            health: Health::default(),
            before: None,
            since: Moment::ZERO,
        }
    }

    fn standing(&self, now: Moment) -> Standing {
        if self.candidate.is_reachable { self.health.standing(now) } else { Standing::Unreachable }
    }

    /// How long a request takes here, as far as is known.
    fn speed(&self, now: Moment) -> Option<u64> {
        let known = [self.connect.micros(now), self.answer.micros(now)];
        known.iter().any(Option::is_some).then(|| known.iter().flatten().sum())
    }

    /// What one more request costs here, where it would take `best` at the best copy. Of a copy of which nothing is known
    /// the best is expected, and the first few requests to it cost nothing, one at a time, so that something is known.
    fn cost(&self, best: u64, now: Moment) -> u64 {
        let is_settled = self.connect.is_settled(now) || self.answer.is_settled(now);
        let each = match self.speed(now) {
            Some(_) | None if !is_settled && self.in_flight == 0 => 0,
            None => best,
            Some(speed) => best + self.connect.newer(&self.answer).left(speed.saturating_sub(best), now),
        };
        let each = each.saturating_add(self.setback.micros(now)).saturating_add(NOISE_MICROS);
        each.saturating_mul(u64::from(self.in_flight) + 1)
    }

    fn replace(&mut self, candidate: Candidate, now: Moment) {
        match (self.candidate.is_reachable, candidate.is_reachable) {
            (true, false) => self.before = Some((self.connect, self.answer)),
            (false, true) => {
                self.since = now;
                self.setback = Setback::default();
                self.health.line_is_back();
                if let Some((connect, answer)) = self.before.take() {
                    (self.connect, self.answer) = (connect, answer);
                }
            }
            (true, true) | (false, false) => (),
        }
        self.candidate = candidate;
    }

    /// What a failure says that nobody has explained.
    fn suspected(&self) -> Cause {
        if self.candidate.is_local { Cause::Copy } else { Cause::Line }
    }

    /// Whether a request that took this long began after the line was back.
    fn tells(&self, took: Duration, now: Moment) -> bool {
        now.since(self.since) >= took
    }
}

impl Balancer {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let chance = fastrand::Rng::with_seed(seed);
        let (connects, budget) = (Histogram::default(), Budget::default());
        Self { copies: vec![], connects, budget, affinity: Affinity::None, chance }
    }

    /// The copies there are now. What is known of those that stay is kept.
    pub fn set(&mut self, affinity: Affinity, candidates: &[Candidate], now: Moment) {
        self.affinity = affinity;
        self.copies.retain(|known| candidates.iter().any(|new| new.placement == known.candidate.placement));
        for &candidate in candidates {
            match self.known(candidate.placement) {
                Some(known) => known.replace(candidate, now),
                None => self.copies.push(Known::new(candidate)),
            }
        }
    }

    /// The copy for a request of this client, and not one of `tried`. It counts as busy until [`Self::end`].
    ///
    /// A copy that failed comes last but is not left out: where all have failed, trying is better than refusing.
    pub fn begin(&mut self, now: Moment, client: IpAddr, tried: &[PlacementId]) -> Option<PlacementId> {
        let open = |known: &Known| known.candidate.is_ready && !tried.contains(&known.candidate.placement);
        let standings: Vec<_> = self.copies.iter().map(|known| open(known).then(|| known.standing(now))).collect();
        let of = |wanted: Standing| -> Vec<usize> {
            standings.iter().zip(0..).filter(|(standing, _)| **standing == Some(wanted)).map(|found| found.1).collect()
        };
        let best = standings.iter().flatten().min().copied()?;
        // One on trial takes the first request that comes by: if it fails, the client is helped by another copy.
        let trial = of(Standing::OnTrial).first().copied().filter(|_| tried.is_empty());
        let chosen = match (trial, best) {
            (Some(trial), _) => trial,
            (None, Standing::Ejected) => {
                let until = |index: &usize| self.copies.get(*index).map(|known| known.health.until());
                of(best).into_iter().min_by_key(until)?
            }
            (None, Standing::Good | Standing::OnTrial | Standing::Unreachable) => match self.affinity {
                Affinity::ClientAddress => self.sticky(&of(best), client)?,
                Affinity::None => self.cheapest(&of(best), now)?,
            },
        };
        if tried.is_empty() {
            self.budget.request(now);
        }
        let known = self.copies.get_mut(chosen)?;
        known.in_flight += 1;
        known.health.begin();
        Some(known.candidate.placement)
    }

    /// Another copy for a request of which nobody knows what has become at those that were `tried`. None: there is no other,
    /// or there were too many such attempts of late.
    pub fn begin_another(&mut self, now: Moment, client: IpAddr, tried: &[PlacementId]) -> Option<PlacementId> {
        let is_other = |known: &Known| known.candidate.is_ready && !tried.contains(&known.candidate.placement);
        if self.copies.iter().any(is_other) && self.budget.take(now) { self.begin(now, client, tried) } else { None }
    }

    /// A request has come in a connection with a copy that stands.
    pub fn goes_on(&mut self, now: Moment) {
        self.budget.request(now);
    }

    /// Whether a request that waits for its answer may be sent to one more copy; if so, that counts as done.
    pub fn may_repeat(&mut self, now: Moment) -> bool {
        self.budget.take(now)
    }

    /// The copy that this client always gets as long as it is there (rendezvous hashing: when a copy goes, only its own
    /// clients move).
    fn sticky(&self, among: &[usize], client: IpAddr) -> Option<usize> {
        let rank = |index: &usize| {
            let placement = self.copies.get(*index).map(|known| known.candidate.placement)?;
            Some((mixed(client, placement), placement))
        };
        among.iter().copied().max_by_key(rank)
    }

    fn cheapest(&mut self, among: &[usize], now: Moment) -> Option<usize> {
        let (local, remote): (Vec<_>, Vec<_>) =
            among.iter().partition(|index| self.copies.get(**index).is_some_and(|known| known.candidate.is_local));
        let best = among.iter().filter_map(|index| self.copies.get(*index)?.speed(now)).min().unwrap_or(0);
        let here = self.better_of_two(&local, best, now);
        let there = self.better_of_two(&remote, best, now);
        self.better(here, there, CLEAR, best, now)
    }

    fn better_of_two(&mut self, among: &[usize], best: u64, now: Moment) -> Option<usize> {
        let first = self.chance.usize(..among.len().max(1));
        let mut second = self.chance.usize(..among.len().saturating_sub(1).max(1));
        if second >= first {
            second += 1;
        }
        self.better(among.get(first).copied(), among.get(second).copied(), CLEAR_ELSEWHERE, best, now)
    }

    /// The first, unless a request is better off with the second: if that costs clearly less, or has less to do at about
    /// the same cost.
    fn better(&self, one: Option<usize>, other: Option<usize>, clear: u64, best: u64, now: Moment) -> Option<usize> {
        let known = |index: Option<usize>| self.copies.get(index?);
        let (Some(first), Some(second)) = (known(one), known(other)) else { return one.or(other) };
        let (here, there) = (first.cost(best, now), second.cost(best, now));
        let is_clear = here.abs_diff(there) > here.max(there) / clear;
        let gives_way = if is_clear { there < here } else { second.in_flight < first.in_flight };
        if gives_way { other } else { one }
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
            if known.tells(took, now) {
                known.connect.add(took, now);
            }
            known.setback = Setback::default();
            known.health.good();
        }
    }

    /// The copy's first byte came this long after the client's.
    pub fn answered(&mut self, placement: PlacementId, took: Duration, now: Moment) {
        if let Some(known) = self.known(placement) {
            if known.tells(took, now) {
                known.answer.add(took, now);
            }
            known.health.spoke();
        }
    }

    /// The copy could not be reached, or broke off before it had answered anything.
    pub fn failed(&mut self, placement: PlacementId, cause: Cause, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.health.failed(cause.max(known.suspected()), now);
        }
    }

    /// The copy was given a request and ended the connection without a byte.
    pub fn stayed_mute(&mut self, placement: PlacementId, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.health.stayed_mute(known.suspected(), now);
        }
    }

    /// Another copy was there first, after this long.
    pub fn late(&mut self, placement: PlacementId, waited: Duration, now: Moment) {
        if let Some(known) = self.known(placement) {
            known.setback = Setback::of(waited, now);
            known.health.late(known.suspected(), now);
        }
    }

    /// How long a copy may take to be reached before another one is tried as well.
    #[must_use]
    pub fn hedge_after(&self) -> Duration {
        self.connects.p99().unwrap_or_default().clamp(HEDGE_FLOOR, HEDGE_CEILING)
    }

    /// Copies that failed and have not been seen to work since, and those whose devices are not reached.
    pub fn ejected(&self) -> impl Iterator<Item = PlacementId> {
        let is_out = |known: &&Known| known.health.is_ejected() || !known.candidate.is_reachable;
        self.copies.iter().filter(is_out).map(|known| known.candidate.placement)
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
mod simulation;
#[cfg(test)]
mod tests;
