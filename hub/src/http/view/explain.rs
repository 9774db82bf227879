//! Why a replica is where it is, as the API shows it.

use outrigger_api as api;
use outrigger_planner::{Explanation, Fleet, ReplicaExplanation, Score, Verdict};

use super::workload::{first_detail, reason};

/// An explanation as the API shows it.
#[must_use]
pub fn explanation(fleet: &Fleet, view: &Explanation) -> api::Explanation {
    let detail = |one: &ReplicaExplanation| fleet.replica(&one.replica).and_then(|seen| first_detail(&seen));
    api::Explanation {
        service: view.service.to_string(),
        notes: view.notes.clone(),
        replicas: view.replicas.iter().map(|one| replica(one, detail(one))).collect(),
    }
}

fn replica(view: &ReplicaExplanation, detail: Option<String>) -> api::ReplicaExplanation {
    let placed = view.placed.as_ref();
    let mut refusals = Vec::new();
    let mut candidates = Vec::new();
    for (device, verdict) in &view.devices {
        let device = device.to_string();
        match verdict {
            Verdict::Fits(score) => candidates.push(api::Candidate { device, score: parts(score) }),
            Verdict::Refused(reason) => refusals.push(api::Refusal { device, reason: reason.clone() }),
        }
    }
    api::ReplicaExplanation {
        replica: view.replica.to_string(),
        verdict: match (&view.waiting, placed) {
            (None, Some(_)) => api::Verdict::Placed,
            (Some(_), Some(_)) => api::Verdict::Held,
            (_, None) if candidates.is_empty() => api::Verdict::Pending,
            (_, None) => api::Verdict::Held,
        },
        device: placed.map(|(device, _)| device.to_string()),
        reason: match (&view.waiting, placed) {
            (Some(waiting), _) => waiting.to_string(),
            (None, Some((_, why))) => reason(why),
            (None, None) => "it has not been placed yet".to_owned(),
        },
        detail,
        score: placed.map(|(_, why)| parts(&why.score)).unwrap_or_default(),
        refusals,
        candidates,
    }
}

/// What is fewer the better becomes negative, so that more is better throughout.
fn parts(score: &Score) -> Vec<api::ScorePart> {
    let part = |name: &str, points: i64| api::ScorePart { name: name.to_owned(), points };
    let spread = score.spread.iter().map(|copies| part("spread", -i64::from(*copies)));
    let rest = [
        part("copies", -i64::from(score.copies)),
        part("free", i64::from(score.free)),
        part("load", -i64::from(score.load)),
        part("trouble", -i64::from(score.trouble)),
        part("image", i64::from(score.image)),
    ];
    spread.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use outrigger_planner::{Cause, Reason, Waiting};

    use super::*;

    #[test]
    fn a_replica_that_nobody_can_take_shows_every_refusal() {
        let view = ReplicaExplanation {
            replica: "shop/web.1".parse().unwrap(),
            placed: None,
            waiting: Some(Waiting::NoDevice),
            devices: vec![("pi".parse().unwrap(), Verdict::Refused("memory: 64 MiB free, 1 GiB reserved".into()))],
        };
        let shown = replica(&view, None);
        assert_eq!((shown.verdict, shown.reason.as_str()), (api::Verdict::Pending, "no device can take it"));
        assert_eq!(shown.refusals[0].reason, "memory: 64 MiB free, 1 GiB reserved");
    }

    #[test]
    fn the_parts_of_a_score_are_better_the_higher() {
        let score = Score { spread: vec![2], copies: 1, free: 900, load: 50, trouble: 10, image: 20 };
        let why = Reason { cause: Cause::Wanted, score };
        let view = ReplicaExplanation {
            replica: "shop/web.1".parse().unwrap(),
            placed: Some(("pi".parse().unwrap(), why)),
            waiting: None,
            devices: vec![],
        };
        let shown = replica(&view, None);
        let points: Vec<_> = shown.score.iter().map(|part| (part.name.as_str(), part.points)).collect();
        let wanted = [("spread", -2), ("copies", -1), ("free", 900), ("load", -50), ("trouble", -10), ("image", 20)];
        assert_eq!(points, wanted);
        assert_eq!((shown.verdict, shown.device.as_deref()), (api::Verdict::Placed, Some("pi")));
    }
}
