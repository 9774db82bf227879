//! What a campaign must have reached: a simulator that never gets into trouble proves nothing.

use std::collections::BTreeMap;

/// How often what was reached.
#[derive(Debug, Clone, Default)]
pub struct Sometimes {
    counts: BTreeMap<&'static str, u64>,
}

/// What every campaign of some hundred seeds reaches.
pub const MUST_BE_REACHED: [&str; 29] = [
    "a lease ran out under a partition",
    "an exclusive copy was replaced",
    "the hub was restarted in the middle of a move",
    "the hub crashed between two effects",
    "two copies of an available replica were alive at once",
    "safe mode was entered",
    "a device was lost and its copies replaced",
    "a confirmed message came twice",
    "a connection was taken over",
    "a cut link came back before anybody noticed",
    "the hub missed the broker",
    "an agent could not save",
    "the hub could not save",
    "a device booted without the hub",
    "an agent adopted running containers",
    "a container was killed for memory",
    "a pull failed",
    "a copy kept failing and was placed elsewhere",
    "a roll went on while a device was away",
    "a stack was removed while one of its devices was away",
    "the file of an agent was damaged",
    "the time of day jumped",
    "a hub was started without its store",
    "a device refused the hub of another fleet",
    "a confirmed status was lost",
    "agents had heartbeats of their own",
    "a service waited for what it depends on",
    "a device was told its routes",
    "a copy drained",
];

impl Sometimes {
    /// It was reached (again).
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Adds what another run has reached.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// What must be reached and was not.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        MUST_BE_REACHED.into_iter().filter(|what| !self.counts.contains_key(what)).collect()
    }

    /// All that was reached, with how often.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}
