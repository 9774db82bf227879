//! `user …`: people who log in with a browser.

use std::io::{self, BufRead, IsTerminal, Write};

use console::Term;
use outrigger_api::{PasswordRequest, SecretText, User, UserRequest};

use crate::args::{UserAdd, UserCommand};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

pub(crate) fn run(client: &Client, command: &UserCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        UserCommand::Add(args) => add(client, args, out)?,
        UserCommand::Ls => out.answer(
            &client.users()?,
            |list| list.users.iter().map(|user| user.name.clone()).collect(),
            |list, look| look.table(&table(&list.users, clock::unix_ms())),
        )?,
        UserCommand::Passwd(args) => {
            let password = password(args.password_stdin)?;
            client.set_password(&args.name, &PasswordRequest { password, old: None })?;
            out.note(Tone::Good, &format!("{} has another password; his browsers are logged out", args.name));
        }
        UserCommand::Rm { users } => {
            for user in users {
                client.remove_user(user)?;
                out.note(Tone::Good, &format!("{user} is no user any more"));
            }
        }
    }
    Ok(Exit::Ok)
}

fn add(client: &Client, args: &UserAdd, out: &mut Output) -> Result<(), Failure> {
    let request = UserRequest {
        name: args.name.clone(),
        role: args.role.into(),
        stacks: args.stacks.clone(),
        password: password(args.password_stdin)?,
    };
    out.answer(
        &client.create_user(&request)?,
        |user| vec![user.name.clone()],
        |user, look| {
            let reach = if user.stacks.is_empty() { "the whole fleet".to_owned() } else { user.stacks.join(", ") };
            vec![format!("{}: {} of {reach}", look.paint.text(Tone::Strong, &user.name), user.role)]
        },
    )
}

/// Asked for twice, for nobody sees what he types; or the first line of standard input.
fn password(from_stdin: bool) -> Result<SecretText, Failure> {
    if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        return Ok(SecretText(line.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let usage = |message: &str, hint: &str| Failure::Usage { message: message.into(), hint: hint.into() };
    if !io::stdin().is_terminal() {
        return Err(usage(
            "nobody is there to be asked for the password",
            "--password-stdin reads it from standard input",
        ));
    }
    let ask = |question: &str| -> Result<String, Failure> {
        let _ = write!(io::stderr(), "{question} (it is not shown): ");
        Term::stderr().read_secure_line().map_err(Failure::Write)
    };
    let (first, second) = (ask("Password")?, ask("The same again")?);
    match first == second {
        true => Ok(SecretText(first)),
        false => Err(usage("the two are not the same", "nothing was changed; try again")),
    }
}

fn table(users: &[User], now: u64) -> Table {
    let mut table = Table::new(["USER", "ROLE", "STACKS", "PASSWORD SET", "MADE BY"]);
    for user in users {
        let stacks = if user.stacks.is_empty() { "all".to_owned() } else { user.stacks.join(", ") };
        let age = format!("{} ago", amounts::age_ms(now.saturating_sub(user.password_unix_ms)));
        let mut row = row![&user.name, user.role.to_string(), stacks, age];
        row.push(Cell::from(&user.created_by));
        table.push(row);
    }
    table
}
