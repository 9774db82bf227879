//! The shell's part in removing images that nothing uses.

use std::sync::Arc;

use outrigger_protocol::Moment;
use tracing::info;

use super::{Shell, Told};
use crate::core::{Action, Input, Success};
use crate::engine::{Engine, EngineError};
use crate::images::Removal;

impl<E: Engine> Shell<E> {
    /// An image is only pulled where it was not there: then it is ours to remove one day.
    pub(super) fn note_pull(&mut self, input: Input) -> Input {
        if let Input::Done(id, Ok(Success::Pulled(digest))) = &input
            && let Some(Action::Pull(key)) = self.core.observed().under_way.get(id)
        {
            self.images.pulled(&key.image, digest);
            self.image_lists.send_replace(self.images.text().into());
        }
        input
    }

    /// Not before it is known what is to run here.
    pub(super) fn images_due_at(&self) -> Moment {
        if self.core.held().is_some() { self.images.look_at() } else { Moment::NEVER }
    }

    pub(super) fn tidy_images(&mut self) {
        let now = self.clock.now();
        if now < self.images_due_at() {
            return;
        }
        let observed = self.core.observed();
        let wanted = self.core.wanted().replicas.values().map(|one| one.spec.image.as_str());
        let in_use = wanted.chain(observed.containers.values().map(|container| container.image.as_str())).collect();
        let Some(removal) = self.images.look(now, &in_use, self.sampler.disk(), observed.full.is_some()) else {
            return;
        };
        info!(image = removal.image, "the disk is nearly full, and nothing uses this image: removing");
        let (engine, results) = (Arc::clone(&self.engine), self.results.clone());
        self.tasks.spawn(async move {
            let outcome = engine.remove_image(&removal.image, &removal.digest).await;
            let _ = results.send(Told::ImageRemoved(removal, outcome)).await;
        });
    }

    pub(super) fn image_removed(&mut self, removal: &Removal, outcome: &Result<(), EngineError>) -> Input {
        if let Err(error) = outcome {
            info!(image = removal.image, %error, "the image stays");
        }
        if self.images.removed(self.clock.now(), removal, outcome) {
            self.image_lists.send_replace(self.images.text().into());
        }
        Input::Tick
    }
}
