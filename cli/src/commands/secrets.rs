//! `secret …`, `config …` and `registry …`: set, listed, removed. What is set is read from a file, from standard input or from
//! the user at his keyboard, never from the command line.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use console::Term;
use outrigger_api::{FileRequest, RegistryLogin as Login, RegistryLoginRequest, SecretText, StoredFile};

use crate::args::{FileCommand, FileSet, RegistryCommand, RegistryLogin};
use crate::client::FileKind;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

/// What the hub takes; read one byte more to notice what is longer.
const MAX_BYTES: u64 = 500 * 1024;

pub(crate) fn run(client: &Client, kind: FileKind, command: &FileCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        FileCommand::Set(args) => set(client, kind, args, out)?,
        FileCommand::Ls => out.answer(
            &client.files(kind)?,
            |list| list.files.iter().map(|one| one.name.clone()).collect(),
            |list, look| look.table(&table(&list.files, clock::unix_ms())),
        )?,
        FileCommand::Rm { names } => {
            for name in names {
                out.answer(
                    &client.remove_file(kind, name)?,
                    |one| vec![one.name.clone()],
                    |one, look| vec![format!("{} is gone", look.paint.text(Tone::Strong, &one.name))],
                )?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn set(client: &Client, kind: FileKind, args: &FileSet, out: &mut Output) -> Result<(), Failure> {
    let content = content(args)?;
    let request = FileRequest { content: SecretText(STANDARD.encode(&content)) };
    out.answer(
        &client.set_file(kind, &args.name, &request)?,
        |one| vec![one.name.clone()],
        |one, look| {
            let name = look.paint.text(Tone::Strong, &one.name);
            vec![match one.used_by.as_slice() {
                [] => format!("{name} is set; nothing uses it yet"),
                users => format!("{name} is set; these get it, copy by copy: {}", users.join(", ")),
            }]
        },
    )
}

fn content(args: &FileSet) -> Result<Vec<u8>, Failure> {
    let Some(path) = &args.file else {
        if io::stdin().is_terminal() {
            return Ok(asked("Content (one line; it is not shown): ")?.into_bytes());
        }
        return limited(io::stdin().lock(), "<standard input>".into());
    };
    let failed = |error: &io::Error| Failure::Read { path: path.clone(), reason: error.kind().to_string() };
    limited(File::open(path).map_err(|error| failed(&error))?, path.clone())
}

fn limited(from: impl Read, path: std::path::PathBuf) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Read { path: path.clone(), reason: error.kind().to_string() })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::Read { path, reason: format!("it is larger than {} KiB", MAX_BYTES / 1024) });
    }
    Ok(bytes)
}

fn asked(prompt: &str) -> Result<String, Failure> {
    let _ = write!(io::stderr(), "{prompt}");
    Ok(Term::stderr().read_secure_line()?)
}

pub(crate) fn registry(client: &Client, command: &RegistryCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        RegistryCommand::Login(args) => {
            let request = RegistryLoginRequest { username: args.username.clone(), password: password(args)? };
            let set = client.set_login(&args.registry, &request)?;
            out.answer(
                &set,
                |one| vec![one.registry.clone()],
                |one, look| {
                    let registry = look.paint.text(Tone::Strong, &one.registry);
                    vec![format!("devices pull from {registry} as {} from now on", one.username)]
                },
            )?;
        }
        RegistryCommand::Ls => out.answer(
            &client.logins()?,
            |list| list.registries.iter().map(|one| one.registry.clone()).collect(),
            |list, look| look.table(&logins(&list.registries, clock::unix_ms())),
        )?,
        RegistryCommand::Logout { registry } => {
            out.answer(
                &client.remove_login(registry)?,
                |one| vec![one.registry.clone()],
                |one, look| {
                    vec![format!("the login for {} is forgotten", look.paint.text(Tone::Strong, &one.registry))]
                },
            )?;
        }
    }
    Ok(Exit::Ok)
}

fn password(args: &RegistryLogin) -> Result<SecretText, Failure> {
    if !args.password_stdin {
        if io::stdin().is_terminal() {
            return Ok(SecretText(asked("Password (it is not shown): ")?));
        }
        return Err(Failure::Usage {
            message: "there is nobody to ask for the password".into(),
            hint: "pipe it in and give --password-stdin".into(),
        });
    }
    let bytes = limited(io::stdin().lock(), "<standard input>".into())?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::Read {
        path: "<standard input>".into(),
        reason: "the password is not UTF-8 text".into(),
    })?;
    Ok(SecretText(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn table(files: &[StoredFile], now: u64) -> Table {
    let mut table = Table::new(["NAME", "OF", "SET", "BY", "USED BY"]);
    for one in files {
        let mut row = row![&one.name, one.stack.as_deref().unwrap_or("")];
        row.push(set_at(one.set_unix_ms, one.readable, now));
        row.push(Cell::from(&one.set_by));
        row.push(Cell::from(one.used_by.join(", ")));
        table.push(row);
    }
    table
}

fn logins(logins: &[Login], now: u64) -> Table {
    let mut table = Table::new(["REGISTRY", "AS", "SET", "BY"]);
    for one in logins {
        let mut row = row![&one.registry, &one.username];
        row.push(set_at(one.set_unix_ms, one.readable, now));
        row.push(Cell::from(&one.set_by));
        table.push(row);
    }
    table
}

/// How long ago; or that it must be set again.
fn set_at(set_unix_ms: u64, is_readable: bool, now: u64) -> Cell {
    if !is_readable {
        return Cell::toned(Tone::Bad, "key lost: set again");
    }
    Cell::from(format!("{} ago", amounts::age_ms(now.saturating_sub(set_unix_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Look;

    #[test]
    fn a_list_says_whose_it_is_what_uses_it_and_what_must_be_set_again() {
        let one = |name: &str, stack: Option<&str>, readable| StoredFile {
            name: name.into(),
            stack: stack.map(str::to_owned),
            set_unix_ms: 0,
            set_by: "ann\u{1b}[2J".into(),
            used_by: vec!["shop/web".into()],
            readable,
        };
        let files = [one("shop_db", Some("shop"), true), one("tls", None, false)];
        let lines = Look::PLAIN.table(&table(&files, 3_600_000));
        assert!(
            lines[1].contains("shop_db") && lines[1].contains("1h ago") && lines[1].contains("shop/web"),
            "{lines:?}"
        );
        assert!(lines[2].contains("set again"), "{lines:?}");
        assert!(!lines.join("").contains('\u{1b}'), "{lines:?}");
    }

    #[test]
    fn what_is_larger_than_the_hub_takes_is_not_sent() {
        let large = vec![0; usize::try_from(MAX_BYTES).unwrap() + 1];
        assert!(limited(large.as_slice(), "x".into()).unwrap_err().to_string().contains("larger than 500 KiB"));
        assert_eq!(limited(&large[1..], "x".into()).unwrap().len(), large.len() - 1);
    }
}
