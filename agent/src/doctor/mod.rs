//! `outrigger-agent doctor`: what would keep this device from doing its work, and how to put it right.
//!
//! Looking ([`inspect`]) and judging ([`findings`]) are apart: the judgement is a function of what was seen.

use std::fmt;
use std::io::{self, Write};

mod inspect;
mod judge;
mod network;
mod secrets;
mod trust;

pub use inspect::{Inspection, Reach, Space, StateDir, Subject, inspect};
pub use judge::findings;
pub use network::{NetworkSeen, Networking};
pub use secrets::{Place, SecretsSeen};
pub use trust::{Seen, Trust};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at, in a word.
    pub about: &'static str,
    /// How it is, in a sentence.
    pub text: String,
    /// What to do; none where nothing is to be done.
    pub fix: Option<String>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, but somebody may want to know.
    Note,
    /// The agent cannot do its work, or not all of it.
    Wrong,
}

/// Writes the findings and says whether any is wrong.
///
/// # Errors
/// Fails as the writer does.
pub fn print(findings: &[Finding], out: &mut impl Write) -> io::Result<Verdict> {
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    let wrong = findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    match wrong {
        0 => writeln!(out, "This device is ready.")?,
        1 => writeln!(out, "One thing is wrong.")?,
        many => writeln!(out, "{many} things are wrong.")?,
    }
    Ok(if wrong == 0 { Verdict::Fine } else { Verdict::Wrong })
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verdict {
            Verdict::Fine => '✓',
            Verdict::Note => '!',
            Verdict::Wrong => '✗',
        };
        write!(f, "{sign} {:<8} {}", self.about, self.text)?;
        match &self.fix {
            None => Ok(()),
            Some(fix) => write!(f, "\n    → {}", fix.replace('\n', "\n      ")),
        }
    }
}

#[cfg(test)]
mod tests;
