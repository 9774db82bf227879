//! Published ports. One that is in use by another program is told and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outrigger_protocol::{PortProtocol, TakenPort};
use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{accept, listener, refuse};
use crate::dial::Request;
use crate::limits::Source;
use crate::serve::serve;
use crate::shared::Shared;
use crate::udp::{self, Leads, Port};

/// A port that was in use is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// Ports that are in use by others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    ports: Arc<Mutex<Vec<TakenPort>>>,
}

impl Taken {
    pub(crate) fn ports(&self) -> Vec<TakenPort> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, shared: &Shared, new: Vec<TakenPort>) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if *ports != new {
            for port in new.iter().filter(|port| !ports.contains(port)) {
                warn!(port = port.port, reason = port.reason, "a published port cannot be opened");
            }
            *ports = new;
            shared.changed.notify_one();
        }
    }
}

/// Opens and closes ports as the table wants, until it is cancelled.
pub(crate) async fn keep(shared: Arc<Shared>, taken: Taken) {
    let mut tables = shared.tables();
    let mut open: BTreeMap<(PortProtocol, u16), JoinSet<()>> = BTreeMap::new();
    loop {
        let wanted: BTreeSet<_> = tables.borrow_and_update().published().collect();
        // Dropped, a set ends its tasks and closes their listeners; connections go on.
        open.retain(|port, _| wanted.contains(port));
        let mut failed = vec![];
        for (protocol, port) in wanted.into_iter().filter(|port| !open.contains_key(port)).collect::<Vec<_>>() {
            match open_port(&shared, protocol, port) {
                Ok(tasks) => {
                    info!(port, ?protocol, "a published port is open");
                    open.insert((protocol, port), tasks);
                }
                Err(error) => failed.push(TakenPort { port, protocol, reason: error.to_string() }),
            }
        }
        let retry = !failed.is_empty();
        taken.set(&shared, failed);
        tokio::select! { // both may be cancelled
            changed = tables.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if retry => (),
        }
    }
}

fn open_port(shared: &Arc<Shared>, protocol: PortProtocol, port: u16) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    match protocol {
        PortProtocol::Tcp => {
            tasks.spawn(serve_port(Arc::clone(shared), listener((Ipv4Addr::UNSPECIFIED, port).into())?, port));
            match listener((Ipv6Addr::UNSPECIFIED, port).into()) {
                Ok(v6) => drop(tasks.spawn(serve_port(Arc::clone(shared), v6, port))),
                Err(error) if lacks_v6(&error) => (),
                Err(error) => return Err(error),
            }
        }
        PortProtocol::Udp => {
            let leads = Leads::Published(port);
            let v4 = Port::open((Ipv4Addr::UNSPECIFIED, port).into())?;
            tasks.spawn(udp::serve(Arc::clone(shared), v4, leads));
            match Port::open((Ipv6Addr::UNSPECIFIED, port).into()) {
                Ok(v6) => drop(tasks.spawn(udp::serve(Arc::clone(shared), v6, leads))),
                Err(error) if lacks_v6(&error) => (),
                Err(error) => return Err(error),
            }
        }
        PortProtocol::Sctp => return Err(io::Error::other("SCTP is not led to copies on other devices")),
    }
    Ok(tasks)
}

/// Whether the kernel has no IPv6, by build or by setting.
fn lacks_v6(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|lack| code == Some(lack.raw_os_error()))
}

async fn serve_port(shared: Arc<Shared>, listener: TcpListener, port: u16) {
    loop {
        let (stream, client) = accept(&listener).await;
        let found = shared.table().at_port(PortProtocol::Tcp, port);
        let permit = shared.limits.permit(Source::Address(client.ip()));
        let (Some((service, target)), Some(permit), Ok(dialled)) = (found, permit, stream.local_addr()) else {
            refuse(stream);
            continue;
        };
        let request = Request { client, dialled, network: None, protocol: PortProtocol::Tcp, port: target };
        tokio::spawn(serve(Arc::clone(&shared), stream, service, request, permit));
    }
}
