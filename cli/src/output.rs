//! Where answers go: to the screen as text for people, or as JSON or bare names for programs.

use std::io::{self, IsTerminal, Write};

use console::Term;
use serde::Serialize;

use crate::Failure;
use crate::args::{ColourChoice, Format, Shape};
use crate::inert::{inert, inert_json};
use crate::style::{Paint, Tone};
use crate::table::Table;

/// What a stream is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// A terminal of so many columns and rows.
    Terminal {
        /// Columns.
        columns: usize,
        /// Rows.
        rows: usize,
    },
    /// A file, a pipe, another program.
    Other,
}

impl Screen {
    /// Columns at which text is wrapped; none where it is not.
    #[must_use]
    pub fn columns(self) -> Option<usize> {
        match self {
            Self::Terminal { columns, .. } => Some(columns),
            Self::Other => None,
        }
    }
}

/// Where answers go.
pub struct Output {
    format: Format,
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    screen: Screen,
    error_screen: Screen,
    paint: Paint,
    error_paint: Paint,
}

impl Output {
    /// The streams of this process.
    #[must_use]
    pub fn of_process(shape: &Shape) -> Self {
        let screen = screen_of(&Term::stdout(), io::stdout().is_terminal());
        let error_screen = screen_of(&Term::stderr(), io::stderr().is_terminal());
        Self {
            format: shape.format(),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            screen,
            error_screen,
            paint: paint_for(shape.color, screen),
            error_paint: paint_for(shape.color, error_screen),
        }
    }

    /// Streams of a caller, which are no terminals.
    pub fn to(format: Format, stdout: Box<dyn Write>, stderr: Box<dyn Write>) -> Self {
        Self {
            format,
            stdout,
            stderr,
            screen: Screen::Other,
            error_screen: Screen::Other,
            paint: Paint::Plain,
            error_paint: Paint::Plain,
        }
    }

    /// How answers are to look.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What answers are shown on.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// What messages and progress are shown on.
    pub(crate) fn error_screen(&self) -> Screen {
        self.error_screen
    }

    /// Whether answers are coloured.
    pub(crate) fn paint(&self) -> Paint {
        self.paint
    }

    /// Shows one answer in the form that the user wants: the value itself, its names, or text made of it.
    pub(crate) fn answer<T: Serialize>(
        &mut self,
        value: &T,
        names: impl FnOnce(&T) -> Vec<String>,
        lines: impl FnOnce(&T, Look) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Names => self.lines(names(value).iter().map(|name| inert(name))),
            Format::Table => {
                let lines = lines(value, self.look());
                self.lines(lines)
            }
        }
    }

    /// How text for people is laid out here.
    pub(crate) fn look(&self) -> Look {
        Look { columns: self.screen.columns(), paint: self.paint }
    }

    /// A value as indented JSON.
    pub(crate) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.lines([inert_json(&text)])
    }

    /// A value as one line of JSON, for streams.
    pub(crate) fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.lines([inert_json(&text)])
    }

    /// Lines that are safe to show.
    pub(crate) fn lines<S: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = S>) -> Result<(), Failure> {
        for line in lines {
            writeln!(self.stdout, "{}", line.as_ref())?;
        }
        Ok(self.stdout.flush()?)
    }

    /// Text as it is, without a line end.
    pub(crate) fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.stdout.write_all(text.as_bytes())?;
        Ok(self.stdout.flush()?)
    }

    /// One line about what is going on, for people; it never mixes with the answer. Nobody misses it if it is lost.
    pub(crate) fn note(&mut self, tone: Tone, text: &str) {
        let text = self.error_paint.text(tone, text);
        let _ = writeln!(self.stderr, "{text}");
    }

    /// Lines about what is going on that are safe to show.
    pub(crate) fn notes(&mut self, lines: &[String]) {
        for line in lines {
            let _ = writeln!(self.stderr, "{line}");
        }
    }

    /// How messages are laid out here.
    pub(crate) fn error_look(&self) -> Look {
        Look { columns: self.error_screen.columns(), paint: self.error_paint }
    }

    /// What went wrong, where, and what to do.
    pub fn failure(&mut self, failure: &Failure) {
        let paint = self.error_paint;
        let _ = writeln!(self.stderr, "{} {}", paint.text(Tone::Bad, "outrigger:"), inert(&failure.to_string()));
        if let Some(hint) = failure.hint() {
            let _ = writeln!(self.stderr, "  {} {}", paint.text(Tone::Dim, "->"), inert(&hint));
        }
    }
}

/// How text for people is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Columns at which it is wrapped.
    pub columns: Option<usize>,
    /// Whether it is coloured.
    pub paint: Paint,
}

impl Look {
    /// As tests and pipes see it.
    #[cfg(test)]
    pub const PLAIN: Self = Self { columns: None, paint: Paint::Plain };

    /// A table in this look.
    pub fn table(self, table: &Table) -> Vec<String> {
        table.lines(self.columns, self.paint)
    }
}

fn screen_of(term: &Term, is_terminal: bool) -> Screen {
    match term.size_checked() {
        Some((rows, columns)) if is_terminal => Screen::Terminal { columns: columns.into(), rows: rows.into() },
        _ if is_terminal => Screen::Terminal { columns: 80, rows: 24 },
        _ => Screen::Other,
    }
}

/// `NO_COLOR` counts when it is not empty (no-color.org); a dumb terminal has no colours.
fn paint_for(choice: ColourChoice, screen: Screen) -> Paint {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match (choice, screen) {
        (ColourChoice::Always, _) => Paint::Colour,
        (ColourChoice::Auto, Screen::Terminal { .. }) if !forbidden => Paint::Colour,
        (ColourChoice::Auto | ColourChoice::Never, _) => Paint::Plain,
    }
}
