//! Datagrams: what one client sends to one port is a flow, which stays with one copy until nobody has said anything for a
//! while or the copy refuses.

mod conntrack;
mod flow;
mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_protocol::{NetworkName, PortProtocol};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::dial::Request;
use crate::limits::Source;
use crate::shared::Shared;
use crate::table::Service;

pub(crate) use flow::carry;
pub(crate) use socket::{Port, Way};

/// The longest datagram.
pub(crate) const LONGEST: usize = 65_535;
/// Datagrams of one flow that may wait until its copy is known. More are lost, as in any queue.
const WAITING: usize = 32;

/// What a port leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leads {
    /// A published port.
    Published(u16),
    /// Whatever the kernel leads to this port from virtual addresses.
    Redirected(u16),
}

/// Serves a port until it is cancelled.
pub(crate) async fn serve(shared: Arc<Shared>, port: Port, leads: Leads) {
    let port = Arc::new(port);
    let mut flows: HashMap<Way, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let (end, mut ended) = mpsc::unbounded_channel::<Way>();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, way) = tokio::select! { // both may be cancelled: a datagram is taken at once or not at all
            Some(way) = ended.recv() => {
                // Another flow of the same client may have begun since.
                if flows.get(&way).is_some_and(mpsc::Sender::is_closed) {
                    flows.remove(&way);
                }
                continue;
            }
            received = port.receive(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "a datagram could not be received");
                    continue;
                }
            },
        };
        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
        let datagram = match flows.get(&way).map(|flow| flow.try_send(datagram)) {
            Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => continue,
            Some(Err(mpsc::error::TrySendError::Closed(datagram))) => datagram,
            None => buffer.get(..length).unwrap_or_default().to_vec(),
        };
        let Some((service, request)) = asked(&shared, way, leads) else { continue };
        let Some(permit) = shared.limits.permit(Source::Address(way.client.ip())) else { continue };
        let (give, datagrams) = mpsc::channel(WAITING);
        let _ = give.try_send(datagram); // there is room for it
        flows.insert(way, give);
        let (shared, port, end) = (Arc::clone(&shared), Arc::clone(&port), end.clone());
        tokio::spawn(async move {
            flow::run(shared, service, request, datagrams, |datagram| port.answer(way, datagram)).await;
            drop(permit);
            let _ = end.send(way); // nobody listens: the port is closed
        });
    }
}

/// What the client wants. None: it may not, or there is no such thing.
fn asked(shared: &Shared, way: Way, leads: Leads) -> Option<(Arc<Service>, Request)> {
    let table = shared.table();
    let request = |dialled: u16, network: Option<NetworkName>, port: u16| Request {
        client: SocketAddr::new(way.client.ip().to_canonical(), way.client.port()),
        dialled: SocketAddr::new(way.here, dialled),
        network,
        protocol: PortProtocol::Udp,
        port,
    };
    match leads {
        Leads::Published(port) => {
            let (service, target) = table.at_port(PortProtocol::Udp, port)?;
            Some((service, request(port, None, target)))
        }
        Leads::Redirected(ours) => {
            let found = table.at_address(way.here, way.client.ip())?;
            match conntrack::asked_port(way, ours) {
                Ok(port) => Some((found.service, request(port, Some(found.network), port))),
                Err(error) => {
                    warn!(%error, client = %way.client, "cannot find out which port a datagram was sent to");
                    None
                }
            }
        }
    }
}
