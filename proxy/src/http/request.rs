//! Which requests may be sent a second time.

/// Longest head that is looked at; what servers take at most by default.
const MAX_HEAD: usize = 16 * 1024;
/// Longest body that is kept in order to be sent again.
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// What the bytes of a client are, as far as they have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Too little to say.
    Partial,
    /// So many bytes are a request that may be sent again.
    Repeatable { length: usize, shape: Shape },
    /// Nothing that may be sent again, or nothing that we understand: it passes as it comes, and so does all after it.
    Opaque,
}

/// What must be known of a request to find the end of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The answer has no body whatever its head says.
    pub(crate) is_head: bool,
    /// The client wants no further answer on this connection.
    pub(crate) is_last: bool,
}

/// Looks at what has come so far. Whatever two readers could take differently is opaque.
pub(crate) fn look(bytes: &[u8]) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Request::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Request::Opaque,
    };
    // RFC 9110, 9.2.2. PUT and DELETE too: what they ask for is the same the second time.
    let is_idempotent = matches!(request.method, Some("GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"));
    if !is_idempotent || request.version != Some(1) {
        return Request::Opaque;
    }
    let mut length = None;
    let mut is_last = false;
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let Some(new) = number(header.value).filter(|_| length.is_none()) else { return Request::Opaque };
            length = Some(new);
        } else if is("transfer-encoding") || is("upgrade") || is("expect") {
            return Request::Opaque;
        } else if is("connection") {
            is_last |= has_token(header.value, "close");
        }
    }
    let body = length.unwrap_or(0);
    if body > MAX_BODY {
        return Request::Opaque;
    }
    let shape = Shape { is_head: request.method == Some("HEAD"), is_last };
    if bytes.len() < head + body { Request::Partial } else { Request::Repeatable { length: head + body, shape } }
}

/// Digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<usize> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

pub(crate) fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Option<usize> {
        match look(text.as_bytes()) {
            Request::Repeatable { length, .. } => Some(length),
            Request::Partial | Request::Opaque => None,
        }
    }

    #[test]
    fn what_may_be_repeated_is_found_with_its_length() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(whole(get), Some(get.len()));
        assert_eq!(whole(&format!("{get}GET /next")), Some(get.len()));
        let put = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(whole(put), Some(put.len()));
        assert_eq!(look(&put.as_bytes()[..put.len() - 1]), Request::Partial);
        assert_eq!(look(b"GET / HT"), Request::Partial);
    }

    #[test]
    fn what_may_not_or_could_be_read_in_two_ways_is_opaque() {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
            "PUT / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\na",
            "\x16\x03\x01 hello",
        ] {
            assert_eq!(look(text.as_bytes()), Request::Opaque, "{text:?}");
        }
        assert_eq!(look(&[b"GET /".as_slice(), &[b'a'; MAX_HEAD]].concat()), Request::Opaque);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = look(&bytes);
        }
    }
}
