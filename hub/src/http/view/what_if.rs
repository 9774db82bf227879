//! What would become of a device's replicas, as the API shows it.

use std::time::Duration;

use outrigger_api as api;
use outrigger_planner::{Fate, IfLost, WhatIfLost};

/// What would become of a device's replicas, as the API shows it.
#[must_use]
pub fn what_if_lost(view: &WhatIfLost) -> api::WhatIfLost {
    api::WhatIfLost {
        device: view.device.to_string(),
        lost_after_ms: millis(view.after),
        safe_mode: view.safe_mode.clone(),
        replicas: view.replicas.iter().map(replica).collect(),
    }
}

fn replica(view: &IfLost) -> api::IfLost {
    let shown = |outcome, reason: String| api::IfLost {
        replica: view.replica.to_string(),
        outcome,
        device: None,
        after_ms: None,
        reason,
        refusals: Vec::new(),
    };
    match &view.fate {
        Fate::Done => shown(api::IfLostOutcome::Done, "it has completed".to_owned()),
        Fate::GoesOn(on) => api::IfLost {
            device: Some(on.to_string()),
            ..shown(api::IfLostOutcome::GoesOn, "another copy does its work".to_owned())
        },
        Fate::Moves { to, score, after } => {
            let reason = match score {
                Some(score) => format!("it has {} points there", score.points()),
                None => "a copy is prepared there".to_owned(),
            };
            api::IfLost {
                device: Some(to.to_string()),
                after_ms: Some(millis(*after)),
                ..shown(api::IfLostOutcome::Moves, reason)
            }
        }
        Fate::Waits { why, refusals } => {
            let refusals = refusals.iter().map(|(device, reason)| {
                let device = device.to_string();
                api::Refusal { device, reason: reason.clone() }
            });
            api::IfLost { refusals: refusals.collect(), ..shown(api::IfLostOutcome::Waits, why.to_string()) }
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
