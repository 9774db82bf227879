//! What a client sends of a Compose project → a stack, or what is wrong with it or missing.

use std::collections::BTreeSet;

use axum::Json;
use outrigger_api::{ApplyRequest, CheckResponse, Diagnostic, DiagnosticSeverity, Problem, ProblemKind};
use outrigger_compose::{Missing, Severity, Sources, StackFile, load, references, resolve};
use outrigger_protocol::{StackName, StackSpec};
use serde::Deserialize;

use super::problem::{Answer, InQuery, JsonBody, Refused, malformed, name};

/// Files of one project. More is not a project but a disk.
const MAX_FILES: usize = 256;

/// A stack and what the user should know about its file.
#[derive(Debug)]
pub struct Read {
    /// The stack.
    pub stack: StackSpec,
    /// The secrets and configs that it uses.
    pub files: Vec<StackFile>,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Under which name to check a file.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CheckQuery {
    /// Name of the stack; that of the file if not given.
    name: Option<String>,
}

/// Checks a Compose file; changes nothing.
#[utoipa::path(
    post, path = "/v1/compose/check", tag = "stacks",
    params(CheckQuery),
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "It can be used", body = CheckResponse),
        (status = 422, description = "It cannot, or something is missing", body = Problem),
    )
)]
pub async fn check(
    InQuery(query): InQuery<CheckQuery>,
    JsonBody(request): JsonBody<ApplyRequest>,
) -> Answer<CheckResponse> {
    let stack = query.name.as_deref().map(name::<StackName>).transpose()?;
    let read = read_off_thread(stack, request).await?;
    Ok(Json(CheckResponse {
        stack: read.stack.name.to_string(),
        services: read.stack.services.iter().map(|service| service.name.to_string()).collect(),
        warnings: read.warnings,
    }))
}

/// Reads a project on a thread where a large file holds nobody up.
pub async fn read_off_thread(name: Option<StackName>, request: ApplyRequest) -> Result<Read, Refused> {
    let reading = tokio::task::spawn_blocking(move || read(name, &request));
    match reading.await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(ProblemKind::Internal, "the Compose file made its reader fail").into()),
    }
}

/// Reads a project.
pub fn read(name: Option<StackName>, request: &ApplyRequest) -> Result<Read, Refused> {
    if request.files.len() > MAX_FILES {
        return Err(
            malformed(format!("{} files are more than the {MAX_FILES} of one stack", request.files.len())).into()
        );
    }
    let is_there = |path: &String| request.files.get(path).is_some_and(Option::is_some);
    if !is_there(&request.main) {
        return Err(malformed(format!("`main` names `{}`, which is not among `files`", request.main)).into());
    }
    if let Some(path) = request.overrides.iter().find(|path| !is_there(path)) {
        return Err(malformed(format!("`overrides` names `{path}`, which is not among `files`")).into());
    }
    let sources = sources(request);
    let outcome = load(name, &sources);
    let asked = unanswered(request, &sources, &outcome.missing);
    if !asked.files.is_empty() || !asked.variables.is_empty() {
        let problem = Problem::new(ProblemKind::MissingInput, "the Compose file refers to more than was sent")
            .with_hint("send it again with these files and variables; `null` for one that there is not");
        let (files, variables) = (asked.files.into_iter().collect(), asked.variables.into_iter().collect());
        return Err(Problem { files, variables, ..problem }.into());
    }
    let diagnostics: Vec<_> = outcome.diagnostics.iter().map(diagnostic).collect();
    match outcome.stack {
        Some(stack) => Ok(Read { stack, files: outcome.files, warnings: diagnostics }),
        None => {
            let title = title(&diagnostics, &request.main);
            Err(Problem { diagnostics, ..Problem::new(ProblemKind::Compose, title) }.into())
        }
    }
}

/// How many errors there are, and in which file.
fn title(diagnostics: &[Diagnostic], main: &str) -> String {
    let errors: Vec<_> = diagnostics.iter().filter(|found| found.severity == DiagnosticSeverity::Error).collect();
    let files: BTreeSet<&str> = errors.iter().map(|found| found.file.as_str()).collect();
    let files = match files.into_iter().collect::<Vec<_>>().as_slice() {
        [] => main.to_owned(),
        [one] => (*one).to_owned(),
        several => return format!("{} have {} errors", several.join(" and "), errors.len()),
    };
    match errors.len() {
        1 => format!("{files} has an error"),
        count => format!("{files} has {count} errors"),
    }
}

fn sources(request: &ApplyRequest) -> Sources {
    let files = request.files.iter().filter_map(|(path, text)| Some((path.clone(), text.clone()?)));
    let variables = request.variables.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    Sources {
        main: request.main.clone(),
        overrides: request.overrides.clone(),
        profiles: request.profiles.iter().cloned().collect(),
        files: files.collect(),
        variables: variables.collect(),
    }
}

/// What is referred to and was not even answered with "there is none". A `.env` is not asked for: the client gives the
/// variables one by one, and the rest of that file concerns nobody.
fn unanswered(request: &ApplyRequest, sources: &Sources, missing: &Missing) -> Missing {
    let mut asked = missing.clone();
    let mut seen = BTreeSet::new();
    let mut open: Vec<String> = std::iter::once(&request.main).chain(&request.overrides).cloned().collect();
    while let Some(path) = open.pop() {
        let Some(text) = sources.files.get(&path) else { continue };
        if !seen.insert(path.clone()) {
            continue;
        }
        let found = references(text);
        asked.variables.extend(found.variables);
        let base = if request.overrides.contains(&path) { &request.main } else { &path };
        // Asked for, and not looked into: what looks like a variable in a secret is none, and nobody must be told of it.
        asked.files.extend(found.contents.iter().map(|file| resolve(base, file)));
        let optional = found.optional_files.into_iter().filter(|file| file != ".env");
        for file in found.files.into_iter().chain(optional) {
            let file = resolve(base, &file);
            open.push(file.clone());
            asked.files.insert(file);
        }
    }
    asked.files.retain(|path| !request.files.contains_key(path));
    asked.variables.retain(|name| !request.variables.contains_key(name));
    asked
}

fn diagnostic(found: &outrigger_compose::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: match found.severity {
            Severity::Error => DiagnosticSeverity::Error,
            Severity::Warning => DiagnosticSeverity::Warning,
        },
        file: found.file.clone(),
        line: found.line,
        column: found.column,
        path: found.path.clone(),
        message: found.message.clone(),
        help: found.help.clone(),
    }
}
