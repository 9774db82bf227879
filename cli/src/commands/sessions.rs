//! `session …`: browsers that are logged in.

use outrigger_api::Session;

use crate::args::SessionCommand;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

pub(crate) fn run(client: &Client, command: &SessionCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        SessionCommand::Ls => out.answer(
            &client.sessions()?,
            |list| list.sessions.iter().map(|session| session.id.clone()).collect(),
            |list, look| look.table(&table(&list.sessions, clock::unix_ms())),
        )?,
        SessionCommand::Rm { ids } => {
            for id in ids {
                let ended = client.end_session(id)?;
                out.note(Tone::Good, &format!("{} is logged out there", ended.user));
            }
        }
    }
    Ok(Exit::Ok)
}

fn table(sessions: &[Session], now: u64) -> Table {
    let mut table = Table::new(["ID", "USER", "FROM", "SINCE", "IDLE", "ENDS IN"]);
    for session in sessions {
        let since = amounts::age_ms(now.saturating_sub(session.since_unix_ms));
        let idle = amounts::age_ms(session.idle_s.saturating_mul(1000));
        let mut row = row![&session.id, &session.user, &session.address, since, idle];
        row.push(Cell::from(amounts::age_ms(session.expires_unix_ms.saturating_sub(now))));
        table.push(row);
    }
    table
}
