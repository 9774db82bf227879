//! `ls` and `rm`: stacks, and the services of one.

use outrigger_api::{Service, ServiceMode, Stack, StackList, StackSummary};

use super::words;
use crate::args::{Ls, Rm};
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, clock, row};

pub(crate) fn list(client: &Client, args: &Ls, out: &mut Output) -> Result<Exit, Failure> {
    match &args.stack {
        Some(name) => {
            let stack = client.stack(name)?;
            out.answer(&stack, service_names, |stack, look| look.table(&service_table(&stack.services)))?;
        }
        None => {
            let now = clock::unix_ms();
            out.answer(&client.stacks()?, stack_names, |list, look| look.table(&stack_table(&list.stacks, now)))?;
        }
    }
    Ok(Exit::Ok)
}

pub(crate) fn remove(client: &Client, args: &Rm, out: &mut Output) -> Result<Exit, Failure> {
    for name in &args.stacks {
        let removed = client.remove_stack(name)?;
        out.answer(
            &removed,
            |removed| vec![removed.name.clone()],
            |removed, look| {
                let name = look.paint.text(Tone::Strong, &removed.name);
                vec![format!("removed {name}: its {} are stopped, volumes stay", services(removed.services.len()))]
            },
        )?;
    }
    Ok(Exit::Ok)
}

fn services(count: usize) -> String {
    if count == 1 { "1 service's containers".into() } else { format!("{count} services' containers") }
}

fn stack_names(list: &StackList) -> Vec<String> {
    list.stacks.iter().map(|stack| stack.name.clone()).collect()
}

fn service_names(stack: &Stack) -> Vec<String> {
    stack.services.iter().map(|service| service.name.clone()).collect()
}

fn stack_table(stacks: &[StackSummary], now_unix_ms: u64) -> Table {
    let mut table = Table::new(["STACK", "SERVICES", "RUNNING", "PENDING", "DEPLOYED"]);
    for stack in stacks {
        table.push(row![
            &stack.name,
            stack.services.to_string(),
            words::share(stack.running, stack.wanted),
            words::unless_zero(stack.pending, Tone::Bad),
            words::ago(stack.applied_unix_ms, now_unix_ms),
        ]);
    }
    table
}

fn service_table(services: &[Service]) -> Table {
    let mut table = Table::new(["SERVICE", "MODE", "RUNNING", "PENDING", "IMAGE", "PORTS", "UPDATE"]);
    for service in services {
        let mode = match service.mode {
            ServiceMode::Replicated => "replicated",
            ServiceMode::Global => "global",
        };
        table.push(row![
            &service.name,
            mode,
            words::share(service.running, service.wanted),
            words::unless_zero(service.pending, Tone::Bad),
            &service.image,
            words::ports(&service.ports),
            update_cell(service),
        ]);
    }
    table
}

fn update_cell(service: &Service) -> Cell {
    let update = &service.update;
    let (tone, word) = words::update_state(update.state);
    match (word, &update.reason) {
        ("", _) => Cell::from(""),
        (word, Some(reason)) => Cell::toned(tone, format!("{word} at {}/{}: {reason}", update.done, update.total)),
        (word, None) => Cell::toned(tone, format!("{word} {}/{}", update.done, update.total)),
    }
}

#[cfg(test)]
mod tests {
    use outrigger_api::{Port, Update, UpdateState};

    use super::*;
    use crate::commands::samples;
    use crate::output::Look;

    #[test]
    fn stacks_tell_how_far_they_are() {
        let stack = |name: &str, running, pending| StackSummary {
            name: name.into(),
            services: 2,
            wanted: 3,
            running,
            pending,
            applied_unix_ms: Some(1_000_000),
        };
        let expected = "\
STACK   SERVICES   RUNNING   PENDING   DEPLOYED
blog    2          3/3                 2m ago
shop    2          1/3       2         2m ago";
        let table = stack_table(&[stack("blog", 3, 0), stack("shop", 1, 2)], 1_125_000);
        assert_eq!(Look::PLAIN.table(&table).join("\n"), expected);
    }

    #[test]
    fn services_tell_why_an_update_stopped() {
        let mut db = samples::service("shop/db");
        db.update =
            Update { state: UpdateState::Paused, done: 1, total: 3, reason: Some("shop/db.1 is not healthy".into()) };
        db.ports = vec![Port { container: 5432, host: 0, protocol: "tcp".into() }];
        let expected = "\
SERVICE    MODE         RUNNING   IMAGE   PORTS         UPDATE
shop/db    replicated   1/1       web:1   *->5432/tcp   paused at 1/3: shop/db.1 is not healthy
shop/web   replicated   1/1       web:1";
        let lines = Look::PLAIN.table(&service_table(&[db, samples::service("shop/web")]));
        // A column that is empty everywhere is left out.
        assert_eq!(lines.join("\n"), expected);
    }
}
