//! As much HTTP/1.1 as the sample needs: connections that stay open if the client wants them to, no request bodies.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A peer that sends nothing must not hold a thread for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer request heads are cut off, and then refused for what is missing.
const HEAD_BYTES: u64 = 16 * 1024;

/// The first line of a request, and whether the client may ask again: all that the sample looks at.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub stays: bool,
}

/// Waits for requests, and for clients that take their answers, no longer than a patient user would.
pub fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Reads one request; `None` when the peer sent something else, or nothing.
pub fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = stream.take(HEAD_BYTES);
    let mut first = String::new();
    head.read_line(&mut first)?;
    let Some(mut request) = parse(first.trim_end()) else { return Ok(None) };
    for line in head.lines() {
        let line = line?;
        if line.is_empty() {
            return Ok(Some(request));
        }
        match line.to_ascii_lowercase().split_once(':') {
            Some(("connection", value)) if value.contains("close") => request.stays = false,
            // Where a body ends is more than the sample knows.
            Some(("content-length" | "transfer-encoding", value)) if value.trim() != "0" => request.stays = false,
            _ => (),
        }
    }
    // The head was cut off.
    Ok(None)
}

/// Answers, and says whether the connection ends here.
pub fn answer(mut stream: &TcpStream, status: u16, body: &str, stays: bool) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let length = body.len();
    let connection = if stays { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

fn parse(line: &str) -> Option<Request> {
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let stays = version == "HTTP/1.1";
    Some(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), stays })
}

#[cfg(test)]
mod tests {
    use super::{Request, parse, read_request};

    #[test]
    fn a_request_line_gives_method_path_and_query() {
        let request = Request { method: "GET".into(), path: "/eat".into(), query: "mib=5".into(), stays: true };
        assert_eq!(parse("GET /eat?mib=5 HTTP/1.1"), Some(request));
    }

    #[test]
    fn requests_follow_each_other_until_one_is_the_last() {
        let mut sent = "GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nConnection: Close\r\n\r\n".as_bytes();
        let mut next = || read_request(&mut sent).unwrap().map(|request| (request.path, request.stays));
        assert_eq!(next(), Some(("/a".to_owned(), true)));
        assert_eq!(next(), Some(("/b".to_owned(), false)));
        assert_eq!(next(), None);
    }

    #[test]
    fn what_is_not_http_is_no_request() {
        assert_eq!(parse("\u{16}\u{3}\u{1}"), None);
        assert_eq!(parse("GET /"), None);
        assert_eq!(parse("GET http://elsewhere/ HTTP/1.1"), None);
        assert_eq!(read_request(&mut "GET / HTTP/1.1\r\nhalf: a he".as_bytes()).unwrap(), None);
    }
}
