//! Pieces of output, cut anywhere → whole lines as frames.

use outrigger_api::{LogFrame, LogOutput};
use outrigger_protocol::LogStream;

/// Bytes of a line; a longer one is cut into several.
const MAX_LINE: usize = 16 * 1024;

/// Puts the lines of one replica together.
#[derive(Debug)]
pub struct Lines {
    replica: String,
    has_times: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// Of this replica; `has_times` if each line begins with its time and a space.
    #[must_use]
    pub fn new(replica: String, has_times: bool) -> Self {
        Self { replica, has_times, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// The lines that are whole with these bytes.
    pub fn take(&mut self, stream: LogStream, bytes: &[u8]) -> Vec<LogFrame> {
        let (output, mut begun) = match stream {
            LogStream::Stdout => (LogOutput::Stdout, std::mem::take(&mut self.stdout)),
            LogStream::Stderr => (LogOutput::Stderr, std::mem::take(&mut self.stderr)),
        };
        let mut frames = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            begun.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.cut(output, &mut begun, &mut frames);
            frames.push(self.frame(output, &begun));
            begun.clear();
        }
        begun.extend_from_slice(rest);
        self.cut(output, &mut begun, &mut frames);
        match stream {
            LogStream::Stdout => self.stdout = begun,
            LogStream::Stderr => self.stderr = begun,
        }
        frames
    }

    /// What is left without an end of line.
    pub fn finish(&mut self) -> Vec<LogFrame> {
        let rests = [
            (LogOutput::Stdout, std::mem::take(&mut self.stdout)),
            (LogOutput::Stderr, std::mem::take(&mut self.stderr)),
        ];
        rests.iter().filter(|(_, rest)| !rest.is_empty()).map(|(output, rest)| self.frame(*output, rest)).collect()
    }

    fn cut(&self, output: LogOutput, begun: &mut Vec<u8>, frames: &mut Vec<LogFrame>) {
        while begun.len() > MAX_LINE {
            let rest = begun.split_off(MAX_LINE);
            frames.push(self.frame(output, begun));
            *begun = rest;
        }
    }

    fn frame(&self, output: LogOutput, line: &[u8]) -> LogFrame {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let (time, text) = match text.split_once(' ').filter(|_| self.has_times) {
            Some((time, rest)) => (Some(time.to_owned()), rest.to_owned()),
            None => (None, text.into_owned()),
        };
        LogFrame::Line { replica: self.replica.clone(), output, time, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(frames: &[LogFrame]) -> Vec<String> {
        let text = |frame: &LogFrame| match frame {
            LogFrame::Line { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        frames.iter().map(text).collect()
    }

    #[test]
    fn lines_are_whole_however_they_were_cut() {
        let mut lines = Lines::new("shop/web.1".into(), false);
        assert!(lines.take(LogStream::Stdout, "grü".as_bytes()[..3].as_ref()).is_empty());
        assert_eq!(texts(&lines.take(LogStream::Stderr, b"oops\n")), ["oops"]);
        assert_eq!(texts(&lines.take(LogStream::Stdout, b"\xbc\xc3\x9fe\r\ntwo\nthr")), ["grüße", "two"]);
        assert_eq!(texts(&lines.finish()), ["thr"]);
        assert!(lines.finish().is_empty());
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_end() {
        let mut lines = Lines::new("shop/web.1".into(), false);
        let frames = lines.take(LogStream::Stdout, &vec![b'x'; 3 * MAX_LINE + 1]);
        assert_eq!(frames.len(), 3);
        assert_eq!(lines.stdout.len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut lines = Lines::new("shop/web.1".into(), false);
        assert_eq!(texts(&lines.take(LogStream::Stdout, b"a\xff\n")), ["a\u{fffd}"]);
    }

    #[test]
    fn the_time_of_a_line_stands_apart() {
        let mut lines = Lines::new("shop/web.1".into(), true);
        let frames = lines.take(LogStream::Stdout, b"2026-11-22T17:00:00.5Z hello you\n");
        let LogFrame::Line { time, text, .. } = &frames[0] else { panic!("{frames:?}") };
        assert_eq!((time.as_deref(), text.as_str()), (Some("2026-11-22T17:00:00.5Z"), "hello you"));
    }
}
