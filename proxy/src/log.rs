//! Lines of log on standard error, for the programs of a device.
//!
//! In place of tracing-subscriber, whose registry of spans and layers these programs would have in memory for nothing: they
//! have no spans. The lines are the same.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::clock;

/// Begins to log what `OUTRIGGER_LOG` wishes, else what is worth knowing.
pub fn to_stderr() {
    let level = std::env::var("OUTRIGGER_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let lines = Lines { level, has_colours: io::stderr().is_terminal() };
    // An error means that somebody logs already.
    let _ = tracing::subscriber::set_global_default(lines);
}

struct Lines {
    level: LevelFilter,
    has_colours: bool,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let (seconds, micros) = clock::time_of_day();
        let line = line(event, seconds, micros, self.has_colours);
        // At once, so that lines of several threads do not mix. Nobody could be told that it fails.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    // There are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(event: &Event<'_>, seconds: i64, micros: i64, has_colours: bool) -> String {
    let mut line = Line(String::new());
    let (level, target) = (event.metadata().level(), event.metadata().target());
    let colour = match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    let text = &mut line.0;
    time(text, seconds, micros);
    // Writing to a string does not fail.
    let _ = if has_colours { write!(text, " \x1b[{colour}m{level:>5}\x1b[0m ") } else { write!(text, " {level:>5} ") };
    let _ = write!(text, "{target}:");
    event.record(&mut line);
    line.0.push('\n');
    line.0
}

/// As RFC 3339 has it.
fn time(text: &mut String, seconds: i64, micros: i64) {
    let (days, seconds) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March end with the day that may be missing. By Howard Hinnant, "chrono-compatible low-level date
    // algorithms", civil_from_days.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// A line to which fields are added.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " "),
            name => write!(self.0, " {name}="),
        };
        let _ = write!(Escaped(&mut self.0), "{value:?}");
    }
}

/// What others say must not reach a terminal's controls, nor begin a line of its own.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() { self.0.extend(character.escape_default()) } else { self.0.push(character) }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the lines that would be written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<String>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            Lines { level: LevelFilter::INFO, has_colours: false }.enabled(metadata)
        }

        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push_str(&line(event, 1_795_857_157, 14_785, false));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_line_has_time_level_target_text_and_fields_and_no_controls() {
        let kept = Kept::default();
        tracing::subscriber::with_default(kept.clone(), || {
            let path = std::path::Path::new("/run/p.sock");
            tracing::info!(target: "outrigger_agent::run", socket = %path.display(), count = 3, "the proxy is started");
            tracing::warn!(target: "a", error = "no\x1b[2J\nyes", "{}", "evil\nline");
            tracing::debug!("nobody wants to know");
        });
        let expected = "2026-11-28T09:12:37.014785Z  INFO outrigger_agent::run: the proxy is started socket=/run/p.sock count=3\n\
            2026-11-28T09:12:37.014785Z  WARN a: evil\\nline error=\"no\\u{1b}[2J\\nyes\"\n";
        // The message comes where it stands among the fields: first.
        assert_eq!(*kept.0.lock().unwrap(), expected);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds| {
            let mut text = String::new();
            time(&mut text, seconds, 0);
            text
        };
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59.000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000Z");
    }
}
