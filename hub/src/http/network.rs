//! Who takes requests, and what programs in front of the fleet are told of it.

use axum::Json;
use axum::extract::State;
use outrigger_api::{EndpointList, Problem, ScrapeGroup};
use outrigger_planner::Refusal;
use serde_json::Value;

use super::Api;
use super::problem::{Answer, InPath};
use super::services::service_of;
use super::view::{endpoints, prometheus, traefik};
use crate::access::Caller;

/// The copies of a service that take requests, with their devices and states.
#[utoipa::path(
    get, path = "/v1/services/{stack}/{service}/endpoints", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses((status = 200, description = "They", body = EndpointList), (status = 404, description = "There is none", body = Problem))
)]
pub async fn endpoints_of(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<EndpointList> {
    let service = service_of(path)?;
    let asked = service.clone();
    let found = api.hub.view(move |core, _| endpoints(core, &asked)).await?;
    Ok(Json(found.ok_or(Refusal::NoService(service))?))
}

/// Traefik's dynamic configuration for its HTTP provider, from the `traefik.…` labels of all services.
#[utoipa::path(
    get, path = "/v1/providers/traefik", tag = "services",
    responses((status = 200, description = "Routers, services and middlewares, as Traefik has them", body = Value))
)]
pub async fn for_traefik(State(api): State<Api>, caller: Caller) -> Answer<Value> {
    Ok(Json(api.hub.view(move |core, _| traefik(core, &caller.scope)).await?))
}

/// Targets for Prometheus' HTTP service discovery, from services with the label `prometheus.io/scrape: "true"`.
#[utoipa::path(
    get, path = "/v1/sd/prometheus", tag = "services",
    responses((status = 200, description = "All targets", body = Vec<ScrapeGroup>))
)]
pub async fn for_prometheus(State(api): State<Api>, caller: Caller) -> Answer<Vec<ScrapeGroup>> {
    Ok(Json(api.hub.view(move |core, _| prometheus(core, &caller.scope)).await?))
}
