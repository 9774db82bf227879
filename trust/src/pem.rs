//! Certificates and keys in files. Our own programs write them, so they are read strictly: what has a byte too many or
//! too few was cut off or touched, and is refused with its line instead of being half understood.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use atomic_write_file::OpenOptions;
use atomic_write_file::unix::OpenOptionsExt as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::os::unix::fs::OpenOptionsExt as _;
use thiserror::Error;

use crate::Certificate;

/// Most bytes of such a file: dozens of certificates.
const MAX_FILE: usize = 64 * 1024;
/// Characters of a line (RFC 7468).
const LINE: usize = 64;

/// A file of certificates or with a key that cannot be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It makes no sense.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where, and in what way.
        source: PemProblem,
    },
}

/// What is wrong in a PEM text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemProblem {
    /// Far too large.
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A line that does not belong there: blank, with an ending of another system, no base64.
    #[error("line {0} does not belong there")]
    Line(usize),
    /// It ends in the middle.
    #[error("it ends in the middle, after line {0}")]
    CutOff(usize),
    /// Something else than we look for.
    #[error("line {line}: a {label} where a {wanted} should be")]
    Label {
        /// Where.
        line: usize,
        /// What is there.
        label: String,
        /// What should be.
        wanted: &'static str,
    },
    /// Not as many as there should be.
    #[error("it holds {0} of them, where there must be one")]
    Count(usize),
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// The bytes inside make no sense.
    #[error("the {0} inside makes no sense")]
    Inside(&'static str),
}

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// The certificates in a PEM text; at least one.
///
/// # Errors
/// If the text is anything else.
pub fn certificates_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, PemProblem> {
    let found: Vec<_> = decode(text, CERTIFICATE)?.into_iter().map(CertificateDer::from).collect();
    let is_one = |certificate| Certificate::read(certificate).is_ok();
    if found.iter().all(is_one) { Ok(found) } else { Err(PemProblem::Inside(CERTIFICATE)) }
}

/// These certificates as PEM.
#[must_use]
pub fn pem_of_certificates(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| encode(CERTIFICATE, certificate.as_ref())).collect()
}

pub(crate) fn key_from_pem(text: &str) -> Result<PrivateKeyDer<'static>, PemProblem> {
    let mut keys = decode(text, KEY)?;
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(PrivatePkcs8KeyDer::from(key).into()),
        (_, _) => Err(PemProblem::Count(keys.len() + 1)),
    }
}

/// The certificates in a file; at least one.
///
/// # Errors
/// If it cannot be read, or makes no sense.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    certificates_from_pem(&read(path)?).map_err(|source| FileError::Damaged { path: path.to_owned(), source })
}

/// The one key in a file.
///
/// # Errors
/// If it cannot be read, or makes no sense.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    key_from_pem(&read(path)?).map_err(|source| FileError::Damaged { path: path.to_owned(), source })
}

/// Writes a file that its owner alone may read, whole or not at all: synced, then renamed into place.
///
/// # Errors
/// If it cannot be written. What was there before is still there then.
pub fn write_private(path: &Path, text: &str) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().mode(0o600).preserve_mode(false).open(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    };
    write().map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(LINE));
        let _ = writeln!(out, "{line}");
        rest = behind;
    }
    let _ = writeln!(out, "-----END {label}-----");
    out
}

fn decode(text: &str, wanted: &'static str) -> Result<Vec<Vec<u8>>, PemProblem> {
    if text.len() > MAX_FILE {
        return Err(PemProblem::TooLarge);
    }
    let (mut found, mut open) = (Vec::new(), None::<String>);
    let mut lines = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        lines = index + 1;
        let line = line.strip_suffix('\n').ok_or(PemProblem::CutOff(lines))?;
        if let Some(label) = mark(line, "BEGIN") {
            if open.is_some() {
                return Err(PemProblem::Line(lines));
            }
            if label != wanted {
                let label = label.chars().take(40).collect();
                return Err(PemProblem::Label { line: lines, label, wanted });
            }
            open = Some(String::new());
        } else if mark(line, "END") == Some(wanted) {
            let body = open.take().ok_or(PemProblem::Line(lines))?;
            found.push(STANDARD.decode(body).map_err(|_| PemProblem::Line(lines))?);
        } else {
            let is_body = (1..=LINE).contains(&line.len())
                && line.bytes().all(|c| c.is_ascii_alphanumeric() || b"+/=".contains(&c));
            match &mut open {
                Some(body) if is_body => body.push_str(line),
                Some(_) | None => return Err(PemProblem::Line(lines)),
            }
        }
    }
    if open.is_some() {
        return Err(PemProblem::CutOff(lines));
    }
    if found.is_empty() { Err(PemProblem::Empty) } else { Ok(found) }
}

fn mark<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn text() -> String {
        encode(KEY, &[7; 100])
    }

    #[test]
    fn blank_lines_other_endings_marks_and_half_files_are_refused_with_their_line() {
        let text = text();
        let line = |text: &str| decode(text, KEY).unwrap_err();
        assert_eq!(line(&format!("\n{text}")), PemProblem::Line(1));
        assert_eq!(line(&text.replacen('\n', "\n\n", 1)), PemProblem::Line(2));
        assert_eq!(line(&text.replace('\n', "\r\n")), PemProblem::Line(1));
        assert_eq!(line(&format!("\u{feff}{text}")), PemProblem::Line(1));
        assert_eq!(line(text.trim_end()), PemProblem::CutOff(5));
        assert_eq!(line(text.split_inclusive('\n').next().unwrap()), PemProblem::CutOff(1));
        assert_eq!(line(""), PemProblem::Empty);
        assert_eq!(line(&"x\n".repeat(MAX_FILE)), PemProblem::TooLarge);
        assert_eq!(line(&text.replace("BwcH", "B*cH")), PemProblem::Line(2));
    }

    #[test]
    fn a_key_where_a_certificate_should_be_is_named() {
        let error = certificates_from_pem(&text()).unwrap_err().to_string();
        assert_eq!(error, "line 1: a PRIVATE KEY where a CERTIFICATE should be");
        assert_eq!(key_from_pem(&text().repeat(2)).unwrap_err(), PemProblem::Count(2));
        assert_eq!(certificates_from_pem(&encode(CERTIFICATE, b"no")), Err(PemProblem::Inside(CERTIFICATE)));
    }

    #[test]
    fn what_is_private_is_readable_by_its_owner_alone_even_where_it_was_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, &text()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), text());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(decode(&encode(KEY, &bytes), KEY), Ok(vec![bytes]));
        }

        #[test]
        fn a_damaged_text_never_panics_and_a_cut_one_is_never_read(cut in 0_usize..220, at in 0_usize..220, other in "\\PC") {
            let text = text();
            let cut = cut.min(text.len() - 1);
            prop_assert!(decode(&text[..cut], KEY).is_err());
            let at = at.min(text.len() - 1);
            let _ = decode(&format!("{}{other}{}", &text[..at], &text[at + 1..]), KEY);
        }
    }
}
