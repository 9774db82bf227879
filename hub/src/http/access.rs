//! Tokens, the first administrator, who one is, and the audit log.

use axum::Json;
use axum::extract::State;
use outrigger_api::{
    AuditCheck, AuditList, AuditQuery, Problem, ProblemKind, Role, SecretText, SetupCode, SetupRequest, Token,
    TokenCreated, TokenList, TokenRequest, UserRequest, Whoami,
};
use outrigger_trust::Pin;
use tracing::info;

use super::Api;
use super::admit::{Note, Noted, Peer, too_many_attempts};
use super::problem::{Answer, InPath, InQuery, JsonBody, Refused};
use crate::access::{AuditError, Caller, Gate, Prepared, Scope, SetupError, TokenProblem};
use crate::clock;
use crate::store::SideError;

/// Records in one answer, if the reader does not say.
const DEFAULT_RECORDS: usize = 100;
/// Most records in one answer.
const MAX_RECORDS: usize = 1000;

/// Who the hub takes the caller for.
#[utoipa::path(get, path = "/v1/me", tag = "access", responses((status = 200, description = "That is who", body = Whoami)))]
pub async fn me(caller: Caller) -> Answer<Whoami> {
    Ok(Json(whoami(caller)))
}

/// The same for other answers.
pub(super) fn whoami(caller: Caller) -> Whoami {
    let stacks = match caller.scope {
        Scope::Fleet => None,
        Scope::Stacks(stacks) => Some(stacks.into_iter().collect()),
    };
    let expires_unix_ms = caller.expires_unix_ms;
    Whoami { who: caller.who.to_string(), role: caller.role, stacks, expires_unix_ms }
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", responses((status = 200, description = "All", body = TokenList)))]
pub async fn tokens(State(api): State<Api>) -> Answer<TokenList> {
    Ok(Json(TokenList { tokens: api.access.tokens().list() }))
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "access",
    request_body = TokenRequest,
    responses(
        (status = 200, description = "It counts", body = TokenCreated),
        (status = 409, description = "This hub asks nobody for a token", body = Problem),
        (status = 429, description = "There are too many", body = Problem),
    )
)]
pub async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Noted<TokenCreated> {
    let pin = pin_of(&api)?;
    let by = caller.who.to_string();
    let (secret, token) = api.access.tokens().create(&request, &by, pin, clock::unix_ms()).await?;
    info!(token = %token.id, name = token.name, role = %token.role, by, "a token was made");
    let note = Note::of(described(&token));
    Ok((note, Json(TokenCreated { secret: SecretText(secret.reveal()), token })))
}

/// Makes a token count no longer. What its bearer has open ends within seconds.
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "access",
    params(("token" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is revoked", body = Token), (status = 404, description = "There is none", body = Problem))
)]
pub async fn revoke_token(State(api): State<Api>, caller: Caller, InPath(id): InPath<String>) -> Noted<Token> {
    let token = api.access.tokens().revoke(&id).await?;
    info!(token = %token.id, name = token.name, by = %caller.who, "a token was revoked");
    Ok((Note::of(described(&token)), Json(token)))
}

fn described(token: &Token) -> String {
    let Token { id, name, role, stacks, .. } = token;
    if stacks.is_empty() {
        format!("{name} ({id}): {role}")
    } else {
        format!("{name} ({id}): {role} of {}", stacks.join(", "))
    }
}

/// Makes the first administrator's token, for the code that the hub printed. The code is used up by it.
#[utoipa::path(
    post, path = "/v1/setup", tag = "access",
    request_body = SetupRequest,
    responses(
        (status = 200, description = "The token counts", body = TokenCreated),
        (status = 403, description = "The code does not count", body = Problem),
        (status = 429, description = "Too many attempts from this address", body = Problem),
    )
)]
pub async fn setup(
    State(api): State<Api>,
    peer: Peer,
    JsonBody(request): JsonBody<SetupRequest>,
) -> Noted<TokenCreated> {
    let pin = pin_of(&api)?;
    let (attempts, now) = (api.access.attempts(), clock::now());
    if let Peer::Address(address) = peer
        && attempts.must_wait(address, now)
    {
        return Err(too_many_attempts());
    }
    let unix_ms = clock::unix_ms();
    let user = match request.password {
        Some(password) => {
            let user = UserRequest { name: request.name.clone(), role: Role::Admin, stacks: vec![], password };
            Some(api.access.users().prepare(&user, "setup code", unix_ms).await?)
        }
        None => None,
    };
    let beside = user.iter().map(Prepared::record).collect();
    let made = api.access.tokens().redeem(&request.code.0, &request.name, pin, unix_ms, beside).await;
    if let (Peer::Address(address), Err(SetupError::Unknown)) = (peer, &made) {
        attempts.failed(address, now);
    }
    let (secret, token) = made?;
    user.map(|user| api.access.users().adopt(user));
    info!(token = %token.id, name = token.name, from = %peer, "an administrator has come in with a setup code");
    let note = Note::by(token.created_by.clone(), described(&token));
    Ok((note, Json(TokenCreated { secret: SecretText(secret.reveal()), token })))
}

/// Makes a new setup code. Only through the socket in the hub's state folder.
#[utoipa::path(post, path = "/v1/setup/code", tag = "access", responses((status = 200, description = "It counts", body = SetupCode)))]
pub async fn setup_code(State(api): State<Api>) -> Noted<SetupCode> {
    let (code, expires_unix_ms) = api.access.tokens().fresh_code(pin_of(&api)?, clock::unix_ms()).await?;
    let note = Note::of(format!("setup code {}", code.id));
    Ok((note, Json(SetupCode { code: SecretText(code.reveal()), expires_unix_ms })))
}

/// The latest records of the audit log: every change, who, from where, what.
#[utoipa::path(
    get, path = "/v1/audit", tag = "access",
    params(AuditQuery),
    responses((status = 200, description = "The oldest first", body = AuditList))
)]
pub async fn audit(State(api): State<Api>, InQuery(query): InQuery<AuditQuery>) -> Answer<AuditList> {
    let limit = query.limit.map_or(DEFAULT_RECORDS, |limit| usize::try_from(limit).unwrap_or(MAX_RECORDS));
    let records = api.access.audit().latest(query.since.unwrap_or(0), limit.clamp(1, MAX_RECORDS)).await?;
    Ok(Json(AuditList { records }))
}

/// Looks whether any record of the audit log was changed or taken away.
#[utoipa::path(get, path = "/v1/audit/check", tag = "access", responses((status = 200, description = "Whether", body = AuditCheck)))]
pub async fn audit_check(State(api): State<Api>) -> Answer<AuditCheck> {
    Ok(Json(api.access.audit().check().await?))
}

pub(super) fn pin_of(api: &Api) -> Result<Pin, Refused> {
    match api.access.gate() {
        Gate::Tokens(pin) => Ok(pin),
        Gate::Open => {
            Err(Problem::new(ProblemKind::Conflict, "this hub asks nobody for a token: it runs with --insecure-local")
                .with_hint("run it without, and it speaks HTTPS and prints a setup code")
                .into())
        }
    }
}

impl From<SideError> for Refused {
    fn from(error: SideError) -> Self {
        match error {
            SideError::ReadOnly(reason) => {
                Problem::new(ProblemKind::Storage, "the hub cannot save, so nothing was changed")
                    .with_detail(reason)
                    .with_hint("make room or repair the disk under the hub's state directory")
                    .into()
            }
            SideError::Stopping => crate::handle::Stopping.into(),
        }
    }
}

impl From<TokenProblem> for Refused {
    fn from(problem: TokenProblem) -> Self {
        let kind = match problem {
            TokenProblem::Side(error) => return error.into(),
            TokenProblem::Malformed(_) => ProblemKind::Malformed,
            TokenProblem::TooMany => ProblemKind::TooMany,
            TokenProblem::None(_) => ProblemKind::NotFound,
        };
        Problem::new(kind, problem.to_string()).into()
    }
}

impl From<SetupError> for Refused {
    fn from(error: SetupError) -> Self {
        let kind = match error {
            SetupError::Token(problem) => return problem.into(),
            SetupError::Text(_) | SetupError::OtherKind(_) => ProblemKind::Malformed,
            SetupError::Unknown => ProblemKind::Forbidden,
        };
        let hint = "`outrigger-hub setup-code`, on the hub's machine, prints a new one";
        Problem::new(kind, error.to_string()).with_hint(hint).into()
    }
}

impl From<AuditError> for Refused {
    fn from(error: AuditError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Problem::new(ProblemKind::Storage, error.to_string()).with_detail(cause).into()
    }
}
