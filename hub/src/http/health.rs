//! The hub itself: the fleet in numbers, health, metrics, backup.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use outrigger_api::{Check, Fleet, Health, Problem, ProblemKind};
use outrigger_protocol::Moment;
use tokio_stream::wrappers::ReceiverStream;

use super::problem::{Answer, Refused};
use super::view::{device, service};
use super::{Api, VERSION};
use crate::access::Caller;
use crate::core::HubCore;
use crate::metrics::{self, Snapshot};

/// The control task answers in microseconds; if it takes so long it stands still.
const CONTROL_WITHIN: Duration = Duration::from_secs(2);

/// The fleet in numbers.
#[utoipa::path(get, path = "/v1/fleet", tag = "hub", responses((status = 200, description = "Now", body = Fleet)))]
pub async fn fleet(State(api): State<Api>) -> Answer<Fleet> {
    let last_event = api.hub.events().newest();
    Ok(Json(api.hub.view(move |core, now| numbers(core, now, last_event)).await?))
}

fn numbers(core: &HubCore, now: Moment, last_event: u64) -> Fleet {
    let fleet = core.fleet();
    let totals = fleet.totals();
    Fleet {
        version: VERSION.to_owned(),
        epoch: fleet.epoch().0,
        uptime_s: now.since(core.started_at()).as_secs(),
        safe_mode: fleet.safe_mode().map(str::to_owned),
        devices: totals.devices,
        devices_online: totals.up,
        stacks: totals.stacks,
        services: totals.services,
        wanted: totals.wanted,
        running: totals.running,
        pending: totals.pending,
        last_event,
    }
}

/// Whether the process is alive. Says nothing about its work.
#[utoipa::path(get, path = "/healthz", tag = "hub", responses((status = 200, description = "It is", body = Health)))]
pub async fn alive() -> Json<Health> {
    Json(Health { ok: true, version: VERSION.to_owned(), checks: Vec::new() })
}

/// Whether the hub can do its work: control task, store, broker. Who bears a token is told what was checked.
#[utoipa::path(
    get, path = "/readyz", tag = "hub",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot; the checks say why", body = Health),
    )
)]
pub async fn ready(State(api): State<Api>, caller: Option<Extension<Caller>>) -> (StatusCode, Json<Health>) {
    let looking = api.hub.view(|core, _| (core.read_only().map(str::to_owned), core.link_down().map(str::to_owned)));
    let checks = match tokio::time::timeout(CONTROL_WITHIN, looking).await {
        Ok(Ok((store, broker))) => vec![check("control", None), check("store", store), check("broker", broker)],
        Ok(Err(stopping)) => vec![check("control", Some(stopping.to_string()))],
        Err(_) => vec![check("control", Some(format!("did not answer within {} s", CONTROL_WITHIN.as_secs())))],
    };
    let ok = checks.iter().all(|check| check.ok);
    let checks = if caller.is_some() { checks } else { Vec::new() };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { ok, version: VERSION.to_owned(), checks }))
}

fn check(name: &str, fault: Option<String>) -> Check {
    Check { name: name.to_owned(), ok: fault.is_none(), detail: fault }
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "hub",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = metrics::CONTENT_TYPE))
)]
pub async fn metrics(State(api): State<Api>) -> Result<Response, Refused> {
    let last_event = api.hub.events().newest();
    let broker = api.hub.broker_totals();
    let snapshot = api
        .hub
        .view(move |core, now| Snapshot {
            fleet: numbers(core, now, last_event),
            devices: core.fleet().devices().map(|view| device(&view, now)).collect(),
            services: core.fleet().services().map(|view| service(&view)).collect(),
            broker,
            is_saving: core.read_only().is_none(),
            is_hearing: core.link_down().is_none(),
        })
        .await?;
    let text = metrics::text(snapshot)
        .map_err(|_| Refused::from(Problem::new(ProblemKind::Internal, "the metrics could not be written")))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Everything in the store at one moment, for `outrigger-hub restore`. It holds the environment of services, and with it
/// what users put there.
#[utoipa::path(
    get, path = "/v1/backup", tag = "hub",
    responses((status = 200, description = "The copy", body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub async fn backup(State(api): State<Api>) -> Result<Response, Refused> {
    let pieces = api.hub.backup().await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"outrigger-hub.backup\""),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(pieces))).into_response())
}
