//! `context …` and `logout`: the hubs that the user is logged in to.

use serde::Serialize;

use crate::args::{ContextCommand, Logout};
use crate::contexts::Contexts;
use crate::style::Tone;
use crate::table::Table;
use crate::{Exit, Failure, Output, row};

/// A context as it is shown: without its token.
#[derive(Serialize)]
struct Shown {
    name: String,
    hub: String,
    current: bool,
}

pub(crate) fn run(command: &ContextCommand, out: &mut Output) -> Result<Exit, Failure> {
    let mut contexts = Contexts::load()?;
    match command {
        ContextCommand::Ls => list(&contexts, out)?,
        ContextCommand::Use { context } => {
            if !contexts.contexts.contains_key(context) {
                return Err(unknown(context));
            }
            contexts.current = Some(context.clone());
            contexts.save()?;
            out.note(Tone::Good, &format!("{context} is in use"));
        }
        ContextCommand::Rm { context } => forget(&mut contexts, context, out)?,
    }
    Ok(Exit::Ok)
}

pub(crate) fn logout(args: &Logout, out: &mut Output) -> Result<Exit, Failure> {
    let mut contexts = Contexts::load()?;
    let name = args.context.clone().or_else(|| contexts.current.clone()).ok_or_else(|| Failure::Usage {
        message: "no context is in use".into(),
        hint: "`outrigger context ls` lists them; name one".into(),
    })?;
    forget(&mut contexts, &name, out)?;
    Ok(Exit::Ok)
}

fn forget(contexts: &mut Contexts, name: &str, out: &mut Output) -> Result<(), Failure> {
    let gone = contexts.remove(name).ok_or_else(|| unknown(name))?;
    contexts.save()?;
    // The fourth part of a token is its public id.
    let id = gone.token.0.split('.').nth(3).unwrap_or_default().to_owned();
    out.note(
        Tone::Good,
        &format!("{name} is forgotten on this computer; `outrigger token rm {id}` makes its token count no longer"),
    );
    Ok(())
}

fn unknown(name: &str) -> Failure {
    Failure::NotFound {
        what: "context",
        name: name.to_owned(),
        hint: "`outrigger context ls` lists them, `outrigger login` makes one".into(),
    }
}

fn list(contexts: &Contexts, out: &mut Output) -> Result<(), Failure> {
    let current = contexts.current.as_deref();
    let shown: Vec<_> = contexts
        .contexts
        .iter()
        .map(|(name, context)| Shown {
            name: name.clone(),
            hub: context.hub.clone(),
            current: current == Some(name.as_str()),
        })
        .collect();
    out.answer(
        &shown,
        |shown| shown.iter().map(|context| context.name.clone()).collect(),
        |shown, look| {
            let mut table = Table::new(["CONTEXT", "HUB", "IN USE"]);
            for context in shown {
                table.push(row![&context.name, &context.hub, if context.current { "yes" } else { "" }]);
            }
            look.table(&table)
        },
    )
}
