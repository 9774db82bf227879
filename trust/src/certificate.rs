//! What we want to know of a certificate whose signature others check: whose it is, from when until when, and its key.

use rustls::pki_types::{CertificateDer, UnixTime};
use thiserror::Error;

use crate::der::{CONTEXT_0, GENERALIZED_TIME, IA5, INTEGER, OBJECT, PRINTABLE, Reader, SEQUENCE, SET, UTC_TIME, UTF8};
use crate::pin::sha256;

/// `commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const DAY: u64 = 86_400;

/// What a certificate says. That it says so proves nothing: the chain must have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name, where it has exactly one.
    pub common_name: Option<String>,
    /// Valid from.
    pub not_before: UnixTime,
    /// Valid until.
    pub not_after: UnixTime,
    /// SHA-256 of the public key (of its `SubjectPublicKeyInfo`).
    pub key_digest: [u8; 32],
}

/// Bytes that are no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("these bytes are no certificate")]
pub struct CertificateProblem;

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// If the bytes are no certificate.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateProblem> {
        read(der.as_ref()).ok_or(CertificateProblem)
    }
}

fn read(der: &[u8]) -> Option<Certificate> {
    let mut body = Reader::new(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
    body.take(CONTEXT_0)?; // the version; those of the first version have none, and we make no such ones
    body.take(INTEGER)?;
    body.take(SEQUENCE)?; // the signature's algorithm
    body.take(SEQUENCE)?; // the issuer
    let mut validity = body.inside(SEQUENCE)?;
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    let common_name = common_name(body.inside(SEQUENCE)?);
    let (_, key) = body.whole(SEQUENCE)?;
    Some(Certificate { common_name, not_before, not_after, key_digest: sha256(key) })
}

/// The only common name in a subject. Two would be read differently by different programs, so they are none.
fn common_name(mut subject: Reader<'_>) -> Option<String> {
    let mut found = None;
    while !subject.is_empty() {
        let mut parts = subject.inside(SET)?;
        while !parts.is_empty() {
            let mut part = parts.inside(SEQUENCE)?;
            if part.take(OBJECT)? != COMMON_NAME {
                continue;
            }
            let (tag, text, _) = part.any()?;
            if found.is_some() || ![UTF8, PRINTABLE, IA5].contains(&tag) {
                return None;
            }
            found = Some(std::str::from_utf8(text).ok()?.to_owned());
        }
    }
    found
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5).
fn time(reader: &mut Reader<'_>) -> Option<UnixTime> {
    let (tag, text, _) = reader.any()?;
    let (year_digits, length) = match tag {
        UTC_TIME => (2, 13),
        GENERALIZED_TIME => (4, 15),
        _ => return None,
    };
    if text.len() != length || text.last() != Some(&b'Z') {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_u64, |value, &digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
    };
    let (year, rest) = text.split_at(year_digits);
    let mut year = number(year)?;
    if tag == UTC_TIME {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let mut fields = rest.chunks_exact(2).map(number);
    let mut next = |range: std::ops::RangeInclusive<u64>| fields.next().flatten().filter(|value| range.contains(value));
    let (month, day) = (next(1..=12)?, next(1..=31)?);
    let (hour, minute, second) = (next(0..=23)?, next(0..=59)?, next(0..=60)?);
    let days = days_since_1970(year, month, day)?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(days * DAY + hour * 3600 + minute * 60 + second)))
}

/// Days from 1970 to this date of the Gregorian calendar; none before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March put the leap day last (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (365 * year + year / 4 + year / 400 + day_of_year).checked_sub(year / 100 + 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn made(names: &[&str], from: (i32, u8, u8), until: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "o");
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn name_times_and_key_are_read() {
        let read = Certificate::read(&made(&["pi-4"], (2026, 11, 22), (2050, 2, 28))).unwrap();
        assert_eq!(read.common_name.as_deref(), Some("pi-4"));
        assert_eq!(read.not_before.as_secs(), 1_795_305_600);
        assert_eq!(read.not_after.as_secs(), 2_529_619_200);
    }

    #[test]
    fn two_keys_have_two_digests() {
        let made = || Certificate::read(&made(&["a"], (2026, 1, 1), (2027, 1, 1))).unwrap().key_digest;
        assert_ne!(made(), made());
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2370 {
            let leap = u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
            for (month, days) in [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
                for day in 1..=days {
                    assert_eq!(days_since_1970(year, month as u64 + 1, day), Some(expected));
                    expected += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_certificates_never_panic(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut bytes = made(&["pi"], (2026, 1, 1), (2027, 1, 1)).as_ref().to_vec();
            let length = bytes.len();
            bytes[at % length] = byte;
            let _ = read(&bytes);
            let _ = read(&bytes[..cut.min(length)]);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
    }
}
