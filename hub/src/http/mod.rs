//! The HTTP API: thin routes over [`HubHandle`], guarded, documented from the code.

mod access;
mod admit;
mod compose;
mod cookie;
mod devices;
mod document;
mod events;
mod fleet;
mod guard;
mod health;
mod join;
mod knock;
mod lines;
pub mod local;
mod logs;
mod network;
mod page;
mod problem;
mod replicas;
mod routes;
mod secrets;
mod server;
mod services;
mod sessions;
mod stacks;
mod users;
mod view;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

pub use server::Door;
use server::Listener;

use crate::access::Access;
use crate::handle::HubHandle;

/// Version of this hub, as answers say it.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Live streams (events and logs) at one time, of all clients.
const MAX_STREAMS: usize = 128;

/// What the routes share.
#[derive(Debug, Clone)]
pub struct Api {
    hub: HubHandle,
    access: Access,
    streams: Arc<Semaphore>,
    /// Changes when the hub stops: live streams end then.
    stopping: watch::Receiver<bool>,
}

/// When a live stream ends before its reader goes away.
struct Ends {
    stopping: watch::Receiver<bool>,
    /// The reader's token no longer counts.
    caller: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Ends {
    async fn reached(&mut self) {
        // Both may be cancelled: neither is forgotten once it is so.
        tokio::select! {
            _ = self.stopping.wait_for(|stops| *stops) => (),
            () = &mut self.caller => (),
        }
    }
}

/// Serves the API until `shutdown` ends. `local` is the socket in the state folder.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    local: Option<UnixListener>,
    hub: HubHandle,
    access: Access,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let api = Api { hub, access, streams: Arc::new(Semaphore::new(MAX_STREAMS)), stopping: stopping.clone() };
    let guard = guard::Guard::new(&door);
    let router = routes::router(api, guard);
    let stopped = |mut stopping: watch::Receiver<bool>| async move { drop(stopping.wait_for(|stops| *stops).await) };
    let network = server::serve(Listener::Network(listener, door), router.clone(), stopped(stopping.clone()));
    let local = async {
        if let Some(local) = local {
            server::serve(Listener::Local(local), router, stopped(stopping)).await;
        }
    };
    let shutdown = async {
        shutdown.await;
        stop.send_replace(true);
    };
    tokio::join!(shutdown, network, local);
}

/// What the first administrator does with a setup code.
pub(crate) fn words_with_code(hub: &HubHandle, code: &outrigger_trust::Token) -> String {
    let http = hub.addresses().http;
    setup_words(http, || join::places(hub.pki()?, None).into_iter().next(), code)
}

/// The same for a hub that listens here, on a machine of this name: where it listens on one address alone, no other leads to it.
#[must_use]
pub fn setup_words(http: SocketAddr, name: impl FnOnce() -> Option<String>, code: &outrigger_trust::Token) -> String {
    let at = match http.ip() {
        ip if ip.is_loopback() => format!("localhost:{}", http.port()),
        ip if ip.is_unspecified() => format!("{}:{}", name().unwrap_or_else(|| "localhost".to_owned()), http.port()),
        _ => http.to_string(),
    };
    let code = code.reveal();
    format!(
        "To become administrator, within an hour and once, on any machine that reaches this one:\n\n    \
         outrigger login https://{at} --setup-code {code}\n\n\
         `outrigger-hub setup-code` prints a new code."
    )
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::documented().1
}
