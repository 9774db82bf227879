//! Replicas: list, show, explain.

use axum::Json;
use axum::extract::State;
use outrigger_api::{Explanation, Problem, ProblemKind, Replica, ReplicaList, ReplicaQuery};
use outrigger_planner::Fleet;
use outrigger_protocol::{DeviceName, Moment, ReplicaName, ServiceRef, StackName};

use super::Api;
use super::problem::{Answer, InPath, InQuery, Refused, name};
use super::view::{explanation, network_notes, replica};
use crate::access::{Caller, Scope};
use crate::core::HubCore;

/// Stack and replica (`web.2`) from the path.
pub(super) fn replica_of((stack, replica): (String, String)) -> Result<ReplicaName, Refused> {
    name(&format!("{stack}/{replica}"))
}

/// There is no such replica.
pub(super) fn no_replica(replica: &ReplicaName) -> Refused {
    Problem::new(ProblemKind::NotFound, format!("there is no replica `{replica}`")).into()
}

/// Replicas in one answer. A longer list is read in pieces: the answer says where to go on.
const MAX_REPLICAS: usize = 20_000;
/// Replicas that one look at the fleet copies; then the control task hears its devices again.
const MAX_LOOK: usize = 1000;

/// Which replicas are asked for.
#[derive(Debug, Clone)]
struct Wanted {
    stack: Option<StackName>,
    service: Option<ServiceRef>,
    device: Option<DeviceName>,
    after: Option<ReplicaName>,
    scope: Scope,
}

/// Replicas, all or some.
#[utoipa::path(
    get, path = "/v1/replicas", tag = "replicas",
    params(ReplicaQuery),
    responses((status = 200, description = "Those that match", body = ReplicaList))
)]
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    InQuery(query): InQuery<ReplicaQuery>,
) -> Answer<ReplicaList> {
    let mut wanted = Wanted {
        stack: query.stack.as_deref().map(name).transpose()?,
        service: query.service.as_deref().map(name).transpose()?,
        device: query.device.as_deref().map(name).transpose()?,
        after: query.after.as_deref().map(name).transpose()?,
        scope: caller.scope,
    };
    let mut replicas = Vec::new();
    loop {
        let asked = wanted.clone();
        let piece = api.look(move |fleet, now| piece(fleet, &asked, now)).await?;
        replicas.extend(piece.replicas);
        match piece.last {
            Some(last) if replicas.len() >= MAX_REPLICAS => {
                return Ok(Json(ReplicaList { replicas, next: Some(last.to_string()) }));
            }
            Some(last) => wanted.after = Some(last),
            None => return Ok(Json(ReplicaList { replicas, next: None })),
        }
    }
}

/// Part of a list.
struct Piece {
    replicas: Vec<Replica>,
    /// The last that was looked at, if there may be more.
    last: Option<ReplicaName>,
}

fn piece(fleet: &Fleet, wanted: &Wanted, now: Moment) -> Piece {
    let after = wanted.after.as_ref();
    let services = fleet.services().filter(|service| {
        wanted.scope.sees(Some(service.name.stack.as_str()))
            && wanted.stack.as_ref().is_none_or(|stack| *stack == service.name.stack)
            && wanted.service.as_ref().is_none_or(|name| name == service.name)
            && after.is_none_or(|after| *service.name >= after.service)
    });
    let is_there = |copies: &[outrigger_planner::CopyView<'_>]| {
        wanted.device.as_ref().is_none_or(|device| copies.iter().any(|copy| copy.device == device))
    };
    let (mut replicas, mut looked) = (Vec::new(), 0);
    for service in services {
        let begun = after.filter(|after| after.service == *service.name);
        let first = begun.map_or(0, |after| after.number.saturating_add(1));
        for view in fleet.replicas_from(service.name, first) {
            looked += 1;
            if is_there(&view.copies) {
                replicas.push(replica(&view, &service, now));
            }
            if looked == MAX_LOOK {
                return Piece { replicas, last: Some(view.name) };
            }
        }
    }
    Piece { replicas, last: None }
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
            let view = fleet.replica(&wanted)?;
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
    let look = move |core: &HubCore, now| {
        let fleet = core.fleet();
        let found = fleet.explain(&wanted.service, Some(wanted.number), now)?;
        let mut told = (!found.replicas.is_empty()).then(|| explanation(fleet, &found))?;
        told.notes.extend(network_notes(core, &wanted.service));
        Some(told)
    };
    let found = api.hub.view(look).await?;
    Ok(Json(found.ok_or_else(|| no_replica(&asked))?))
}
