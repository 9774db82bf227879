//! What should run where, and why. Pure: no clock, no disk, no network, no log, no chance; time is an argument.
//!
//! The hub's one task owns a [`Fleet`]. It tells it what is heard ([`Fleet::hear`]) and wished ([`Fleet::check`], save,
//! [`Fleet::wish`]), then plans and commits until nothing is left to do ([`Fleet::settle`]), saves the records, and only
//! then publishes the assignments of the changed devices.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod commit;
mod device;
mod even;
mod explain;
mod filter;
mod fleet;
mod foreign;
mod global;
mod hear;
mod index;
mod liveness;
mod load;
mod mesh;
#[cfg(test)]
mod model;
mod need;
mod networks;
mod note;
mod observe;
mod owners;
mod plan;
mod policy;
mod put;
mod reconcile;
mod record;
mod rollout;
mod safe_mode;
mod save;
mod score;
mod scratch;
mod search;
mod service;
mod show;
mod slot;
mod standing;
mod table;
mod tell;
mod view;
mod volumes;
mod what_if;
mod wish;
mod wishes;

pub use explain::{Explanation, ReplicaExplanation, Verdict};
pub use fleet::Fleet;
pub use hear::{Heard, Reply};
pub use mesh::EndpointView;
pub use note::{Note, NoteKind, Severity};
pub use plan::{Alarm, Cause, Change, Committed, DropCause, Liveness, Plan, Reason, RollStep, Waiting};
pub use policy::{LabelRule, Policy, Rebalance};
pub use reconcile::reconcile;
pub use record::{DeviceRecord, Key, MetaRecord, PlacementRecord, Record, ServiceRecord, StackRecord, Stage, Value};
pub use save::Restored;
pub use score::Score;
pub use view::{CopyView, DeviceView, ReplicaView, RollState, RollView, ServiceView, StackView, Totals};
pub use what_if::{Fate, IfLost, WhatIfLost};
pub use wish::{Availability, MAX_REPLICAS, Refusal, Wish};
