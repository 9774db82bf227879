//! Stands before every route: who asks, whether he may, and the record of what he changed.
//!
//! A route without a row in the table of rights answers nobody, so a new one cannot be open by mistake.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use outrigger_api::{Problem, ProblemKind};
use tracing::{error, info};

use super::guard::stays_open;
use super::problem::Refused;
use super::routes::{no_method, no_route};
use super::{Api, cookie};
use crate::access::{Caller, Denied, Entry, Gate, Need, Reach, Right, Rights, Scope, Verdict, decide, is_csrf};
use crate::clock;

/// From where a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over the network.
    Address(IpAddr),
    /// Through the socket in the state folder, which only its owner can open.
    Socket,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.to_canonical().fmt(f),
            Self::Socket => f.write_str("state folder"),
        }
    }
}

/// What a handler adds to the record of its request: never a secret.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// Who, where the request itself does not say.
    pub who: Option<String>,
    /// What, beyond method and path.
    pub detail: Option<String>,
}

impl Note {
    /// More about what was done.
    pub fn of(detail: impl Into<String>) -> axum::Extension<Self> {
        axum::Extension(Self { who: None, detail: Some(detail.into()) })
    }

    /// The same of somebody whom the handler has recognised.
    pub fn by(who: impl Into<String>, detail: impl Into<String>) -> axum::Extension<Self> {
        axum::Extension(Self { who: Some(who.into()), detail: Some(detail.into()) })
    }
}

/// An answer with something for the audit log.
pub type Noted<T> = Result<(axum::Extension<Note>, axum::Json<T>), Refused>;

/// Goes around every route.
pub async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return no_route(request.uri().clone()).await.into_response();
    };
    let rights = Rights::ours();
    let Some(right) = rights.of(request.method().as_str(), path.as_str()) else {
        return match rights.knows(path.as_str()) {
            true => no_method(request.method().clone(), request.uri().clone()).await.into_response(),
            false => no_route(request.uri().clone()).await.into_response(),
        };
    };
    match judge(&api, right, path.as_str(), request).await {
        Ok(admitted) => carry_out(api, admitted, next).await,
        Err(refused) => *refused,
    }
}

/// A request that may go on.
struct Admitted {
    request: Request,
    caller: Option<Caller>,
    peer: Peer,
}

async fn judge(api: &Api, right: Right, path: &str, request: Request) -> Result<Admitted, Box<Response>> {
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().copied();
    // Whoever puts requests in says where they come from; without that nobody is let in.
    let peer = peer.ok_or_else(|| answer(internal("a request came from nowhere")))?;
    let caller = match caller(api, peer, &parts) {
        Ok(caller) => caller,
        // What is open to anybody is open to somebody with a bad token too.
        Err(_) if right.need == Need::Open => None,
        Err(refused) => return Err(refused),
    };
    let stack = match right.reach {
        Reach::Stack => stack_of(&mut parts).await,
        Reach::Part | Reach::Any | Reach::Fleet => None,
    };
    let refusal = match decide(caller.as_ref(), right, stack.as_deref()) {
        Verdict::Allowed => {
            if let Some(caller) = &caller {
                parts.extensions.insert(caller.clone());
            }
            return Ok(Admitted { request: Request::from_parts(parts, body), caller, peer });
        }
        Verdict::Unauthenticated => Unauthenticated::new("nobody has said who asks").into_response(),
        Verdict::Forbidden => Refused::from(forbidden(caller.as_ref(), right)).into_response(),
        Verdict::Hidden => Refused::from(hidden(caller.as_ref(), path, stack.as_deref())).into_response(),
    };
    if let Some(caller) = caller.filter(|_| changes(&parts.method)) {
        let entry = entry(&parts, Some(&caller), peer, &refusal);
        record(api, entry).await;
    }
    Err(Box::new(refusal))
}

fn answer(refused: impl IntoResponse) -> Box<Response> {
    Box::new(refused.into_response())
}

fn internal(title: &str) -> Refused {
    Problem::new(ProblemKind::Internal, title).into()
}

/// Who asks; none if he does not say.
fn caller(api: &Api, peer: Peer, parts: &Parts) -> Result<Option<Caller>, Box<Response>> {
    match (peer, api.access.gate()) {
        (Peer::Socket, _) => return Ok(Some(Caller::local())),
        (Peer::Address(address), Gate::Open) if address.is_loopback() => return Ok(Some(Caller::insecure())),
        (Peer::Address(_), Gate::Open | Gate::Tokens(_)) => (),
    }
    let Some(text) = bearer(&parts.headers)? else { return by_cookie(api, parts) };
    match api.access.tokens().recognise(text, clock::unix_ms()) {
        Ok(caller) => Ok(Some(caller)),
        Err(denied) => Err(Box::new(refuse_token(api, peer, denied))),
    }
}

/// Who has a session in his cookie. The browser sends that along whoever made the page, so a change needs what only our own
/// page can know, and a stream a browser that says that our own page opens it.
fn by_cookie(api: &Api, parts: &Parts) -> Result<Option<Caller>, Box<Response>> {
    let Some(cookie) = cookie::session(&parts.headers).map_err(answer)? else { return Ok(None) };
    let over = || answer(Unauthenticated::new("the session is over; log in again"));
    let caller = api.access.by_session(cookie).ok_or_else(over)?;
    let given = parts.headers.get(cookie::CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_ours = match changes(&parts.method) {
        true => is_csrf(cookie, given),
        false => !stays_open(parts.uri.path()) || says_own_page(&parts.headers),
    };
    match is_ours {
        true => Ok(Some(caller)),
        false => {
            let title =
                "a page must show that it is the hub's own: by X-Outrigger-Csrf for a change, by Origin for a stream";
            Err(answer(Refused::from(Problem::new(ProblemKind::WrongOrigin, title))))
        }
    }
}

/// Whether the browser says that a page of this hub asks. That its `Origin` is ours was checked before.
fn says_own_page(headers: &HeaderMap) -> bool {
    let is_same = headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin");
    is_same || headers.contains_key(header::ORIGIN)
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Box<Response>> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let text = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(one), None) => one.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => return Err(answer(Unauthenticated::new("the header `Authorization` is there twice"))),
    };
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(answer(Unauthenticated::new("the header `Authorization` does not begin with `Bearer`")));
    }
    Ok(Some(token.trim()))
}

fn refuse_token(api: &Api, peer: Peer, denied: Denied) -> Response {
    if let Peer::Address(address) = peer
        && !api.access.attempts().failed(address, clock::now())
    {
        return too_many_attempts().into_response();
    }
    info!(from = %peer, reason = %denied, "somebody with a token that does not count was not let in");
    Unauthenticated::new(&denied.to_string()).into_response()
}

/// An address has tried too often.
pub fn too_many_attempts() -> Refused {
    Problem::new(ProblemKind::TooMany, "too many attempts from this address").with_hint("wait a minute").into()
}

/// Nobody is known to ask.
pub(super) struct Unauthenticated(Refused);

impl Unauthenticated {
    pub(super) fn new(title: &str) -> Self {
        let hint = "send `Authorization: Bearer or1.api.…`; `outrigger login` does";
        Self(Problem::new(ProblemKind::Unauthenticated, title).with_hint(hint).into())
    }
}

impl IntoResponse for Unauthenticated {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outrigger\""));
        response
    }
}

fn forbidden(caller: Option<&Caller>, right: Right) -> Problem {
    let who = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.who.to_string());
    let (role, is_limited) =
        caller.map_or(("none".to_owned(), false), |caller| (caller.role.to_string(), caller.scope != Scope::Fleet));
    let (title, hint) = match right.need {
        Need::Local => {
            ("this goes only through the socket in the hub's state folder".to_owned(), "use `outrigger-hub` there")
        }
        Need::Role(least) if caller.is_none_or(|caller| caller.role < least) => (
            format!("`{who}` is {role}, and this needs {least}"),
            "`outrigger token create --role …` makes a token for it",
        ),
        Need::Role(_) | Need::Open if is_limited => (
            format!("`{who}` is limited to some stacks, and this concerns the whole fleet"),
            "use a token that is not limited",
        ),
        Need::Role(_) | Need::Open => (format!("`{who}` may not do this"), "`outrigger whoami` tells what it may"),
    };
    Problem::new(ProblemKind::Forbidden, title).with_hint(hint)
}

/// The same whether there is such a thing or not.
fn hidden(caller: Option<&Caller>, path: &str, stack: Option<&str>) -> Problem {
    let what = path.split('/').nth(2).and_then(|kind| kind.strip_suffix('s')).unwrap_or("thing");
    let stack: String = stack.unwrap_or_default().chars().take(80).collect();
    let title = match what {
        "stack" => format!("there is no stack `{stack}`"),
        _ => format!("there is no such {what} in `{stack}`"),
    };
    let problem = Problem::new(ProblemKind::NotFound, title);
    match caller.map(|caller| &caller.scope) {
        Some(Scope::Stacks(stacks)) => {
            let mine: Vec<_> = stacks.iter().map(String::as_str).collect();
            problem.with_hint(format!("the token is for: {}", mine.join(", ")))
        }
        Some(Scope::Fleet) | None => problem,
    }
}

async fn stack_of(parts: &mut Parts) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    params.iter().find(|(name, _)| *name == "stack").map(|(_, value)| value.to_owned())
}

/// Whether a request is worth a record.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

async fn carry_out(api: Api, admitted: Admitted, next: Next) -> Response {
    let Admitted { request, caller, peer } = admitted;
    // A backup holds everything: who took one is worth knowing.
    let is_backup = request.uri().path() == "/v1/backup";
    if !changes(request.method()) && !is_backup {
        return next.run(request).await;
    }
    if let Err(fault) = api.access.audit().is_writable().await {
        let problem = Problem::new(ProblemKind::Storage, "the audit log cannot be written, so nothing was changed");
        return Refused::from(problem.with_detail(fault.to_string())).into_response();
    }
    // In a task: a client that hangs up must not keep what it has changed out of the record.
    let task = tokio::spawn(async move {
        let (parts, body) = request.into_parts();
        let kept = Parts::clone(&parts);
        let mut response = next.run(Request::from_parts(parts, body)).await;
        let note = response.extensions_mut().remove::<Note>();
        let is_known = caller.is_some() || note.as_ref().is_some_and(|note| note.who.is_some());
        let is_check = kept.uri.path() == "/v1/compose/check" || kept.uri.path().ends_with("/plan");
        if is_known && !is_check {
            let mut entry = entry(&kept, caller.as_ref(), peer, &response);
            if let Some(note) = note {
                entry.who = note.who.unwrap_or(entry.who);
                entry.detail = note.detail;
            }
            record(&api, entry).await;
        }
        response
    });
    task.await.unwrap_or_else(|_| internal("the hub failed on this request; this is a bug").into_response())
}

fn entry(parts: &Parts, caller: Option<&Caller>, peer: Peer, response: &Response) -> Entry {
    Entry {
        who: caller.map_or_else(|| "anonymous".to_owned(), |caller| caller.who.to_string()),
        from: peer.to_string(),
        // The path without its query: what may stand in one is no name that we know.
        what: format!("{} {}", parts.method, parts.uri.path()),
        detail: None,
        status: response.status().as_u16(),
    }
}

async fn record(api: &Api, entry: Entry) {
    if let Err(fault) = api.access.audit().record(entry, clock::unix_ms()).await {
        error!(%fault, "a change is not in the audit log");
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        // Every route but the open ones has one. A handler that asks for one and is open answers nobody.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::new(ProblemKind::Unauthenticated, "nobody has said who asks").into())
    }
}

/// The address that a request came from, for those routes that count attempts.
impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| internal("a request came from nowhere"))
    }
}
