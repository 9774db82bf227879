//! Networks and published ports: both belong to the whole fleet, so stacks must agree about them.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{
    ContainerSpec, NetworkName, NetworkSpec, PortProtocol, PublishMode, PublishedPort, ServiceName, ServiceRef,
    StackName, StackSpec,
};

use crate::fleet::Fleet;
use crate::service::Service;
use crate::wish::Refusal;

/// A port that is reserved: on all devices, or on those where a copy runs.
type Reserved = (u16, PortProtocol, PublishMode);

impl Fleet {
    /// Whether what a stack says about networks and ports fits what the others say.
    pub(crate) fn check_shared(&self, stack: &StackSpec) -> Result<(), Refusal> {
        self.check_definitions(stack)?;
        self.check_attachments(stack)?;
        let kept: BTreeSet<&NetworkName> = stack.networks.iter().map(|network| &network.name).collect();
        self.check_lent(&stack.name, &kept)?;
        self.check_ports(stack)
    }

    /// A network is one stack's: else a stack could come into another's by choosing its name. And nobody's network changes
    /// under containers.
    fn check_definitions(&self, stack: &StackSpec) -> Result<(), Refusal> {
        for network in &stack.networks {
            if let Some(other) = self.definer(&network.name, &stack.name) {
                let (network, stack) = (network.name.clone(), other.clone());
                return Err(Refusal::NetworkTaken { network, stack });
            }
            if self.networks.get(&network.name).is_some_and(|known| known != network)
                && let Some(service) = self.joining(&network.name, |_| true)
            {
                return Err(Refusal::NetworkInUse { network: network.name.clone(), service });
            }
        }
        Ok(())
    }

    fn check_attachments(&self, stack: &StackSpec) -> Result<(), Refusal> {
        for spec in &stack.services {
            for network in spec.container.networks.iter().map(|attachment| &attachment.network) {
                let own = stack.networks.iter().any(|known| known.name == *network);
                if !own && !self.is_defined(network, &stack.name) {
                    let (service, network) = (reference(stack, &spec.name), network.clone());
                    return Err(Refusal::NoNetwork { service, network });
                }
            }
        }
        Ok(())
    }

    /// Whether a network that a stack no longer defines is still joined by another stack, which has it from this one.
    pub(crate) fn check_lent(&self, stack: &StackName, kept: &BTreeSet<&NetworkName>) -> Result<(), Refusal> {
        let before = self.stacks.get(stack).map_or(&[][..], |record| &record.networks);
        for network in before.iter().map(|network| &network.name).filter(|network| !kept.contains(network)) {
            if self.is_defined(network, stack) {
                continue;
            }
            let others = |service: &Service| service.name.stack != *stack && !service.removed;
            if let Some(to) = self.joining(network, others) {
                return Err(Refusal::NetworkLent { network: network.clone(), stack: stack.clone(), to });
            }
        }
        Ok(())
    }

    /// Whether a stack other than `but` defines a network.
    fn is_defined(&self, network: &NetworkName, but: &StackName) -> bool {
        self.definer(network, but).is_some()
    }

    fn definer(&self, network: &NetworkName, but: &StackName) -> Option<&StackName> {
        let mut others = self.stacks.iter().filter(|(name, _)| *name != but);
        let found = others.find(|(_, record)| record.networks.iter().any(|known| known.name == *network));
        found.map(|(name, _)| name)
    }

    /// Networks of other stacks that a stack's services are to join, each with a service and the stack that defines it.
    #[must_use]
    pub fn borrowed_networks(&self, stack: &StackSpec) -> Vec<(ServiceRef, NetworkName, StackName)> {
        let joined = stack.services.iter().flat_map(|spec| {
            let networks = spec.container.networks.iter();
            networks.map(move |attachment| (&spec.name, &attachment.network))
        });
        let borrowed = joined.filter_map(|(service, network)| {
            let by = self.definer(network, &stack.name)?;
            Some((reference(stack, service), network.clone(), by.clone()))
        });
        borrowed.collect()
    }

    /// A service of which some copy joins a network, or is to.
    fn joining(&self, network: &NetworkName, counts: impl Fn(&Service) -> bool) -> Option<ServiceRef> {
        let joins = |service: &Service| {
            let contents = service.contents.values().chain([&service.content]);
            contents.into_iter().any(|content| joins(&content.spec.container, network))
        };
        let mut all = self.services.iter().map(|(_, service)| service);
        all.find(|service| counts(service) && joins(service)).map(|service| service.name.clone())
    }

    /// A port that every device opens belongs to one service, and no copy can have the same one of its device.
    fn check_ports(&self, stack: &StackSpec) -> Result<(), Refusal> {
        let mut taken: BTreeMap<(u16, PortProtocol), Vec<(PublishMode, ServiceRef)>> = BTreeMap::new();
        let fixed = |spec: &ContainerSpec| spec.ports.iter().filter_map(reserved).collect::<Vec<Reserved>>();
        if stack.services.iter().all(|spec| fixed(&spec.container).is_empty()) {
            return Ok(());
        }
        let others = self.services.iter().map(|(_, service)| service);
        for other in others.filter(|service| !service.removed && service.name.stack != stack.name) {
            for (port, protocol, mode) in fixed(&other.content.spec.container) {
                taken.entry((port, protocol)).or_default().push((mode, other.name.clone()));
            }
        }
        for spec in &stack.services {
            let service = reference(stack, &spec.name);
            for (port, protocol, mode) in fixed(&spec.container) {
                let known = taken.entry((port, protocol)).or_default();
                let everywhere = |other: PublishMode| other == PublishMode::Ingress || mode == PublishMode::Ingress;
                if let Some((_, by)) = known.iter().find(|(other, by)| *by != service && everywhere(*other)) {
                    return Err(Refusal::PortTaken { service, port, protocol, by: by.clone() });
                }
                known.push((mode, service.clone()));
            }
        }
        Ok(())
    }

    /// What is to be kept of networks once a stack defines these: what copies still join stays until they are gone, which is
    /// found out with a later wish.
    pub(crate) fn changed_networks(
        &self,
        stack: &StackName,
        defined: &[NetworkSpec],
    ) -> Vec<(NetworkName, Option<NetworkSpec>)> {
        let is_new = |network: &&NetworkSpec| self.networks.get(&network.name) != Some(network);
        let mut changes: Vec<_> =
            defined.iter().filter(is_new).map(|network| (network.name.clone(), Some(network.clone()))).collect();
        let is_over = |name: &&NetworkName| {
            !defined.iter().any(|network| network.name == **name)
                && !self.is_defined(name, stack)
                && self.joining(name, |_| true).is_none()
        };
        changes.extend(self.networks.keys().filter(is_over).map(|name| (name.clone(), None)));
        changes
    }

    /// The networks that containers of these specifications join, by name.
    pub(crate) fn networks_of(&self, specs: &[ContainerSpec]) -> Vec<NetworkSpec> {
        let joined: BTreeSet<&NetworkName> =
            specs.iter().flat_map(|spec| &spec.networks).map(|attachment| &attachment.network).collect();
        joined.into_iter().filter_map(|name| self.networks.get(name)).cloned().collect()
    }
}

fn joins(spec: &ContainerSpec, network: &NetworkName) -> bool {
    spec.networks.iter().any(|attachment| attachment.network == *network)
}

fn reference(stack: &StackSpec, service: &ServiceName) -> ServiceRef {
    ServiceRef { stack: stack.name.clone(), service: service.clone() }
}

fn reserved(port: &PublishedPort) -> Option<Reserved> {
    port.host.filter(|&host| host != 0).map(|host| (host, port.protocol, port.mode))
}
