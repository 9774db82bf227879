//! Which fleet this device belongs to, and so whose word counts.
//!
//! A hub that was started with an empty store sends assignments that look like those of the right one, and they say that
//! nothing is to run. So each assignment names its fleet, and a device that holds an assignment or containers of one fleet
//! obeys no other. Only `outrigger-agent leave` ends that: no message can.

use outrigger_protocol::FleetId;

use super::observed::Observed;

/// What is to be done with an assignment of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loyalty {
    /// It is obeyed.
    Obeys,
    /// It is not: the device belongs to this fleet.
    BelongsTo(FleetId),
    /// Nobody can say before the engine has been looked at: containers may be left of a fleet whose assignment is lost.
    Unknown,
}

/// Whether an assignment of `asking` is obeyed by a device that holds an assignment of `held`.
#[must_use]
pub fn loyalty(held: Option<FleetId>, observed: &Observed, asking: FleetId) -> Loyalty {
    if let Some(held) = held {
        return if held == asking { Loyalty::Obeys } else { Loyalty::BelongsTo(held) };
    }
    if !observed.has_listed {
        return Loyalty::Unknown;
    }
    let mut owners = observed.containers.values().filter_map(|container| container.fleet);
    owners.find(|owner| *owner != asking).map_or(Loyalty::Obeys, Loyalty::BelongsTo)
}

/// The fleet that the device belongs to, as far as is known; none: it takes the first.
#[must_use]
pub fn fleet_of(held: Option<FleetId>, observed: &Observed) -> Option<FleetId> {
    held.or_else(|| observed.containers.values().find_map(|container| container.fleet))
}
