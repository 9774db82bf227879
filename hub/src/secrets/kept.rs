//! What stands in the store of a secret, a config or a login: names in the clear, contents encrypted.

use std::collections::BTreeSet;

use outrigger_protocol::{FileKind, FileRef, StackName};
use serde::{Deserialize, Serialize};

use super::{Names, Shelf};

/// First byte of each record.
const VERSION: u8 = 1;

/// One of them with all versions that something may still need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub stack: Option<StackName>,
    pub about: String,
    pub set_unix_ms: u64,
    pub set_by: String,
    /// The newest last.
    pub versions: Vec<Version>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub number: u64,
    pub sealed: Vec<u8>,
}

impl Kept {
    pub fn newest(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.number)
    }

    pub fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.sealed.len()).sum()
    }
}

pub(super) fn key(shelf: Shelf, name: &str) -> String {
    format!("{shelf}/{name}")
}

/// What the ciphertext is bound to: it decrypts as nothing else.
pub(super) fn purpose(shelf: Shelf, name: &str, version: u64) -> Vec<u8> {
    format!("outrigger at rest 1\0{shelf}\0{name}\0{version}").into_bytes()
}

pub(super) fn write(one: &Kept) -> Vec<u8> {
    // Texts, numbers and bytes: it always serialises.
    postcard::to_extend(one, vec![VERSION]).unwrap_or_default()
}

pub(super) fn read(key: &str, value: &[u8]) -> Option<((Shelf, String), Kept)> {
    let (shelf, name) = key.split_once('/')?;
    let shelf = match shelf {
        "secret" => Shelf::Files(FileKind::Secret),
        "config" => Shelf::Files(FileKind::Config),
        "login" => Shelf::Logins,
        _ => return None,
    };
    let (&version, body) = value.split_first()?;
    let one = (version == VERSION).then(|| postcard::from_bytes(body).ok()).flatten()?;
    Some(((shelf, name.to_owned()), one))
}

/// What becomes of those that nothing needs any more, if they were set before `before_unix_ms`.
pub(super) fn unneeded(
    kept: &Names,
    needed: &BTreeSet<FileRef>,
    before_unix_ms: u64,
) -> Vec<((Shelf, String), Option<Kept>)> {
    let is_needed = |kind, name: &str, number| {
        needed.iter().any(|file| file.kind == kind && file.name.as_str() == name && file.version == number)
    };
    let change = |(place, one): (&(Shelf, String), &Kept)| {
        let (Shelf::Files(kind), name) = place else { return None };
        if one.set_unix_ms >= before_unix_ms {
            return None;
        }
        let newest = one.newest();
        let mut left = one.clone();
        left.versions.retain(|version| version.number == newest || is_needed(*kind, name, version.number));
        let is_free = !one.versions.iter().any(|version| is_needed(*kind, name, version.number));
        if one.stack.is_some() && is_free {
            return Some((place.clone(), None));
        }
        (left.versions.len() != one.versions.len()).then(|| (place.clone(), Some(left)))
    };
    kept.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(stack: Option<&str>, versions: &[u64]) -> Kept {
        let version = |&number: &u64| Version { number, sealed: vec![1, 2] };
        Kept {
            stack: stack.map(|stack| stack.parse().unwrap()),
            about: String::new(),
            set_unix_ms: 100,
            set_by: "ann".into(),
            versions: versions.iter().map(version).collect(),
        }
    }

    fn secret(name: &str) -> (Shelf, String) {
        (Shelf::Files(FileKind::Secret), name.to_owned())
    }

    fn file(name: &str, version: u64) -> FileRef {
        FileRef { kind: FileKind::Secret, name: name.parse().unwrap(), version }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let one = kept(Some("shop"), &[3, 4]);
        let key = key(Shelf::Files(FileKind::Config), "shop_app");
        let read_again = read(&key, &write(&one)).unwrap();
        assert_eq!(read_again, ((Shelf::Files(FileKind::Config), "shop_app".to_owned()), one));
        assert_eq!(read("secret/db", &[9]), None);
        assert_eq!(read("db", &[1]), None);
    }

    #[test]
    fn old_versions_go_when_nothing_runs_them_and_what_a_stack_brought_goes_with_it() {
        let names = Names::from([
            (secret("by-hand"), kept(None, &[1, 2, 3])),
            (secret("idle"), kept(None, &[1])),
            (secret("shop_db"), kept(Some("shop"), &[1])),
            (secret("gone_db"), kept(Some("gone"), &[1, 2])),
            ((Shelf::Logins, "hub.lan:5000".to_owned()), kept(None, &[1])),
        ]);
        let needed = BTreeSet::from([file("by-hand", 2), file("shop_db", 1)]);
        assert_eq!(unneeded(&names, &needed, 100), vec![], "somebody may be about to use them");
        let changes = unneeded(&names, &needed, 101);
        let expected = vec![(secret("by-hand"), Some(kept(None, &[2, 3]))), (secret("gone_db"), None)];
        assert_eq!(changes, expected);
    }
}
