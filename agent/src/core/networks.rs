//! The networks that containers join: made before the first container that needs them, removed after the last.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use outrigger_protocol::{Attachment, Moment, NetworkName};

use super::action::{Action, Outcome, Success};
use super::observed::Observed;
use super::track::pause;
use super::wanted::Wanted;
use crate::engine::{EngineError, Network};

/// First pause after a network could not be made or removed; it doubles up to that of containers.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The networks of our scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNetworks {
    /// Those that the engine has.
    pub there: BTreeMap<NetworkName, Network>,
    tracks: BTreeMap<NetworkName, NetworkTrack>,
    /// When they are to be looked at again; none: they are as they were told to be.
    relist_at: Option<Moment>,
}

/// What has gone wrong with a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct NetworkTrack {
    failures: u32,
    retry_at: Moment,
    reason: Option<String>,
}

impl KnownNetworks {
    /// The engine has told all of them.
    pub fn listed(&mut self, networks: Vec<Network>) {
        self.relist_at = None;
        self.there = networks.into_iter().map(|network| (network.spec.name.clone(), network)).collect();
    }

    /// One that was thought to be there is not.
    pub fn are_in_doubt(&mut self, now: Moment) {
        self.relist_at = Some(now);
    }

    /// The name servers of these networks; none where one of them is not there yet.
    #[must_use]
    pub fn name_servers(&self, wanted: &[Attachment]) -> Option<Vec<IpAddr>> {
        if self.relist_at.is_some() && !wanted.is_empty() {
            return None;
        }
        wanted.iter().map(|attachment| self.there.get(&attachment.network).map(Network::name_server)).collect()
    }

    /// When the next of those that could not be made is tried again, and why the last attempt failed.
    #[must_use]
    pub fn trouble(&self, wanted: &[Attachment]) -> Option<(Moment, String)> {
        let missing = wanted.iter().map(|attachment| &attachment.network).filter(|name| !self.there.contains_key(name));
        let track = missing.filter_map(|name| Some((name, self.tracks.get(name)?))).next();
        let (name, track) = track?;
        Some((track.retry_at, format!("network {name}: {}", track.reason.as_deref()?)))
    }

    /// When something is to be tried again.
    pub fn wake_at(&self) -> impl Iterator<Item = Moment> {
        self.tracks.values().map(|track| track.retry_at).chain(self.relist_at)
    }

    /// An action has ended; false where it is not about networks.
    pub fn done(&mut self, action: &Action, outcome: &Outcome, now: Moment) -> bool {
        match (action, outcome) {
            (Action::MakeNetwork(spec, _), Ok(Success::Made(network))) => {
                self.tracks.remove(&spec.name);
                self.there.insert(spec.name.clone(), Network::clone(network));
            }
            (Action::RemoveNetwork(name, _), Ok(_)) => {
                self.tracks.remove(name);
                self.there.remove(name);
            }
            (Action::ListNetworks, Ok(Success::Networks(networks))) => self.listed(networks.clone()),
            (Action::ListNetworks, _) => self.relist_at = Some(now + FIRST_PAUSE),
            (Action::MakeNetwork(spec, _), Err(error)) => self.failed(&spec.name, error, now),
            (Action::RemoveNetwork(name, _), Err(error)) => self.failed(name, error, now),
            (Action::MakeNetwork(..), Ok(_)) => (),
            (Action::Check(_) | Action::Pull(_) | Action::Create(_) | Action::Start(..) | Action::Stop(..), _) => {
                return false;
            }
            (Action::Remove(..) | Action::List | Action::Inspect(..) | Action::Lay(..) | Action::Clear(_), _) => {
                return false;
            }
        }
        true
    }

    fn failed(&mut self, name: &NetworkName, error: &EngineError, now: Moment) {
        let track = self.tracks.entry(name.clone()).or_default();
        if error.is_engine_down() {
            track.retry_at = now + FIRST_PAUSE;
            return;
        }
        track.failures = track.failures.saturating_add(1);
        track.retry_at = now + pause(track.failures, Some(FIRST_PAUSE));
        track.reason = Some(error.to_string());
        // A call that was not answered may have had its effect.
        if matches!(error, EngineError::TimedOut { .. }) {
            self.relist_at = Some(now);
        }
    }

    fn is_due(&self, name: &NetworkName, now: Moment) -> bool {
        self.tracks.get(name).is_none_or(|track| track.retry_at <= now)
    }
}

/// What is to be done about networks. They are made one at a time: each takes addresses that the next must not have.
#[must_use]
pub fn tend(wanted: &Wanted, observed: &Observed, now: Moment) -> Vec<Action> {
    let known = &observed.networks;
    let is_under_way = |is: fn(&Action) -> bool| observed.under_way.values().any(is);
    if known.relist_at.is_some_and(|at| at <= now) && !is_under_way(|action| matches!(action, Action::ListNetworks)) {
        return vec![Action::ListNetworks];
    }
    if is_under_way(|action| matches!(action, Action::MakeNetwork(..) | Action::RemoveNetwork(..))) {
        return Vec::new();
    }
    let superfluous = known.there.values().find(|network| {
        let name = &network.spec.name;
        let is_as_wanted = wanted.networks.get(name).is_some_and(|spec| *spec == network.spec);
        !is_as_wanted && known.is_due(name, now) && !is_used(name, wanted, observed)
    });
    if let Some(network) = superfluous {
        return vec![Action::RemoveNetwork(network.spec.name.clone(), network.id.clone())];
    }
    let missing =
        wanted.networks.values().find(|spec| !known.there.contains_key(&spec.name) && known.is_due(&spec.name, now));
    missing.map(|spec| Action::MakeNetwork(spec.clone(), wanted.fleet)).into_iter().collect()
}

/// Whether a container is in it, is just being put into it, or waits for it as it is.
fn is_used(name: &NetworkName, wanted: &Wanted, observed: &Observed) -> bool {
    let has = |attachments: &[Attachment]| attachments.iter().any(|one| one.network == *name);
    let joined = observed.containers.values().flat_map(|container| &container.joined);
    let mut created = observed.under_way.values().filter_map(|action| match action {
        Action::Create(new) => Some(&new.spec.networks),
        _ => None,
    });
    let is_waited_for =
        !wanted.networks.contains_key(name) && wanted.replicas.values().any(|one| has(&one.spec.networks));
    joined.into_iter().any(|joined| joined.network.as_ref() == Some(name))
        || created.any(|networks| has(networks))
        || is_waited_for
}
