//! The policy in force: what the file says, or the strict default and why.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::bind::Guarded;
use super::raw::Raw;
use super::{Rules, check};
use crate::config::Problem;

/// Where the file is if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/outrigger/policy.toml";
/// Bytes of the file.
const LONGEST: u64 = 256 * 1024;

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The owner's rules.
    pub rules: Rules,
    /// Where they come from.
    pub origin: Origin,
    /// The file.
    pub path: PathBuf,
    /// What is never mounted.
    pub guarded: Guarded,
}

/// Where the rules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file says so.
    File,
    /// There is no file: the strict default.
    Absent,
    /// The file cannot be read or makes no sense: the strict default.
    Broken(Vec<Problem>),
}

impl Policy {
    /// The strict default, as without a file.
    #[must_use]
    pub fn strict(path: PathBuf, guarded: Guarded) -> Self {
        Self { rules: Rules::default(), origin: Origin::Absent, path, guarded }
    }

    /// What a file with this text means. Where anything in it is wrong, none of it holds.
    #[must_use]
    pub fn of(text: &str, path: PathBuf, guarded: Guarded) -> Self {
        let (rules, problems) = check::check(Raw::parse(text), &guarded);
        match problems.is_empty() {
            true => Self { rules, origin: Origin::File, path, guarded },
            false => Self { origin: Origin::Broken(problems), ..Self::strict(path, guarded) },
        }
    }

    /// Reads the file. It never fails: what cannot be read is the strict default, with the reason.
    #[must_use]
    pub fn load(path: &Path, guarded: Guarded) -> Self {
        match read(path) {
            Ok(text) => Self::of(&text, path.to_owned(), guarded),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::strict(path.to_owned(), guarded),
            Err(error) => {
                let problems = vec![Problem { line: None, text: format!("it cannot be read: {error}") }];
                Self { origin: Origin::Broken(problems), ..Self::strict(path.to_owned(), guarded) }
            }
        }
    }

    /// Differs where what is allowed differs. It may differ as well between two versions of the agent, and says nothing else.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?} {:?}", self.rules, self.guarded).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether there is a file that is of no use.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.origin, Origin::Broken(_))
    }

    /// What is wrong with the file, in one line; empty where nothing is.
    #[must_use]
    pub fn trouble(&self) -> String {
        let Origin::Broken(problems) = &self.origin else { return String::new() };
        let told = |problem: &Problem| match problem.line {
            Some(line) => format!("line {line}: {}", problem.text),
            None => problem.text.clone(),
        };
        problems.iter().map(told).collect::<Vec<_>>().join("; ")
    }
}

/// A file that others may write is not the owner's word.
fn read(path: &Path) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if about.mode() & 0o022 != 0 {
        return Err(io::Error::other("others than its owner may write it; sudo chmod 644 it"));
    }
    if about.len() > LONGEST {
        return Err(io::Error::other("it is longer than 256 KiB"));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    Ok(text)
}
