//! The HTTP API: thin routes over [`HubHandle`], guarded, documented from the code.

mod compose;
mod devices;
mod document;
mod events;
mod fleet;
mod guard;
mod health;
mod lines;
mod logs;
mod page;
mod problem;
mod replicas;
mod routes;
mod server;
mod services;
mod stacks;
mod view;

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::handle::HubHandle;

/// Version of this hub, as answers say it.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Live streams (events and logs) at one time, of all clients.
const MAX_STREAMS: usize = 128;

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Api {
    hub: HubHandle,
    streams: Arc<Semaphore>,
    /// Changes when the hub stops: live streams end then.
    stopping: watch::Receiver<bool>,
}

/// Serves the API until `shutdown` ends. `names` are further host names by which the hub may be addressed.
///
/// # Errors
/// If the listener has no address.
pub async fn serve(
    listener: TcpListener,
    hub: HubHandle,
    names: &[String],
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let api = Api { hub, streams: Arc::new(Semaphore::new(MAX_STREAMS)), stopping };
    let router = routes::router(api, guard::Guard::new(listener.local_addr()?, names));
    let shutdown = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    server::serve(listener, router, shutdown).await;
    Ok(())
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::documented().1
}
