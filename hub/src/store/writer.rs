//! The one thread that writes the store: a disk may stall for seconds, and nothing else may wait for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use outrigger_api::Event;
use outrigger_planner::Record;
use tokio::sync::{mpsc, oneshot};

use super::Store;
use super::side::{Side, SideRecord};
use crate::core::BatchId;

/// Orders that may wait: one batch is under way at a time, the rest are backups and events.
const ORDERS: usize = 16;

/// Gives orders to the writing thread. The thread ends when this is dropped and all orders are done.
#[derive(Debug)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How an order ended.
#[derive(Debug)]
pub struct Written {
    /// Which batch; none: events alone.
    pub batch: Option<BatchId>,
    /// Why not, if not: in one line.
    pub result: Result<(), String>,
}

pub(super) enum Order {
    Side { records: Vec<SideRecord>, reply: oneshot::Sender<Result<(), String>> },
    Save { batch: Option<BatchId>, records: Vec<Record>, events: Vec<Arc<Event>> },
    Backup(mpsc::Sender<io::Result<Bytes>>),
}

impl Writer {
    /// Starts the thread. What it has written comes out of the receiver.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(store: Store) -> io::Result<(Self, mpsc::Receiver<Written>)> {
        let (orders, queue) = mpsc::channel(ORDERS);
        let (done, written) = mpsc::channel(ORDERS);
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || work(store, queue, &done))?;
        Ok((Self { orders, thread: Some(thread) }, written))
    }

    /// Has a batch and events made durable.
    pub async fn save(&self, batch: Option<BatchId>, records: Vec<Record>, events: Vec<Arc<Event>>) {
        // The thread ends only with us.
        let _ = self.orders.send(Order::Save { batch, records, events }).await;
    }

    /// Saves side records, beside the batches.
    #[must_use]
    pub fn side(&self) -> Side {
        Side { orders: self.orders.downgrade() }
    }

    /// Has everything read into `chunks`.
    pub async fn backup(&self, chunks: mpsc::Sender<io::Result<Bytes>>) {
        let _ = self.orders.send(Order::Backup(chunks)).await;
    }

    /// Waits until all orders are done and the file is closed.
    pub async fn finish(mut self) {
        let thread = self.thread.take();
        drop(self);
        let _ = tokio::task::spawn_blocking(move || thread.map(thread::JoinHandle::join)).await;
    }
}

fn work(mut store: Store, mut queue: mpsc::Receiver<Order>, done: &mpsc::Sender<Written>) {
    while let Some(order) = queue.blocking_recv() {
        match order {
            Order::Save { batch, records, events } => {
                let result = store.save(&records, &events).map_err(|error| one_line(&error));
                // Nobody listens any more only when the hub stops.
                let _ = done.blocking_send(Written { batch, result });
            }
            Order::Side { records, reply } => {
                // Who asked may have gone away; it is saved all the same.
                let _ = reply.send(store.save_side(&records).map_err(|error| one_line(&error)));
            }
            Order::Backup(chunks) => back_up(&mut store, chunks),
        }
    }
}

/// In a thread of its own: a client that reads slowly must not keep anything from being saved.
fn back_up(store: &mut Store, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let snapshot = store.snapshot();
    let work = move || {
        let mut pipe = Pipe(chunks);
        if let Err(error) = snapshot.and_then(|snapshot| snapshot.write(&mut pipe)) {
            let _ = pipe.0.blocking_send(Err(io::Error::other(one_line(&error))));
        }
    };
    if let Err(error) = thread::Builder::new().name("backup".to_owned()).spawn(work) {
        // The client sees that the stream ends too early.
        tracing::error!(%error, "cannot start a thread for a backup");
    }
}

fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries print the cause inside their own message as well.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Hands bytes to an asynchronous reader.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
