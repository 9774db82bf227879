//! What goes on beside: versions that nothing runs any more go, and what was left behind gets the newest.

use std::collections::BTreeSet;
use std::time::Duration;

use outrigger_planner::Wish;
use outrigger_protocol::FileRef;
use tracing::{debug, info, warn};

use super::Secrets;
use crate::clock;
use crate::core::HubCore;
use crate::handle::HubHandle;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What was set within this time stays: a stack that is just being applied may need it in a moment.
const REST: Duration = Duration::from_secs(60);

impl Secrets {
    /// Tidies up until the hub stops.
    pub(crate) async fn tidy(self, hub: HubHandle) {
        loop {
            // First: a hub that broke off between saving a secret and telling the fleet goes on here.
            let look = |core: &HubCore, _| (core.fleet().files(), wanted(core));
            let Ok((needed, wanted)) = hub.view(look).await else { return };
            self.bring_up_to_date(&hub, wanted).await;
            let rest_ms = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
            match self.forget_unneeded(&needed, clock::unix_ms(), rest_ms).await {
                Ok(0) => (),
                Ok(count) => info!(count, "secrets and configs that nothing uses any more were removed"),
                Err(fault) => warn!(%fault, "what nothing uses any more could not be removed"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn bring_up_to_date(&self, hub: &HubHandle, wanted: BTreeSet<FileRef>) {
        for file in wanted {
            let newest = self.newest(file.kind, file.name.as_str()).map_or(0, |(newest, _)| newest);
            if newest > file.version
                && let Err(fault) = hub.wish(Wish::FileChanged(FileRef { version: newest, ..file })).await
            {
                debug!(%fault, "what uses a secret was not told of its new content; it is told later");
            }
        }
    }
}

/// What the present specifications name.
fn wanted(core: &HubCore) -> BTreeSet<FileRef> {
    let files = core.fleet().services().flat_map(|service| &service.spec.container.files);
    files.map(|mount| mount.file.clone()).collect()
}
