//! What a commit changed, told to people: one by one where it is little, in sums where it is much. An event for each of a
//! hundred thousand replicas would push everything else out of the log.

use std::collections::BTreeMap;

use outrigger_protocol::{ReplicaName, ServiceRef};

use crate::note::{Note, NoteKind};
use crate::plan::{Cause, Change, Waiting};
use crate::record::Stage;

/// Events of one sort are told one by one up to this number in one commit, the rest in one sentence.
const MOST_TOLD: usize = 200;
/// Replicas of one service that begin to wait in one commit are told one by one up to this number, more in one event.
const FEW: usize = 5;

/// What has become of replicas: what was dropped, what waits, what was placed.
pub(crate) fn replicas(changes: &[Change]) -> Vec<Note> {
    let mut notes = bounded(changes.iter().filter_map(dropped), |more| {
        Note::new(NoteKind::ReplicaDropped, format!("{more} more replicas are taken from their devices"))
    });
    notes.extend(pending(changes));
    notes.extend(bounded(changes.iter().filter_map(placed), |more| {
        Note::new(NoteKind::ReplicaPlaced, format!("{more} more replicas are placed"))
    }));
    notes
}

fn dropped(change: &Change) -> Option<Note> {
    let Change::Drop { replica, device, why, .. } = change else { return None };
    let text = format!("{replica} is taken from {device}");
    Some(Note::of_replica(NoteKind::ReplicaDropped, replica, text).on(device).because(why.to_string()))
}

fn placed(change: &Change) -> Option<Note> {
    let Change::Place { replica, device, stage: Stage::Run, reason, .. } = change else { return None };
    let (kind, text) = match reason.cause {
        Cause::Wanted => (NoteKind::ReplicaPlaced, format!("{replica} is placed on {device}")),
        _ => (NoteKind::ReplicaMoved, format!("{replica} is started on {device}")),
    };
    Some(Note::of_replica(kind, replica, text).on(device).because(reason.cause.to_string()))
}

fn pending(changes: &[Change]) -> Vec<Note> {
    let mut waiting: BTreeMap<&ServiceRef, Vec<(&ReplicaName, &Waiting)>> = BTreeMap::new();
    for change in changes {
        if let Change::Pending { replica, why: Some(why) } = change {
            waiting.entry(&replica.service).or_default().push((replica, why));
        }
    }
    let notes = waiting.into_iter().flat_map(|(service, replicas)| match replicas.as_slice() {
        [(first, why), ..] if replicas.len() > FEW => {
            let text = format!("{} replicas of {service} are pending, the first of them {first}", replicas.len());
            vec![Note::of_service(NoteKind::ReplicaPending, service, text).because(why.to_string())]
        }
        // Most reasons begin with "waits" themselves.
        few => few.iter().map(|(replica, why)| pends(replica, why)).collect(),
    });
    bounded(notes, |more| {
        let text = format!("{more} more events tell of replicas that are pending; `outrigger ps` lists them");
        Note::new(NoteKind::ReplicaPending, text)
    })
}

fn pends(replica: &ReplicaName, why: &Waiting) -> Note {
    Note::of_replica(NoteKind::ReplicaPending, replica, format!("{replica} is pending")).because(why.to_string())
}

/// So many of them, and one about how many more there are.
fn bounded(mut notes: impl Iterator<Item = Note>, rest: impl FnOnce(usize) -> Note) -> Vec<Note> {
    let mut told: Vec<Note> = notes.by_ref().take(MOST_TOLD).collect();
    let more = notes.count();
    if more > 0 {
        told.push(rest(more));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending_change(service: usize, number: usize) -> Change {
        let replica = format!("shop/s{service}.{number}").parse().unwrap();
        Change::Pending { replica, why: Some(Waiting::NoDevice) }
    }

    #[test]
    fn a_hundred_thousand_waiting_replicas_are_one_event_for_each_service() {
        let changes: Vec<Change> = (1..=100_000).map(|number| pending_change(1, number)).collect();
        let notes: Vec<String> = replicas(&changes).iter().map(ToString::to_string).collect();
        let wanted = "100000 replicas of shop/s1 are pending, the first of them shop/s1.1: no device can take it";
        assert_eq!(notes, [wanted]);
    }

    #[test]
    fn a_few_waiting_replicas_are_told_one_by_one() {
        let notes = replicas(&[pending_change(1, 1), pending_change(1, 2)]);
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[1].replica.as_ref().unwrap().to_string(), "shop/s1.2");
    }

    #[test]
    fn events_of_ten_thousand_services_have_an_end() {
        let changes: Vec<Change> = (1..=10_000).map(|service| pending_change(service, 1)).collect();
        let notes = replicas(&changes);
        assert_eq!(notes.len(), MOST_TOLD + 1);
        assert!(notes[MOST_TOLD].message.starts_with("9800 more"));
    }
}
