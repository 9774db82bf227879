//! `compose check`, and the way of a Compose file to the hub that `deploy` goes too.

use outrigger_api::{ApplyRequest, CheckResponse, Diagnostic, Problem, ProblemKind};

use crate::args::{ComposeFile, Format};
use crate::compose_input::Project;
use crate::style::Tone;
use crate::{Client, Exit, Failure, Output, source_excerpt};

/// Files may refer to files that refer to files; a Compose project is never nested so deeply.
const MAX_ROUNDS: usize = 16;

pub(crate) fn check(client: &Client, args: &ComposeFile, out: &mut Output) -> Result<Exit, Failure> {
    let mut project = Project::open(args)?;
    let name = stack_name(client, &mut project, out)?;
    let answer = supplying(&mut project, out, |request| client.check_compose(Some(&name), request))?;
    findings(&answer.warnings, &project, out);
    out.answer(
        &answer,
        |answer: &CheckResponse| answer.services.clone(),
        |answer, look| {
            let stack = look.paint.text(Tone::Strong, &answer.stack);
            vec![format!("{} stack {stack}: {}", look.paint.text(Tone::Good, "ok:"), answer.services.join(", "))]
        },
    )?;
    Ok(Exit::Ok)
}

/// The name of the stack: the user's, else the file's, else its folder's.
pub(crate) fn stack_name(client: &Client, project: &mut Project, out: &mut Output) -> Result<String, Failure> {
    if let Some(name) = project.explicit_name() {
        return Ok(name.to_owned());
    }
    // The hub reads the file's own name. What else it may find is told when the file is sent with a name.
    let asked = supply_until_answered(project, out, |request| client.check_compose(None, request));
    match (asked, project.folder_name()) {
        (Ok(answer), _) => Ok(answer.stack),
        (Err(Failure::Refused(problem)), _) if problem.diagnostics.iter().any(|found| found.path == "name") => {
            refused(&problem, project, out)?;
            Err(Failure::Refused(problem))
        }
        (Err(Failure::Refused(problem)), Some(folder)) if problem.kind == ProblemKind::Compose => Ok(folder),
        (Err(Failure::Refused(problem)), None) if problem.kind == ProblemKind::Compose => Err(Failure::Usage {
            message: "neither the Compose file nor its folder gives the stack a name".into(),
            hint: "name it with --name NAME".into(),
        }),
        (Err(failure), _) => Err(failure),
    }
}

/// Sends the project until the hub has all that it needs, and shows what it finds in it.
pub(crate) fn supplying<T>(
    project: &mut Project,
    out: &mut Output,
    send: impl Fn(&ApplyRequest) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let answer = supply_until_answered(project, out, send);
    if let Err(Failure::Refused(problem)) = &answer {
        refused(problem, project, out)?;
    }
    answer
}

/// Shows why a file cannot be used; programs get the whole problem, as its findings are the answer.
fn refused(problem: &Problem, project: &Project, out: &mut Output) -> Result<(), Failure> {
    findings(&problem.diagnostics, project, out);
    if out.format() == Format::Json { out.json(problem) } else { Ok(()) }
}

fn supply_until_answered<T>(
    project: &mut Project,
    out: &mut Output,
    send: impl Fn(&ApplyRequest) -> Result<T, Failure>,
) -> Result<T, Failure> {
    for _ in 0..MAX_ROUNDS {
        match send(&project.request) {
            Err(Failure::Refused(problem)) if problem.kind == ProblemKind::MissingInput => {
                let supplied = project.supply(&problem.files, &problem.variables)?;
                for file in &supplied.files {
                    out.note(
                        Tone::Dim,
                        &format!("sending {}", source_excerpt::shown_path(project.shown_folder(), file)),
                    );
                }
                if !supplied.is_new {
                    return Err(Failure::Refused(problem));
                }
            }
            answer => return answer,
        }
    }
    Err(Failure::Stuck {
        message: format!("the hub asked {MAX_ROUNDS} times for further files of this Compose project"),
        hint: "do its files extend one another in a circle?".into(),
    })
}

/// Shows findings with their lines.
pub(crate) fn findings(findings: &[Diagnostic], project: &Project, out: &mut Output) {
    let paint = out.error_look().paint;
    out.notes(&source_excerpt::render(findings, &project.request.files, project.shown_folder(), paint));
}
