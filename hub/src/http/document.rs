//! What every operation of the OpenAPI document has in common, said once instead of at each route.

use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};

use crate::access::{Need, Rights};

/// Sort of a problem's body.
const PROBLEM: &str = "application/problem+json";
/// Name of the way to say who one is.
const TOKEN: &str = "token";

/// Gives each operation a name of its own, and says of all that they may answer with a Problem.
pub fn complete(document: &mut OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("or1.api.…").build();
    document.components.get_or_insert_default().add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in methods(item) {
            declare_right(path, method, operation);
        }
    }
    for (_, operation) in document.paths.paths.values_mut().flat_map(methods) {
        let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
        let name = operation.operation_id.take().unwrap_or_default();
        operation.operation_id = Some(format!("{tag}_{name}"));
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                rename(response);
            }
        }
        operation.responses.responses.entry("default".to_owned()).or_insert_with(|| RefOr::T(any_problem()));
    }
}

fn methods(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    let all = [("GET", get), ("PUT", put), ("POST", post), ("PATCH", patch), ("DELETE", delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Says who may call it: `security`, and the role as `x-right`. A route without a row answers nobody.
fn declare_right(path: &str, method: &str, operation: &mut Operation) {
    let Some(right) = Rights::ours().of(method, path) else { return };
    let scopes: [&str; 0] = [];
    operation.security = Some(match right.need {
        Need::Open => Vec::new(),
        Need::Role(_) | Need::Local => vec![SecurityRequirement::new(TOKEN, scopes)],
    });
    operation.extensions = Some(ExtensionsBuilder::new().add("x-right", right.need.to_string()).build());
}

fn any_problem() -> Response {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    ResponseBuilder::new().description("What went wrong").content(PROBLEM, Content::new(Some(schema))).build()
}

fn rename(response: &mut Response) {
    let is_problem = |content: &RefOr<Content>| match content {
        RefOr::T(content) => {
            matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Problem"))
        }
        RefOr::Ref(_) => false,
    };
    let renamed = std::mem::take(&mut response.content);
    let name = |sort: String, content: &RefOr<Content>| if is_problem(content) { PROBLEM.to_owned() } else { sort };
    response.content = renamed.into_iter().map(|(sort, content)| (name(sort, &content), content)).collect();
}
