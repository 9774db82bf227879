//! Environment files: `KEY=value` lines with quotes, comments, `export` and variables, as Compose reads them.

use std::collections::BTreeMap;

use crate::context::{Context, clip};
use crate::diagnostic::Severity;
use crate::interpolate::{self, Lookup};
use crate::yaml::Mark;

/// How the lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// With quotes, comments and variables.
    Compose,
    /// Everything behind `=` as it stands (`format: raw`).
    Raw,
}

/// The variables of a file, by name; problems are reported at its own lines. A name without `=` takes the caller's
/// value, and is left out if there is none.
pub(crate) fn read(cx: &Context<'_>, path: &str, text: &str, format: Format) -> BTreeMap<String, String> {
    let file = cx.file_number(path);
    let mut reader =
        Reader { cx, file, line: 1, rest: text.strip_prefix('\u{feff}').unwrap_or(text), found: BTreeMap::new() };
    if !cx.spend(text.len(), reader.mark()) {
        return BTreeMap::new();
    }
    while !reader.rest.is_empty() && !cx.has_enough() {
        reader.entry(format);
    }
    reader.found
}

struct Reader<'t> {
    cx: &'t Context<'t>,
    file: u16,
    line: u32,
    rest: &'t str,
    found: BTreeMap<String, String>,
}

impl<'t> Reader<'t> {
    fn mark(&self) -> Mark {
        Mark { file: self.file, line: self.line, column: 1 }
    }

    fn error(&self, message: String) {
        self.cx.report(Severity::Error, self.mark(), String::new(), message, None);
    }

    /// The rest of the line, which is then behind us.
    fn take_line(&mut self) -> &'t str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn entry(&mut self, format: Format) {
        let start = self.rest;
        let line = self.take_line();
        let trimmed = line.trim_start();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            self.assignment(start, line, format);
        }
        self.line += 1;
    }

    fn assignment(&mut self, start: &'t str, line: &'t str, format: Format) {
        let mut name = line.trim_start();
        if let Some(exported) = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])) {
            name = exported.trim_start();
        }
        // Compose takes `KEY: value` too.
        let separator = if format == Format::Raw { name.find('=') } else { name.find(['=', ':']) };
        let (name, value) = separator.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
        let name = name.trim_end();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'')) {
            return self.error(format!("`{}` is no `KEY=value`", clip(line)));
        }
        let value = match value {
            None => return self.inherit(name),
            Some(value) if format == Format::Raw => Some(value.to_owned()),
            Some(value) => self.value(start, line, value),
        };
        if let Some(value) = value {
            self.found.insert(name.to_owned(), value);
        }
    }

    fn inherit(&mut self, name: &str) {
        match self.cx.variable(name) {
            Some(value) => drop(self.found.insert(name.to_owned(), value.to_owned())),
            None => self.cx.miss_variable(name),
        }
    }

    fn value(&mut self, start: &'t str, line: &'t str, value: &'t str) -> Option<String> {
        let value = value.trim_start();
        match value.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let begin = line.len() - value.len() + 1;
                self.quoted(&start[begin..], quote)
            }
            _ => {
                let end = value
                    .char_indices()
                    .find(|&(at, c)| c == '#' && (at == 0 || value[..at].ends_with([' ', '\t'])))
                    .map_or(value.len(), |(at, _)| at);
                self.expand(value[..end].trim_end())
            }
        }
    }

    /// A quoted value may go on over several lines. `text` begins behind its opening quote.
    fn quoted(&mut self, text: &'t str, quote: char) -> Option<String> {
        let mut escaped = false;
        let end = text.char_indices().find(|&(_, c)| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped && quote == '"';
            closes
        });
        let Some((end, _)) = end else {
            self.error("a quote is not closed".to_owned());
            return None;
        };
        let inside = &text[..end];
        let value = if quote == '\'' { Some(inside.to_owned()) } else { self.expand(&unescape(inside)) };
        self.rest = &text[end + 1..];
        let behind = self.take_line().trim_start();
        if !behind.is_empty() && !behind.starts_with('#') {
            self.error(format!("`{}` stands behind the closing quote", clip(behind)));
        }
        self.line += u32::try_from(inside.matches('\n').count()).unwrap_or(0);
        value
    }

    fn expand(&mut self, text: &str) -> Option<String> {
        if !text.contains('$') {
            return Some(text.to_owned());
        }
        let mark = self.mark();
        let expanded = interpolate::expand(text, self);
        match expanded {
            Ok(value) if self.cx.spend(value.len(), mark) => Some(value),
            Ok(_) => None,
            Err(message) => {
                self.error(message);
                None
            }
        }
    }
}

impl Lookup for Reader<'_> {
    fn value(&mut self, name: &str) -> Option<String> {
        self.cx.variable(name).or_else(|| self.found.get(name).map(String::as_str)).map(str::to_owned)
    }

    fn unset(&mut self, name: &str) {
        self.cx.miss_variable(name);
        let message = format!("the variable `{}` is not set and becomes empty", clip(name));
        self.cx.report(Severity::Warning, self.mark(), String::new(), message, None);
    }
}

/// The escapes of double quotes. `\$` is a plain dollar sign, which the variables know as `$$`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(next @ ('"' | '\\' | '\'')) => out.push(next),
            Some(next) => out.extend(['\\', next]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Sources;

    fn read_text(text: &str, format: Format) -> (Vec<(String, String)>, Vec<String>) {
        let mut sources = Sources::default();
        sources.variables.insert("HOST".to_owned(), "pi".to_owned());
        let cx = Context::new(&sources);
        let found = read(&cx, "app.env", text, format).into_iter().collect();
        (found, cx.finish().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_lines_that_people_write_are_understood() {
        let text = "\u{feff}# top\r\nPLAIN=a b # comment\r\nURL=http://x/#top\nexport SHELL_LIKE = yes\nEMPTY=\nSINGLE='$a # b'\n\
                    DOUBLE=\"x\\ty\\$HOST ${HOST}\" # c\nQUOTE=\"a \\\" b\"\nMULTI=\"one\ntwo\"\nAFTER=${PLAIN}-$HOST\nHOST\nGONE\nYAML: like\n";
        let (found, problems) = read_text(text, Format::Compose);
        let expected = [
            ("AFTER", "a b-pi"),
            ("DOUBLE", "x\ty$HOST pi"),
            ("EMPTY", ""),
            ("HOST", "pi"),
            ("MULTI", "one\ntwo"),
            ("PLAIN", "a b"),
            ("QUOTE", "a \" b"),
            ("SHELL_LIKE", "yes"),
            ("SINGLE", "$a # b"),
            ("URL", "http://x/#top"),
            ("YAML", "like"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn raw_lines_stay_as_they_are() {
        let (found, problems) = read_text("A=\"x\" $HOST # y\n#B=1\nC:D=1\n", Format::Raw);
        let expected = [("A", "\"x\" $HOST # y"), ("C:D", "1")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn a_bad_line_is_named_with_its_number() {
        let (_, problems) = read_text("A=1\n=2\nB='x\n", Format::Compose);
        assert_eq!(
            problems,
            ["app.env:2:1: error: `=2` is no `KEY=value`", "app.env:3:1: error: a quote is not closed"]
        );
        let (_, problems) = read_text("\n\nM=\"a\nb\"\nC=${D}\nE=$\nF='a'b\nsome words\n", Format::Compose);
        assert_eq!(
            problems,
            [
                "app.env:5:1: warning: the variable `D` is not set and becomes empty",
                "app.env:6:1: error: `$` is no valid variable: no variable follows the dollar sign",
                "app.env:7:1: error: `b` stands behind the closing quote",
                "app.env:8:1: error: `some words` is no `KEY=value`",
            ]
        );
    }
}
