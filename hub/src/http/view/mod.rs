//! What the planner knows, as the API shows it. Pure.

mod change;
mod device;
mod explain;
mod workload;

pub use change::service_changes;
pub use device::device;
pub use explain::explanation;
pub use workload::{replica, replica_reason, service, stack_summary};
