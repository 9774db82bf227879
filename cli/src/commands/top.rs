//! `top`: the load of devices and replicas, again and again on a terminal.

use std::cmp::Reverse;
use std::thread;

use outrigger_api::{Device, Replica, ReplicaQuery};
use serde::Serialize;

use super::{devices, words};
use crate::args::{Format, Top};
use crate::output::{Look, Screen};
use crate::style::Tone;
use crate::table::Table;
use crate::{Client, Exit, Failure, Output, amounts, row};

/// What is shown at a time.
#[derive(Debug, Serialize)]
struct Picture {
    #[serde(skip_serializing_if = "Option::is_none")]
    safe_mode: Option<String>,
    devices: Vec<Device>,
    replicas: Vec<Replica>,
}

pub(crate) fn run(client: &Client, args: &Top, out: &mut Output) -> Result<Exit, Failure> {
    let in_place = matches!((out.screen(), out.format()), (Screen::Terminal { .. }, Format::Table)) && !args.once;
    if let (true, Screen::Terminal { rows, .. }) = (in_place, out.screen()) {
        // What stands on the terminal moves up into its history instead of being overwritten.
        out.raw(&"\n".repeat(rows))?;
    }
    loop {
        let picture = match take(client) {
            Ok(picture) => picture,
            // On a screen that stays, a hub that restarts is worth a line, not the end.
            Err(failure @ (Failure::Unreachable { .. } | Failure::Interrupted { .. })) if in_place => {
                let text = out.look().paint.text(Tone::Bad, &failure.to_string());
                out.raw(&on_clean_screen(&[text], usize::MAX))?;
                thread::sleep(args.interval);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if !in_place {
            out.answer(&picture, names, lines)?;
            return Ok(Exit::Ok);
        }
        let rows = match out.screen() {
            Screen::Terminal { rows, .. } => rows,
            Screen::Other => usize::MAX,
        };
        let shown = cut(lines(&picture, out.look()), out.look());
        out.raw(&on_clean_screen(&shown, rows))?;
        thread::sleep(args.interval);
    }
}

fn take(client: &Client) -> Result<Picture, Failure> {
    Ok(Picture {
        safe_mode: client.fleet()?.safe_mode,
        devices: client.devices()?.devices,
        replicas: client.replicas(&ReplicaQuery::default())?.replicas,
    })
}

fn names(picture: &Picture) -> Vec<String> {
    picture.devices.iter().map(|device| device.name.clone()).collect()
}

/// Lines longer than the terminal would wrap and push the picture off it.
fn cut(lines: Vec<String>, look: Look) -> Vec<String> {
    let Some(columns) = look.columns else { return lines };
    lines.iter().map(|line| console::truncate_str(line, columns, "…").into_owned()).collect()
}

/// Overwrites in place, line by line, which does not flicker; what is left of the former picture is cleared.
fn on_clean_screen(lines: &[String], rows: usize) -> String {
    let mut text = String::from("\u{1b}[H");
    for line in lines.iter().take(rows.saturating_sub(1)) {
        text.push_str(line);
        text.push_str("\u{1b}[K\r\n");
    }
    text.push_str("\u{1b}[J");
    text
}

fn lines(picture: &Picture, look: Look) -> Vec<String> {
    let safe_mode = picture.safe_mode.iter().map(|reason| format!("safe mode, nothing moves: {reason}"));
    let mut lines: Vec<String> = safe_mode.map(|text| look.paint.text(Tone::Warning, &text)).collect();
    lines.extend(look.table(&devices::table(&picture.devices)));
    lines.push(String::new());
    lines.extend(look.table(&replica_table(&picture.replicas)));
    lines
}

/// The busiest first, as `top` has it; ties by name, so that lines stay in place.
fn replica_table(replicas: &[Replica]) -> Table {
    let mut sorted: Vec<&Replica> = replicas.iter().collect();
    let usage = |replica: &Replica| replica.copy.as_ref().and_then(|copy| copy.cpu_milli).unwrap_or(0);
    sorted.sort_by(|a, b| (Reverse(usage(a)), &a.name).cmp(&(Reverse(usage(b)), &b.name)));
    let mut table = Table::new(["REPLICA", "STATE", "DEVICE", "CPU", "MEMORY", "RESTARTS"]);
    for replica in sorted {
        let copy = replica.copy.as_ref();
        table.push(row![
            &replica.name,
            words::replica_progress(replica),
            copy.map(|copy| copy.device.as_str()).unwrap_or_default(),
            copy.and_then(|copy| copy.cpu_milli).map(of_a_core).unwrap_or_default(),
            copy.and_then(|copy| copy.memory_bytes).map(amounts::bytes).unwrap_or_default(),
            words::unless_zero(copy.map_or(0, |copy| copy.restarts), Tone::Warning),
        ]);
    }
    table
}

/// Per cent of one core, as `docker stats` has it.
fn of_a_core(milli: u32) -> String {
    format!("{}.{}%", milli / 10, milli % 10)
}

#[cfg(test)]
mod tests {
    use outrigger_api::ReplicaState;

    use super::*;
    use crate::commands::samples;

    #[test]
    fn the_busiest_replica_comes_first() {
        let mut busy = samples::replica("shop/web.2", ReplicaState::Running, "pi-2");
        busy.copy.as_mut().unwrap().cpu_milli = Some(1905);
        let picture = Picture {
            safe_mode: Some("3 of 4 devices are silent".into()),
            devices: vec![samples::device("pi-1")],
            replicas: vec![samples::replica("shop/web.1", ReplicaState::Running, "pi-1"), busy],
        };
        let expected = "
REPLICA      STATE     DEVICE   CPU      MEMORY
shop/web.2   running   pi-2     190.5%   5.0 MiB
shop/web.1   running   pi-1     12.0%    5.0 MiB";
        let shown = lines(&picture, Look::PLAIN).join("\n");
        assert!(shown.starts_with("safe mode, nothing moves: 3 of 4 devices are silent\nDEVICE"), "{shown}");
        assert!(shown.ends_with(expected), "{shown}");
    }

    #[test]
    fn a_picture_never_scrolls_the_terminal() {
        let lines: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(on_clean_screen(&lines, 3), "\u{1b}[H0\u{1b}[K\r\n1\u{1b}[K\r\n\u{1b}[J");
    }
}
