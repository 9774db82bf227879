//! Tables for people: no borders, as Docker prints them, and the last column wrapped at the edge of the terminal.

use console::measure_text_width;

use crate::inert::inert;
use crate::style::{Paint, Tone};

/// Between two columns.
const GAP: usize = 3;
/// A last column narrower than this is not wrapped: a word per line is worse than a long line.
const NARROWEST_WRAP: usize = 24;

/// One field.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field in the colour of `tone`.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { text: inert(text.as_ref()).into_owned(), tone }
    }

    /// What stands in it.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Rows below a header.
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

/// Makes one row of things that can be fields.
#[macro_export]
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::table::Cell::from($cell)),*] };
}

impl Table {
    /// An empty table with these columns.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new(), indent: 0 }
    }

    /// The same, moved to the right.
    pub fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// Appends a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines. Columns without any content are left out. `width`: of the terminal, if it is one.
    pub fn lines(&self, width: Option<usize>, paint: Paint) -> Vec<String> {
        let columns: Vec<usize> = (0..self.header.len()).filter(|&c| self.has_content(c)).collect();
        let widths: Vec<usize> = columns.iter().map(|&c| self.column_width(c)).collect();
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        let header: Vec<Cell> = self.header.iter().map(|title| Cell::toned(Tone::Strong, title)).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            self.row_lines(row, &columns, &widths, width, paint, &mut lines);
        }
        lines
    }

    /// The first column always stays: it names the row.
    fn has_content(&self, column: usize) -> bool {
        column == 0
            || self.rows.is_empty()
            || self.rows.iter().any(|row| row.get(column).is_some_and(|c| !c.text.is_empty()))
    }

    fn column_width(&self, column: usize) -> usize {
        let widest =
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(&cell.text)).max();
        widest.unwrap_or(0).max(self.header[column].len())
    }

    fn row_lines(
        &self,
        row: &[Cell],
        columns: &[usize],
        widths: &[usize],
        terminal: Option<usize>,
        paint: Paint,
        lines: &mut Vec<String>,
    ) {
        let Some((&last, others)) = columns.split_last() else { return };
        let mut line = " ".repeat(self.indent);
        let mut used = self.indent;
        for (&column, &width) in others.iter().zip(widths) {
            if let Some(cell) = row.get(column) {
                line.push_str(&paint.text(cell.tone, &cell.text));
                line.push_str(&" ".repeat(width.saturating_sub(measure_text_width(&cell.text))));
            }
            line.push_str(&" ".repeat(GAP));
            used += width + GAP;
        }
        let Some(cell) = row.get(last) else { return lines.push(line.trim_end().to_owned()) };
        let room = terminal.and_then(|width| width.checked_sub(used)).filter(|&room| room >= NARROWEST_WRAP);
        let mut parts = wrapped(&cell.text, room.unwrap_or(usize::MAX)).into_iter();
        line.push_str(&paint.text(cell.tone, &parts.next().unwrap_or_default()));
        lines.push(line.trim_end().to_owned());
        lines.extend(parts.map(|part| format!("{}{}", " ".repeat(used), paint.text(cell.tone, &part))));
    }
}

/// The text in lines of at most `room` columns, broken between words; a longer word stays whole.
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let width = measure_text_width(word);
        if used > 0 && used + 1 + width > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += width;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["NAME", "STATE", "EMPTY", "DETAIL"]);
        table.push(row!["shop/web.1", Cell::toned(Tone::Good, "running"), "", ""]);
        table.push(row![
            "shop/größe.1",
            Cell::toned(Tone::Bad, "pending"),
            "",
            "no device has two cameras attached to it"
        ]);
        table
    }

    #[test]
    fn columns_line_up_by_what_is_seen_and_empty_ones_are_left_out() {
        let expected = "\
NAME           STATE     DETAIL
shop/web.1     running
shop/größe.1   pending   no device has two cameras attached to it";
        assert_eq!(sample().lines(None, Paint::Plain).join("\n"), expected);
    }

    #[test]
    fn the_last_column_is_wrapped_at_the_edge_of_the_terminal() {
        let expected = "\
NAME           STATE     DETAIL
shop/web.1     running
shop/größe.1   pending   no device has two cameras
                         attached to it";
        assert_eq!(sample().lines(Some(51), Paint::Plain).join("\n"), expected);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let coloured = sample().lines(None, Paint::Colour).join("\n");
        assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"));
        let plain = console::strip_ansi_codes(&coloured).into_owned();
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, sample().lines(None, Paint::Plain));
    }

    #[test]
    fn a_field_stays_on_its_line() {
        let mut table = Table::new(["NAME"]);
        table.push(row!["a\nb\u{1b}[2J"]);
        assert_eq!(table.lines(None, Paint::Plain), ["NAME", "a b\\u{1b}[2J"]);
    }
}
