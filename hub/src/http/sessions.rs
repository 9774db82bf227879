//! Browsers log in and out: sessions.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::{Extension, Json};
use outrigger_api::{LoginRequest, PasswordRequest, Problem, ProblemKind, Session, SessionList, SessionOpened, User};
use outrigger_trust::{Token, TokenId};
use tracing::info;

use super::access::{pin_of, whoami};
use super::admit::{Note, Noted, Peer, too_many_attempts};
use super::problem::{Answer, InPath, JsonBody, Refused};
use super::{Api, cookie};
use crate::access::{Caller, IDLE, Who, csrf};
use crate::clock;

/// An answer that sets or takes away the cookie.
type WithCookie<T> = Result<(Extension<Note>, [(HeaderName, HeaderValue); 1], Json<T>), Refused>;

/// Characters of a user's name that are looked at.
const MAX_NAME: usize = 64;

/// Logs a browser in: answers with the cookie that holds the session.
#[utoipa::path(
    post, path = "/v1/session", tag = "sessions",
    request_body = LoginRequest,
    responses(
        (status = 200, description = "Logged in", body = SessionOpened),
        (status = 401, description = "No such user, or another password", body = Problem),
        (status = 429, description = "Too many attempts from this address or for this user", body = Problem),
    )
)]
pub async fn login(
    State(api): State<Api>,
    peer: Peer,
    JsonBody(request): JsonBody<LoginRequest>,
) -> WithCookie<SessionOpened> {
    let pin = pin_of(&api)?;
    let user: String = request.user.chars().take(MAX_NAME).collect();
    let (logins, now) = (api.access.logins(), clock::now());
    let from_there = match peer {
        Peer::Address(address) => logins.addresses.must_wait(address, now),
        Peer::Socket => false,
    };
    // Before the password is looked at: that is what costs.
    if from_there || logins.users.is_over(&user, now) {
        return Err(too_many_attempts());
    }
    if !api.access.users().knows(&user, &request.password).await? {
        if let Peer::Address(address) = peer {
            logins.addresses.failed(address, now);
        }
        logins.users.count(user.clone(), now);
        info!(user, from = %peer, "somebody with another password was not let in");
        let problem = Problem::new(ProblemKind::Unauthenticated, "no such user, or another password");
        return Err(problem.into());
    }
    logins.users.forget(&user);
    let session = api.access.sessions().open(&user, peer.to_string(), pin, now, clock::unix_ms());
    let caller = api.access.by_session(&session.reveal()).ok_or_else(|| gone_meanwhile(&user))?;
    info!(user, from = %peer, session = %session.id, "a user has logged in");
    let note = Note::by(caller.who.to_string(), "logged in");
    let set = cookie::set(&session).ok_or_else(|| Problem::new(ProblemKind::Internal, "the cookie cannot be made"))?;
    Ok((note, [(header::SET_COOKIE, set)], Json(opened(caller, &session))))
}

fn gone_meanwhile(user: &str) -> Refused {
    Problem::new(ProblemKind::Unauthenticated, format!("the user `{user}` has just been removed")).into()
}

fn opened(caller: Caller, session: &Token) -> SessionOpened {
    SessionOpened { who: whoami(caller), csrf: csrf(&session.reveal()), idle_s: IDLE.as_secs() }
}

/// Who is logged in here, and what a page must send with each change.
#[utoipa::path(get, path = "/v1/session", tag = "sessions", responses((status = 200, description = "That is who", body = SessionOpened)))]
pub async fn show(caller: Caller, headers: HeaderMap) -> Answer<SessionOpened> {
    session_of(&caller)?;
    let text = cookie::session(&headers).ok().flatten().unwrap_or_default();
    let session: Token = text.parse().map_err(|_| no_session())?;
    Ok(Json(opened(caller, &session)))
}

/// Logs the browser out, at once and for what it has open too.
#[utoipa::path(delete, path = "/v1/session", tag = "sessions", responses((status = 200, description = "It is over", body = SessionList)))]
pub async fn logout(State(api): State<Api>, caller: Caller) -> WithCookie<SessionList> {
    let (id, _) = session_of(&caller)?;
    api.access.sessions().close(id);
    Ok((Note::of("logged out"), [(header::SET_COOKIE, cookie::gone())], Json(SessionList { sessions: vec![] })))
}

/// Changes one's own password. Other browsers of the same user are logged out.
#[utoipa::path(
    put, path = "/v1/session/password", tag = "sessions",
    request_body = PasswordRequest,
    responses((status = 200, description = "It counts", body = User), (status = 403, description = "The present password is another one", body = Problem))
)]
pub async fn own_password(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(request): JsonBody<PasswordRequest>,
) -> Noted<User> {
    let (id, user) = session_of(&caller)?;
    let old = request.old.ok_or_else(|| Problem::new(ProblemKind::Malformed, "the present password is missing"))?;
    let (logins, now) = (api.access.logins(), clock::now());
    if logins.users.is_over(&user, now) {
        return Err(too_many_attempts());
    }
    let changed = api.access.users().set_password(&user, &request.password, Some(&old), clock::unix_ms()).await;
    if let Err(crate::access::UserProblem::Wrong) = changed {
        // A session that somebody else has got hold of is no way to try passwords.
        logins.users.count(user.clone(), now);
    }
    let changed = changed?;
    api.access.sessions().close_all_of(&user, Some(id));
    Ok((Note::of("changed the own password"), Json(changed)))
}

/// All browsers that are logged in.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", responses((status = 200, description = "All", body = SessionList)))]
pub async fn list(State(api): State<Api>) -> Answer<SessionList> {
    Ok(Json(SessionList { sessions: api.access.sessions().list(clock::now()) }))
}

/// Logs a browser out.
#[utoipa::path(
    delete, path = "/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is over", body = Session), (status = 404, description = "There is none", body = Problem))
)]
pub async fn end(State(api): State<Api>, InPath(id): InPath<String>) -> Noted<Session> {
    let known = api.access.sessions().list(clock::now()).into_iter().find(|session| session.id == id);
    let none = || Problem::new(ProblemKind::NotFound, format!("there is no session `{}`", short(&id)));
    let (session, id) = known.zip(id.parse::<TokenId>().ok()).ok_or_else(none)?;
    api.access.sessions().close(id);
    Ok((Note::of(format!("session {id} of {}", session.user)), Json(session)))
}

fn short(id: &str) -> String {
    id.chars().take(40).collect()
}

fn session_of(caller: &Caller) -> Result<(TokenId, String), Refused> {
    match &caller.who {
        Who::Session { id, user } => Ok((*id, user.clone())),
        Who::Token { .. } | Who::Local | Who::Insecure => Err(no_session()),
    }
}

fn no_session() -> Refused {
    Problem::new(ProblemKind::Conflict, "this is no session of a browser")
        .with_hint("POST /v1/session opens one")
        .into()
}
