//! Services: list, show, scale, restart, explain.

use axum::Json;
use axum::extract::State;
use outrigger_api::{Explanation, Problem, Restarted, ScaleRequest, ScaleResponse, Service, ServiceList};
use outrigger_planner::{Fleet, Refusal, Wish};
use outrigger_protocol::ServiceRef;

use super::Api;
use super::admit::{Note, Noted};
use super::problem::{Answer, InPath, JsonBody, Refused, name};
use super::view::{explanation, network_notes, service};
use crate::access::Caller;
use crate::core::HubCore;

/// Replicas that one explanation of a service tells about; each tells about every device.
const MAX_EXPLAINED: usize = 50;
/// Replicas among which those worth explaining are sought.
const MAX_LOOKED_AT: usize = 10_000;

/// Stack and service from the path.
pub(super) fn service_of((stack, service): (String, String)) -> Result<ServiceRef, Refused> {
    Ok(ServiceRef { stack: name(&stack)?, service: name(&service)? })
}

/// All services.
#[utoipa::path(
    get, path = "/v1/services", tag = "services",
    responses((status = 200, description = "All", body = ServiceList))
)]
pub async fn list(State(api): State<Api>, caller: Caller) -> Answer<ServiceList> {
    let look = move |fleet: &Fleet, _| {
        let seen = fleet.services().filter(|view| caller.scope.sees(Some(view.name.stack.as_str())));
        seen.map(|view| service(&view)).collect()
    };
    let services = api.look(look).await?;
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
    let look = move |core: &HubCore, _| {
        let Some(view) = core.fleet().service(&name) else { return Err(name) };
        Ok(Service { notes: network_notes(core, &name), ..service(&view) })
    };
    let found = api.hub.view(look).await?;
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
) -> Noted<ScaleResponse> {
    let service = service_of(path)?;
    let before = look_at(&api, service.clone()).await?.wanted;
    let name = service.to_string();
    api.wish(Wish::Scale { service, replicas: request.replicas }).await?;
    let note = Note::of(format!("{before} -> {} replicas", request.replicas));
    Ok((note, Json(ScaleResponse { service: name, before, after: request.replicas })))
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

/// Why its replicas are where they are, or wait; of a large service those that wait come first.
#[utoipa::path(
    get, path = "/v1/services/{stack}/{service}/explain", tag = "services",
    params(("stack" = String, Path, description = "Its stack"), ("service" = String, Path, description = "Its name there")),
    responses((status = 200, description = "Why", body = Explanation), (status = 404, description = "There is none", body = Problem))
)]
pub async fn explain(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Explanation> {
    let service = service_of(path)?;
    let asked = service.clone();
    let (numbers, wanted) = api
        .look(move |fleet, _| {
            let view = fleet.service(&asked).ok_or(Refusal::NoService(asked.clone()))?;
            Ok::<_, Refusal>((worth_explaining(fleet, &asked), view.wanted))
        })
        .await??;
    let mut whole = Explanation { service: service.to_string(), notes: Vec::new(), replicas: Vec::new() };
    // One look each: every device is judged for each replica, and between two looks the control task hears its devices.
    for number in &numbers {
        let (asked, number) = (service.clone(), *number);
        let look =
            move |fleet: &Fleet, now| fleet.explain(&asked, Some(number), now).map(|found| explanation(fleet, &found));
        if let Some(one) = api.look(look).await? {
            whole.notes = one.notes;
            whole.replicas.extend(one.replicas);
        }
    }
    let asked = service.clone();
    whole.notes.extend(api.hub.view(move |core, _| network_notes(core, &asked)).await?);
    whole.replicas.sort_by_key(|replica| number_of(&replica.replica));
    if u32::try_from(numbers.len()).is_ok_and(|explained| explained < wanted) {
        let explained = numbers.len();
        whole.notes.push(format!(
            "{explained} of {wanted} replicas are explained, those that wait first; ask for others by name"
        ));
    }
    Ok(Json(whole))
}

/// Numbers of the replicas that an explanation of their service tells about: those that wait, then others.
fn worth_explaining(fleet: &Fleet, service: &ServiceRef) -> Vec<u32> {
    let views = fleet.replicas(service).take(MAX_LOOKED_AT);
    let (waiting, others): (Vec<_>, Vec<_>) =
        views.map(|view| (view.waiting.is_some(), view.name.number)).partition(|(waits, _)| *waits);
    waiting.into_iter().chain(others).map(|(_, number)| number).take(MAX_EXPLAINED).collect()
}

fn number_of(replica: &str) -> u32 {
    replica.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}
