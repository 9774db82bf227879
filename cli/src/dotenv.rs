//! `.env` files, as Docker Compose reads them: `KEY=value`, quotes, comments, and `$KEY` of what came before.

use std::collections::BTreeMap;

/// A line that is none, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Reads the text of an `.env` file. `outer` gives variables that the file may refer to and does not set.
pub(crate) fn parse(text: &str, outer: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, BadLine> {
    let mut parser =
        Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1, outer, values: BTreeMap::new() };
    while parser.entry()? {}
    Ok(parser.values)
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    outer: &'a dyn Fn(&str) -> Option<String>,
    values: BTreeMap<String, String>,
}

impl Parser<'_> {
    /// Reads one line, or several if a quoted value goes on; false at the end.
    fn entry(&mut self) -> Result<bool, BadLine> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let trimmed = self.rest[..end].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.advance(end + 1);
            return Ok(true);
        }
        let Some(key_end) = self.rest[..end].find('=') else {
            // A key alone takes the value of the environment, which is asked first anyway.
            self.check_key(trimmed)?;
            self.advance(end + 1);
            return Ok(true);
        };
        let key = self.rest[..key_end].trim();
        let key = key.strip_prefix("export ").unwrap_or(key).trim();
        self.check_key(key)?;
        let key = key.to_owned();
        self.advance(key_end + 1);
        let blank = self.rest.find(|c: char| c != ' ' && c != '\t').unwrap_or(self.rest.len());
        self.advance(blank);
        let value = match self.rest.chars().next() {
            Some('\'') => self.quoted('\'')?,
            Some('"') => {
                let text = self.quoted('"')?;
                self.expanded(&unescaped(&text))?
            }
            _ => self.plain()?,
        };
        self.values.insert(key, value);
        Ok(true)
    }

    fn check_key(&self, key: &str) -> Result<(), BadLine> {
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !key.is_empty() && key.chars().all(good) {
            return Ok(());
        }
        Err(self.bad(format!("`{key}` is no name of a variable; a line is KEY=value")))
    }

    fn bad(&self, message: String) -> BadLine {
        BadLine { line: self.line, message }
    }

    /// Goes on by so many bytes, at most to the end.
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += passed.bytes().filter(|&b| b == b'\n').count();
        self.rest = rest;
    }

    /// What stands between quotes, as written; the rest of the line behind it may only be a comment.
    fn quoted(&mut self, quote: char) -> Result<String, BadLine> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|&(_, c)| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped && quote == '"';
            ends
        });
        let Some((end, _)) = end else { return Err(self.bad(format!("the quote {quote} is not closed"))) };
        let text = self.rest[1..end].to_owned();
        self.advance(end + 1);
        let line_end = self.rest.find('\n').unwrap_or(self.rest.len());
        let behind = self.rest[..line_end].trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            return Err(self.bad(format!("`{behind}` stands behind the closing quote")));
        }
        self.advance(line_end + 1);
        Ok(text)
    }

    fn plain(&mut self) -> Result<String, BadLine> {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        let comment = if line.starts_with('#') { Some(0) } else { line.find(" #").or_else(|| line.find("\t#")) };
        let value = self.expanded(line[..comment.unwrap_or(end)].trim())?;
        self.advance(end + 1);
        Ok(value)
    }

    /// `$KEY`, `${KEY}`, `${KEY:-default}` and `${KEY-default}` replaced; `$$` (and the `\$` of quotes) is a dollar.
    fn expanded(&self, text: &str) -> Result<String, BadLine> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('$') {
                out.push('$');
                rest = behind;
            } else if let Some(inner) = rest.strip_prefix('{') {
                let end = inner.find('}').ok_or_else(|| self.bad("`${` is not closed by `}`".into()))?;
                out.push_str(&self.braced(&inner[..end]));
                rest = &inner[end + 1..];
            } else {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                match end {
                    0 => out.push('$'),
                    _ => out.push_str(&self.value(&rest[..end]).unwrap_or_default()),
                }
                rest = &rest[end..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn braced(&self, inner: &str) -> String {
        if let Some((key, default)) = inner.split_once(":-") {
            return self.value(key).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned());
        }
        match inner.split_once('-') {
            Some((key, default)) => self.value(key).unwrap_or_else(|| default.to_owned()),
            None => self.value(inner).unwrap_or_default(),
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        (self.outer)(key).or_else(|| self.values.get(key).cloned())
    }
}

/// The escapes of double quotes. `\$` becomes `$$`, so that it is not a reference afterwards.
fn unescaped(text: &str) -> String {
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
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, String>, BadLine> {
        parse(text, &|key| (key == "HOME").then(|| "/root".to_owned()))
    }

    #[test]
    fn values_are_read_as_docker_compose_reads_them() {
        let text = "\u{feff}# comment\nA=1\n export B = two words # why\nC='$A \"#x'\nD=\"line\\nnext \\$A $A\" # c\n\
                    E=${HOME}/x$$y\nF=${NOPE:-d}${NOPE-}z\nG=\nH=a#b\r\nI=\"two\nlines\"\nJ=#c\nALONE\n";
        let values = read(text).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A \"#x"),
            ("D", "line\nnext $A 1"),
            ("E", "/root/x$y"),
            ("F", "dz"),
            ("G", ""),
            ("H", "a#b"),
            ("I", "two\nlines"),
            ("J", ""),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(values, BTreeMap::from(expected));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [("A=1\n\nB C=2\n", 3), ("A='x\ny", 1), ("A=\"x\ny\" z\n", 2), ("A=1\nB=${A\n", 2)] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
