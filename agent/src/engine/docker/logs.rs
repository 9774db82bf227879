//! A container's output.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use outrigger_protocol::{LogChunk, LogStream, LogsRequest};
use tokio::sync::mpsc;

use super::super::{ContainerId, EngineError};
use super::{ASK, DockerEngine, failure};

/// Bytes of one chunk. Docker cuts lines at 16 KiB itself; a terminal's output is not cut, so we do it.
const CHUNK: usize = 16 * 1024;

impl DockerEngine {
    pub(super) async fn send_logs(
        &self,
        id: &ContainerId,
        request: &LogsRequest,
        chunks: &mpsc::Sender<LogChunk>,
    ) -> Result<(), EngineError> {
        let mut stream = std::pin::pin!(self.client()?.logs(&id.0, Some(options(request))));
        loop {
            let next = async {
                if request.follow {
                    return Ok(stream.next().await);
                }
                let limit = tokio::time::timeout(ASK, stream.next()).await;
                limit.map_err(|_| EngineError::TimedOut { call: "logs", after: ASK })
            };
            // Both may be cancelled: the stream keeps what it has, and nobody listening stays so.
            let item = tokio::select! {
                item = next => item?,
                () = chunks.closed() => return Ok(()),
            };
            match item {
                None => return Ok(()),
                Some(Err(error)) => return Err(failure::of(&error)),
                Some(Ok(output)) => {
                    if !send(output, chunks).await {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn options(request: &LogsRequest) -> LogsOptions {
    LogsOptions {
        follow: request.follow,
        stdout: true,
        stderr: true,
        since: request.since_unix.map_or(0, |since| i32::try_from(since.max(0)).unwrap_or(i32::MAX)),
        until: 0,
        timestamps: request.timestamps,
        tail: request.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
    }
}

/// Whether anybody listens still.
async fn send(output: LogOutput, chunks: &mpsc::Sender<LogChunk>) -> bool {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        // With a terminal there is one stream for both.
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (LogStream::Stdout, message)
        }
    };
    for part in message.chunks(CHUNK) {
        if chunks.send(LogChunk { stream, bytes: part.to_vec() }).await.is_err() {
            return false;
        }
    }
    true
}
