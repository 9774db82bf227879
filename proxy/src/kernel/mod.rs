//! The kernel's part: it leads what containers send to virtual addresses here, and refuses it from everybody else.
//! Set up anew as a whole at each change, so what somebody has removed comes back and what is stale goes.

mod apply;
mod rules;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::control::LocalNetwork;
use crate::listen::{Ports, Redirected, serve_redirected};
use crate::shared::Shared;
use apply::Applied;
use rules::Rules;

/// What could not be set up is tried again after this long: a bridge may not be there yet.
const AGAIN: Duration = Duration::from_secs(2);
/// And after this long when it fails again and again.
const SELDOM: Duration = Duration::from_secs(30);
/// Tries before it is done more seldom.
const EAGER: u32 = 10;

/// Why containers are not served, if they are not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    pub(crate) fn text(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, shared: &Shared, new: Option<String>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *text != new {
            match &new {
                Some(reason) => warn!(reason, "virtual addresses do not work"),
                None => info!("virtual addresses work again"),
            }
            *text = new;
            shared.changed.notify_one();
        }
    }
}

/// Keeps the kernel and the listeners behind virtual addresses as the table wants them, until it is cancelled. `scope` names
/// our rules among those of others.
pub(crate) async fn keep(shared: Arc<Shared>, scope: String, trouble: Trouble) {
    let mut tables = shared.tables();
    let mut applied = Applied::new(scope);
    let mut listeners = Listeners::default();
    let mut failed = 0;
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let result = set_up(&shared, &table.wanted.networks, &mut applied, &mut listeners).await;
        drop(table);
        failed = if result.is_err() { failed + 1 } else { 0 };
        trouble.set(&shared, result.err());
        tokio::select! { // both may be cancelled
            changed = tables.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(if failed < EAGER { AGAIN } else { SELDOM }), if failed > 0 => (),
        }
    }
}

/// The listeners to which the rules lead. They exist only while rules do, which keep everybody else out.
#[derive(Debug, Default)]
struct Listeners(Option<(Ports, JoinSet<()>)>);

impl Listeners {
    fn open(&mut self, shared: &Arc<Shared>) -> io::Result<Ports> {
        if let Some((ports, _)) = &self.0 {
            return Ok(*ports);
        }
        let redirected = Redirected::open()?;
        let ports = redirected.ports()?;
        let mut task = JoinSet::new();
        task.spawn(serve_redirected(Arc::clone(shared), redirected));
        self.0 = Some((ports, task));
        Ok(ports)
    }
}

async fn set_up(
    shared: &Arc<Shared>,
    networks: &[LocalNetwork],
    applied: &mut Applied,
    listeners: &mut Listeners,
) -> Result<(), String> {
    let rules = if networks.is_empty() {
        Rules::default()
    } else {
        let opened = listeners.open(shared);
        Rules::of(networks, opened.map_err(|error| format!("cannot listen for containers: {error}"))?)
    };
    let result = applied.apply(rules).await;
    if !applied.guards() {
        // Streams that stand go on.
        listeners.0 = None;
    }
    result.map_err(|error| error.to_string())
}

/// Takes back what a proxy with this scope has set up.
pub(crate) async fn clear(scope: String) {
    if let Err(error) = Applied::new(scope).apply(Rules::default()).await {
        tracing::debug!(%error, "rules were left in the kernel");
    }
}
