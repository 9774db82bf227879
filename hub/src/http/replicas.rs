//! Replicas: list, show, explain.

use axum::Json;
use axum::extract::State;
use outrigger_api::{Explanation, Problem, ProblemKind, Replica, ReplicaList, ReplicaQuery};
use outrigger_planner::Fleet;
use outrigger_protocol::{DeviceName, Moment, ReplicaName, ServiceRef, StackName};

use super::Api;
use super::problem::{Answer, InPath, InQuery, Refused, name};
use super::view::{explanation, replica};

/// Stack and replica (`web.2`) from the path.
pub(super) fn replica_of((stack, replica): (String, String)) -> Result<ReplicaName, Refused> {
    name(&format!("{stack}/{replica}"))
}

/// There is no such replica.
pub(super) fn no_replica(replica: &ReplicaName) -> Refused {
    Problem::new(ProblemKind::NotFound, format!("there is no replica `{replica}`")).into()
}

/// Which replicas are asked for.
#[derive(Debug)]
struct Wanted {
    stack: Option<StackName>,
    service: Option<ServiceRef>,
    device: Option<DeviceName>,
}

/// Replicas, all or some.
#[utoipa::path(
    get, path = "/v1/replicas", tag = "replicas",
    params(ReplicaQuery),
    responses((status = 200, description = "Those that match", body = ReplicaList))
)]
pub async fn list(State(api): State<Api>, InQuery(query): InQuery<ReplicaQuery>) -> Answer<ReplicaList> {
    let wanted = Wanted {
        stack: query.stack.as_deref().map(name).transpose()?,
        service: query.service.as_deref().map(name).transpose()?,
        device: query.device.as_deref().map(name).transpose()?,
    };
    let replicas = api.look(move |fleet, now| matching(fleet, &wanted, now)).await?;
    Ok(Json(ReplicaList { replicas }))
}

fn matching(fleet: &Fleet, wanted: &Wanted, now: Moment) -> Vec<Replica> {
    let services = fleet.services().filter(|service| {
        wanted.stack.as_ref().is_none_or(|stack| *stack == service.name.stack)
            && wanted.service.as_ref().is_none_or(|name| name == service.name)
    });
    let is_there = |copies: &[outrigger_planner::CopyView<'_>]| {
        wanted.device.as_ref().is_none_or(|device| copies.iter().any(|copy| copy.device == device))
    };
    services
        .flat_map(|service| {
            let views = fleet.replicas(service.name).filter(|view| is_there(&view.copies));
            views.map(|view| replica(&view, &service, now)).collect::<Vec<_>>()
        })
        .collect()
}

/// One replica.
#[utoipa::path(
    get, path = "/v1/replicas/{stack}/{replica}", tag = "replicas",
    params(("stack" = String, Path, description = "Its stack"), ("replica" = String, Path, description = "Its name there, such as web.2")),
    responses((status = 200, description = "It", body = Replica), (status = 404, description = "There is none", body = Problem))
)]
pub async fn show(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Replica> {
    let asked = replica_of(path)?;
    let wanted = asked.clone();
    let found = api
        .look(move |fleet, now| {
            let service = fleet.service(&wanted.service)?;
            let view = fleet.replicas(&wanted.service).find(|view| view.name == wanted)?;
            Some(replica(&view, &service, now))
        })
        .await?;
    Ok(Json(found.ok_or_else(|| no_replica(&asked))?))
}

/// Why a replica is where it is, or waits.
#[utoipa::path(
    get, path = "/v1/replicas/{stack}/{replica}/explain", tag = "replicas",
    params(("stack" = String, Path, description = "Its stack"), ("replica" = String, Path, description = "Its name there, such as web.2")),
    responses((status = 200, description = "Why", body = Explanation), (status = 404, description = "There is none", body = Problem))
)]
pub async fn explain(State(api): State<Api>, InPath(path): InPath<(String, String)>) -> Answer<Explanation> {
    let asked = replica_of(path)?;
    let wanted = asked.clone();
    let found = api
        .look(move |fleet, now| {
            let found = fleet.explain(&wanted.service, Some(wanted.number), now)?;
            (!found.replicas.is_empty()).then(|| explanation(&found))
        })
        .await?;
    Ok(Json(found.ok_or_else(|| no_replica(&asked))?))
}
