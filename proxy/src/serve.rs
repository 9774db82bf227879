//! One client, from the moment at which it is known what it wants.

use std::sync::Arc;

use outrigger_protocol::{PlacementId, Retry};
use tokio::net::TcpStream;

use crate::clock;
use crate::dial::{Request, reach};
use crate::http;
use crate::limits::Permit;
use crate::shared::Shared;
use crate::stream::{End as _, join};
use crate::table::Service;

/// Leads the client to a copy, and ends when both have ended. A client that cannot be helped is told by a reset, never left
/// waiting.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut client: TcpStream,
    service: Arc<Service>,
    request: Request,
    _permit: Permit,
) {
    if service.traffic.retry == Retry::IdempotentHttp {
        return Box::pin(http::serve(shared, client, service, request)).await;
    }
    let mut tried: Vec<PlacementId> = vec![];
    // Boxed, because it needs ten times the room of a connection that stands.
    let reached = Box::pin(reach(&shared, &service, &request, &mut tried)).await;
    drop((request, tried));
    let (mut copy, lease) = match reached {
        Ok(reached) => (reached.stream, reached.lease),
        Err(error) => {
            shared.note_failure(&service.name, &error);
            return client.spoil();
        }
    };
    drop((shared, service));
    let ended = join(&mut client, &mut copy, |took| {
        lease.tell(|balancer, placement| balancer.answered(placement, took, clock::now()));
    });
    if ended.await.is_mute {
        lease.tell(|balancer, placement| balancer.stayed_mute(placement, clock::now()));
    }
}
