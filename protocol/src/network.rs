//! The service network: which networks a container joins, and how a device reaches the copies of services.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{DeviceName, Epoch, FleetId, NetworkName, PlacementId, PortProtocol, ServiceRef, SessionNumber};

/// What a stack says about one of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name in the fleet.
    pub name: NetworkName,
    /// Whether its containers reach each other only, and nothing outside.
    pub internal: bool,
    /// Whether it has IPv6 addresses beside those of IPv4.
    pub ipv6: bool,
}

/// A network that a container joins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// Which.
    pub network: NetworkName,
    /// Names under which the service is found there, besides its own.
    pub aliases: Vec<String>,
}

/// Who opens a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PublishMode {
    /// Every device, and each leads to all copies.
    #[default]
    Ingress,
    /// The engine, on the devices where a copy runs, and each leads to that copy.
    Host,
}

/// How requests to a service are spread over its copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traffic {
    /// Whether a client stays with a copy.
    pub affinity: Affinity,
    /// Whether each connection to a copy begins with the client's address (PROXY protocol, version 2).
    pub proxy_protocol: bool,
    /// What is done again when a copy fails.
    pub retry: Retry,
}

/// Whether a client stays with a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Affinity {
    /// Each connection goes where there is least to do.
    #[default]
    None,
    /// Connections from one address go to one copy as long as it is ready.
    ClientAddress,
}

/// What is done again when a copy fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retry {
    /// Connecting: nothing of the client's has been sent yet.
    #[default]
    Connect,
    /// Also HTTP/1.1 requests that may be repeated (RFC 9110, 9.2.2) and have not been answered with a single byte.
    IdempotentHttp,
}

/// All that one device needs to reach the services that it may reach: the whole, never a change. Retained.
///
/// Within one connection the broker keeps their order, so the last one counts; one of a lower epoch than the device has
/// seen, or of another fleet, is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Whose word it is.
    pub fleet: FleetId,
    /// The hub's epoch.
    pub epoch: Epoch,
    /// Counts the device's routes since the start of the hub; told back in [`MeshStatus::held`].
    pub number: u64,
    /// Port of the hub that joins devices which cannot reach each other; none: there is no such help.
    pub relay_port: Option<u16>,
    /// Devices that [`Endpoint::peer`] and [`ServiceRoutes::callers`] speak of.
    pub peers: Vec<Peer>,
    /// In the order of their names.
    pub services: Vec<ServiceRoutes>,
    /// Devices that may come to the published ports of copies here; none: any of the fleet, as far as its certificate says
    /// so. In the order of their names.
    pub admitted: Option<Vec<DeviceName>>,
}

/// Another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, which its certificate must bear.
    pub device: DeviceName,
    /// Where it may be reached, the likeliest first; empty: through the hub only.
    pub addresses: Vec<IpAddr>,
    /// The port on which its proxy listens for other devices.
    pub port: u16,
}

/// One service as one device sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRoutes {
    /// Which.
    pub service: ServiceRef,
    /// The networks through which the device's containers reach it: those that it has in common with some copy here.
    pub networks: Vec<Attachment>,
    /// Ports that this device opens for it.
    pub published: Vec<IngressPort>,
    /// How requests are spread.
    pub traffic: Traffic,
    /// Its copies that take requests, or finish those they have.
    pub endpoints: Vec<Endpoint>,
    /// Devices that may reach every port of its copies here (indices into [`Routes::peers`]). To the ports that are
    /// published [`Routes::admitted`] may come.
    pub callers: Vec<u16>,
}

/// A port that every device opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IngressPort {
    /// On the devices.
    pub port: u16,
    /// Inside the containers.
    pub target: u16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
}

/// A copy of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Which.
    pub placement: PlacementId,
    /// The device that it runs on (index into [`Routes::peers`]); none: this one.
    pub peer: Option<u16>,
    /// Whether it takes new requests.
    pub state: EndpointState,
}

/// Whether a copy takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndpointState {
    /// It runs, and its healthcheck (if any) passes.
    Ready,
    /// It is about to be stopped: it finishes what it has.
    Draining,
}

/// How the service network does on one device. Told after each connection and when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// The connection that it was sent on.
    pub session: SessionNumber,
    /// [`Routes::number`] of the routes in force; none before the first.
    pub held: Option<u64>,
    /// Published ports that could not be opened here.
    pub taken: Vec<TakenPort>,
    /// Devices that are reached through the hub at present.
    pub relayed: Vec<DeviceName>,
    /// Copies that did not answer this device and get no requests from it for a while.
    pub ejected: Vec<PlacementId>,
    /// Why there is no service network here; none: it works, or nothing needs it.
    pub trouble: Option<String>,
}

/// A published port that could not be opened on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TakenPort {
    /// Which.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// Why, as the kernel says it.
    pub reason: String,
}
