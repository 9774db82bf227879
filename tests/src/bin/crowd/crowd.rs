//! All devices of the crowd, in one process beside the hub's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outrigger_protocol::{DeviceName, PlacementId};
use outrigger_tests::clock::monotonic;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::device::{Order, Who, live};

/// What all devices count together.
#[derive(Debug)]
pub struct Shared {
    /// Connections that stand.
    pub connected: AtomicUsize,
    /// Connections that were made since the last look.
    pub connects: AtomicUsize,
    /// Containers that run.
    pub running: AtomicUsize,
    /// Containers that have ended.
    pub ended: AtomicU64,
    /// Containers that agents wanted to stop.
    pub stops: AtomicU64,
    /// Routes that devices were told.
    pub routes: AtomicU64,
    /// Whether devices tell what their routes hold.
    pub is_watching: AtomicBool,
    /// Where they tell it.
    pub seen: mpsc::UnboundedSender<Seen>,
    /// When each device's newest connection stood, counted from `began`, in milliseconds.
    stood_at: Vec<AtomicU64>,
    began: Instant,
}

/// A device has new routes.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub device: usize,
    /// When.
    pub at: Instant,
    /// The copies that get requests from it.
    pub ready: Vec<PlacementId>,
}

impl Shared {
    /// A device has a connection.
    pub fn connected(&self, device: usize) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(at) = self.stood_at.get(device) {
            at.store(now, Ordering::Relaxed);
        }
    }

    /// How long after `since` so many thousandths of the devices had their newest connection.
    pub fn stood_within(&self, since: Instant, permille: usize) -> Duration {
        let since = u64::try_from(since.duration_since(self.began).as_millis()).unwrap_or(0);
        let mut all: Vec<u64> = self.stood_at.iter().map(|at| at.load(Ordering::Relaxed)).collect();
        all.sort_unstable();
        let index = (all.len() * permille).div_ceil(1000).clamp(1, all.len().max(1)) - 1;
        Duration::from_millis(all.get(index).copied().unwrap_or(0).saturating_sub(since))
    }
}

/// The devices.
pub struct Crowd {
    /// What they count.
    pub shared: Arc<Shared>,
    /// What they see.
    pub seen: mpsc::UnboundedReceiver<Seen>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    _runtime: Runtime,
}

/// Name of a device.
pub fn name(number: usize) -> Result<DeviceName> {
    Ok(format!("device-{number:05}").parse()?)
}

impl Crowd {
    /// Switches on `count` devices, whose identities are below `states`.
    pub fn start(count: usize, states: &Path, heartbeat: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("cannot start the devices")?;
        let (seen, look) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            connected: AtomicUsize::new(0),
            connects: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            routes: AtomicU64::new(0),
            is_watching: AtomicBool::new(false),
            seen,
            stood_at: (0..count).map(|_| AtomicU64::new(0)).collect(),
            began: monotonic(),
        });
        let mut orders = Vec::with_capacity(count);
        for number in 0..count {
            let (sender, inbox) = mpsc::unbounded_channel();
            orders.push(sender);
            let name = name(number)?;
            let who = Who { number, state: states.join(name.as_str()), name, heartbeat };
            runtime.spawn(live(who, Arc::clone(&shared), inbox));
        }
        Ok(Self { shared, seen: look, orders, _runtime: runtime })
    }

    /// Tells one device something.
    pub fn order(&self, device: usize, order: Order) -> Result<()> {
        self.orders.get(device).context("there is no such device")?.send(order).context("the device has ended")
    }
}
