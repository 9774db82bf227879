//! `audit [verify]`: who has changed what.

use outrigger_api::{AuditCheck, AuditQuery, AuditRecord};

use crate::args::{Audit, AuditCommand};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, row};

pub(crate) fn run(client: &Client, args: &Audit, out: &mut Output) -> Result<Exit, Failure> {
    if let Some(AuditCommand::Verify) = args.command {
        return verify(&client.check_audit()?, out);
    }
    let list = client.audit(&AuditQuery { since: None, limit: Some(args.limit) })?;
    out.answer(
        &list,
        |list| list.records.iter().map(|record| record.number.to_string()).collect(),
        |list, look| look.table(&table(&list.records)),
    )?;
    Ok(Exit::Ok)
}

fn verify(check: &AuditCheck, out: &mut Output) -> Result<Exit, Failure> {
    out.answer(
        check,
        |_| Vec::new(),
        |check, look| {
            if check.ok {
                let whole = format!("whole: {} records, each as it was written", check.records);
                return vec![look.paint.text(Tone::Good, &whole)];
            }
            let head = look.paint.text(Tone::Bad, &format!("changed: {} records were read", check.records));
            let problems = check.problems.iter().map(|problem| look.paint.text(Tone::Plain, &format!("  {problem}")));
            std::iter::once(head).chain(problems).collect()
        },
    )?;
    Ok(if check.ok { Exit::Ok } else { Exit::Failed })
}

fn table(records: &[AuditRecord]) -> Table {
    let mut table = Table::new(["NUMBER", "WHEN", "WHO", "FROM", "STATUS", "WHAT"]);
    for record in records {
        let tone = if record.status < 300 { Tone::Plain } else { Tone::Warning };
        let detail = record.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        let mut row = row![record.number.to_string(), amounts::utc(record.at_unix_ms), &record.who, &record.from];
        row.push(Cell::toned(tone, record.status.to_string()));
        row.push(Cell::from(format!("{}{detail}", record.what)));
        table.push(row);
    }
    table
}
