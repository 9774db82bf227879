//! `device what-if-lost`: where each replica of a device would go, and which would wait and why.

use outrigger_api::{IfLost, IfLostOutcome, WhatIfLost};

use crate::output::Look;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Failure, Output, amounts, row};

pub(super) fn tell(client: &Client, device: &str, out: &mut Output) -> Result<(), Failure> {
    let names = |answer: &WhatIfLost| answer.replicas.iter().map(|one| one.replica.clone()).collect();
    out.answer(&client.what_if_lost(device)?, names, lines)
}

fn lines(answer: &WhatIfLost, look: Look) -> Vec<String> {
    let name = look.paint.text(Tone::Strong, &answer.device);
    if answer.replicas.is_empty() {
        return vec![format!("{name} runs nothing; losing it would change nothing")];
    }
    let mut lines = look.table(&table(&answer.replicas));
    for one in answer.replicas.iter().filter(|one| !one.refusals.is_empty()) {
        lines.push(String::new());
        lines.push(format!("{} would find no device:", look.paint.text(Tone::Strong, &one.replica)));
        lines.extend(one.refusals.iter().map(|refusal| format!("  {}: {}", refusal.device, refusal.reason)));
    }
    lines.push(String::new());
    let count = |outcome| answer.replicas.iter().filter(|one| one.outcome == outcome).count();
    let (moves, waits) = (count(IfLostOutcome::Moves), count(IfLostOutcome::Waits));
    let after = amounts::age_ms(answer.lost_after_ms);
    lines.push(format!("{name} is lost after {after} of silence: {moves} would move, {waits} would wait"));
    if let Some(why) = &answer.safe_mode {
        lines.push(look.paint.text(Tone::Warning, &format!("safe mode: {why}")).to_string());
    }
    lines
}

fn table(replicas: &[IfLost]) -> Table {
    let mut table = Table::new(["REPLICA", "OUTCOME", "DEVICE", "AFTER", "REASON"]);
    for one in replicas {
        let (tone, outcome) = match one.outcome {
            IfLostOutcome::Moves => (Tone::Good, "moves"),
            IfLostOutcome::Waits => (Tone::Bad, "waits"),
            IfLostOutcome::GoesOn => (Tone::Good, "goes on"),
            IfLostOutcome::Done => (Tone::Dim, "done"),
            IfLostOutcome::Other => (Tone::Plain, "?"),
        };
        table.push(row![
            &one.replica,
            Cell::toned(tone, outcome),
            one.device.as_deref().unwrap_or_default(),
            one.after_ms.map(amounts::age_ms).unwrap_or_default(),
            &one.reason,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use outrigger_api::Refusal;

    use super::*;

    #[test]
    fn what_would_move_and_what_would_wait_is_told_with_reasons() {
        let one = |replica: &str, outcome, reason: &str| IfLost {
            replica: replica.into(),
            outcome,
            device: None,
            after_ms: None,
            reason: reason.into(),
            refusals: Vec::new(),
        };
        let refusals = vec![Refusal { device: "pi-3".into(), reason: "0.1 cores are free, 2 are wanted".into() }];
        let answer = WhatIfLost {
            device: "pi-2".into(),
            lost_after_ms: 4000,
            safe_mode: None,
            replicas: vec![
                IfLost { refusals, ..one("shop/big.1", IfLostOutcome::Waits, "no device can take it") },
                IfLost {
                    device: Some("pi-1".into()),
                    after_ms: Some(4000),
                    ..one("shop/web.2", IfLostOutcome::Moves, "it has 870 points there")
                },
            ],
        };
        let expected = "\
REPLICA      OUTCOME   DEVICE   AFTER   REASON
shop/big.1   waits                      no device can take it
shop/web.2   moves     pi-1     4.0s    it has 870 points there

shop/big.1 would find no device:
  pi-3: 0.1 cores are free, 2 are wanted

pi-2 is lost after 4.0s of silence: 1 would move, 1 would wait";
        assert_eq!(lines(&answer, Look::PLAIN).join("\n"), expected);
    }
}
