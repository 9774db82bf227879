//! Names: containers find services by them, and everything else where the device finds it.
//!
//! | name | leads to |
//! | --- | --- |
//! | `web`, and the aliases of `web` | the service's virtual addresses in the networks of the asking container |
//! | `web.shop`, `web.shop.outrigger.internal` | the same, whatever the stack of the asking container |
//! | `tasks.web`, and with the endings above | the copies on this device, by their own addresses; and, where there are copies on other devices, the virtual addresses, which lead to all |
//!
//! A virtual address for each copy on another device would be the other way for `tasks.`: it would cost addresses and
//! rules for each copy in the fleet on each device, and programs that ask for all copies (databases that form a cluster) need
//! addresses that the others know, too. So remote copies are reached through the service.
//!
//! It is no open resolver: it listens at the bridges' gateways only and answers nobody whose address is not of that bridge's
//! subnet.

mod answer;
mod forward;
mod limits;
pub(crate) mod message;
mod names;
mod resolvers;
mod serve;

pub use serve::run;
