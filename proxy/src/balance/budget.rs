//! How many attempts there may be beside the first one of each request. Where all copies are slow because they have too
//! much to do, asking a second one for each request doubles what they have to do, and nothing ever ends that. Pure.

use std::collections::VecDeque;

use outrigger_protocol::Moment;

/// Of so many requests one may be sent to a second copy (Finagle's and Linkerd's retry budgets: 20 %).
const ONE_IN: u64 = 5;
/// And so many more each second, so that a service with few requests is helped as well.
const EACH_SECOND: u64 = 10;
/// What counts: the seconds up to now.
const SECONDS: u64 = 10;

/// What was done in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    requests: u32,
    extra: u32,
}

/// Requests of the last seconds, and attempts beyond them.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    newest: Second,
    /// Oldest first; seconds in which nothing happened are left out.
    past: VecDeque<Second>,
}

impl Budget {
    /// A request has come.
    pub(super) fn request(&mut self, now: Moment) {
        self.turn(now);
        self.newest.requests = self.newest.requests.saturating_add(1);
    }

    /// Whether there may be one more attempt that nobody knows to be needed; it counts as made.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        self.turn(now);
        let all = || self.past.iter().chain([&self.newest]);
        let requests: u64 = all().map(|second| u64::from(second.requests)).sum();
        let extra: u64 = all().map(|second| u64::from(second.extra)).sum();
        let may = extra < requests / ONE_IN + SECONDS * EACH_SECOND;
        self.newest.extra = self.newest.extra.saturating_add(u32::from(may));
        may
    }

    fn turn(&mut self, now: Moment) {
        let number = now.0 / 1000;
        // What a clock says that is not quite even counts for the newest second.
        if number > self.newest.number {
            self.past.push_back(self.newest);
            self.past.retain(|second| second.number + SECONDS > number);
            self.newest = Second { number, ..Second::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_ten_each_second_are_there_and_come_back_with_time() {
        let mut budget = Budget::default();
        let at = |second: u64| Moment(1_000_000 + second * 1000);
        (0..1000).for_each(|_| budget.request(at(0)));
        assert_eq!((0..1000).filter(|_| budget.take(at(5))).count(), 300);
        // The requests are forgotten, what was taken is not.
        assert!(!budget.take(at(10)));
        assert_eq!((0..1000).filter(|_| budget.take(at(15))).count(), 100);
    }

    proptest! {
        #[test]
        fn in_ten_seconds_there_are_never_more(steps in proptest::collection::vec((0_u64..700, any::<bool>()), 1..2000)) {
            let (mut budget, mut now, mut log) = (Budget::default(), 1_000_000, vec![]);
            for (pause, is_request) in steps {
                now += pause;
                if is_request {
                    budget.request(Moment(now));
                    log.push((now / 1000, 1_u64, 0_u64));
                } else if budget.take(Moment(now)) {
                    log.push((now / 1000, 0, 1));
                }
            }
            for first in log.iter().map(|entry| entry.0) {
                // What is made in a window may have been allowed by requests right before it.
                let of = |from: u64| log.iter().filter(move |entry| (from..first + SECONDS).contains(&entry.0));
                let requests: u64 = of(first - SECONDS).map(|entry| entry.1).sum();
                let extra: u64 = of(first).map(|entry| entry.2).sum();
                prop_assert!(extra <= requests / 5 + 100, "{extra} beside {requests}");
            }
        }
    }
}
