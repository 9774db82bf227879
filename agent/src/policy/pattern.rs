//! Names with `*`.

use std::fmt;

/// A text in which `*` stands for any run of characters; in a path, of characters other than `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a name fits, with `*` standing for anything.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        fits(self.0.as_bytes(), name.as_bytes(), false)
    }

    /// Whether a path fits, with `*` standing for anything within one of its parts.
    #[must_use]
    pub fn fits_path(&self, path: &str) -> bool {
        fits(self.0.as_bytes(), path.as_bytes(), true)
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Linear in both but for going back to the last star, so no pattern takes long.
fn fits(pattern: &[u8], name: &[u8], is_path: bool) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if Some(byte) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                if is_path && name.get(from) == Some(&b'/') {
                    return false;
                }
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_but_a_slash_of_a_path() {
        for (pattern, name, as_name, as_path) in [
            ("/dev/tty*", "/dev/ttyUSB0", true, true),
            ("/dev/tty*", "/dev/tty", true, true),
            ("/dev/*", "/dev/dri/card0", true, false),
            ("/dev/*/card*", "/dev/dri/card0", true, true),
            ("ghcr.io/me/*", "ghcr.io/me/a/b:1", true, false),
            ("ghcr.io/me/*", "ghcr.io/men/a", false, false),
            ("a*b*c", "a-b-b-c", true, true),
            ("a*b*c", "a-b-b-d", false, false),
            ("*", "", true, true),
            ("", "a", false, false),
            ("/a/*", "/a//b", true, false),
        ] {
            assert_eq!(
                (Pattern::new(pattern).fits(name), Pattern::new(pattern).fits_path(name)),
                (as_name, as_path),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let (pattern, name) = (Pattern::new(&"*a".repeat(200)), "a".repeat(5_000) + "b");
        assert!(!pattern.fits(&name));
    }
}
