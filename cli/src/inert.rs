//! Texts from devices and containers on a terminal: whoever names a device or writes a log line must not be able to
//! move the cursor, change the window's title, or make one text look like another.

use std::borrow::Cow;

/// Characters that act instead of being seen: controls, and those that turn the direction of writing or break lines.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text on one line, with its acting characters spelled out.
///
/// Line ends become a space: an engine's message of several lines is to be read, not decoded.
pub fn inert(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.trim_end_matches(['\r', '\n']).chars() {
        match c {
            '\n' | '\t' => shown.push(' '),
            '\r' => (),
            c if acts(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// JSON whose acting characters are written as `\u` escapes. They can stand only inside of strings, so it stays the same
/// document.
pub fn inert_json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && acts(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c != '\n' && acts(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether colours of a log line reach the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// They do.
    Keep,
    /// They are left out.
    Drop,
}

/// A log line for a terminal: tabs and (if wanted) colours work, nothing else does. Colours end with the line.
pub fn log_line(text: &str, colours: Colours) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\u{1b}' || c == '\u{9b}' {
            let sequence = &rest[..sequence_length(rest)];
            if colours == Colours::Keep && is_colour(sequence) {
                shown.push_str(sequence);
                coloured = true;
            }
            rest = &rest[sequence.len()..];
            continue;
        }
        match c {
            '\t' => shown.push(c),
            '\r' => (),
            c if acts(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    if coloured {
        shown.push_str("\u{1b}[0m");
    }
    shown
}

/// `ESC [ … m` with only numbers between.
fn is_colour(sequence: &str) -> bool {
    sequence
        .strip_prefix("\u{1b}[")
        .and_then(|rest| rest.strip_suffix('m'))
        .is_some_and(|numbers| numbers.bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':'))
}

/// Bytes of the escape sequence that `text` begins with: control sequences (CSI), texts for the terminal (OSC, DCS and
/// their kin, up to BEL or ST), and the short ones. An unfinished one takes the rest.
fn sequence_length(text: &str) -> usize {
    let mut chars = text.char_indices();
    let introducer = match chars.next() {
        Some((_, '\u{9b}')) => Some('['),
        _ => chars.next().map(|(_, c)| c),
    };
    match introducer {
        Some('[') => chars.find(|(_, c)| ('\u{40}'..='\u{7e}').contains(c)).map_or(text.len(), |(at, _)| at + 1),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let end = text.find(['\u{7}', '\u{9c}']).map(|at| at + text[at..].chars().next().map_or(1, char::len_utf8));
            let string_end = text[1..].find("\u{1b}\\").map(|at| at + 3);
            end.into_iter().chain(string_end).min().unwrap_or(text.len())
        }
        // `ESC ( B` and the like: intermediates, then one final character.
        Some(' '..='/') => {
            chars.find(|(_, c)| !(' '..='/').contains(c)).map_or(text.len(), |(at, c)| at + c.len_utf8())
        }
        Some(c) => 1 + c.len_utf8(),
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_act_on_the_terminal() {
        assert_eq!(inert("pi-4"), "pi-4");
        assert_eq!(inert("pi\u{1b}[2Jx"), "pi\\u{1b}[2Jx");
        assert_eq!(inert("first\nsecond\r\n"), "first second");
        assert_eq!(inert("exe\u{202e}fdp"), "exe\\u{202e}fdp");
        assert_eq!(inert("a\u{9b}31m"), "a\\u{9b}31m");
    }

    #[test]
    fn a_log_line_keeps_its_colours_and_nothing_else() {
        let nasty = "\u{1b}[31mred\u{1b}[0m\t\u{1b}[2J\u{1b}]0;title\u{7}\u{1b}]8;;http://x\u{1b}\\link\u{8}";
        assert_eq!(log_line(nasty, Colours::Keep), "\u{1b}[31mred\u{1b}[0m\tlink\\u{8}\u{1b}[0m");
        assert_eq!(log_line(nasty, Colours::Drop), "red\tlink\\u{8}");
    }

    #[test]
    fn an_unfinished_sequence_swallows_the_line_not_the_program() {
        for text in ["a\u{1b}", "a\u{1b}[", "a\u{1b}[1;2", "a\u{1b}]0;x", "a\u{9b}", "a\u{1b}(", "a\u{1b}Pä"] {
            assert_eq!(log_line(text, Colours::Keep), "a", "{text:?}");
        }
        assert_eq!(log_line("\u{1b}äb", Colours::Keep), "b");
    }

    #[test]
    fn json_stays_the_same_document() {
        let value = serde_json::json!({"name": "a\u{9b}2J\u{202e}b"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = inert_json(&text);
        assert!(!shown.chars().any(|c| c != '\n' && acts(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
