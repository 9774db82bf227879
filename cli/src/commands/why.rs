//! `why`: why replicas are where they are, or wait, with every device's score or refusal.

use std::collections::BTreeSet;

use outrigger_api::{Explanation, ReplicaExplanation, ScorePart, Verdict};

use crate::args::Why;
use crate::output::Look;
use crate::resolve::{self, Target};
use crate::style::Tone;
use crate::table::{Cell, Table, wrapped};
use crate::{Client, Exit, Failure, Output};

pub(crate) fn run(client: &Client, args: &Why, out: &mut Output) -> Result<Exit, Failure> {
    let explanation = match resolve::target(client, &args.of)? {
        Target::Service(service) => client.explain_service(&service)?,
        Target::Replica { name, .. } => client.explain_replica(&name)?,
    };
    out.answer(&explanation, names, lines)?;
    Ok(Exit::Ok)
}

fn names(explanation: &Explanation) -> Vec<String> {
    explanation.replicas.iter().map(|replica| replica.replica.clone()).collect()
}

fn lines(explanation: &Explanation, look: Look) -> Vec<String> {
    let mut lines: Vec<String> =
        explanation.notes.iter().map(|note| look.paint.text(Tone::Warning, &format!("note: {note}"))).collect();
    for (names, replica) in grouped(&explanation.replicas) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(of_replica(&names, replica, look));
    }
    let legend = legend(&explanation.replicas, look);
    if !legend.is_empty() {
        lines.push(String::new());
        lines.extend(legend);
    }
    if explanation.replicas.is_empty() {
        lines.push(format!("{} wants no copies", look.paint.text(Tone::Strong, &explanation.service)));
    }
    lines
}

/// Replicas about which the same is to be said, such as all those that wait for the same, are told together.
fn grouped(replicas: &[ReplicaExplanation]) -> Vec<(String, &ReplicaExplanation)> {
    let same = |a: &ReplicaExplanation, b: &ReplicaExplanation| {
        ReplicaExplanation { replica: String::new(), ..a.clone() }
            == ReplicaExplanation { replica: String::new(), ..b.clone() }
    };
    let named = |group: &[ReplicaExplanation]| match group {
        [] => String::new(),
        [one] => one.replica.clone(),
        [first, .., last] => format!("{} to {} ({})", first.replica, last.replica, group.len()),
    };
    replicas.chunk_by(same).filter_map(|group| Some((named(group), group.first()?))).collect()
}

fn of_replica(names: &str, replica: &ReplicaExplanation, look: Look) -> Vec<String> {
    let (tone, verdict) = match (replica.verdict, &replica.device) {
        (Verdict::Placed, Some(device)) => (Tone::Good, format!("placed on {device}")),
        (Verdict::Placed, None) => (Tone::Good, "placed".into()),
        (Verdict::Pending, _) => (Tone::Bad, "pending".into()),
        (Verdict::Held, Some(device)) => (Tone::Warning, format!("held on {device}")),
        (Verdict::Held, None) => (Tone::Warning, "held".into()),
        (Verdict::Other, _) => (Tone::Plain, String::new()),
    };
    let mut lines = vec![format!("{}: {}", look.paint.text(Tone::Strong, names), look.paint.text(tone, &verdict))];
    let room = look.columns.map_or(usize::MAX, |columns| columns.saturating_sub(2));
    lines.extend(wrapped(&replica.reason, room).iter().map(|part| format!("  {}", look.paint.text(Tone::Plain, part))));
    if let Some(detail) = &replica.detail {
        let told = wrapped(&format!("now: {detail}"), room);
        lines.extend(told.iter().map(|part| format!("  {}", look.paint.text(Tone::Warning, part))));
    }
    let table = device_table(replica);
    if !table.is_empty() {
        lines.extend(look.table(&table.indented(2)));
    }
    lines
}

/// The columns of a score: how the hub calls the part, the heading, and what it means.
const COLUMNS: &[(&str, &str, &str)] = &[
    (
        "spread",
        "SAME GROUP",
        "copies of the service in this device's group of the spread preferences; fewer wins before all else",
    ),
    ("copies", "COPIES THERE", "copies of the service already on the device; fewer wins, before all points"),
    ("free", "ROOM", "points for processor time and memory left once it runs there; more is better"),
    ("load", "LOAD", "points for measured load, from 0 down; the device with the largest sum of points wins"),
    ("trouble", "TROUBLE", "points for heat, a weak supply, a full disk or a loss a moment ago, from 0 down"),
    ("image", "IMAGE", "points for having the image already"),
];

/// What the columns of all tables mean, once.
fn legend(replicas: &[ReplicaExplanation], look: Look) -> Vec<String> {
    let candidates = replicas.iter().flat_map(|replica| &replica.candidates).flat_map(|candidate| &candidate.score);
    let known: BTreeSet<&str> =
        replicas.iter().flat_map(|replica| &replica.score).chain(candidates).map(|part| part.name.as_str()).collect();
    let lines = COLUMNS.iter().filter(|(name, ..)| known.contains(name));
    lines.map(|(_, heading, meaning)| look.paint.text(Tone::Dim, &format!("{heading}: {meaning}"))).collect()
}

/// The heading of a part; one that we do not know has the hub's name for it.
fn column(part: &str) -> String {
    COLUMNS
        .iter()
        .find(|(name, ..)| *name == part)
        .map_or_else(|| part.to_uppercase(), |(_, heading, _)| (*heading).into())
}

/// Copies are counted; the hub has them negative, so that more is better throughout.
fn shown(part: &ScorePart) -> String {
    match part.name.as_str() {
        "copies" | "spread" => part.points.saturating_neg().to_string(),
        _ => part.points.to_string(),
    }
}

/// A line per device: the one chosen with the score of then, those that could take it with the score of now, and those
/// that cannot with the reason.
fn device_table(replica: &ReplicaExplanation) -> Table {
    let chosen = replica.device.as_deref().filter(|_| !replica.score.is_empty());
    let mut scored: Vec<(&str, &[ScorePart], &str)> = Vec::new();
    if let Some(device) = chosen {
        scored.push((device, &replica.score, "chosen"));
    }
    let others = replica.candidates.iter().filter(|candidate| chosen != Some(candidate.device.as_str()));
    scored.extend(others.map(|candidate| (candidate.device.as_str(), candidate.score.as_slice(), "could take it")));
    let mut parts: Vec<&str> = Vec::new();
    for part in scored.iter().flat_map(|(_, score, _)| score.iter()) {
        if !parts.contains(&part.name.as_str()) {
            parts.push(&part.name);
        }
    }
    let header = parts.iter().map(|part| column(part).to_owned());
    let mut table = Table::new(std::iter::once("DEVICE".to_owned()).chain(header).chain(["WHY".to_owned()]));
    for (device, score, word) in scored {
        let tone = if word == "chosen" { Tone::Good } else { Tone::Plain };
        let points = parts.iter().map(|name| {
            let part = score.iter().find(|part| part.name == *name);
            Cell::from(part.map(shown).unwrap_or_default())
        });
        table.push(std::iter::once(Cell::toned(tone, device)).chain(points).chain([Cell::toned(tone, word)]).collect());
    }
    // That the chosen device has the replica already is no news.
    for refusal in replica.refusals.iter().filter(|refusal| replica.device.as_ref() != Some(&refusal.device)) {
        let points = parts.iter().map(|_| Cell::default());
        let cells = std::iter::once(Cell::from(&refusal.device)).chain(points);
        table.push(cells.chain([Cell::toned(Tone::Warning, format!("no: {}", refusal.reason))]).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use outrigger_api::{Candidate, Refusal};

    use super::*;

    fn score(parts: &[(&str, i64)]) -> Vec<ScorePart> {
        parts.iter().map(|&(name, points)| ScorePart { name: name.into(), points }).collect()
    }

    #[test]
    fn each_device_has_its_score_or_its_refusal() {
        let refusal = |device: &str, reason: &str| Refusal { device: device.into(), reason: reason.into() };
        let placed = ReplicaExplanation {
            replica: "shop/web.1".into(),
            verdict: Verdict::Placed,
            device: Some("pi-1".into()),
            reason: "no copy of the service is there".into(),
            detail: Some("the engine has no log driver `nope`".into()),
            score: score(&[("copies", 0), ("free", 812), ("load", -40)]),
            refusals: vec![refusal("pi-1", "is there already"), refusal("pi-3", "needs amd64, is arm64")],
            candidates: vec![
                Candidate { device: "pi-1".into(), score: score(&[("copies", -1), ("free", 700)]) },
                Candidate { device: "pi-2".into(), score: score(&[("copies", -1), ("free", 650), ("image", 5)]) },
            ],
        };
        let pending = ReplicaExplanation {
            replica: "shop/web.2".into(),
            verdict: Verdict::Pending,
            device: None,
            reason: "no device can take it".into(),
            detail: None,
            score: Vec::new(),
            refusals: vec![refusal("pi-1", "has 64.0 MiB free, needs 1.0 GiB")],
            candidates: Vec::new(),
        };
        let explanation = Explanation {
            service: "shop/web".into(),
            notes: vec!["nothing moves: 3 of 4 devices are silent".into()],
            replicas: vec![
                placed,
                pending.clone(),
                ReplicaExplanation { replica: "shop/web.3".into(), ..pending.clone() },
                ReplicaExplanation { replica: "shop/web.4".into(), ..pending },
            ],
        };
        let expected = "\
note: nothing moves: 3 of 4 devices are silent

shop/web.1: placed on pi-1
  no copy of the service is there
  now: the engine has no log driver `nope`
  DEVICE   COPIES THERE   ROOM   LOAD   IMAGE   WHY
  pi-1     0              812    -40            chosen
  pi-2     1              650           5       could take it
  pi-3                                          no: needs amd64, is arm64

shop/web.2 to shop/web.4 (3): pending
  no device can take it
  DEVICE   WHY
  pi-1     no: has 64.0 MiB free, needs 1.0 GiB

COPIES THERE: copies of the service already on the device; fewer wins, before all points
ROOM: points for processor time and memory left once it runs there; more is better
LOAD: points for measured load, from 0 down; the device with the largest sum of points wins
IMAGE: points for having the image already";
        assert_eq!(lines(&explanation, Look::PLAIN).join("\n"), expected);
    }
}
