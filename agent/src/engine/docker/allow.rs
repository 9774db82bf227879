//! The owner's word at the last moment: before anything is made, and before each start once more by what the engine has made
//! of it. Paths are looked at here, because only here is the time to do so.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::VolumeCreateRequest;
use outrigger_protocol::{ContainerSpec, MountKind};
use serde::Deserialize;
use tracing::{debug, warn};

use super::super::{EngineError, NewContainer, label};
use super::ask::encode;
use super::{CHANGE, DockerEngine, boxed};
use crate::policy::place::{self, Place};
use crate::policy::{Demand, Guarded, Made, MadeMount, made_demands};

/// A mounted path: where in the container, and where it led before the start.
struct Looked {
    source: String,
    target: String,
    place: Place,
}

/// `/volumes/NAME`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Volume {
    driver: String,
    labels: Option<HashMap<String, String>>,
    options: Option<HashMap<String, String>>,
}

impl DockerEngine {
    /// Whether such a container may be made. Its volumes are made here, so that they can be told from those of others.
    pub(super) async fn allow_new(&self, new: &NewContainer) -> Result<(), EngineError> {
        let spec = &new.spec;
        if let Some(refusal) = self.config.policy.refuses(spec) {
            return Err(EngineError::NotAllowed { reason: refusal.reason });
        }
        for mount in &spec.mounts {
            if let MountKind::Bind { source, create } = &mount.kind
                && self.look(source)? == Place::Missing
                && !create
            {
                return Err(EngineError::Refused { reason: format!("`{source}` does not exist on the device") });
            }
        }
        self.allow_volumes(spec).await
    }

    async fn allow_volumes(&self, spec: &ContainerSpec) -> Result<(), EngineError> {
        for mount in &spec.mounts {
            let MountKind::Volume { name, driver, options } = &mount.kind else { continue };
            if self.allow_volume(name).await? {
                continue;
            }
            let request = VolumeCreateRequest {
                name: Some(name.clone()),
                driver: driver.clone(),
                driver_opts: Some(options.iter().cloned().collect()),
                labels: Some(HashMap::from([(label::SCOPE.to_owned(), self.config.scope.clone())])),
                ..VolumeCreateRequest::default()
            };
            boxed("create volume", CHANGE, self.client()?.create_volume(request)).await?;
        }
        Ok(())
    }

    /// Whether there is such a volume. One that is not ours, or that leads to a path of the device, needs the owner's word,
    /// whatever the specification says about it.
    async fn allow_volume(&self, name: &str) -> Result<bool, EngineError> {
        let found: Volume = match self.ask(&format!("/volumes/{}", encode(name)), "inspect volume").await {
            Err(EngineError::Refused { reason }) if is_missing(&reason) => return Ok(false),
            found => found?,
        };
        let scope = found.labels.iter().flatten().find(|(key, _)| *key == label::SCOPE).map(|(_, value)| value);
        let mut asks = Vec::new();
        if scope != Some(&self.config.scope) {
            asks.push(Demand::Volume(name.to_owned()));
        }
        if found.driver != "local" || found.options.is_some_and(|options| !options.is_empty()) {
            asks.push(Demand::VolumeDriver(found.driver));
        }
        self.judge(&asks)?;
        Ok(true)
    }

    fn judge(&self, asks: &[Demand]) -> Result<(), EngineError> {
        match self.config.policy.judge(asks) {
            Some(refusal) => Err(EngineError::NotAllowed { reason: refusal.reason }),
            None => Ok(()),
        }
    }

    /// Where a path leads, if it may be mounted.
    fn look(&self, source: &str) -> Result<Place, EngineError> {
        let policy = &self.config.policy;
        let mut guarded = policy.guarded.clone();
        guarded.0.extend(self.root.get().map(|root| root.display().to_string()));
        guarded.0.push(self.config.files.root().display().to_string());
        let covered = Guarded::covers(&guarded, source).map(|why| format!("`{source}`: {why}"));
        match covered.map_or_else(|| place::find(source, &guarded), Err) {
            Ok(place) => Ok(place),
            Err(why) => {
                let told = format!("the mount of {why}");
                Err(EngineError::NotAllowed { reason: policy.refusal(&told).reason })
            }
        }
    }

    /// Starts a container if what the engine has made of it is allowed, and ends it at once if it sees another place than
    /// the one that was looked at.
    pub(super) async fn start_allowed(&self, id: &str) -> Result<(), EngineError> {
        let mut made = self.made(id).await?;
        self.take_files(&mut made);
        self.judge(&made_demands(&made))?;
        let mut looked = Vec::new();
        for mount in made.mounts.into_iter().flatten() {
            match mount.sort.as_str() {
                "bind" => {
                    let place = self.look(&mount.source)?;
                    looked.push(Looked { source: mount.source, target: mount.destination, place });
                }
                // An anonymous one is named by the engine, and goes with its container.
                "volume" if !is_anonymous(&mount.name) => {
                    self.allow_volume(&mount.name).await?;
                }
                _ => (),
            }
        }
        self.start_by(id).await?;
        if looked.is_empty() {
            return Ok(());
        }
        let pid = self.made(id).await?.state.pid;
        match looked.iter().find(|one| !self.is_same(one, pid)) {
            None => Ok(()),
            Some(other) => {
                warn!(container = id, source = other.source, "the container sees another place than was looked at");
                self.remove_by(id).await?;
                let told = format!("the mount of `{}`: it led elsewhere when the container started", other.source);
                Err(EngineError::NotAllowed { reason: self.config.policy.refusal(&told).reason })
            }
        }
    }

    /// Leaves out the secrets and configs that we have put there for this very copy, read-only: they need nobody's word.
    /// Those of another copy do.
    fn take_files(&self, made: &mut Made) {
        let labels = made.config.labels.as_ref();
        let placement = labels.and_then(|labels| label::placement(labels.get(label::PLACEMENT)?));
        let Some(folder) = placement.map(|placement| self.config.files.folder(placement)) else { return };
        let is_file = |mount: &MadeMount| {
            let source = Path::new(&mount.source);
            let is_number =
                source.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
            mount.sort == "bind" && !mount.writable && source.parent() == Some(&folder) && is_number
        };
        if let Some(mounts) = &mut made.mounts {
            mounts.retain(|mount| !is_file(mount));
        }
    }

    /// Whether a container sees what was looked at, or, where there was nothing yet, what the path leads to now. Where the
    /// kernel does not say (another PID namespace, a container that has ended), the look before the start has to do.
    fn is_same(&self, looked: &Looked, pid: i64) -> bool {
        let expected = match looked.place {
            Place::Here(..) => Some(looked.place),
            Place::Missing => self.look(&looked.source).ok(),
        };
        let seen = if pid > 0 { place::seen_by(pid, &looked.target) } else { None };
        if seen.is_none() {
            debug!(pid, target_path = looked.target, "what the container sees cannot be looked at");
        }
        seen.is_none_or(|seen| expected == Some(seen))
    }

    async fn made(&self, id: &str) -> Result<Made, EngineError> {
        self.ask(&format!("/containers/{}/json", encode(id)), "inspect container").await
    }
}

/// Engines name these by 64 hexadecimal digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_missing(reason: &str) -> bool {
    reason.to_lowercase().contains("no such volume")
}
