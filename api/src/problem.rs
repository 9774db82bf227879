//! What comes instead of an answer, whatever went wrong.

use serde::{Deserialize, Serialize};

/// Why a request was not done, after RFC 9457 (`application/problem+json`): what, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// What sort of problem; programs decide by this.
    pub kind: ProblemKind,
    /// The HTTP status, repeated.
    pub status: u16,
    /// One line for people: what was tried and the value that was wrong.
    pub title: String,
    /// More about it, such as the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With `compose`: every finding, with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// With `missing_input`: files that the Compose file refers to and that must be sent along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// With `missing_input`: variables that it refers to. One that the user has not set is sent as `null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
}

/// Sorts of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request is not what this route takes: broken JSON, a wrong key or value, a name that cannot be.
    Malformed,
    /// The Compose file cannot be used as it is.
    Compose,
    /// Files or variables that the Compose file refers to were not sent. Send again with them.
    MissingInput,
    /// Who asks has not said who he is, or with a token that does not count.
    Unauthenticated,
    /// Who asks may not do this.
    Forbidden,
    /// There is no such stack, service, replica, device or route.
    NotFound,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The state of things forbids it now.
    Conflict,
    /// The body or the request is larger than the hub takes.
    TooLarge,
    /// The body is not JSON by its `Content-Type`.
    UnsupportedMediaType,
    /// The request names a host that this hub is not.
    WrongHost,
    /// The request comes from a page of another site.
    WrongOrigin,
    /// Too much of it is under way already.
    TooMany,
    /// The device that would have to answer is not connected.
    DeviceUnreachable,
    /// The hub starts, stops, or something that it needs is not there.
    Unavailable,
    /// The store could not save; nothing was changed.
    Storage,
    /// It took too long.
    Timeout,
    /// A fault of the hub.
    Internal,
    /// One that this reader does not know.
    #[serde(other)]
    Other,
}

/// One finding in a Compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnostic {
    /// How bad.
    pub severity: DiagnosticSeverity,
    /// In which file, by the name that it was sent under.
    pub file: String,
    /// Line, from 1; 0 where it concerns the whole file.
    pub line: u32,
    /// Column, from 1; 0 where it concerns the whole line.
    pub column: u32,
    /// Path in the document, such as `services.web.ports[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiagnosticSeverity {
    /// The file cannot be used.
    Error,
    /// It can, but not all of it takes effect.
    Warning,
    /// Worth knowing.
    Note,
}

impl Problem {
    /// A problem with no more than a title.
    #[must_use]
    pub fn new(kind: ProblemKind, title: impl Into<String>) -> Self {
        Self {
            kind,
            status: kind.status(),
            title: title.into(),
            detail: None,
            hint: None,
            diagnostics: Vec::new(),
            files: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// The same with the cause or more about it.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The same with what the user can do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl ProblemKind {
    /// The HTTP status that such a problem is answered with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::WrongOrigin | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::WrongHost => 421,
            Self::Compose | Self::MissingInput => 422,
            Self::TooMany => 429,
            Self::DeviceUnreachable | Self::Unavailable => 503,
            Self::Storage | Self::Internal | Self::Other => 500,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        self.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_leaves_out_what_it_has_not() {
        let json = serde_json::to_value(Problem::new(ProblemKind::NotFound, "there is no device `pi`")).unwrap();
        assert_eq!(json, serde_json::json!({"kind": "not_found", "status": 404, "title": "there is no device `pi`"}));
    }

    #[test]
    fn a_kind_from_a_newer_hub_is_read() {
        let json = r#"{"kind": "out_of_bananas", "status": 418, "title": "t"}"#;
        assert_eq!(serde_json::from_str::<Problem>(json).unwrap().kind, ProblemKind::Other);
    }
}
