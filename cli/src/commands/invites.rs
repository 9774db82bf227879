//! `device invite` and `invite …`: how devices come into the fleet.

use outrigger_api::{Invite, InviteRequest};

use crate::args::{Format, Invite as InviteArgs, InviteCommand};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

pub(crate) fn run(client: &Client, command: &InviteCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        InviteCommand::Ls => out.answer(
            &client.invites()?,
            |list| list.invites.iter().map(|invite| invite.id.clone()).collect(),
            |list, look| look.table(&table(&list.invites, clock::unix_ms())),
        )?,
        InviteCommand::Rm { ids } => {
            for id in ids {
                client.revoke_invite(id)?;
                out.note(Tone::Good, &format!("{id} counts no longer"));
            }
        }
    }
    Ok(Exit::Ok)
}

/// Only the line for the device goes to standard output, so that it can be piped there.
pub(crate) fn invite(client: &Client, args: &InviteArgs, out: &mut Output) -> Result<(), Failure> {
    let request = InviteRequest {
        uses: Some(args.uses),
        ttl_s: Some(args.ttl.as_secs()),
        name: args.name.clone(),
        labels: args.labels.iter().cloned().collect(),
    };
    let made = client.create_invite(&request)?;
    match out.format() {
        Format::Json => return out.json(&made),
        Format::Names => return out.lines([&made.token.0]),
        Format::Table => (),
    }
    let who = match (&args.name, args.uses) {
        (Some(name), _) => format!("the device {name}"),
        (None, 1) => "one device".to_owned(),
        (None, uses) => format!("{uses} devices"),
    };
    let life = amounts::age_ms(u64::try_from(args.ttl.as_millis()).unwrap_or(u64::MAX));
    out.note(Tone::Plain, &format!("For {who}, within {life}. Run there:"));
    let hub = made.urls.first().map_or(client.hub(), String::as_str);
    let name = args.name.as_ref().map_or_else(String::new, |name| format!(" --name {name}"));
    out.lines([format!("sudo outrigger-agent join {hub}{name} --token {}", made.token.0)])
}

fn table(invites: &[Invite], now: u64) -> Table {
    let mut table = Table::new(["ID", "FOR", "LABELS", "USED", "ENDS IN", "MADE BY", "JOINED"]);
    for invite in invites {
        let left = invite.expires_unix_ms.saturating_sub(now);
        let ends = match invite.expired || left == 0 {
            true => Cell::toned(Tone::Dim, "over"),
            false => Cell::from(amounts::age_ms(left)),
        };
        let labels: Vec<_> = invite.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let joined: Vec<_> = invite.used.iter().map(|used| used.device.as_str()).collect();
        let used = format!("{} of {}", invite.used.len(), invite.uses);
        let mut row = row![&invite.id, invite.name.as_deref().unwrap_or("any"), labels.join(" "), used];
        row.extend([ends, Cell::from(&invite.created_by), Cell::from(joined.join(" "))]);
        table.push(row);
    }
    table
}
