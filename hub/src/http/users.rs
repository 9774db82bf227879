//! Users: people who log in with a browser.

use axum::Json;
use axum::extract::State;
use outrigger_api::{PasswordRequest, Problem, ProblemKind, User, UserList, UserRequest};
use tracing::info;

use super::Api;
use super::access::pin_of;
use super::admit::{Note, Noted};
use super::problem::{Answer, InPath, JsonBody, Refused};
use crate::access::{Caller, PasswordProblem, UserProblem};
use crate::clock;

/// All users.
#[utoipa::path(get, path = "/v1/users", tag = "users", responses((status = 200, description = "All", body = UserList)))]
pub async fn list(State(api): State<Api>) -> Answer<UserList> {
    Ok(Json(UserList { users: api.access.users().list() }))
}

/// Makes a user.
#[utoipa::path(
    post, path = "/v1/users", tag = "users",
    request_body = UserRequest,
    responses(
        (status = 200, description = "He can log in", body = User),
        (status = 400, description = "He cannot be so", body = Problem),
        (status = 409, description = "There is one of this name", body = Problem),
    )
)]
pub async fn create(State(api): State<Api>, caller: Caller, JsonBody(request): JsonBody<UserRequest>) -> Noted<User> {
    pin_of(&api)?;
    let by = caller.who.to_string();
    let user = api.access.users().create(&request, &by, clock::unix_ms()).await?;
    info!(user = user.name, role = %user.role, by, "a user was made");
    Ok((Note::of(described(&user)), Json(user)))
}

/// Removes a user. His browsers are logged out at once.
#[utoipa::path(
    delete, path = "/v1/users/{user}", tag = "users",
    params(("user" = String, Path, description = "His name")),
    responses((status = 200, description = "He is gone", body = User), (status = 404, description = "There is none", body = Problem))
)]
pub async fn remove(State(api): State<Api>, InPath(name): InPath<String>) -> Noted<User> {
    let user = api.access.users().remove(&name).await?;
    api.access.sessions().close_all_of(&user.name, None);
    info!(user = user.name, "a user was removed");
    Ok((Note::of(described(&user)), Json(user)))
}

/// Gives a user another password. His browsers are logged out.
#[utoipa::path(
    put, path = "/v1/users/{user}/password", tag = "users",
    params(("user" = String, Path, description = "His name")),
    request_body = PasswordRequest,
    responses((status = 200, description = "It counts", body = User), (status = 404, description = "There is none", body = Problem))
)]
pub async fn set_password(
    State(api): State<Api>,
    InPath(name): InPath<String>,
    JsonBody(request): JsonBody<PasswordRequest>,
) -> Noted<User> {
    let unix_ms = clock::unix_ms();
    let user = api.access.users().set_password(&name, &request.password, request.old.as_ref(), unix_ms).await?;
    api.access.sessions().close_all_of(&user.name, None);
    api.access.logins().users.forget(&user.name);
    Ok((Note::of(format!("password of {}", user.name)), Json(user)))
}

fn described(user: &User) -> String {
    let User { name, role, stacks, .. } = user;
    if stacks.is_empty() { format!("{name}: {role}") } else { format!("{name}: {role} of {}", stacks.join(", ")) }
}

impl From<PasswordProblem> for Refused {
    fn from(problem: PasswordProblem) -> Self {
        let kind = match problem {
            PasswordProblem::Length => ProblemKind::Malformed,
            PasswordProblem::Busy => ProblemKind::TooMany,
            PasswordProblem::Hash => ProblemKind::Internal,
        };
        Problem::new(kind, problem.to_string()).into()
    }
}

impl From<UserProblem> for Refused {
    fn from(problem: UserProblem) -> Self {
        let kind = match problem {
            UserProblem::Password(problem) => return problem.into(),
            UserProblem::Side(error) => return error.into(),
            UserProblem::Malformed(_) => ProblemKind::Malformed,
            UserProblem::Taken(_) => ProblemKind::Conflict,
            UserProblem::TooMany => ProblemKind::TooMany,
            UserProblem::None(_) => ProblemKind::NotFound,
            UserProblem::Wrong => ProblemKind::Forbidden,
        };
        Problem::new(kind, problem.to_string()).into()
    }
}
