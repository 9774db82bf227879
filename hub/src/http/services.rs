//! Services: list, show, scale, restart, explain.

use axum::Json;
use axum::extract::State;
use outrigger_api::{Explanation, Problem, Restarted, ScaleRequest, ScaleResponse, Service, ServiceList};
use outrigger_planner::{Refusal, Wish};
use outrigger_protocol::ServiceRef;

use super::Api;
use super::problem::{Answer, InPath, JsonBody, Refused, name};
use super::view::{explanation, service};

/// Stack and service from the path.
pub(super) fn service_of((stack, service): (String, String)) -> Result<ServiceRef, Refused> {
    Ok(ServiceRef { stack: name(&stack)?, service: name(&service)? })
}

/// All services.
#[utoipa::path(
    get, path = "/v1/services", tag = "services",
    responses((status = 200, description = "All", body = ServiceList))
)]
pub async fn list(State(api): State<Api>) -> Answer<ServiceList> {
    let services = api.look(|fleet, _| fleet.services().map(|view| service(&view)).collect()).await?;
    Ok(Json(ServiceList { services }))
}

/// One service.
#[utoipa::path(
    get, path = "/v1/services/{stack}/{service}", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses((status = 200, description = "It", body = Service), (status = 404, description = "There is none", body = Problem))
)]
pub async fn show(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Service> {
    Ok(Json(look_at(&api, service_of(path)?).await?))
}

async fn look_at(api: &Api, name: ServiceRef) -> Result<Service, Refused> {
    let found = api.look(move |fleet, _| fleet.service(&name).map(|view| service(&view)).ok_or(name)).await?;
    found.map_err(|name| Refusal::NoService(name).into())
}

/// Sets the number of copies.
#[utoipa::path(
    post, path = "/v1/services/{stack}/{service}/scale", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    request_body = ScaleRequest,
    responses(
        (status = 200, description = "It is wanted", body = ScaleResponse),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It runs once on every device", body = Problem),
    )
)]
pub async fn scale(
    State(api): State<Api>,
    InPath(path): InPath<(String, String)>,
    JsonBody(request): JsonBody<ScaleRequest>,
) -> Answer<ScaleResponse> {
    let service = service_of(path)?;
    let before = look_at(&api, service.clone()).await?.wanted;
    let name = service.to_string();
    api.wish(Wish::Scale { service, replicas: request.replicas }).await?;
    Ok(Json(ScaleResponse { service: name, before, after: request.replicas }))
}

/// Replaces every copy by a new one, one after another, as an update does.
#[utoipa::path(
    post, path = "/v1/services/{stack}/{service}/restart", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses(
        (status = 200, description = "It is wanted", body = Restarted),
        (status = 404, description = "There is none", body = Problem),
    )
)]
pub async fn restart(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Restarted> {
    let service = service_of(path)?;
    api.wish(Wish::Restart(service.clone())).await?;
    let shown = look_at(&api, service).await?;
    Ok(Json(Restarted { service: shown.name, revision: shown.revision }))
}

/// Goes on with a change that paused because a new copy did not become healthy.
#[utoipa::path(
    post, path = "/v1/services/{stack}/{service}/resume", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses(
        (status = 200, description = "It goes on", body = Service),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "Nothing is paused", body = Problem),
    )
)]
pub async fn resume(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Service> {
    let service = service_of(path)?;
    api.wish(Wish::Resume(service.clone())).await?;
    Ok(Json(look_at(&api, service).await?))
}

/// Why each of its replicas is where it is, or waits.
#[utoipa::path(
    get, path = "/v1/services/{stack}/{service}/explain", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses((status = 200, description = "Why", body = Explanation), (status = 404, description = "There is none", body = Problem))
)]
pub async fn explain(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Explanation> {
    let service = service_of(path)?;
    let found = api
        .look(move |fleet, now| fleet.explain(&service, None, now).map(|view| explanation(&view)).ok_or(service))
        .await?;
    Ok(Json(found.map_err(Refusal::NoService)?))
}
