//! Side records: what must survive and is no part of the fleet, such as who may connect, invites, tokens.
//!
//! They are kept in the same file as the fleet, are in its backups, and are saved by the same thread. Who owns a table
//! decides what its keys and values mean.

use std::collections::BTreeMap;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::writer::Order;

pub(super) const SIDE: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("side");

/// What one side record becomes; no value: it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRecord {
    /// Which table.
    pub table: String,
    /// Which record of it.
    pub key: String,
    /// What it is.
    pub value: Option<Vec<u8>>,
}

/// All side records at the start: table, key, value.
pub type SideTables = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Saves side records. Cheap to clone; does not keep the store open.
#[derive(Debug, Clone)]
pub struct Side {
    pub(super) orders: mpsc::WeakSender<Order>,
}

/// Why a side record was not saved. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SideError {
    /// The store cannot save.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
}

impl Side {
    /// Saves one record, or removes it. When it returns, that is durable.
    ///
    /// # Errors
    /// If it cannot be saved.
    pub async fn save(&self, table: &str, key: &str, value: Option<Vec<u8>>) -> Result<(), SideError> {
        self.save_all(vec![SideRecord { table: table.to_owned(), key: key.to_owned(), value }]).await
    }

    /// Saves several records, all or none.
    ///
    /// # Errors
    /// If they cannot be saved.
    pub async fn save_all(&self, records: Vec<SideRecord>) -> Result<(), SideError> {
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.upgrade().ok_or(SideError::Stopping)?;
        orders.send(Order::Side { records, reply }).await.map_err(|_| SideError::Stopping)?;
        drop(orders);
        answer.await.map_err(|_| SideError::Stopping)?.map_err(SideError::ReadOnly)
    }
}

pub(super) fn write(database: &Database, records: &[SideRecord]) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut side = writing.open_table(SIDE)?;
        for SideRecord { table, key, value } in records {
            match value {
                Some(value) => drop(side.insert((table.as_str(), key.as_str()), value.as_slice())?),
                None => drop(side.remove((table.as_str(), key.as_str()))?),
            }
        }
    }
    writing.commit()?;
    Ok(())
}

/// Gives each record to `take`. A store of an earlier release has none.
pub(super) fn each(
    reading: &redb::ReadTransaction,
    mut take: impl FnMut(&str, &str, &[u8]) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let side = match reading.open_table(SIDE) {
        Ok(side) => side,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in side.iter()? {
        let (key, value) = entry?;
        let (table, key) = key.value();
        take(table, key, value.value())?;
    }
    Ok(())
}

pub(super) fn read(database: &Database) -> Result<SideTables, redb::Error> {
    let mut tables = SideTables::new();
    each(&database.begin_read()?, |table, key, value| {
        tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_vec());
        Ok(())
    })?;
    Ok(tables)
}
