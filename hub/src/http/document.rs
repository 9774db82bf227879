//! What every operation of the OpenAPI document has in common, said once instead of at each route.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};

/// Sort of a problem's body.
const PROBLEM: &str = "application/problem+json";

/// Gives each operation a name of its own, and says of all that they may answer with a Problem.
pub fn complete(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
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

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
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
