//! Output of replicas, through their devices: newline-delimited JSON, whole lines, of one replica or of a whole service.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use outrigger_api::{LogFrame, LogsQuery, Problem, ProblemKind};
use outrigger_planner::{Liveness, Refusal};
use outrigger_protocol::{LogsRequest, PlacementId, ReplicaName};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::lines::Lines;
use super::problem::{InPath, InQuery, Refused};
use super::replicas::{no_replica, replica_of};
use super::services::service_of;
use super::{Api, Ends};
use crate::access::Caller;
use crate::handle::{Logs, LogsError};

/// Replicas whose output one request merges.
const MAX_REPLICAS: usize = 32;
/// Frames that wait for a slow reader; then its devices wait.
const WAITING_FRAMES: usize = 256;
/// Nothing was written for so long: a frame shows that the hub is still there.
const BEAT: Duration = Duration::from_secs(15);
/// How often a silent device is looked at: it may be lost.
const LOOK: Duration = Duration::from_secs(5);

/// A copy whose output is wanted.
type Source = (ReplicaName, Option<PlacementId>);

/// Output of one replica's present copy, one LogFrame a line.
#[utoipa::path(
    get, path = "/v1/replicas/{stack}/{replica}/logs", tag = "replicas",
    params(
        ("stack" = String, Path, description = "Its stack"),
        ("replica" = String, Path, description = "Its name there, such as web.2"),
        LogsQuery
    ),
    responses(
        (status = 200, description = "Its output", body = LogFrame, content_type = "application/x-ndjson"),
        (status = 404, description = "There is none", body = Problem),
        (status = 429, description = "Too many streams are open", body = Problem),
        (status = 503, description = "Its device cannot be asked", body = Problem),
    )
)]
pub async fn of_replica(
    State(api): State<Api>,
    caller: Caller,
    InPath(path): InPath<(String, String)>,
    InQuery(query): InQuery<LogsQuery>,
) -> Result<Response, Refused> {
    let asked = replica_of(path)?;
    let wanted = asked.clone();
    let found = api
        .look(move |fleet, _| fleet.replica(&wanted).map(|view| view.copies.first().map(|copy| copy.placement)))
        .await?;
    let placement = found.ok_or_else(|| no_replica(&asked))?.ok_or_else(|| no_copy(&asked))?;
    let place = api.stream_place()?;
    let logs = api.hub.logs(request(placement, &query)).await?;
    let mut merger = Merger::new(&api, query);
    merger.follow(asked, placement, logs);
    Ok(merger.into_response(&caller, place))
}

/// Output of all replicas of a service, merged as it comes, one LogFrame a line.
#[utoipa::path(
    get, path = "/v1/services/{stack}/{service}/logs", tag = "services",
    params(
        ("stack" = String, Path, description = "Its stack"),
        ("service" = String, Path, description = "Its name there"),
        LogsQuery
    ),
    responses(
        (status = 200, description = "Their output", body = LogFrame, content_type = "application/x-ndjson"),
        (status = 404, description = "There is none", body = Problem),
        (status = 429, description = "Too many streams are open", body = Problem),
    )
)]
pub async fn of_service(
    State(api): State<Api>,
    caller: Caller,
    InPath(path): InPath<(String, String)>,
    InQuery(query): InQuery<LogsQuery>,
) -> Result<Response, Refused> {
    let service = service_of(path)?;
    let sources = api
        .look(move |fleet, _| {
            fleet.service(&service).ok_or_else(|| Refusal::NoService(service.clone()))?;
            // One more than are merged: enough to say that some are left out.
            let replicas = fleet.replicas(&service).take(MAX_REPLICAS + 1);
            let sources = replicas.map(|view| (view.name, view.copies.first().map(|copy| copy.placement)));
            Ok::<Vec<Source>, Refusal>(sources.collect())
        })
        .await??;
    let place = api.stream_place()?;
    let mut merger = Merger::new(&api, query);
    for (index, (replica, placement)) in sources.into_iter().enumerate() {
        merger.add(&api, index, replica, placement).await;
    }
    Ok(merger.into_response(&caller, place))
}

fn request(placement: PlacementId, query: &LogsQuery) -> LogsRequest {
    LogsRequest {
        placement,
        tail: query.tail,
        since_unix: query.since,
        follow: query.follow,
        timestamps: query.timestamps,
    }
}

fn no_copy(replica: &ReplicaName) -> Refused {
    Problem::new(ProblemKind::Conflict, format!("`{replica}` has no copy yet, so it has no output"))
        .with_hint(format!("`outrigger why {replica}` tells what it waits for"))
        .into()
}

impl From<LogsError> for Refused {
    fn from(error: LogsError) -> Self {
        let kind = match &error {
            LogsError::NoCopy(_) => ProblemKind::NotFound,
            LogsError::Unreachable { .. } => ProblemKind::DeviceUnreachable,
            LogsError::TooMany => ProblemKind::TooMany,
            LogsError::Stopping(stopping) => return (*stopping).into(),
        };
        Problem::new(kind, error.to_string()).into()
    }
}

/// Gathers the output of several replicas into one stream. Dropping it asks all devices to stop.
struct Merger {
    api: Api,
    query: LogsQuery,
    tasks: JoinSet<()>,
    sink: mpsc::Sender<LogFrame>,
    frames: mpsc::Receiver<LogFrame>,
    /// Ends of replicas that could not even begin.
    refused: Vec<LogFrame>,
}

impl Merger {
    fn new(api: &Api, query: LogsQuery) -> Self {
        let (sink, frames) = mpsc::channel(WAITING_FRAMES);
        Self { api: api.clone(), query, tasks: JoinSet::new(), sink, frames, refused: Vec::new() }
    }

    async fn add(&mut self, api: &Api, index: usize, replica: ReplicaName, placement: Option<PlacementId>) {
        let opened = match placement {
            _ if index >= MAX_REPLICAS => Err(format!(
                "left out, as are all behind it: one request merges at most {MAX_REPLICAS} replicas; ask for these one by one"
            )),
            None => Err("it has no copy yet".to_owned()),
            Some(placement) => {
                let logs = api.hub.logs(request(placement, &self.query)).await;
                logs.map(|logs| (placement, logs)).map_err(|error| error.to_string())
            }
        };
        match opened {
            Ok((placement, logs)) => self.follow(replica, placement, logs),
            Err(error) => self.refused.push(LogFrame::End { replica: replica.to_string(), error: Some(error) }),
        }
    }

    fn follow(&mut self, replica: ReplicaName, placement: PlacementId, logs: Logs) {
        let lines = Lines::new(replica.to_string(), self.query.timestamps);
        let (api, sink) = (self.api.clone(), self.sink.clone());
        self.tasks.spawn(async move {
            let error = pump(&api, placement, logs, lines, &sink).await.err();
            // Nobody listens any more: fine.
            let _ = sink.send(LogFrame::End { replica: replica.to_string(), error }).await;
        });
    }

    fn into_response(self, caller: &Caller, place: OwnedSemaphorePermit) -> Response {
        let Self { api, tasks, sink, frames, refused, .. } = self;
        drop(sink);
        let ends = Ends { caller: Box::pin(api.access.end_of(caller)), stopping: api.stopping };
        let merged = Merged { frames, refused, ends, _tasks: tasks, _place: place };
        let body = unfold(merged, |mut merged| async move {
            let frame = merged.next().await?;
            let mut line = serde_json::to_vec(&frame).unwrap_or_default();
            line.push(b'\n');
            Some((Ok::<_, Infallible>(Bytes::from(line)), merged))
        });
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
    }
}

/// The stream as it is read.
struct Merged {
    frames: mpsc::Receiver<LogFrame>,
    refused: Vec<LogFrame>,
    ends: Ends,
    _tasks: JoinSet<()>,
    _place: OwnedSemaphorePermit,
}

impl Merged {
    async fn next(&mut self) -> Option<LogFrame> {
        if let Some(frame) = self.refused.pop() {
            return Some(frame);
        }
        // All may be cancelled: nothing is taken by a wait that does not end.
        tokio::select! {
            frame = self.frames.recv() => frame,
            () = tokio::time::sleep(BEAT) => Some(LogFrame::Beat),
            () = self.ends.reached() => None,
        }
    }
}

/// Moves the output of one copy into the sink, until it ends; an error is the reason for the user.
async fn pump(
    api: &Api,
    placement: PlacementId,
    mut logs: Logs,
    mut lines: Lines,
    sink: &mpsc::Sender<LogFrame>,
) -> Result<(), String> {
    while let Some(piece) = next_piece(api, placement, &mut logs).await? {
        let frames = piece.into_iter().flat_map(|chunk| lines.take(chunk.stream, &chunk.bytes)).collect::<Vec<_>>();
        for frame in frames {
            if sink.send(frame).await.is_err() {
                return Ok(());
            }
        }
    }
    for frame in lines.finish() {
        if sink.send(frame).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next piece; an error if the device falls silent while it is waited for.
async fn next_piece(
    api: &Api,
    placement: PlacementId,
    logs: &mut Logs,
) -> Result<Option<Vec<outrigger_protocol::LogChunk>>, String> {
    let device = logs.device().clone();
    let next = logs.next();
    tokio::pin!(next);
    loop {
        // The piece is not cancelled: it is waited for again after each look at its device.
        tokio::select! {
            piece = &mut next => return piece.transpose(),
            () = tokio::time::sleep(LOOK) => (),
        }
        let looked = api.hub.view(move |core, _| core.fleet().copy(placement).map(|copy| copy.liveness)).await;
        match looked {
            Ok(Some(Liveness::Up | Liveness::Suspect | Liveness::Away)) => (),
            Ok(Some(Liveness::Lost | Liveness::Unheard)) => return Err(format!("{device} is no longer heard")),
            Ok(None) => return Err("the copy is gone".to_owned()),
            Err(stopping) => return Err(stopping.to_string()),
        }
    }
}
