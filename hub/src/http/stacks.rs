//! Stacks: apply, plan, list, show, remove.

use axum::Json;
use axum::extract::State;
use outrigger_api::{
    ApplyRequest, ApplyResponse, PlannedReplica, Problem, Removed, ServiceChange, Stack, StackList, StackSummary,
};
use outrigger_planner::{Fleet, Refusal, StackView, Wish};
use outrigger_protocol::{FileRef, ServiceRef, ServiceSpec, StackName, StackSpec};

use super::fleet::{check_borrowed, told_to};
use super::problem::{Answer, InPath, JsonBody, Refused, name};
use super::view::{network_notes, replica_reason, service, service_changes, stack_summary};
use super::{Api, compose};
use crate::access::{Caller, Scope};
use crate::clock;
use crate::secrets::ForStack;

/// Replicas of which a plan tells the place. A larger plan tells of the first ones.
const MAX_PLANNED: usize = 10_000;

/// All stacks.
#[utoipa::path(get, path = "/v1/stacks", tag = "stacks", responses((status = 200, description = "All", body = StackList)))]
pub async fn list(State(api): State<Api>, caller: Caller) -> Answer<StackList> {
    let look = move |fleet: &Fleet, _| {
        let seen = fleet.stacks().filter(|stack| caller.scope.sees(Some(stack.name.as_str())));
        seen.map(|stack| summary(fleet, &stack)).collect()
    };
    let stacks = api.look(look).await?;
    Ok(Json(StackList { stacks }))
}

fn summary(fleet: &Fleet, stack: &StackView<'_>) -> StackSummary {
    stack_summary(stack.name.as_str(), stack.applied_unix_ms, &services_of(fleet, stack))
}

fn services_of(fleet: &Fleet, stack: &StackView<'_>) -> Vec<outrigger_api::Service> {
    stack.services.iter().filter_map(|name| fleet.service(name)).map(|view| service(&view)).collect()
}

/// One stack with its services.
#[utoipa::path(
    get, path = "/v1/stacks/{stack}", tag = "stacks",
    params(("stack" = String, Path, description = "Name of the stack")),
    responses((status = 200, description = "It", body = Stack), (status = 404, description = "There is none", body = Problem))
)]
pub async fn show(State(api): State<Api>, InPath(stack): InPath<String>) -> Answer<Stack> {
    let name: StackName = name(&stack)?;
    let found = api
        .hub
        .view(move |core, _| {
            let fleet = core.fleet();
            let view = fleet.stacks().find(|stack| *stack.name == name).ok_or(Refusal::NoStack(name))?;
            let mut services = services_of(fleet, &view);
            for (shown, service) in services.iter_mut().zip(&view.services) {
                shown.notes = network_notes(core, service);
            }
            Ok::<_, Refusal>(Stack { name: view.name.to_string(), applied_unix_ms: view.applied_unix_ms, services })
        })
        .await?;
    Ok(Json(found?))
}

/// Makes a stack what its Compose file says. When this answers, the wish is saved; its consequences follow.
#[utoipa::path(
    put, path = "/v1/stacks/{stack}", tag = "stacks",
    params(("stack" = String, Path, description = "Name of the stack")),
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "What changes", body = ApplyResponse),
        (status = 422, description = "The file cannot be used, or something is missing", body = Problem),
    )
)]
pub async fn apply(
    State(api): State<Api>,
    caller: Caller,
    InPath(stack): InPath<String>,
    JsonBody(request): JsonBody<ApplyRequest>,
) -> Answer<ApplyResponse> {
    let mut read = compose::read_off_thread(Some(name(&stack)?), request).await?;
    let changed = give_files(&api, &caller, &mut read, IsTrial::No).await?;
    let wanted = read.stack;
    let scope = caller.scope.clone();
    let look = move |fleet: &Fleet, _| check_borrowed(&scope, fleet, &wanted).map(|()| with_changes(fleet, wanted));
    let (wanted, services) = api.look(look).await??;
    let name = wanted.name.to_string();
    let wish = Wish::Apply { stack: wanted, applied_unix_ms: Some(clock::unix_ms()) };
    api.wish_for(&caller.scope, wish).await?;
    // Other stacks may use what this one defines.
    for file in changed {
        api.wish(Wish::FileChanged(file)).await?;
    }
    Ok(Json(ApplyResponse { stack: name, dry_run: false, warnings: read.warnings, services, replicas: Vec::new() }))
}

/// Whether nothing is to change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsTrial {
    Yes,
    No,
}

/// Gives a stack the newest versions of its secrets and configs, and keeps those that its file brings along.
async fn give_files(
    api: &Api,
    caller: &Caller,
    read: &mut compose::Read,
    is_trial: IsTrial,
) -> Result<Vec<FileRef>, Refused> {
    let name = read.stack.name.clone();
    let used = api
        .look(move |fleet, _| {
            let of_stack = fleet.services().filter(|service| service.name.stack == name);
            let files = of_stack.flat_map(|service| &service.spec.container.files);
            files.map(|mount| (mount.file.kind, mount.file.name.clone())).collect()
        })
        .await?;
    let for_whom = ForStack {
        given: &read.files,
        used,
        may_use_all: caller.scope == Scope::Fleet,
        by: &caller.who.to_string(),
        now_unix_ms: clock::unix_ms(),
        is_trial: is_trial == IsTrial::Yes,
    };
    Ok(api.hub.secrets().give(&mut read.stack, for_whom).await?)
}

fn with_changes(fleet: &Fleet, wanted: StackSpec) -> (StackSpec, Vec<ServiceChange>) {
    let services = fleet.stacks().find(|stack| *stack.name == wanted.name).map(|stack| stack.services);
    let before: Vec<ServiceSpec> = services
        .unwrap_or_default()
        .iter()
        .filter_map(|service| fleet.service(service).map(|view| view.spec.clone()))
        .collect();
    let changes = service_changes(&before, &wanted);
    (wanted, changes)
}

/// What applying would change, and where each replica would run. Changes nothing.
#[utoipa::path(
    post, path = "/v1/stacks/{stack}/plan", tag = "stacks",
    params(("stack" = String, Path, description = "Name of the stack")),
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "What would change", body = ApplyResponse),
        (status = 422, description = "The file cannot be used, or something is missing", body = Problem),
    )
)]
pub async fn plan(
    State(api): State<Api>,
    caller: Caller,
    InPath(stack): InPath<String>,
    JsonBody(request): JsonBody<ApplyRequest>,
) -> Answer<ApplyResponse> {
    let mut read = compose::read_off_thread(Some(name(&stack)?), request).await?;
    give_files(&api, &caller, &mut read, IsTrial::Yes).await?;
    let wanted = read.stack;
    let ((wanted, services), mut fleet, now) =
        api.look(move |fleet, now| (with_changes(fleet, wanted), fleet.clone(), now)).await?;
    let name = wanted.name.to_string();
    check_borrowed(&caller.scope, &fleet, &wanted)?;
    let planning = tokio::task::spawn_blocking(move || {
        let wish = Wish::Apply { stack: wanted.clone(), applied_unix_ms: None };
        fleet.check(&wish)?;
        fleet.wish(wish, now)?;
        fleet.settle(now);
        Ok::<_, Refusal>(planned(&fleet, &wanted))
    });
    let planned = planning.await.map_err(|_| failed_planning())?;
    let replicas = planned.map_err(|refusal| told_to(&caller.scope, refusal))?;
    Ok(Json(ApplyResponse { stack: name, dry_run: true, warnings: read.warnings, services, replicas }))
}

fn failed_planning() -> Refused {
    Problem::new(outrigger_api::ProblemKind::Internal, "the planner failed on this stack").into()
}

fn planned(fleet: &Fleet, wanted: &StackSpec) -> Vec<PlannedReplica> {
    let names =
        wanted.services.iter().map(|spec| ServiceRef { stack: wanted.name.clone(), service: spec.name.clone() });
    names
        .flat_map(|service| {
            let plan_one = |view: outrigger_planner::ReplicaView<'_>| PlannedReplica {
                replica: view.name.to_string(),
                device: view.copies.first().map(|copy| copy.device.to_string()),
                reason: replica_reason(&view),
            };
            fleet.replicas(&service).map(plan_one).take(MAX_PLANNED).collect::<Vec<_>>()
        })
        .take(MAX_PLANNED)
        .collect()
}

/// Removes a stack: its copies are stopped by their devices, its volumes stay.
#[utoipa::path(
    delete, path = "/v1/stacks/{stack}", tag = "stacks",
    params(("stack" = String, Path, description = "Name of the stack")),
    responses((status = 200, description = "It goes", body = Removed), (status = 404, description = "There is none", body = Problem))
)]
pub async fn remove(State(api): State<Api>, caller: Caller, InPath(stack): InPath<String>) -> Answer<Removed> {
    let name: StackName = name(&stack)?;
    let asked = name.clone();
    let services = api
        .look(move |fleet, _| {
            let view = fleet.stacks().find(|stack| *stack.name == asked);
            view.map(|view| view.services.iter().map(|service| service.service.to_string()).collect())
        })
        .await?;
    let removed = Removed { name: name.to_string(), services: services.unwrap_or_default() };
    api.wish_for(&caller.scope, Wish::RemoveStack(name)).await?;
    Ok(Json(removed))
}
