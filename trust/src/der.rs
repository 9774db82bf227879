//! As much of DER as certificates need: values behind tags, read without trust in any length, and written.

/// Reads values one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OBJECT: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const IA5: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONTEXT_0: u8 = 0xa0;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value's tag, its contents, and the whole of it. None where the bytes end before it does.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let all = self.rest;
        let (&tag, rest) = all.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // At most three bytes of length: 16 MiB, more than any TLS message.
            let count = usize::from(first & 0x7f);
            if !(1..=3).contains(&count) {
                return None;
            }
            let (bytes, behind) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
            rest = behind;
        }
        let (contents, behind) = rest.split_at_checked(length)?;
        self.rest = behind;
        Some((tag, contents, &all[..all.len() - behind.len()]))
    }

    /// The contents of the next value, which has this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.whole(tag).map(|(contents, _)| contents)
    }

    /// The contents of the next value, which has this tag, and the whole of it.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (found, contents, whole) = self.any()?;
        (found == tag).then_some((contents, whole))
    }

    /// What stands inside the next value, which has this tag.
    pub(crate) fn inside(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self::new)
    }
}

/// A value: tag, length, and these parts one behind the other.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    match (length, u8::try_from(significant.len())) {
        (128.., Ok(count)) => {
            out.push(0x80 | count);
            out.extend(significant);
        }
        _ => out.push(significant.first().copied().unwrap_or_default()),
    }
    for part in parts {
        out.extend(*part);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(tag: u8, contents in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let bytes = value(tag, &[&contents]);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.whole(tag), Some((contents.as_slice(), bytes.as_slice())));
            prop_assert!(reader.is_empty());
            prop_assert!(Reader::new(&bytes[..bytes.len() - 1]).any().is_none());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(&bytes);
            while reader.any().is_some() {}
        }
    }
}
