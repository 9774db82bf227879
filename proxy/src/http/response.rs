//! Where an answer ends (RFC 9112, 6.3), so that the next request is not taken for part of this one.

use super::request::{Shape, has_token, number};

/// Longest head that is looked at.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// Longest line with the length of a chunk.
const MAX_LINE: usize = 1024;

/// Follows an answer while it passes.
#[derive(Debug)]
pub(crate) struct Response {
    shape: Shape,
    state: State,
    is_last: bool,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Body(usize),
    /// The line with a chunk's length.
    ChunkLine(Vec<u8>),
    /// What is left of a chunk, with the end of its line.
    Chunk(usize),
    /// The lines after the last chunk; whether the present one is empty so far.
    Trailer(bool),
    UntilClose,
    Done,
}

/// How far the answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to come.
    More,
    /// It ended in these bytes, and another may follow.
    Done,
    /// It ended, or ends with the connection, or is none that we understand: nothing of what follows is looked at.
    Last,
}

impl Response {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, state: State::Head(vec![]), is_last: shape.is_last }
    }

    /// Looks at the next bytes.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> Progress {
        while !bytes.is_empty() {
            let taken = match self.step(bytes) {
                Some(taken) => taken,
                None => {
                    self.state = State::UntilClose;
                    bytes.len()
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            match self.state {
                // More than the answer: nothing that we know.
                State::Done if !bytes.is_empty() => self.state = State::UntilClose,
                State::UntilClose => return Progress::Last,
                _ => (),
            }
        }
        match self.state {
            State::Done if self.is_last => Progress::Last,
            State::Done => Progress::Done,
            State::UntilClose => Progress::Last,
            _ => Progress::More,
        }
    }

    /// How many bytes have been taken; none: this makes no sense.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        let (next, taken) = match &mut self.state {
            State::Head(held) => {
                let before = held.len();
                held.extend(bytes);
                if held.len() > MAX_HEAD {
                    return None;
                }
                match head(held, self.shape)? {
                    None => return Some(bytes.len()),
                    Some((length, next, is_last)) => {
                        self.is_last |= is_last;
                        (next, length - before)
                    }
                }
            }
            State::Body(left) | State::Chunk(left) if bytes.len() < *left => {
                *left -= bytes.len();
                return Some(bytes.len());
            }
            State::Body(left) => (State::Done, *left),
            State::Chunk(left) => (State::ChunkLine(vec![]), *left),
            State::ChunkLine(line) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                line.extend(bytes.get(..end.unwrap_or(bytes.len()))?);
                if line.len() > MAX_LINE {
                    return None;
                }
                let Some(end) = end else { return Some(bytes.len()) };
                let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
                let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                let next = if length == 0 { State::Trailer(true) } else { State::Chunk(length.checked_add(2)?) };
                (next, end + 1)
            }
            State::Trailer(is_empty) => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                    *is_empty &= bytes.iter().all(|byte| *byte == b'\r');
                    return Some(bytes.len());
                };
                let is_end = *is_empty && bytes.get(..end)?.iter().all(|byte| *byte == b'\r');
                (if is_end { State::Done } else { State::Trailer(true) }, end + 1)
            }
            State::UntilClose | State::Done => return Some(bytes.len()),
        };
        self.state = next;
        Some(taken)
    }
}

/// What follows a head: its length, what comes then, and whether the connection ends. `Some(None)`: it is not whole yet.
fn head(bytes: &[u8], shape: Shape) -> Option<Option<(usize, State, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).ok()? else { return Some(None) };
    let (mut length, mut is_chunked, mut is_last) = (None, false, response.version != Some(1));
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let new = number(header.value)?;
            if length.is_some_and(|length| length != new) {
                return None;
            }
            length = Some(new);
        } else if is("transfer-encoding") {
            is_chunked = header.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            if !is_chunked {
                return None;
            }
        } else if is("connection") {
            is_last |= has_token(header.value, "close");
        }
    }
    let state = match response.code? {
        101 => return None, // another protocol from here on
        100..200 => State::Head(vec![]),
        204 | 304 => State::Done,
        _ if shape.is_head => State::Done,
        _ if is_chunked && length.is_some() => return None,
        _ if is_chunked => State::ChunkLine(vec![]),
        _ => match length {
            Some(0) => State::Done,
            Some(length) => State::Body(length),
            None => State::UntilClose,
        },
    };
    Some(Some((end, state, is_last)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { is_head: false, is_last: false };

    /// Passes it in pieces, and says how it ended.
    fn pass(text: &str, shape: Shape, piece: usize) -> Progress {
        let mut response = Response::new(shape);
        let mut last = Progress::More;
        for bytes in text.as_bytes().chunks(piece) {
            assert_eq!(last, Progress::More, "it ended too early: {text:?}");
            last = response.pass(bytes);
        }
        last
    }

    #[test]
    fn each_answer_ends_where_it_ends_however_it_comes() {
        let head = Shape { is_head: true, is_last: false };
        for (text, shape, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", SHAPE, Progress::Done),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", SHAPE, Progress::Done),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, Progress::Done),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", SHAPE, Progress::Done),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", SHAPE, Progress::Done),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                SHAPE,
                Progress::Done,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n", SHAPE, Progress::Done),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\nhello", SHAPE, Progress::Last),
        ] {
            for piece in 1..text.len() {
                assert_eq!(pass(text, shape, piece), expected, "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_ends_with_the_connection_or_makes_no_sense_is_the_last() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello",
            "SSH-2.0-x\r\n",
        ] {
            assert_eq!(pass(text, SHAPE, text.len()), Progress::Last, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(pieces in proptest::collection::vec("[0-9a-fA-F\r\n;:HTP/. ]{0,40}", 0..20)) {
            let mut response = Response::new(SHAPE);
            response.pass(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in pieces {
                let _ = response.pass(piece.as_bytes());
            }
        }
    }
}
