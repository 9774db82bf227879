//! As much HTTP/1.1 as the sample needs: one request per connection, no request bodies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A peer that sends nothing must not hold a thread for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer request heads are cut off, and then refused for what is missing.
const HEAD_BYTES: u64 = 16 * 1024;

/// The first line of a request: all that the sample looks at.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
}

/// Reads one request; `None` when the peer sent something else, or nothing.
pub fn read_request(stream: &TcpStream) -> io::Result<Option<Request>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(HEAD_BYTES)).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(parse(&first))
}

/// Answers and says that the connection ends here.
pub fn answer(mut stream: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
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
    Some(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Request, parse};

    #[test]
    fn a_request_line_gives_method_path_and_query() {
        let request = Request { method: "GET".into(), path: "/eat".into(), query: "mib=5".into() };
        assert_eq!(parse("GET /eat?mib=5 HTTP/1.1"), Some(request));
    }

    #[test]
    fn what_is_not_http_is_no_request() {
        assert_eq!(parse("\u{16}\u{3}\u{1}"), None);
        assert_eq!(parse("GET /"), None);
        assert_eq!(parse("GET http://elsewhere/ HTTP/1.1"), None);
    }
}
