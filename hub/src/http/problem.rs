//! Problems as HTTP answers, and the ways in: what a request carries is checked here, and told where it is wrong.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use outrigger_api::{Problem, ProblemKind};
use serde::de::DeserializeOwned;

/// Bytes of a request's body. A Compose project with its environment files is a few kilobytes.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// A body that has not come in this time does not come.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A problem on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused(pub Box<Problem>);

/// What handlers answer.
pub type Answer<T> = Result<axum::Json<T>, Refused>;

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is texts and numbers: it always serialises.
        let text = serde_json::to_string(&self.0).unwrap_or_default();
        let mut response = (status, Body::from(text)).into_response();
        let sort = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, sort);
        response
    }
}

/// What cannot be understood.
pub fn malformed(title: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Malformed, title)
}

/// A name from the path or the query.
pub fn name<T: std::str::FromStr<Err = outrigger_protocol::NameError>>(text: &str) -> Result<T, Refused> {
    text.parse().map_err(|fault: outrigger_protocol::NameError| malformed(fault.to_string()).into())
}

/// The body as JSON.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        if !is_json(&request) {
            let problem = Problem::new(ProblemKind::UnsupportedMediaType, "the body is not declared to be JSON");
            return Err(problem.with_hint("send the header `Content-Type: application/json`").into());
        }
        // Nothing is ever unpacked: a few kilobytes of it could fill the memory.
        let packing = request.headers().get(header::CONTENT_ENCODING);
        if packing.is_some_and(|packing| !packing.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let problem = Problem::new(ProblemKind::UnsupportedMediaType, "the body is packed");
            return Err(problem.with_hint("send it without `Content-Encoding`").into());
        }
        let bytes = read(request.into_body()).await?;
        // A list would be taken as the object's fields in their order.
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => return Err(malformed("the body is empty").with_hint("this route takes a JSON object").into()),
            Some(b'[') => {
                return Err(malformed("the body is a list").with_hint("this route takes a JSON object").into());
            }
            Some(_) => (),
        }
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|fault| {
            let path = fault.path().to_string();
            let cause = in_words(&fault.into_inner().to_string());
            malformed("the body is not what this route takes").with_detail(if path == "." {
                cause
            } else {
                format!("{path}: {cause}")
            })
        })?;
        reader.end().map_err(|fault| malformed("the body goes on after its end").with_detail(fault.to_string()))?;
        Ok(Self(value))
    }
}

/// What serde says, without the words of its own data model and of our types: those say nothing to whoever sent the body.
fn in_words(cause: &str) -> String {
    let (said, place) = cause.split_at(cause.find(" at line ").unwrap_or(cause.len()));
    let Some((what, wanted)) = said.split_once(", expected ") else { return cause.to_owned() };
    let sort = |text: &str| -> Option<&'static str> {
        let first = text.split(' ').next().unwrap_or_default();
        Some(match first {
            "struct" | "map" | "internally" | "adjacently" | "tuple" | "newtype" => "an object",
            "a" if text == "a map" => "an object",
            "a" if text == "a sequence" => "a list",
            "a" if text == "a string" => "a text",
            "a" if text == "a boolean" => "true or false",
            "sequence" => "a list",
            "unit" | "null" => "null",
            "string" if text == "string or map" => "a text or an object",
            "enum" | "variant" => "one of the words that it knows",
            "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "usize" | "f64" => "a number",
            _ => return None,
        })
    };
    if let Some(value) = what.strip_prefix("invalid type: ") {
        let given = match value.split_once(' ') {
            Some(("integer" | "floating", _)) => format!("the number {}", value.rsplit(' ').next().unwrap_or_default()),
            Some(("string", text)) => format!("the text {text}"),
            Some(("boolean", text)) => text.to_owned(),
            _ => sort(value).unwrap_or(value).to_owned(),
        };
        return format!("{given} is given, {} is wanted{place}", sort(wanted).unwrap_or(wanted));
    }
    if what.starts_with("invalid length") {
        return format!("a list is given, an object is wanted{place}");
    }
    match sort(wanted) {
        Some(wanted) => format!("{what}, {wanted} is wanted{place}"),
        None => cause.to_owned(),
    }
}

fn is_json(request: &Request) -> bool {
    let declared =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(body: Body) -> Result<Bytes, Refused> {
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => {
            let title = format!("the body is larger than the {MAX_BODY} bytes that are taken");
            Err(Problem::new(ProblemKind::TooLarge, title).into())
        }
        Ok(Err(fault)) => Err(malformed("the body broke off").with_detail(fault.to_string()).into()),
        Err(_) => {
            let title = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
            Err(Problem::new(ProblemKind::Timeout, title).into())
        }
    }
}

/// The query string; unknown keys are refused.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Query), rejection(Refused))]
pub struct InQuery<T>(pub T);

/// Parts of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Path), rejection(Refused))]
pub struct InPath<T>(pub T);

impl From<QueryRejection> for Refused {
    fn from(fault: QueryRejection) -> Self {
        malformed("the query is not what this route takes").with_detail(deepest(&fault)).into()
    }
}

impl From<PathRejection> for Refused {
    fn from(fault: PathRejection) -> Self {
        malformed("the path is not what this route takes").with_detail(deepest(&fault)).into()
    }
}

/// The cause at the end of the chain: axum's own layers only say that something was wrong.
fn deepest(fault: &dyn std::error::Error) -> String {
    let mut cause = fault;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
