//! `token …`: tokens of users and programs.

use outrigger_api::{Role, Token, TokenRequest};

use crate::args::{Format, RoleChoice, TokenCommand, TokenCreate};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

pub(crate) fn run(client: &Client, command: &TokenCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create(client, args, out)?,
        TokenCommand::Ls => out.answer(
            &client.tokens()?,
            |list| list.tokens.iter().map(|token| token.id.clone()).collect(),
            |list, look| look.table(&table(&list.tokens, clock::unix_ms())),
        )?,
        TokenCommand::Rm { ids } => {
            for id in ids {
                out.answer(
                    &client.revoke_token(id)?,
                    |token| vec![token.id.clone()],
                    |token, look| vec![format!("{} counts no longer", look.paint.text(Tone::Strong, &token.name))],
                )?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Only the token goes to standard output, so that it can be piped to where it belongs.
fn create(client: &Client, args: &TokenCreate, out: &mut Output) -> Result<(), Failure> {
    let request = TokenRequest {
        name: args.name.clone(),
        role: args.role.into(),
        stacks: args.stacks.clone(),
        ttl_s: Some(args.ttl.as_secs()),
    };
    let made = client.create_token(&request)?;
    if out.format() == Format::Json {
        return out.json(&made);
    }
    if out.format() == Format::Table {
        let Token { name, role, stacks, .. } = &made.token;
        let reach = if stacks.is_empty() { "the whole fleet".to_owned() } else { stacks.join(", ") };
        let text = format!("{name}: {role} of {reach}. This is the only time that the token is shown:");
        out.note(Tone::Plain, &text);
    }
    out.lines([&made.secret.0])
}

impl From<RoleChoice> for Role {
    fn from(choice: RoleChoice) -> Self {
        match choice {
            RoleChoice::Viewer => Self::Viewer,
            RoleChoice::Operator => Self::Operator,
            RoleChoice::Admin => Self::Admin,
        }
    }
}

fn table(tokens: &[Token], now: u64) -> Table {
    let mut table = Table::new(["ID", "NAME", "ROLE", "STACKS", "ENDS IN", "MADE BY"]);
    for token in tokens {
        let ends = match token.expires_unix_ms.checked_sub(now) {
            Some(left) if left > 0 => Cell::from(amounts::age_ms(left)),
            Some(_) | None => Cell::toned(Tone::Dim, "over"),
        };
        let stacks = if token.stacks.is_empty() { "all".to_owned() } else { token.stacks.join(", ") };
        let mut row = row![&token.id, &token.name, token.role.to_string(), stacks];
        row.push(ends);
        row.push(Cell::from(&token.created_by));
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Look;

    #[test]
    fn a_list_says_what_each_token_may_and_how_long() {
        let token = Token {
            id: "0a1b2c3d4e5f".into(),
            name: "ci\u{1b}[2J".into(),
            role: Role::Operator,
            stacks: vec!["shop".into()],
            created_unix_ms: 0,
            created_by: "ann".into(),
            expires_unix_ms: 3_600_000,
        };
        let lines = Look::PLAIN.table(&table(std::slice::from_ref(&token), 0));
        assert!(lines[1].contains("operator") && lines[1].contains("shop") && lines[1].contains("1h"), "{lines:?}");
        assert!(!lines[1].contains('\u{1b}'), "{lines:?}");
        assert!(Look::PLAIN.table(&table(&[token], 3_600_000))[1].contains("over"));
    }
}
