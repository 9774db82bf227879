//! What the planner knows, as the API shows it. Pure.

mod change;
mod device;
mod explain;
mod network;
mod prometheus;
mod targets;
mod traefik;
mod what_if;
mod workload;

pub use change::service_changes;
pub use device::device;
pub use explain::explanation;
pub use network::{endpoints, network_notes, with_network};
pub use prometheus::prometheus;
pub use traefik::traefik;
pub use what_if::what_if_lost;
pub use workload::{replica, replica_reason, service, stack_summary};
