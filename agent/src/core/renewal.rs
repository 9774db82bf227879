//! When the device asks for a new certificate, and that it asks again when nobody answers.
//!
//! It asks at a point between 50 and 80 % of the certificate's life that the certificate itself decides: so devices that
//! joined together do not ask together, and a restart changes nothing. The life that is left is enough for a hub that is
//! away for days.

use std::time::Duration;

use outrigger_protocol::Moment;

/// Earliest point at which a new certificate is asked for, in thousandths of the life of the present one.
const FROM_PERMILLE: u64 = 500;
/// How many such points there are: up to 800.
const PERMILLES: u64 = 301;
/// With a clock that stands before the certificate's beginning nobody knows how old it is. So a new one is asked for in
/// each boot, within this time.
const UNKNOWN_AGE_WITHIN_MS: u64 = 3_600_000;
/// First pause between two requests; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// A hub that asks for requests gets no more than one in this time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// What the core knows of the device's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// Valid from, in seconds since 1970.
    pub not_before_s: u64,
    /// Valid until, in seconds since 1970.
    pub not_after_s: u64,
    /// A number that is another one for each certificate.
    pub serial: u64,
    /// The request for its successor.
    pub request: Vec<u8>,
}

impl OwnCertificate {
    /// When its successor is asked for, in seconds since 1970.
    #[must_use]
    pub fn renew_at_s(&self) -> u64 {
        let life = self.not_after_s.saturating_sub(self.not_before_s);
        self.not_before_s + life / 1000 * (FROM_PERMILLE + self.serial % PERMILLES)
    }

    /// Time of day as far as the device knows it, without the nonsense of a clock that has never been set: none.
    fn age_is_known(&self, unix_s: u64) -> bool {
        unix_s >= self.not_before_s
    }
}

/// Decides when to ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewal {
    own: Option<OwnCertificate>,
    since: Moment,
    is_wished: bool,
    asked_at: Option<Moment>,
    tries: u32,
}

impl Renewal {
    /// The hub wishes a request now.
    pub(super) fn wish(&mut self) {
        self.is_wished = true;
    }

    /// A connection stands: what was asked on another one may be lost, and is asked again after the first pause.
    pub(super) fn connected(&mut self, now: Moment) {
        self.tries = 0;
        self.asked_at = self.asked_at.map(|_| now);
    }

    /// The device has this certificate now. The same one again changes nothing.
    pub(super) fn is(&mut self, own: OwnCertificate, now: Moment) {
        if self.own.as_ref().is_none_or(|before| before.serial != own.serial) {
            *self = Self { own: Some(own), since: now, ..Self::default() };
        }
    }

    /// When to ask next, given the time of day at this moment.
    pub(super) fn due_at(&self, now: Moment, unix_s: u64) -> Moment {
        let Some(own) = &self.own else { return Moment::NEVER };
        let wished = if self.is_wished { self.asked_at.map_or(now, |at| at + SHORTEST_PAUSE) } else { Moment::NEVER };
        let again = |at: Moment| at + (FIRST_PAUSE * 2_u32.saturating_pow(self.tries.min(16))).min(LONGEST_PAUSE);
        let by_age = match self.asked_at {
            Some(at) => again(at),
            None if own.age_is_known(unix_s) => now + Duration::from_secs(own.renew_at_s().saturating_sub(unix_s)),
            None => self.since + Duration::from_millis(own.serial % UNKNOWN_AGE_WITHIN_MS),
        };
        wished.min(by_age)
    }

    /// The request to send now, if one is due.
    pub(super) fn ask(&mut self, now: Moment, unix_s: u64) -> Option<Vec<u8>> {
        if self.due_at(now, unix_s) > now {
            return None;
        }
        self.tries = self.asked_at.map_or(0, |_| self.tries.saturating_add(1));
        self.asked_at = Some(now);
        self.is_wished = false;
        self.own.as_ref().map(|own| own.request.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;
    const START: u64 = 1_795_305_600;

    fn own(serial: u64) -> OwnCertificate {
        OwnCertificate { not_before_s: START, not_after_s: START + 90 * DAY, serial, request: vec![7] }
    }

    fn at(seconds: u64) -> Moment {
        Moment(1000 + seconds * 1000)
    }

    fn of(serial: u64) -> Renewal {
        let mut renewal = Renewal::default();
        renewal.is(own(serial), at(0));
        renewal
    }

    /// Days after the start at which requests are sent, by a device that looks at its clock each hour.
    fn asked(renewal: &mut Renewal, clock: impl Fn(u64) -> u64, days: u64) -> Vec<u64> {
        renewal.connected(at(0));
        let hours = (0..days * 24).map(|hour| hour * 3600);
        hours.filter(|&s| renewal.ask(at(s), clock(s)).is_some()).map(|s| s / DAY).collect()
    }

    #[test]
    fn two_that_joined_together_do_not_renew_together() {
        let first = |serial| asked(&mut of(serial), |s| START + s, 90)[0];
        let days: std::collections::BTreeSet<u64> = (0..100).map(|n| first(n * 7919)).collect();
        assert!(days.len() >= 20, "spread over {days:?}");
    }

    #[test]
    fn it_asks_until_it_gets_one_and_then_not_for_half_a_life() {
        let mut renewal = of(0);
        let days = asked(&mut renewal, |s| START + s, 90);
        assert!(days.len() > 100 && days.len() < 4 * 45 + 20, "{}", days.len());
        let next = OwnCertificate { not_before_s: START + 90 * DAY, not_after_s: START + 180 * DAY, ..own(301) };
        renewal.is(next, at(90 * DAY));
        assert_eq!(renewal.due_at(at(90 * DAY), START + 90 * DAY), at(135 * DAY));
    }

    #[test]
    fn a_clock_in_1970_asks_once_in_each_boot_and_not_all_at_once() {
        let first = |serial| {
            let mut renewal = of(serial);
            renewal.connected(at(0));
            renewal.due_at(at(0), 5)
        };
        assert!(first(1_234_567) > at(0) && first(u64::MAX) <= at(3600) && first(1) != first(2));
    }

    #[test]
    fn a_hub_that_wishes_one_gets_one_but_not_a_flood() {
        let mut renewal = of(0);
        renewal.connected(at(0));
        let mut asked = 0;
        for second in 0..60 {
            renewal.wish();
            asked += usize::from(renewal.ask(at(second), START + second).is_some());
        }
        assert_eq!(asked, 6);
    }

    #[test]
    fn without_a_certificate_nothing_is_asked() {
        let mut renewal = Renewal::default();
        renewal.wish();
        assert_eq!(renewal.ask(at(0), START), None);
        assert_eq!(renewal.due_at(at(0), START), Moment::NEVER);
    }

    proptest! {
        #[test]
        fn it_is_due_between_50_and_80_percent_of_any_life(serial: u64, begins in 0_u64..1 << 33, days in 1_u64..4000) {
            let own = OwnCertificate { not_before_s: begins, not_after_s: begins + days * DAY, serial, request: vec![] };
            let due = own.renew_at_s() - begins;
            prop_assert!(due >= days * DAY / 2 - 1000 && due <= days * DAY * 8 / 10);
        }
    }
}
