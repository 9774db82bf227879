//! Docker Engine and Podman over their Unix socket. The oldest engine that must work is Docker 20.10 (API 1.41).
//!
//! Every request opens its own connection, so an engine that restarts needs no reconnection here, and a request that
//! hangs holds nothing up. Paths carry no API version: each engine answers in its own, and ignores fields it is too old
//! for.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, RemoveImageOptions, StopContainerOptions,
};
use outrigger_protocol::{DeviceName, LogChunk, Login, LogsRequest, Platform};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::files::FilesDir;
use crate::policy::Policy;

use super::{
    Container, ContainerId, Description, Engine, EngineError, EngineEvent, Network, NetworkId, Networks, NewContainer,
    NewNetwork, PullProgress,
};

mod allow;
mod ask;
mod create;
mod events;
mod failure;
mod inspect;
mod log_driver;
mod logs;
mod networks;
mod pull;

/// Longest wait for a question that changes nothing.
const ASK: Duration = Duration::from_secs(15);
/// Longest wait for a container to be made, started or removed: an SD card under load takes its time.
const CHANGE: Duration = Duration::from_secs(120);
/// Longest wait for the end of a container beyond its grace.
const KILL: Duration = Duration::from_secs(30);
/// The library's own limit, which covers only a part of a call; ours are shorter and cover all of it.
const LIBRARY: Duration = Duration::from_secs(24 * 3600);
/// Image ids whose digests are remembered.
const DIGESTS: usize = 256;

/// Where the engine is, and which of its containers are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Path of its socket, with or without `unix://`.
    pub socket: PathBuf,
    /// Which of the two that speak this API.
    pub flavour: Flavour,
    /// Value of the label `outrigger.scope` that makes a container ours.
    pub scope: String,
    /// The device's name. Where it is not the scope, several agents share the engine, and container names say whose.
    pub device: DeviceName,
    /// What the owner of the device allows.
    pub policy: Arc<Policy>,
    /// Where the secrets and configs of containers are.
    pub files: FilesDir,
}

/// Which engine speaks the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Docker Engine
    Docker,
    /// Podman's service
    Podman,
}

/// A Docker Engine, or Podman.
#[derive(Debug)]
pub struct DockerEngine {
    config: DockerConfig,
    /// Its path without `unix://`.
    socket: PathBuf,
    /// Made with the first call that finds the socket: the engine may start after us.
    client: OnceLock<Docker>,
    /// Where it keeps images and volumes, once it has said so.
    root: OnceLock<PathBuf>,
    /// Image id to digest; ids never change their meaning.
    digests: Mutex<HashMap<String, String>>,
}

impl DockerEngine {
    /// An engine that need not run yet.
    #[must_use]
    pub fn new(config: DockerConfig) -> Self {
        let text = config.socket.to_string_lossy();
        let socket = PathBuf::from(text.strip_prefix("unix://").unwrap_or(&text));
        Self { config, socket, client: OnceLock::new(), root: OnceLock::new(), digests: Mutex::new(HashMap::new()) }
    }

    fn client(&self) -> Result<&Docker, EngineError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let socket = self.socket.to_string_lossy();
        let client = Docker::connect_with_unix(&socket, LIBRARY.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(|error| failure::of(&error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Starts a container; one that did not start is removed again, so that nothing is left lying under our label.
    async fn start_new(&self, id: &str) -> Result<(), EngineError> {
        let Err(error) = self.start_allowed(id).await else { return Ok(()) };
        if let Err(left) = self.remove_by(id).await {
            info!(container = id, error = %left, "a container that did not start could not be removed");
        }
        Err(error)
    }

    async fn start_by(&self, id: &str) -> Result<(), EngineError> {
        boxed("start container", CHANGE, self.client()?.start_container(id, None)).await
    }

    async fn remove_by(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match boxed("remove container", CHANGE, self.client()?.remove_container(id, Some(options))).await {
            Err(EngineError::NoSuchContainer { .. }) => Ok(()),
            // Somebody (we, before a restart) is at it already; the event of its end will come.
            Err(EngineError::Refused { reason }) if reason.contains("is already in progress") => Ok(()),
            other => other,
        }
    }

    /// Another container has the name. If it is a leftover of this very placement it is as good as a new one, because a
    /// placement never changes its specification.
    async fn take_over(&self, new: &NewContainer, name: &str) -> Result<String, EngineError> {
        let found = self.inspect_by(name).await?.filter(|container| container.placement == new.placement);
        let Some(container) = found else {
            return Err(EngineError::NameTaken { name: name.to_owned() });
        };
        debug!(container = container.id.short(), placement = %new.placement, "a leftover is taken over");
        if container.state == super::ContainerState::Dead {
            self.remove_by(&container.id.0).await?;
            return self.create(new, name).await;
        }
        Ok(container.id.0.to_string())
    }

    async fn create(&self, new: &NewContainer, name: &str) -> Result<String, EngineError> {
        if let Some(logging) = &new.spec.logging {
            self.check_log_driver(&logging.driver).await?;
        }
        let platform = new.spec.platform.map(|platform| platform.to_string()).unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name.to_owned()), platform };
        let body = create::body(new, &self.config);
        let made = boxed("create container", CHANGE, self.client()?.create_container(Some(options), body)).await;
        let made = made.map_err(|error| failure::for_image(error, &new.spec.image))?;
        for warning in made.warnings {
            debug!(container = name, warning, "the engine warns");
        }
        Ok(made.id)
    }
}

/// Runs one call with its time limit.
async fn boxed<T>(
    call: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, bollard::errors::Error>> + Send,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| failure::of(&error)),
        Err(_) => Err(EngineError::TimedOut { call, after: limit }),
    }
}

impl Engine for DockerEngine {
    async fn describe(&self) -> Result<Description, EngineError> {
        self.describe_engine().await
    }

    async fn list(&self) -> Result<Vec<Container>, EngineError> {
        self.list_ours().await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<Container>, EngineError> {
        self.inspect_by(&id.0).await
    }

    async fn image(&self, image: &str) -> Result<Option<String>, EngineError> {
        self.digest_of(image).await
    }

    async fn pull(
        &self,
        image: &str,
        platform: Option<Platform>,
        login: Option<&Login>,
        progress: watch::Sender<PullProgress>,
    ) -> Result<String, EngineError> {
        self.pull_image(image, platform, login, &progress).await
    }

    async fn remove_image(&self, image: &str, digest: &str) -> Result<(), EngineError> {
        match self.digest_of(image).await? {
            Some(found) if found == digest => (),
            Some(found) => {
                let reason = format!("`{image}` means {found} by now");
                return Err(EngineError::Refused { reason });
            }
            None => return Err(EngineError::ImageNotFound { image: image.to_owned() }),
        }
        let options = RemoveImageOptions { force: false, noprune: false, ..RemoveImageOptions::default() };
        let removal = self.client()?.remove_image(image, Some(options), None);
        boxed("remove image", CHANGE, removal).await.map_err(|error| failure::for_image(error, image))?;
        Ok(())
    }

    async fn create_and_start(&self, new: &NewContainer) -> Result<ContainerId, EngineError> {
        self.allow_new(new).await?;
        let name = create::name(new, &self.config);
        let id = match self.create(new, &name).await {
            Err(EngineError::NameTaken { .. }) => self.take_over(new, &name).await?,
            made => made?,
        };
        self.join_others(new, &id).await?;
        self.start_new(&id).await?;
        Ok(ContainerId(id.into()))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.start_allowed(&id.0).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let seconds = grace.as_millis().div_ceil(1000);
        let options = StopContainerOptions { signal: None, t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)) };
        let limit = grace.saturating_add(KILL);
        match boxed("stop container", limit, self.client()?.stop_container(&id.0, Some(options))).await {
            Err(EngineError::NoSuchContainer { .. }) => Ok(()),
            other => other,
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.remove_by(&id.0).await
    }

    async fn networks(&self) -> Result<Networks, EngineError> {
        self.list_networks().await
    }

    async fn create_network(&self, new: &NewNetwork) -> Result<Network, EngineError> {
        self.make_network(new).await
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        self.remove_network_by(id).await
    }

    async fn watch(&self, events: mpsc::Sender<EngineEvent>) {
        self.watch_events(&events).await;
    }

    async fn logs(
        &self,
        id: &ContainerId,
        request: &LogsRequest,
        chunks: mpsc::Sender<LogChunk>,
    ) -> Result<(), EngineError> {
        self.send_logs(id, request, &chunks).await
    }
}
