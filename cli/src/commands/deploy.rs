//! `deploy`: a Compose file becomes a running stack.

use outrigger_api::{ApplyResponse, PlannedReplica, ServiceChange};

use super::{compose, words};
use crate::args::Deploy;
use crate::compose_input::Project;
use crate::output::Look;
use crate::progress::{self, Scope};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, row};

pub(crate) fn run(client: &Client, args: &Deploy, out: &mut Output) -> Result<Exit, Failure> {
    let mut project = Project::open(&args.compose)?;
    let stack = compose::stack_name(client, &mut project, out)?;
    let answer = compose::supplying(&mut project, out, |request| match args.dry_run {
        true => client.plan_stack(&stack, request),
        false => client.apply_stack(&stack, request),
    })?;
    compose::findings(&answer.warnings, &project, out);
    out.answer(&answer, |answer| vec![answer.stack.clone()], lines)?;
    if args.wait {
        progress::wait(client, &Scope::Stack(stack), args.timeout, out)?;
    }
    Ok(Exit::Ok)
}

fn lines(answer: &ApplyResponse, look: Look) -> Vec<String> {
    let stack = look.paint.text(Tone::Strong, &answer.stack);
    let what = if answer.dry_run { "would be (nothing was changed)" } else { "deployed" };
    let mut lines = vec![format!("{stack} {what}")];
    lines.extend(look.table(&change_table(&answer.services)));
    if !answer.replicas.is_empty() {
        lines.push(String::new());
        lines.extend(look.table(&plan_table(&answer.replicas)));
    }
    lines
}

fn change_table(changes: &[ServiceChange]) -> Table {
    let mut table = Table::new(["SERVICE", "CHANGE", "COPIES", "WHAT"]);
    for change in changes {
        table.push(row![
            &change.name,
            words::cell(words::service_change(change.change)),
            change.wanted.map(|copies| copies.to_string()).unwrap_or_default(),
            change.parts.join(", "),
        ]);
    }
    table
}

fn plan_table(replicas: &[PlannedReplica]) -> Table {
    let mut table = Table::new(["REPLICA", "DEVICE", "WHY"]);
    for planned in replicas {
        let device = planned.device.as_deref().map_or(Cell::toned(Tone::Bad, "pending"), Cell::from);
        table.push(row![&planned.replica, device, &planned.reason]);
    }
    table
}

#[cfg(test)]
mod tests {
    use outrigger_api::ServiceChangeKind;

    use super::*;

    #[test]
    fn a_dry_run_shows_changes_and_places() {
        let change = |name: &str, change, wanted, parts: &[&str]| ServiceChange {
            name: name.into(),
            change,
            wanted,
            parts: parts.iter().map(|&part| part.to_owned()).collect(),
        };
        let planned = |replica: &str, device: Option<&str>, reason: &str| PlannedReplica {
            replica: replica.into(),
            device: device.map(Into::into),
            reason: reason.into(),
        };
        let answer = ApplyResponse {
            stack: "shop".into(),
            dry_run: true,
            warnings: Vec::new(),
            services: vec![
                change("db", ServiceChangeKind::Unchanged, Some(1), &[]),
                change("web", ServiceChangeKind::Changed, Some(3), &["image", "environment"]),
            ],
            replicas: vec![
                planned("shop/web.1", Some("pi-1"), "most free memory"),
                planned("shop/web.2", None, "no device has two cameras"),
            ],
        };
        let expected = "\
shop would be (nothing was changed)
SERVICE   CHANGE      COPIES   WHAT
db        unchanged   1
web       changed     3        image, environment

REPLICA      DEVICE    WHY
shop/web.1   pi-1      most free memory
shop/web.2   pending   no device has two cameras";
        assert_eq!(lines(&answer, Look::PLAIN).join("\n"), expected);
    }
}
