//! The service network: devices tell which routes they hold, and in the end hold what the fleet says.

use outrigger_protocol::{Channel, DownMessage, EndpointState, MeshStatus, Routes, UpMessage, decode_down};

use super::net::key;
use super::world::World;

impl World {
    /// A device's proxy takes routes, and its agent says so.
    pub fn take_routes(&mut self, device: usize, message: &DownMessage) {
        let DownMessage::Routes(routes) = message else { return };
        let one = &mut self.devices[device];
        // The proxy is a process of its own: an agent that gets no time keeps it from nothing but telling.
        one.routes = Some(routes.clone());
        let tells = one.agent.is_some() && one.held_up.is_none();
        let status = MeshStatus { session: one.session, held: Some(routes.number), ..MeshStatus::default() };
        self.sometimes.count("a device was told its routes");
        if routes.services.iter().flat_map(|s| &s.endpoints).any(|one| one.state == EndpointState::Draining) {
            self.sometimes.count("a copy drained");
        }
        if tells {
            self.send_up(device, &UpMessage::Mesh(status));
        }
    }

    /// Whether each device holds, and the broker keeps, the routes that the fleet says.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn routes_settled(&self) -> Result<(), String> {
        let Some(fleet) = self.hub.core.as_ref().map(|core| core.fleet()) else { return Err("no hub".to_owned()) };
        for (index, device) in self.devices.iter().enumerate() {
            let Some(wanted) = fleet.routes(&device.name) else { continue };
            let kept = self.broker.retained.get(&(index, key(Channel::Routes)));
            let kept = kept.and_then(|bytes| decode_down(Channel::Routes, bytes).ok());
            let Some(DownMessage::Routes(kept)) = kept else {
                return Err(format!("no routes are kept for d{index}"));
            };
            for (who, routes) in [("the broker keeps for", Some(&kept)), ("held by", device.routes.as_ref())] {
                let told = routes.map(|routes| Routes { number: 0, ..routes.clone() });
                if told.as_ref() != Some(&wanted) {
                    return Err(format!("routes {who} d{index}: {told:?} instead of {wanted:?}"));
                }
            }
            self.endpoints_run(index, &wanted)?;
        }
        Ok(())
    }

    /// Every copy that takes requests truly runs where its routes say.
    fn endpoints_run(&self, index: usize, routes: &Routes) -> Result<(), String> {
        for service in &routes.services {
            for endpoint in &service.endpoints {
                let on = match endpoint.peer {
                    None => &self.devices[index].name,
                    Some(peer) => &routes.peers[usize::from(peer)].device,
                };
                let device = self.devices.iter().find(|device| device.name == *on);
                let mut containers = device.into_iter().flat_map(|device| device.engine.containers());
                let runs = containers.any(|one| one.placement == endpoint.placement && one.state.is_running());
                if !runs || endpoint.state != EndpointState::Ready {
                    return Err(format!(
                        "{} of {} is {:?} for d{index}, runs: {runs}",
                        endpoint.placement, service.service, endpoint.state
                    ));
                }
            }
        }
        Ok(())
    }
}
