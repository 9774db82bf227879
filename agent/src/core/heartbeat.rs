//! When to report, and what of the load is worth its bytes.

use std::time::Duration;

use outrigger_protocol::{Load, Moment, Permille, Report, SessionNumber, Stamp, Usage};

/// Load is sent with every so many reports even if it has not changed: a report may be lost.
const FULL_EVERY: u32 = 30;

/// The heartbeat of one connection after the other.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    interval: Duration,
    session: Option<SessionNumber>,
    sequence: u32,
    due_at: Moment,
    load: Option<Load>,
    told: Option<Load>,
    usage: Vec<Usage>,
}

impl Heartbeat {
    /// A heartbeat of this interval that has not begun.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, session: None, sequence: 0, due_at: Moment::NEVER, load: None, told: None, usage: Vec::new() }
    }

    /// A connection has begun: the first report is due at once.
    pub fn begin(&mut self, session: SessionNumber, now: Moment) {
        self.session = Some(session);
        self.sequence = 0;
        self.due_at = now;
        self.told = None;
    }

    /// The connection is gone. Nothing is kept for the next: an old load is worth nothing.
    pub fn end(&mut self) {
        self.session = None;
        self.due_at = Moment::NEVER;
        self.usage.clear();
    }

    /// The load now.
    pub fn load(&mut self, load: Load) {
        self.load = Some(load);
    }

    /// The usage to ride along with the next report.
    pub fn usage(&mut self, usage: Vec<Usage>) {
        if self.session.is_some() {
            self.usage = usage;
        }
    }

    /// A report must go out as soon as possible: a lease is waited for.
    pub fn hurry(&mut self, now: Moment) {
        self.due_at = self.due_at.min(now);
    }

    /// When the next report is due.
    #[must_use]
    pub fn due_at(&self) -> Moment {
        self.due_at
    }

    /// The report that is due, if one is; with the number of the newest status, and the assignment that is held.
    pub fn beat(&mut self, now: Moment, statuses: u32, held: Option<Stamp>) -> Option<Report> {
        let session = self.session.filter(|_| self.due_at <= now)?;
        // Where the agent was held up, reports that are missing are not made up for.
        self.due_at = (self.due_at + self.interval).max(now + self.interval / 2);
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let is_full = sequence.is_multiple_of(FULL_EVERY);
        let load = self.load.filter(|load| is_full || self.told.is_none_or(|told| is_news(&told, load)));
        if load.is_some() {
            self.told = load;
        }
        Some(Report { session, sequence, statuses, held, load, usage: std::mem::take(&mut self.usage) })
    }
}

/// Whether the load differs enough for the planner or a chart to care.
fn is_news(told: &Load, load: &Load) -> bool {
    let differs = |a: Permille, b: Permille, by: u16| a.value().abs_diff(b.value()) >= by;
    let traffic = |a: u32, b: u32| a.abs_diff(b) >= 50.max(a.max(b) / 4);
    let heat = match (told.temperature, load.temperature) {
        (Some(a), Some(b)) => a.abs_diff(b) >= 20,
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    differs(told.cpu, load.cpu, 50)
        || differs(told.memory, load.memory, 10)
        || differs(told.swap, load.swap, 10)
        || differs(told.disk, load.disk, 5)
        || told.load1.abs_diff(load.load1) >= 25
        || traffic(told.rx_kbps, load.rx_kbps)
        || traffic(told.tx_kbps, load.tx_kbps)
        || heat
        || told.throttling != load.throttling
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        let mut heartbeat = Heartbeat::new(Duration::from_secs(1));
        heartbeat.begin(SessionNumber(1), Moment(1000));
        heartbeat
    }

    #[test]
    fn reports_come_once_per_interval_and_none_is_made_up_for() {
        let mut heartbeat = heartbeat();
        let mut sent = Vec::new();
        for now in [1000, 1500, 2000, 2010, 9000, 9100, 9600, 10_000] {
            sent.extend(heartbeat.beat(Moment(now), 0, None).map(|report| (now, report.sequence)));
        }
        assert_eq!(sent, [(1000, 0), (2000, 1), (9000, 2), (9600, 3)]);
    }

    #[test]
    fn an_unchanged_load_is_told_with_every_thirtieth_report() {
        let mut heartbeat = heartbeat();
        let mut told = Vec::new();
        for second in 1..=61 {
            let wobble = Load { cpu: Permille::new(100 + second % 3), ..Load::default() };
            heartbeat.load(wobble);
            let report = heartbeat.beat(Moment(u64::from(second) * 1000), 0, None).unwrap();
            told.extend(report.load.map(|_| report.sequence));
        }
        assert_eq!(told, [0, 30, 60]);
    }

    #[test]
    fn a_load_that_jumps_is_told_at_once() {
        let mut heartbeat = heartbeat();
        heartbeat.load(Load::default());
        heartbeat.beat(Moment(1000), 0, None).unwrap();
        heartbeat.load(Load { cpu: Permille::new(900), ..Load::default() });
        assert!(heartbeat.beat(Moment(2000), 0, None).unwrap().load.is_some());
    }

    #[test]
    fn nothing_is_reported_without_a_connection() {
        let mut heartbeat = heartbeat();
        heartbeat.end();
        heartbeat.usage(vec![]);
        assert_eq!(heartbeat.beat(Moment(5000), 0, None), None);
        assert_eq!(heartbeat.due_at(), Moment::NEVER);
    }
}
