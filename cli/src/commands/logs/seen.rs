//! How far the output of a replica was shown: what a broken connection would otherwise show twice or lose.

use outrigger_api::{LogFrame, LogOutput, LogsQuery};

/// How far the output of a copy was shown. Only within stdout, and within stderr, do times come in order.
#[derive(Debug, Default)]
pub(super) struct Seen {
    placement: Option<String>,
    stdout: Shown,
    stderr: Shown,
}

/// How far one of the two was shown.
#[derive(Debug, Default)]
struct Shown {
    /// Time of the last line.
    last: Option<Moment>,
    /// What was shown before the present connection: up to this time.
    before: Option<Moment>,
}

impl Seen {
    /// Sets the query for the copy that is there now: a new one from its beginning, the same one from where it was left.
    pub(super) fn begin(&mut self, placement: String, query: &mut LogsQuery) {
        match &self.placement {
            None => (),
            Some(known) if *known == placement => {
                let last = [self.stdout.last, self.stderr.last];
                // From the one that is further behind; what the other has shown since is left out line by line.
                if let Some(since) = last.into_iter().flatten().map(|(seconds, _)| seconds).min() {
                    (query.tail, query.since) = (None, Some(since));
                }
                self.stdout.before = self.stdout.last;
                self.stderr.before = self.stderr.last;
            }
            Some(_) => {
                (query.tail, query.since) = (None, None);
                (self.stdout, self.stderr) = (Shown::default(), Shown::default());
            }
        }
        self.placement = Some(placement);
    }

    /// Whether a frame was not shown yet. A line without a time that can be read is shown rather than lost.
    pub(super) fn is_new(&mut self, frame: &LogFrame) -> bool {
        let LogFrame::Line { time: Some(time), output, .. } = frame else { return true };
        let Some(moment) = moment(time) else { return true };
        let shown = match output {
            LogOutput::Stdout => &mut self.stdout,
            LogOutput::Stderr => &mut self.stderr,
        };
        let is_new = shown.before.is_none_or(|before| moment > before);
        if is_new {
            shown.last = Some(moment);
        }
        is_new
    }
}

/// Seconds since 1970, and nanoseconds.
type Moment = (i64, u32);

/// Reads a time in RFC 3339. Engines leave the zeros at the end of the fraction out, so it cannot be compared as text.
fn moment(time: &str) -> Option<Moment> {
    let fraction = time.get(19..)?.strip_prefix('.').unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).take(9);
    let (value, places) =
        digits.fold((0, 0), |(value, places), digit| (value * 10 + u32::from(digit - b'0'), places + 1));
    Some((unix_seconds(time)?, value * 10u32.pow(9 - places)))
}

/// Seconds since 1970 of a time in RFC 3339; days by Howard Hinnant's `days_from_civil`.
fn unix_seconds(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let of_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(days * 86_400 + of_day - zone_seconds(time.get(19..)?)?)
}

/// How far a zone is ahead of UTC: `Z`, `+02:00`, with the fraction of a second before it or not.
fn zone_seconds(rest: &str) -> Option<i64> {
    let Some(at) = rest.find(['+', '-']) else { return rest.ends_with('Z').then_some(0) };
    let (hours, minutes) = rest[at + 1..].split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some(if rest[at..].starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str) -> LogFrame {
        line_of(LogOutput::Stdout, time)
    }

    fn line_of(output: LogOutput, time: &str) -> LogFrame {
        LogFrame::Line { replica: "shop/web.1".into(), output, time: Some(time.into()), text: "hello".into() }
    }

    #[test]
    fn after_a_lost_connection_no_line_is_shown_twice() {
        let (mut seen, mut query) = (Seen::default(), LogsQuery { tail: Some(5), ..LogsQuery::default() });
        seen.begin("2a".into(), &mut query);
        assert_eq!(query.tail, Some(5));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000001Z")));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000002Z")));
        let late = line_of(LogOutput::Stderr, "2026-11-22T16:56:33.000000009Z");
        assert!(seen.is_new(&late), "stderr has a time of its own");
        seen.begin("2a".into(), &mut query);
        assert_eq!((query.tail, query.since), (None, Some(1_795_366_593)));
        assert!(!seen.is_new(&late));
        assert!(!seen.is_new(&line("2026-11-22T16:56:34.000000002Z")));
        assert!(seen.is_new(&line("2026-11-22T16:56:34.000000003Z")));
    }

    #[test]
    fn a_fraction_without_its_zeros_is_the_same_moment() {
        let of = |text: &str| moment(&format!("2026-11-22T16:56:34{text}")).unwrap();
        assert_eq!(of(".120000000Z"), of(".12Z"));
        assert_eq!(of("+00:00"), of(".0Z"));
        assert!(of(".119999999Z") < of(".12Z"));
    }

    #[test]
    fn times_of_every_zone_are_understood() {
        for time in ["2026-11-22T16:56:34Z", "2026-11-22T18:56:34.123+02:00", "2026-11-22T11:26:34.5-05:30"] {
            assert_eq!(unix_seconds(time), Some(1_795_366_594), "{time}");
        }
        for bad in ["", "yesterday", "2026-11-22T16:56:34", "2026-11-22T16:56:34+x", "2026-11-22 ü6:56:34Z"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_copy_elsewhere_is_read_from_its_beginning_whatever_its_clock_says() {
        let (mut seen, mut query) = (Seen::default(), LogsQuery::default());
        seen.begin("2a".into(), &mut query);
        assert!(seen.is_new(&line("2026-11-22T16:56:34Z")));
        seen.begin("2b".into(), &mut query);
        assert_eq!((query.tail, query.since), (None, None));
        assert!(seen.is_new(&line("2020-01-01T00:00:00Z")));
    }
}
