//! What the agent and the proxy say to each other over a Unix socket: each time the whole, never a change.

mod client;
pub(crate) mod frame;
mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use outrigger_protocol::{DeviceName, NetworkName, PlacementId, Routes, ServiceRef, TakenPort};
use serde::{Deserialize, Serialize};

pub use client::{Client, Speaking};
pub use frame::FrameError;
pub(crate) use server::{listen, serve};

/// All that the proxy is to do. A proxy whose agent has gone goes on with the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// This device.
    pub device: DeviceName,
    /// How to speak with other devices; none: only copies on this device are reached.
    pub mesh: Option<Mesh>,
    /// The networks of the fleet that exist on this device.
    pub networks: Vec<LocalNetwork>,
    /// The copies that run on this device.
    pub copies: Vec<LocalCopy>,
    /// What the hub says.
    pub routes: Routes,
}

/// How to speak with other devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Folder with the device's key, its certificate and the authorities; read again at each change of it.
    pub identity: PathBuf,
    /// Where other devices are listened to; 0 lets the kernel choose.
    pub port: u16,
    /// Host of the hub, which joins devices that cannot reach each other at [`Routes::relay_port`].
    pub hub: String,
}

/// A network of the fleet on this device: a bridge of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNetwork {
    /// Its name in the fleet.
    pub name: NetworkName,
    /// The bridge's interface.
    pub bridge: String,
    /// Its addresses of IPv4.
    pub v4: Subnet<Ipv4Addr>,
    /// Its addresses of IPv6; none: it has none.
    pub v6: Option<Subnet<Ipv6Addr>>,
    /// Services that are reached through it.
    pub services: Vec<Virtual>,
}

/// The addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet<A> {
    /// The first address of all.
    pub base: A,
    /// Length of its prefix in bits.
    pub prefix: u8,
    /// The bridge's own address: where containers find the name server.
    pub gateway: A,
    /// First address of the part that is kept for virtual addresses.
    pub virtual_base: A,
    /// Length of that part's prefix in bits.
    pub virtual_prefix: u8,
}

/// The virtual addresses of a service in a network. They stay the same as long as the network exists on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtual {
    /// Which service.
    pub service: ServiceRef,
    /// Its address of IPv4.
    pub v4: Ipv4Addr,
    /// Its address of IPv6, where the network has them.
    pub v6: Option<Ipv6Addr>,
}

/// A copy that runs on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalCopy {
    /// Which.
    pub placement: PlacementId,
    /// Of which service.
    pub service: ServiceRef,
    /// Its addresses, each with the network that it is one of; loopback without a network for one that shares the
    /// device's network.
    pub addresses: Vec<(Option<NetworkName>, IpAddr)>,
}

/// How the proxy does. Told when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// [`Routes::number`] of the routes in force.
    pub held: Option<u64>,
    /// The port on which other devices are listened to.
    pub mesh_port: Option<u16>,
    /// Published ports that could not be opened.
    pub taken: Vec<TakenPort>,
    /// Devices that are reached through the hub at present.
    pub relayed: Vec<DeviceName>,
    /// Copies that did not answer and get no requests for a while.
    pub ejected: Vec<PlacementId>,
    /// What does not work here and why; none: all does.
    pub trouble: Option<String>,
}
