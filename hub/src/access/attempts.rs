//! Addresses that tried in vain: each has a few attempts a minute, then it waits.
//!
//! A secret of 256 bits cannot be guessed, so this only keeps the noise and the work small. That is why somebody with a
//! token that counts is let in from such an address all the same: a neighbour behind one router, or a forgotten program
//! with an old token, must not be able to lock the operator out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outrigger_protocol::Moment;

/// Failures of one address within a minute, for what cannot be guessed.
pub const MAX_FAILURES: u32 = 20;
/// Time after which they are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Who is remembered at one time.
const MAX_KNOWN: usize = 4096;

/// Failures by whoever failed.
#[derive(Debug)]
pub struct Attempts<K> {
    known: Mutex<HashMap<K, Failures>>,
    most: u32,
    window: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since: Moment,
}

impl<K: Hash + Eq> Attempts<K> {
    /// So many failures within this time.
    #[must_use]
    pub fn new(most: u32, window: Duration) -> Self {
        Self { known: Mutex::default(), most, window }
    }

    /// Somebody tried in vain. Whether he may go on trying.
    pub fn count(&self, who: K, now: Moment) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, failures| now.since(failures.since) < self.window);
        }
        if known.len() >= MAX_KNOWN {
            // So many at once are an attack; whoever fails now waits too.
            return false;
        }
        let failures = known.entry(who).or_insert(Failures { count: 0, since: now });
        if now.since(failures.since) >= self.window {
            *failures = Failures { count: 0, since: now };
        }
        failures.count = failures.count.saturating_add(1);
        failures.count <= self.most
    }

    /// Whether somebody has to wait.
    #[must_use]
    pub fn is_over(&self, who: &K, now: Moment) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(who).is_some_and(|failures| failures.count >= self.most && now.since(failures.since) < self.window)
    }

    /// Forgets the failures of somebody who has shown that he is the right one.
    pub fn forget(&self, who: &K) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

impl Default for Attempts<IpAddr> {
    fn default() -> Self {
        Self::new(MAX_FAILURES, WINDOW)
    }
}

impl Attempts<IpAddr> {
    /// Somebody there tried in vain. Whether he may go on trying.
    pub fn failed(&self, from: IpAddr, now: Moment) -> bool {
        self.count(network(from), now)
    }

    /// Whether somebody there has to wait.
    #[must_use]
    pub fn must_wait(&self, from: IpAddr, now: Moment) -> bool {
        self.is_over(&network(from), now)
    }
}

/// One subscriber has a /64 of IPv6 addresses.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fails_too_often_waits_a_minute_and_nobody_else_does() {
        let (attempts, now) = (Attempts::<IpAddr>::default(), Moment(1_000_000));
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..MAX_FAILURES {
            assert!(attempts.failed(bad, now));
        }
        assert!(!attempts.failed(bad, now));
        assert!(attempts.must_wait(bad, now) && attempts.must_wait(address("::ffff:192.0.2.1"), now));
        assert!(!attempts.must_wait(good, now));
        let later = Moment(now.0 + 60_000);
        assert!(!attempts.must_wait(bad, later) && attempts.failed(bad, later));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (attempts, now) = (Attempts::<IpAddr>::default(), Moment(0));
        for host in 0..=MAX_FAILURES {
            attempts.failed(address(&format!("2001:db8::{host:x}")), now);
        }
        assert!(attempts.must_wait(address("2001:db8::ffff"), now));
        assert!(!attempts.must_wait(address("2001:db8:0:1::1"), now));
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let (attempts, now) = (Attempts::<IpAddr>::default(), Moment(0));
        for number in 0..10_000_u32 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(attempts.known.lock().unwrap().len() <= MAX_KNOWN);
    }
}
