//! The core's part in the service network: whose routes count, and when the proxy and the hub are told.

use outrigger_protocol::{Moment, Routes};

use super::fleet::{Loyalty, loyalty};
use super::{Core, Effect, KeptMesh, Mesh, Remark};

impl Core {
    /// The same, with what an agent before it knew of the service network.
    #[must_use]
    pub fn with_mesh(mut self, kept: KeptMesh) -> Self {
        self.mesh = Mesh::new(kept);
        if self.mesh.routes().is_some_and(|routes| Some(routes.fleet) != self.held_fleet()) {
            self.mesh.drop_routes();
        }
        self
    }

    /// Where the proxy listens for other devices, as far as is known.
    #[must_use]
    pub fn mesh_port(&self) -> Option<u16> {
        self.mesh.port()
    }

    /// Takes routes, if they are of the device's own fleet.
    pub(super) fn route(&mut self, routes: Routes) {
        match loyalty(self.held_fleet(), &self.observed, routes.fleet) {
            Loyalty::Obeys => {
                let epoch = routes.epoch;
                if !self.mesh.take(routes) {
                    self.remark(Remark::OlderRoutes(epoch));
                }
            }
            // Its assignment is refused, too, and that is told.
            Loyalty::BelongsTo(_) => (),
            Loyalty::Unknown => self.mesh.early = Some(Box::new(routes)),
        }
    }

    /// Sees to the service network. Not before it is known what runs here: the proxy of an agent before this one goes on.
    pub(super) fn network(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.observed.has_listed {
            self.mesh.serve(&self.settings.device, &self.observed, effects);
        }
        self.mesh.keep_due(now, false, effects);
        if let Some(session) = self.session {
            self.mesh.tell(session, now, effects);
        }
    }
}
