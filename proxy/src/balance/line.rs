//! The way to another device: how long it usually takes to be answered, and so when silence means something. Pure.

use std::time::Duration;

/// Silence of this many usual round trips means that the line does not carry.
const PATIENT: u32 = 4;
/// Shorter silences mean nothing: a radio repeats, a busy board has other things to do.
const SHORTEST: Duration = Duration::from_millis(250);
/// Longer ones mean something on every line.
const LONGEST: Duration = Duration::from_secs(2);
/// How much a new round trip counts: one part in this many.
const SHARE: u32 = 4;

/// Whether a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineState {
    /// As far as is known.
    Carries,
    /// Nothing is heard, and another way has not been found yet.
    Lost,
}

/// What is known of the way to a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    usual: Option<Duration>,
}

impl Line {
    /// A new connection was made in this time, which is more than a round trip takes.
    pub fn connected(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| usual.min(took)));
    }

    /// The device has answered a question that it answers at once.
    pub fn answered(&mut self, took: Duration) {
        // One answer that had to wait for the line to come back does not make it a slow line.
        let took = took.min(self.patience());
        self.usual = Some(self.usual.map_or(took, |usual| usual - usual / SHARE + took / SHARE));
    }

    /// How long to wait for such an answer before the line counts as lost.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.usual.unwrap_or_default().saturating_mul(PATIENT).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_given_more_time_and_a_quick_one_a_quarter_of_a_second() {
        let mut line = Line::default();
        assert_eq!(line.patience(), Duration::from_millis(250));
        line.connected(Duration::from_millis(900));
        assert_eq!(line.patience(), Duration::from_secs(2));
        (0..20).for_each(|_| line.answered(Duration::from_millis(300)));
        let patience = line.patience().as_millis();
        assert!((1190..1230).contains(&patience), "{patience}");
        (0..20).for_each(|_| line.answered(Duration::from_millis(1)));
        assert_eq!(line.patience(), Duration::from_millis(250));
    }

    #[test]
    fn a_cut_does_not_make_a_line_slow() {
        let mut line = Line::default();
        line.connected(Duration::from_millis(2));
        line.answered(Duration::from_secs(60));
        assert!(line.patience() < Duration::from_millis(300), "{line:?}");
    }
}
