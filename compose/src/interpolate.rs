//! Variables: `$VAR ${VAR} ${VAR:-d} ${VAR-d} ${VAR:?e} ${VAR?e} ${VAR:+x} ${VAR+x} $$`, defaults within defaults.

use std::collections::BTreeSet;

/// Defaults within defaults; nobody reads more.
const MAX_NESTING: usize = 16;
/// Bytes that one text may become.
const MAX_RESULT: usize = 1024 * 1024;

/// Where values come from, and where the names without one go.
pub(crate) trait Lookup {
    /// The value of `name`.
    fn value(&mut self, name: &str) -> Option<String>;
    /// `name` had no value where one was wanted; it becomes empty.
    fn unset(&mut self, name: &str);
}

/// `text` with its variables replaced. The error is a message for the user.
pub(crate) fn expand(text: &str, lookup: &mut dyn Lookup) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    expand_into(text, lookup, &mut out, 0)?;
    Ok(out)
}

/// Every variable that `text` names, in whichever branch.
pub(crate) fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(text, &mut found, 0);
    found
}

/// A piece of a text.
enum Piece<'t> {
    Plain(&'t str),
    Dollar,
    Variable { name: &'t str, modifier: Option<(Modifier, &'t str)> },
}

/// What follows the name within braces. `strict` is the form with a colon: an empty value counts as none.
struct Modifier {
    sort: Sort,
    strict: bool,
}

enum Sort {
    Default,
    Required,
    Alternative,
}

fn expand_into(text: &str, lookup: &mut dyn Lookup, out: &mut String, depth: usize) -> Result<(), String> {
    if depth > MAX_NESTING {
        return Err(format!("more than {MAX_NESTING} variables within one another"));
    }
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, behind) = next_piece(rest)?;
        rest = behind;
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Dollar => out.push('$'),
            Piece::Variable { name, modifier } => substitute(name, modifier, lookup, out, depth)?,
        }
        if out.len() > MAX_RESULT {
            return Err(format!("the text becomes longer than {MAX_RESULT} bytes"));
        }
    }
    Ok(())
}

fn substitute(
    name: &str,
    modifier: Option<(Modifier, &str)>,
    lookup: &mut dyn Lookup,
    out: &mut String,
    depth: usize,
) -> Result<(), String> {
    let value = lookup.value(name);
    let Some((Modifier { sort, strict }, word)) = modifier else {
        match value {
            Some(value) => out.push_str(&value),
            None => lookup.unset(name),
        }
        return Ok(());
    };
    let given = value.filter(|value| !(strict && value.is_empty()));
    match (sort, given) {
        (Sort::Default | Sort::Required, Some(value)) => out.push_str(&value),
        (Sort::Default, None) | (Sort::Alternative, Some(_)) => expand_into(word, lookup, out, depth + 1)?,
        (Sort::Alternative, None) => (),
        (Sort::Required, None) => {
            let mut message = String::new();
            expand_into(word, lookup, &mut message, depth + 1)?;
            let reason = if message.is_empty() { "it has no value".to_owned() } else { crate::context::clip(&message) };
            return Err(format!("the variable `{name}` is required: {reason}"));
        }
    }
    Ok(())
}

/// The first piece of `text` and what is behind it.
fn next_piece(text: &str) -> Result<(Piece<'_>, &str), String> {
    let Some(dollar) = text.find('$') else { return Ok((Piece::Plain(text), "")) };
    if dollar > 0 {
        return Ok((Piece::Plain(&text[..dollar]), &text[dollar..]));
    }
    let rest = &text[1..];
    if let Some(behind) = rest.strip_prefix('$') {
        return Ok((Piece::Dollar, behind));
    }
    if let Some(inside) = rest.strip_prefix('{') {
        let end = closing(inside).ok_or_else(|| invalid(text, "the closing brace is missing"))?;
        return Ok((braced(&inside[..end]).ok_or_else(|| invalid(text, "this is no variable"))?, &inside[end + 1..]));
    }
    match name_length(rest) {
        0 => Err(invalid(text, "no variable follows the dollar sign")),
        length => Ok((Piece::Variable { name: &rest[..length], modifier: None }, &rest[length..])),
    }
}

fn invalid(text: &str, why: &str) -> String {
    let shown: String = text.chars().take(20).collect();
    format!("`{}` is no valid variable: {why}", crate::context::clip(&shown))
}

/// Where the brace closes that was opened before `text`. A `$$` opens nothing.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => (),
        }
        at += 1;
    }
    None
}

/// `NAME`, `NAME:-word`, … between the braces.
fn braced(inside: &str) -> Option<Piece<'_>> {
    let length = name_length(inside);
    let (name, rest) = inside.split_at(length);
    if name.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some(Piece::Variable { name, modifier: None });
    }
    let (strict, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let sort = match rest.as_bytes().first()? {
        b'-' => Sort::Default,
        b'?' => Sort::Required,
        b'+' => Sort::Alternative,
        _ => return None,
    };
    Some(Piece::Variable { name, modifier: Some((Modifier { sort, strict }, &rest[1..])) })
}

fn name_length(text: &str) -> usize {
    let is_name = |(at, c): &(usize, u8)| *c == b'_' || c.is_ascii_alphabetic() || (*at > 0 && c.is_ascii_digit());
    text.bytes().enumerate().take_while(is_name).count()
}

fn collect(text: &str, found: &mut BTreeSet<String>, depth: usize) {
    let mut rest = text;
    // Looking for a closing brace that is not there costs the whole rest each time, so there is an end to bad ones.
    let mut bad = 0;
    while !rest.is_empty() && depth <= MAX_NESTING && bad < 10 {
        match next_piece(rest) {
            Ok((Piece::Variable { name, modifier }, behind)) => {
                found.insert(name.to_owned());
                if let Some((_, word)) = modifier {
                    collect(word, found, depth + 1);
                }
                rest = behind;
            }
            Ok((Piece::Plain(_) | Piece::Dollar, behind)) => rest = behind,
            Err(_) => (rest, bad) = (&rest[1..], bad + 1),
        }
    }
}
