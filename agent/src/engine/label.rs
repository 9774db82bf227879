//! The labels that make a container ours and say what it is; an agent without its state finds all it needs in them.

use outrigger_protocol::PlacementId;

/// Whose it is: the agent's scope, by default the device's name. What has another scope, or none, is never touched.
pub const SCOPE: &str = "outrigger.scope";
/// The placement, in hexadecimal.
pub const PLACEMENT: &str = "outrigger.placement";
/// The fleet, in hexadecimal.
pub const FLEET: &str = "outrigger.fleet";
/// The replica, such as `shop/web.2`.
pub const REPLICA: &str = "outrigger.replica";
/// The stack.
pub const STACK: &str = "outrigger.stack";
/// The service.
pub const SERVICE: &str = "outrigger.service";
/// The network's name in the fleet.
pub const NETWORK: &str = "outrigger.network";
/// [`super::LossLabel`].
pub const LOSS: &str = "outrigger.loss";

/// The placement that the label [`PLACEMENT`] names.
#[must_use]
pub fn placement(text: &str) -> Option<PlacementId> {
    u64::from_str_radix(text, 16).ok().map(PlacementId)
}
