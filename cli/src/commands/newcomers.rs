//! `device pending` and `device approve`: devices that come without an invite and show a code.
//!
//! The list has no codes. Who types one has read it from the device itself, and that is what makes it safe.

use outrigger_api::{CodeApproval, SecretText, WaitingDevice};
use outrigger_trust::JoinCode;

use crate::args::Approve;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, clock, row};

pub(crate) fn list(client: &Client, out: &mut Output) -> Result<(), Failure> {
    out.answer(
        &client.waiting_devices()?,
        |list| list.devices.iter().map(|device| device.name.clone()).collect(),
        |list, look| look.table(&table(&list.devices, clock::unix_ms())),
    )
}

pub(crate) fn approve(client: &Client, args: &Approve, out: &mut Output) -> Result<(), Failure> {
    let is_special = args.name.is_some() || !args.labels.is_empty();
    if args.what.len() > 1 && is_special {
        return Err(Failure::Usage {
            message: "--name and --label are for one device".into(),
            hint: "approve one code at a time".into(),
        });
    }
    for what in &args.what {
        if is_code(what) {
            by_code(client, what, args, out)?;
        } else if is_special {
            return Err(Failure::Usage {
                message: format!("`{what}` is no code, and --name and --label are for new devices"),
                hint: "a code has ten digits and letters, in capitals: 7KQ2M-XW4RP".into(),
            });
        } else {
            out_of_quarantine(client, what, out)?;
        }
    }
    Ok(())
}

/// A code is written in capitals, and has a letter; a device's name has none.
fn is_code(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_uppercase()) && text.parse::<JoinCode>().is_ok()
}

fn by_code(client: &Client, code: &str, args: &Approve, out: &mut Output) -> Result<Exit, Failure> {
    let approval = CodeApproval {
        code: SecretText(code.to_owned()),
        name: args.name.clone(),
        labels: args.labels.iter().cloned().collect(),
    };
    out.answer(
        &client.approve_code(&approval)?,
        |approved| vec![approved.device.clone()],
        |approved, look| {
            let device = look.paint.text(Tone::Strong, &approved.device);
            vec![format!(
                "{device} is in the fleet now; it asked from {}",
                look.paint.text(Tone::Plain, &approved.address)
            )]
        },
    )?;
    Ok(Exit::Ok)
}

fn out_of_quarantine(client: &Client, name: &str, out: &mut Output) -> Result<(), Failure> {
    let device = client.approve_device(name)?;
    out.answer(
        &device,
        |device| vec![device.name.clone()],
        |device, look| vec![format!("{} may come in again", look.paint.text(Tone::Strong, &device.name))],
    )
}

fn table(devices: &[WaitingDevice], now: u64) -> Table {
    let mut table = Table::new(["WANTS TO BE", "ASKS FROM", "SAYS THAT IT IS", "SINCE", "FORGOTTEN IN"]);
    for device in devices {
        let name = match device.name_is_taken {
            true => Cell::toned(Tone::Bad, format!("{} (taken)", device.name)),
            false => Cell::from(&device.name),
        };
        let since = amounts::age_ms(now.saturating_sub(device.since_unix_ms));
        let left = amounts::age_ms(device.expires_unix_ms.saturating_sub(now));
        let mut row = vec![name];
        row.extend(row![&device.address, &device.about, since, left]);
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Look;

    #[test]
    fn a_name_of_a_device_is_not_taken_for_a_code() {
        for code in ["7KQ2M-XW4RP", "7KQ2MXW4RP", "7Kq2m-xw4rp"] {
            assert!(is_code(code), "{code}");
        }
        for name in ["pi-7", "7kq2m-xw4rp", "abcdefghjk", "12345-67890", "PI"] {
            assert!(!is_code(name), "{name}");
        }
    }

    #[test]
    fn what_a_stranger_says_of_himself_is_shown_and_does_nothing() {
        let device = WaitingDevice {
            name: "pi".into(),
            address: "192.0.2.7".into(),
            about: "a board\u{1b}[2J".into(),
            since_unix_ms: 0,
            expires_unix_ms: 900_000,
            name_is_taken: true,
        };
        let lines = Look::PLAIN.table(&table(&[device], 60_000));
        assert!(
            lines[1].contains("pi (taken)") && lines[1].contains("192.0.2.7") && lines[1].contains("14m"),
            "{lines:?}"
        );
        assert!(!lines[1].contains('\u{1b}'), "{lines:?}");
    }
}
