//! The shell's part in the service network: what is handed to the proxy, and what is kept for the next agent.

use std::sync::{Arc, Mutex, PoisonError};

use outrigger_protocol::BootId;
use outrigger_proxy::control::{Mesh as Reach, Wanted};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::{Config, EngineChoice};
use crate::core::{Keep, KeptMesh, ProxyEvent};
use crate::identity::IdentityDir;
use crate::mesh_file::MeshFile;
use crate::mqtt::Route;
use crate::proxy_link::{self, Place};

/// The way to the proxy and to the files.
#[derive(Debug)]
pub(super) struct MeshLink {
    place: Place,
    identity: Option<IdentityDir>,
    port: u16,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    keeper: Arc<Keeper>,
    /// Whether an agent before this one may have left a proxy.
    may_run: bool,
    /// Containers that are not real reach nothing: then there is no proxy, and this device takes no part.
    takes_part: bool,
}

impl MeshLink {
    pub(super) fn begin(config: &Config, boot: BootId) -> Self {
        let place = Place::of(config);
        let file = MeshFile::of(config.device.as_str(), &config.state_dir, boot);
        let identity = Route::of(config).identity().cloned();
        let wanted = watch::channel(None).0;
        let keeper =
            Arc::new(Keeper { file, waiting: Mutex::default(), writing: Mutex::default(), news: Notify::new() });
        let takes_part = config.engine != EngineChoice::Memory;
        Self { place, identity, port: config.network_port, keeper, wanted, may_run: false, takes_part }
    }

    /// What an agent before this one kept.
    pub(super) fn kept(&mut self) -> KeptMesh {
        let kept = self.keeper.file.read();
        self.may_run = kept != KeptMesh::default();
        kept
    }

    pub(super) fn start(&self, tasks: &mut JoinSet<()>, events: mpsc::Sender<ProxyEvent>) {
        if self.takes_part {
            tasks.spawn(proxy_link::run(self.place.clone(), self.wanted.subscribe(), self.may_run, events));
        }
        tasks.spawn(Arc::clone(&self.keeper).save_all());
    }

    /// How other devices are reached: with the identity of this one, through its hub where there is no other way.
    pub(super) fn reach(&self) -> Option<Reach> {
        let identity = self.identity.as_ref()?;
        let joined = identity.read().ok().flatten()?;
        let hub = joined.hub.mqtt.first().map(|hub| hub.host.clone()).unwrap_or_default();
        Some(Reach { identity: identity.path(), port: self.port, hub })
    }

    /// Where the proxy will listen for other devices once something needs it. Told before it runs: the hub says what there is to
    /// reach only to devices that take part, and without that a device without containers would never start it.
    pub(super) fn promised(&self) -> Option<u16> {
        Some(self.port).filter(|port| *port != 0 && self.identity.is_some() && self.takes_part)
    }

    pub(super) fn hand(&self, wanted: Arc<Wanted>) {
        self.wanted.send_replace(Some(wanted));
    }

    pub(super) fn keep(&self, kept: Box<KeptMesh>, keep: Keep) {
        self.keeper.put(kept, keep);
    }

    /// The agent ends: what waits is written before it does.
    pub(super) fn end(&self) {
        self.keeper.save();
    }
}

/// Saves what is to be kept beside everything else; of several in a row only the last.
#[derive(Debug)]
struct Keeper {
    file: MeshFile,
    waiting: Mutex<Option<(Box<KeptMesh>, Keep)>>,
    /// One at a time, so that the last one is the one that stays.
    writing: Mutex<()>,
    news: Notify,
}

impl Keeper {
    /// What is to go to the disk does, even if something for this boot alone comes before it has.
    fn put(&self, kept: Box<KeptMesh>, keep: Keep) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = if matches!(*waiting, Some((_, Keep::Disk))) { Keep::Disk } else { keep };
        *waiting = Some((kept, keep));
        self.news.notify_one();
    }

    fn save(&self) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((kept, keep)) = next
            && let Err(error) = self.file.save(&kept, keep)
        {
            warn!(%error, "routes are not saved; a device that boots without its hub will not know them");
        }
    }

    async fn save_all(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            let keeper = Arc::clone(&self);
            // An error would be a panic of ours, which has been told.
            let _ = tokio::task::spawn_blocking(move || keeper.save()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Raw, Surroundings};

    #[tokio::test]
    async fn containers_that_are_not_real_have_no_proxy() {
        let tasks_with = |engine: &str| {
            let text = format!("name = 'pi'\nengine = '{engine}'\nstate_dir = '/nowhere'\n");
            let around = Surroundings::default();
            let config = Config::check("agent.toml", Raw::parse(&text), Raw::default(), &around).unwrap();
            let (mut tasks, (events, _told)) = (JoinSet::new(), mpsc::channel(1));
            MeshLink::begin(&config, BootId(1)).start(&mut tasks, events);
            tasks.len()
        };
        assert_eq!(tasks_with("memory"), tasks_with("docker") - 1);
    }
}
