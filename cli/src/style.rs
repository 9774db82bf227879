//! Colours. They repeat what the words say, and never say anything alone.

use crate::inert::inert;

/// What a text means for its reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// To be looked at.
    Warning,
    /// Does not work.
    Bad,
    /// Of less weight.
    Dim,
    /// Of more weight.
    Strong,
    /// Tells things of one sort apart, by their number.
    Series(u8),
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It is.
    Colour,
    /// It is not: no terminal, `NO_COLOR`, or asked for.
    Plain,
}

impl Paint {
    /// The text, made inert, in the colour of its tone.
    pub fn text(self, tone: Tone, text: &str) -> String {
        let text = inert(text);
        match (self, code(tone)) {
            (Self::Colour, Some(code)) if !text.is_empty() => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            (Self::Colour | Self::Plain, _) => text.into_owned(),
        }
    }
}

fn code(tone: Tone) -> Option<&'static str> {
    const SERIES: [&str; 6] = ["36", "33", "32", "35", "34", "96"];
    match tone {
        Tone::Plain => None,
        Tone::Good => Some("32"),
        Tone::Busy => Some("36"),
        Tone::Warning => Some("33"),
        Tone::Bad => Some("31"),
        Tone::Dim => Some("2"),
        Tone::Strong => Some("1"),
        Tone::Series(number) => Some(SERIES[usize::from(number) % SERIES.len()]),
    }
}
