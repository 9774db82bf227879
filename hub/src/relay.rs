//! Where devices meet that cannot reach each other. Who may be there is who may be at the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_proxy::relay::{Door, serve};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::warn;

use crate::pki::Pki;

/// Starts it, and says where it is. A hub without it is better than none: devices that reach each other do not need it.
pub(crate) async fn start(pki: &Pki, address: SocketAddr, helpers: &mut JoinSet<()>) -> Option<SocketAddr> {
    let bound = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    match bound {
        Ok((bound, listener)) => {
            let (tls, allow) = (pki.server_tls().clone(), pki.allow().clone());
            let changes = allow.changes();
            let admission = move |device: &_, key: &_| allow.check(device, key).is_ok();
            let door = Door { tls: Arc::new(move || tls.mqtt()), admission: Arc::new(admission), changes };
            helpers.spawn(serve(listener, door));
            Some(bound)
        }
        Err(error) => {
            warn!(%address, %error, "devices that cannot reach each other will not meet here: the port cannot be opened");
            None
        }
    }
}
