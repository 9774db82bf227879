//! What the planner knows, as the API shows it. Pure.

mod change;
mod device;
mod explain;
mod what_if;
mod workload;

pub use change::service_changes;
pub use device::device;
pub use explain::explanation;
pub use what_if::what_if_lost;
pub use workload::{replica, replica_reason, service, stack_summary};
