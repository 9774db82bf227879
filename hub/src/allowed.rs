//! Which devices may connect, for commands of `outrigger-hub`: from the store, or from the hub that has it open.

use outrigger_api::AllowedDevices;
use outrigger_protocol::{DeviceName, NameError};
use thiserror::Error;

use crate::config::Config;
use crate::http::local::{self, LocalError};
use crate::pki::{Unreadable, allowed_in};
use crate::store::{Store, StoreError};

/// Why that is not known.
#[derive(Debug, Error)]
pub enum AllowedError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it.
    #[error(transparent)]
    List(#[from] Unreadable),
    /// The hub that runs.
    #[error(transparent)]
    Hub(#[from] LocalError),
    /// Its answer.
    #[error("the hub's answer makes no sense")]
    Answer(#[source] reqwest::Error),
    /// A name in it.
    #[error("the hub's answer makes no sense")]
    Name(#[from] NameError),
}

/// All that may connect, by their names.
///
/// # Errors
/// If neither the store nor its hub can be read.
pub async fn allowed(config: &Config) -> Result<Vec<DeviceName>, AllowedError> {
    match Store::open_existing(&config.state_dir) {
        Ok(mut store) => Ok(allowed_in(&store.load()?.side)?),
        Err(StoreError::InUse { .. }) => {
            let answer = local::ask(&config.state_dir, reqwest::Method::GET, "/v1/devices/allowed").await?;
            let list: AllowedDevices = answer.json().await.map_err(AllowedError::Answer)?;
            Ok(list.devices.iter().map(|name| name.parse()).collect::<Result<_, _>>()?)
        }
        Err(error) => Err(error.into()),
    }
}
