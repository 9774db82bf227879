//! All routes, and the document that describes them: both come from the same list.

use std::sync::Arc;

use axum::http::{Method, Uri};
use axum::routing::get;
use axum::{Json, Router, middleware};
use outrigger_api::{Problem, ProblemKind};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admit::admit;
use super::guard::{Guard, guard};
use super::problem::Refused;
use super::{
    Api, access, compose, devices, document, events, health, join, knock, logs, network, page, replicas, secrets,
    services, sessions, stacks, users,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Outrigger hub",
        description = "What runs where, why, and how to change it. Every error is a Problem (application/problem+json).",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    components(schemas(Problem, outrigger_api::LogFrame)),
    tags(
        (name = "stacks", description = "Compose projects"),
        (name = "services", description = "Services and how far they are"),
        (name = "replicas", description = "Copies of services: where, how, why, and their output"),
        (name = "devices", description = "Devices of the fleet"),
        (name = "secrets", description = "Secrets, configs and logins of registries: written, never read"),
        (name = "users", description = "Who logs in with a password"),
        (name = "sessions", description = "Browsers that are logged in"),
        (name = "access", description = "Tokens, who may do what, and what was done"),
        (name = "events", description = "What happened"),
        (name = "hub", description = "The hub itself"),
    )
)]
struct Described;

/// The routes with their document, before they know of a hub.
pub(super) fn documented() -> (Router<Api>, Document) {
    let (routes, mut document) = OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(stacks::list))
        .routes(routes!(stacks::show, stacks::apply, stacks::remove))
        .routes(routes!(stacks::plan))
        .routes(routes!(compose::check))
        .routes(routes!(services::list))
        .routes(routes!(services::show))
        .routes(routes!(services::scale))
        .routes(routes!(services::restart))
        .routes(routes!(services::resume))
        .routes(routes!(services::explain))
        .routes(routes!(network::endpoints_of))
        .routes(routes!(network::for_traefik))
        .routes(routes!(network::for_prometheus))
        .routes(routes!(logs::of_service))
        .routes(routes!(replicas::list))
        .routes(routes!(replicas::show))
        .routes(routes!(replicas::explain))
        .routes(routes!(logs::of_replica))
        .routes(routes!(devices::list, devices::change_several))
        .routes(routes!(devices::show, devices::change, devices::forget))
        .routes(routes!(devices::history))
        .routes(routes!(devices::if_lost))
        .routes(routes!(devices::confirm_loss))
        .routes(routes!(join::approve))
        .routes(routes!(join::invites, join::invite))
        .routes(routes!(join::revoke_invite))
        .routes(routes!(join::join))
        .routes(routes!(knock::knock))
        .routes(routes!(knock::waiting))
        .routes(routes!(knock::allowed))
        .routes(routes!(knock::approve_code))
        .routes(routes!(secrets::secrets))
        .routes(routes!(secrets::set_secret, secrets::remove_secret))
        .routes(routes!(secrets::configs))
        .routes(routes!(secrets::set_config, secrets::remove_config))
        .routes(routes!(secrets::registries))
        .routes(routes!(secrets::registry_login, secrets::registry_logout))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(access::me))
        .routes(routes!(access::tokens, access::create_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(sessions::show, sessions::login, sessions::logout))
        .routes(routes!(sessions::own_password))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::remove))
        .routes(routes!(users::set_password))
        .routes(routes!(access::setup))
        .routes(routes!(access::setup_code))
        .routes(routes!(access::audit))
        .routes(routes!(access::audit_check))
        .routes(routes!(health::fleet))
        .routes(routes!(health::backup))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    document::complete(&mut document);
    (routes, document)
}

/// The whole service: routes, document, page, and what answers to everything else.
pub(super) fn router(api: Api, guarded: Guard) -> Router {
    let (routes, document) = documented();
    let document = Arc::new(document);
    let serve_document = move || {
        let document = Arc::clone(&document);
        async move { Json(Document::clone(&document)) }
    };
    routes
        .route("/v1/openapi.json", get(serve_document))
        .route("/", get(page::front))
        .route("/page.css", get(page::style))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(api.clone(), admit))
        .layer(middleware::from_fn_with_state(Arc::new(guarded), guard))
        .with_state(api)
}

pub(super) async fn no_route(uri: Uri) -> Refused {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(ProblemKind::NotFound, format!("there is no route `{path}`"))
        .with_hint("GET /v1/openapi.json lists all routes")
        .into()
}

pub(super) async fn no_method(method: Method, uri: Uri) -> Refused {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(ProblemKind::MethodNotAllowed, format!("`{path}` does not take {method}"))
        .with_hint("GET /v1/openapi.json lists the methods of all routes")
        .into()
}
