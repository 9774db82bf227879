//! Questions of the hub to one device, and the answers, in bounded chunks.

use serde::{Deserialize, Serialize};

use crate::PlacementId;

/// Names one question, so that several can be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Who are you? Sent to a device that is heard but not known since the hub's start; answered by `hello` and `status`.
    Hello,
    /// Output of one replica.
    Logs(RequestId, LogsRequest),
    /// The client has taken chunks up to this one; the device may send [`WINDOW`] more.
    Taken(RequestId, u32),
    /// Nobody waits for the answer any more.
    Cancel(RequestId),
    /// Ask for a new certificate now: the authority is about to change, or has.
    Renew,
}

/// Chunks that may be under way without the client having taken them: a client that reads slowly slows only itself.
pub const WINDOW: u32 = 8;

/// Which output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// Of which copy.
    pub placement: PlacementId,
    /// So many lines from the end; none: all.
    pub tail: Option<u32>,
    /// Not older than this, in seconds since 1970.
    pub since_unix: Option<i64>,
    /// Whether to go on with what comes.
    pub follow: bool,
    /// Whether each line is preceded by its time.
    pub timestamps: bool,
}

/// One part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    pub request: RequestId,
    /// Counts the parts from 0.
    pub sequence: u32,
    /// The part.
    pub body: AnswerBody,
}

/// The content of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerBody {
    /// Output.
    Logs(Vec<LogChunk>),
    /// There is no more.
    End,
    /// It cannot be answered; the reason for the user.
    Error(String),
}

/// A piece of output, not necessarily whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// Where it was written.
    pub stream: LogStream,
    /// The bytes as the container wrote them.
    pub bytes: Vec<u8>,
}

/// Where output was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}
