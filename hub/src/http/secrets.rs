//! Secrets, configs and logins of registries: set, listed, removed. No route gives a content or a password back.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_api::{
    FileRequest, Problem, ProblemKind, RegistryLogin, RegistryLoginList, RegistryLoginRequest, SecretText, StoredFile,
    StoredFileList,
};
use outrigger_planner::{Fleet, Wish};
use outrigger_protocol::{FileKind, FileName, FileRef, Login, login_to_bytes};
use tracing::info;

use super::Api;
use super::admit::{Note, Noted};
use super::problem::{Answer, InPath, JsonBody, Refused, malformed, name};
use crate::access::Caller;
use crate::clock;
use crate::secrets::{Content, New, SecretProblem, Shelf, StackFileProblem, Summary, registry};

/// Characters of a user name or password.
const MAX_LOGIN: usize = 16 * 1024;

/// All secrets, without their contents.
#[utoipa::path(get, path = "/v1/secrets", tag = "secrets", responses((status = 200, description = "All", body = StoredFileList)))]
pub async fn secrets(State(api): State<Api>) -> Answer<StoredFileList> {
    list(&api, FileKind::Secret).await
}

/// Sets a secret. What uses it is replaced, one copy after another, as an update would.
#[utoipa::path(
    put, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")),
    request_body = FileRequest,
    responses(
        (status = 200, description = "It is set; what uses it follows", body = StoredFile),
        (status = 409, description = "It belongs to a stack, or a name differs only in capitals", body = Problem),
    )
)]
pub async fn set_secret(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    JsonBody(request): JsonBody<FileRequest>,
) -> Noted<StoredFile> {
    set(&api, &caller, FileKind::Secret, &name, &request).await
}

/// Removes a secret that nothing uses.
#[utoipa::path(
    delete, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "It is gone", body = StoredFile),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "Something uses it", body = Problem),
    )
)]
pub async fn remove_secret(State(api): State<Api>, caller: Caller, InPath(name): InPath<String>) -> Noted<StoredFile> {
    remove(&api, &caller, FileKind::Secret, &name).await
}

/// All configs, without their contents.
#[utoipa::path(get, path = "/v1/configs", tag = "secrets", responses((status = 200, description = "All", body = StoredFileList)))]
pub async fn configs(State(api): State<Api>) -> Answer<StoredFileList> {
    list(&api, FileKind::Config).await
}

/// Sets a config. What uses it is replaced, one copy after another, as an update would.
#[utoipa::path(
    put, path = "/v1/configs/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")),
    request_body = FileRequest,
    responses(
        (status = 200, description = "It is set; what uses it follows", body = StoredFile),
        (status = 409, description = "It belongs to a stack, or a name differs only in capitals", body = Problem),
    )
)]
pub async fn set_config(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    JsonBody(request): JsonBody<FileRequest>,
) -> Noted<StoredFile> {
    set(&api, &caller, FileKind::Config, &name, &request).await
}

/// Removes a config that nothing uses.
#[utoipa::path(
    delete, path = "/v1/configs/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "It is gone", body = StoredFile),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "Something uses it", body = Problem),
    )
)]
pub async fn remove_config(State(api): State<Api>, caller: Caller, InPath(name): InPath<String>) -> Noted<StoredFile> {
    remove(&api, &caller, FileKind::Config, &name).await
}

/// All logins for registries, without their passwords.
#[utoipa::path(
    get, path = "/v1/registries", tag = "secrets",
    responses((status = 200, description = "All", body = RegistryLoginList))
)]
pub async fn registries(State(api): State<Api>) -> Answer<RegistryLoginList> {
    Ok(Json(RegistryLoginList { registries: api.hub.secrets().list(Shelf::Logins).into_iter().map(shown).collect() }))
}

/// Sets the login for a registry: for the hub's own questions, and for devices that pull from it.
#[utoipa::path(
    put, path = "/v1/registries/{registry}", tag = "secrets",
    params(("registry" = String, Path, description = "Host, with its port where images name one")),
    request_body = RegistryLoginRequest,
    responses((status = 200, description = "It is set", body = RegistryLogin))
)]
pub async fn registry_login(
    State(api): State<Api>,
    caller: Caller,
    InPath(at): InPath<String>,
    JsonBody(request): JsonBody<RegistryLoginRequest>,
) -> Noted<RegistryLogin> {
    let RegistryLoginRequest { username, password: SecretText(password) } = request;
    if username.is_empty() || username.len() + password.len() > MAX_LOGIN || username.chars().any(char::is_control) {
        return Err(malformed(format!("a login has a name, and at most {MAX_LOGIN} characters")).into());
    }
    let at = registry(&at)?;
    let login = Login { username, password };
    let content = Content(login_to_bytes(&login).into());
    let by = caller.who.to_string();
    let new = New {
        shelf: Shelf::Logins,
        name: &at,
        content: &content,
        stack: None,
        about: &login.username,
        by: &by,
        now_unix_ms: clock::unix_ms(),
    };
    api.hub.secrets().set(new).await?;
    info!(registry = at, username = login.username, by, "a login for a registry was set");
    let set = api.hub.secrets().list(Shelf::Logins).into_iter().find(|one| one.name == at);
    let set = set.ok_or(SecretProblem::None { shelf: Shelf::Logins, name: at })?;
    Ok((Note::of(format!("as {}", login.username)), Json(shown(set))))
}

/// Forgets the login for a registry.
#[utoipa::path(
    delete, path = "/v1/registries/{registry}", tag = "secrets",
    params(("registry" = String, Path, description = "Host, with its port where images name one")),
    responses(
        (status = 200, description = "It is forgotten", body = RegistryLogin),
        (status = 404, description = "There is none", body = Problem),
    )
)]
pub async fn registry_logout(
    State(api): State<Api>,
    caller: Caller,
    InPath(at): InPath<String>,
) -> Noted<RegistryLogin> {
    let gone = api.hub.secrets().remove(Shelf::Logins, &registry(&at)?, Vec::new()).await?;
    info!(registry = gone.name, by = %caller.who, "a login for a registry was forgotten");
    Ok((Note::of(format!("as {}", gone.about)), Json(shown(gone))))
}

fn shown(one: Summary) -> RegistryLogin {
    RegistryLogin {
        registry: one.name,
        username: one.about,
        set_unix_ms: one.set_unix_ms,
        set_by: one.set_by,
        readable: one.is_readable,
    }
}

async fn list(api: &Api, kind: FileKind) -> Answer<StoredFileList> {
    let all = api.hub.secrets().list(Shelf::Files(kind));
    let files = api.look(move |fleet, _| all.into_iter().map(|one| stored(fleet, kind, one)).collect()).await?;
    Ok(Json(StoredFileList { files }))
}

fn stored(fleet: &Fleet, kind: FileKind, one: Summary) -> StoredFile {
    StoredFile {
        used_by: users(fleet, kind, &one.name),
        name: one.name,
        stack: one.stack.map(|stack| stack.to_string()),
        set_unix_ms: one.set_unix_ms,
        set_by: one.set_by,
        readable: one.is_readable,
    }
}

fn users(fleet: &Fleet, kind: FileKind, name: &str) -> Vec<String> {
    let uses = |file: &FileRef| file.kind == kind && file.name.as_str() == name;
    let using = fleet.services().filter(|one| one.spec.container.files.iter().any(|mount| uses(&mount.file)));
    using.map(|one| one.name.to_string()).collect()
}

async fn set(api: &Api, caller: &Caller, kind: FileKind, text: &str, request: &FileRequest) -> Noted<StoredFile> {
    let name: FileName = name(text)?;
    // What is wrong with it is not said: that would repeat a part of it.
    let bytes = STANDARD.decode(&request.content.0).map_err(|_| malformed("`content` is not base64"))?;
    let (content, by) = (Content(bytes.into()), caller.who.to_string());
    let new = New {
        shelf: Shelf::Files(kind),
        name: name.as_str(),
        content: &content,
        stack: None,
        about: "",
        by: &by,
        now_unix_ms: clock::unix_ms(),
    };
    let version = api.hub.secrets().set(new).await?;
    info!(name = %name, by, "a {kind} was set");
    api.wish(Wish::FileChanged(FileRef { kind, name: name.clone(), version })).await?;
    let list = list(api, kind).await?.0.files;
    let set = list.into_iter().find(|one| one.name == name.as_str());
    let set = set.ok_or_else(|| SecretProblem::None { shelf: Shelf::Files(kind), name: name.to_string() })?;
    Ok((Note::of(format!("used by {}", listed(&set.used_by))), Json(set)))
}

async fn remove(api: &Api, caller: &Caller, kind: FileKind, text: &str) -> Noted<StoredFile> {
    let name: FileName = name(text)?;
    let asked = name.clone();
    let users = api
        .look(move |fleet, _| {
            let mut users = users(fleet, kind, asked.as_str());
            let still = fleet.files().iter().any(|file| file.kind == kind && file.name == asked);
            if users.is_empty() && still {
                users.push("copies that are about to stop".to_owned());
            }
            users
        })
        .await?;
    let gone = api.hub.secrets().remove(Shelf::Files(kind), name.as_str(), users).await?;
    info!(%name, by = %caller.who, "a {kind} was removed");
    let gone = api.look(move |fleet, _| stored(fleet, kind, gone)).await?;
    Ok((Note::of(String::new()), Json(gone)))
}

fn listed(users: &[String]) -> String {
    if users.is_empty() { "nothing".to_owned() } else { users.join(", ") }
}

impl From<SecretProblem> for Refused {
    fn from(problem: SecretProblem) -> Self {
        let kind = match problem {
            SecretProblem::Side(error) => return error.into(),
            SecretProblem::Name(_) | SecretProblem::Registry(_) => ProblemKind::Malformed,
            SecretProblem::Twin { .. } | SecretProblem::Owner { .. } | SecretProblem::InUse { .. } => {
                ProblemKind::Conflict
            }
            SecretProblem::TooLarge { .. } => ProblemKind::TooLarge,
            SecretProblem::TooMany => ProblemKind::TooMany,
            SecretProblem::None { .. } => ProblemKind::NotFound,
            SecretProblem::Seal(_) => ProblemKind::Internal,
        };
        Problem::new(kind, problem.to_string()).into()
    }
}

impl From<StackFileProblem> for Refused {
    fn from(problem: StackFileProblem) -> Self {
        let title = problem.to_string();
        match problem {
            StackFileProblem::Own(problem) => problem.into(),
            StackFileProblem::Missing { kind, name } => Problem::new(ProblemKind::Conflict, title)
                .with_hint(format!("`outrigger {kind} set {name}` sets it"))
                .into(),
            StackFileProblem::Foreign { .. } => Problem::new(ProblemKind::Forbidden, title)
                .with_hint("whoever has a token for the whole fleet can apply the stack once; then it may")
                .into(),
        }
    }
}
