//! The operator: wishes, sent until they are answered, and what is wanted because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outrigger_hub::core::WishError;
use outrigger_planner::{Availability, Refusal, RollState, Wish};
use outrigger_protocol::{
    Attachment, Bytes, Constraint, ConstraintKey, ContainerSpec, DeviceName, GenericResource, Healthcheck,
    HealthcheckTest, LossPolicy, MilliCpu, Mode, Mount, MountKind, NetworkName, NetworkSpec, Order, PortProtocol,
    PublishMode, PublishedPort, Reservation, ServiceName, ServiceRef, ServiceSpec, StackName, StackSpec, Traffic,
    UpdateConfig, VolumeMove,
};

use super::device::GENERIC;
use super::profile::Profile;
use super::rng::Rng;
use super::world::{Event, World};

/// The operator.
#[derive(Debug, Default)]
pub struct Operator {
    /// What was granted.
    pub wanted: Wanted,
    /// What was wanted when the hub's backup was taken.
    pub at_backup: Wanted,
    /// Wishes without an answer, by number.
    pub open: BTreeMap<u64, Wish>,
    /// Wishes that a hub had when it ended.
    pub doubtful: BTreeSet<u64>,
    /// Whether more wishes come.
    pub is_busy: bool,
    profile: Option<Profile>,
    next: u64,
    contents: u64,
}

/// What is wanted of the fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The stacks.
    pub stacks: BTreeMap<StackName, StackSpec>,
    /// Labels set by the operator.
    pub labels: BTreeMap<(DeviceName, String), String>,
    /// Devices that are not given work.
    pub availability: BTreeMap<DeviceName, Availability>,
}

impl Operator {
    /// Whether this wish waits for its answer.
    #[must_use]
    pub fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// All services that are wanted.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceRef> {
        self.wanted.services().map(|(name, _)| name).collect()
    }
}

impl Wanted {
    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = (ServiceRef, &ServiceSpec)> {
        self.stacks.iter().flat_map(|(stack, spec)| {
            spec.services
                .iter()
                .map(|service| (ServiceRef { stack: stack.clone(), service: service.name.clone() }, service))
        })
    }

    fn grant(&mut self, wish: &Wish) {
        match wish {
            Wish::Apply { stack, .. } => {
                self.stacks.insert(stack.name.clone(), stack.clone());
            }
            Wish::RemoveStack(stack) => {
                self.stacks.remove(stack);
            }
            Wish::Scale { service, replicas } => {
                let stack = self.stacks.get_mut(&service.stack);
                let found = stack.and_then(|stack| stack.services.iter_mut().find(|one| one.name == service.service));
                if let Some(spec) = found {
                    spec.mode = Mode::Replicated(*replicas);
                }
            }
            Wish::Label { device, key, value: Some(value) } => {
                self.labels.insert((device.clone(), key.clone()), value.clone());
            }
            Wish::Label { device, key, value: None } => {
                self.labels.remove(&(device.clone(), key.clone()));
            }
            Wish::Availability { device, availability } => {
                self.availability.insert(device.clone(), *availability);
            }
            Wish::Devices { devices, labels, availability } => {
                for device in devices {
                    for (key, value) in labels {
                        let (device, key, value) = (device.clone(), key.clone(), value.clone());
                        self.grant(&Wish::Label { device, key, value });
                    }
                    self.availability.extend(availability.map(|availability| (device.clone(), availability)));
                }
            }
            Wish::Restart(_)
            | Wish::Resume(_)
            | Wish::Forget(_)
            | Wish::ConfirmLoss(_)
            | Wish::ImagePlatforms { .. }
            | Wish::FileChanged(_) => (),
        }
    }
}

impl World {
    /// The operator begins: some stacks, then whatever comes to mind.
    pub fn operator_begins(&mut self, profile: Profile) {
        self.operator.profile = Some(profile);
        self.operator.is_busy = true;
        for number in 0..self.chance.operator.range(1, 3) {
            let wish = self.draw_apply(&format!("k{number}"));
            self.wish(wish);
        }
    }

    /// The operator does something, and something else later.
    pub fn operate(&mut self) {
        if !self.operator.is_busy {
            return;
        }
        let wish = self.draw_wish();
        self.wish(wish);
        let pause = self.chance.operator.range(500, 12_000);
        self.after(pause, Event::Operate);
    }

    /// A wish is sent.
    pub fn wish(&mut self, wish: Wish) {
        // One at a time per thing: two operators at once are another test's subject.
        if self.operator.open.values().any(|open| touches(open) == touches(&wish)) {
            return;
        }
        self.operator.next += 1;
        let number = self.operator.next;
        self.line(|| format!("WISH {number}: {}", brief(&wish)));
        self.operator.open.insert(number, wish.clone());
        self.send_wish(number, wish);
    }

    /// A hub that has just started knows nothing of the wishes that were not answered.
    pub fn resend_wishes(&mut self) {
        let open: Vec<(u64, Wish)> = self.operator.open.iter().map(|(number, wish)| (*number, wish.clone())).collect();
        for (number, wish) in open {
            self.operator.doubtful.insert(number);
            self.after(500, Event::Wish(number, Box::new(wish)));
        }
    }

    /// An answer.
    pub fn wish_answered(&mut self, number: u64, result: Result<(), WishError>) {
        let Some(wish) = self.operator.open.get(&number).cloned() else { return };
        match result {
            Ok(()) => {
                self.operator.open.remove(&number);
                self.operator.wanted.grant(&wish);
                if let Wish::RemoveStack(_) = wish
                    && self.devices.iter().any(|device| !device.link.is_whole() || !device.is_on)
                {
                    self.sometimes.count("a stack was removed while one of its devices was away");
                }
            }
            Err(WishError::TooMany) => self.after(1000, Event::Wish(number, Box::new(wish))),
            // What was under way when the hub crashed may have been granted: only another answer says so.
            Err(WishError::ReadOnly(_)) if self.operator.doubtful.contains(&number) => {
                self.after(1000, Event::Wish(number, Box::new(wish)));
            }
            Err(WishError::ReadOnly(_)) => {
                // The operator has been told no, and leaves it at that: nothing may come of it.
                self.operator.open.remove(&number);
                self.sometimes.count("a wish was refused because the store was full");
            }
            Err(WishError::Refused(refusal)) => {
                self.operator.open.remove(&number);
                self.refused(&wish, &refusal);
            }
        }
    }

    fn refused(&mut self, wish: &Wish, refusal: &Refusal) {
        if let (Wish::RemoveStack(stack), Refusal::NoStack(_)) = (wish, refusal) {
            // Granted before a crash swallowed the answer.
            self.operator.wanted.stacks.remove(stack);
        }
        let is_expected = match (wish, refusal) {
            // What was removed meanwhile, or by the wish that was sent again after a crash.
            (_, Refusal::NoStack(_) | Refusal::NoService(_) | Refusal::NoDevice(_) | Refusal::NotPaused(_)) => true,
            (Wish::Scale { .. }, Refusal::Global(_)) => true,
            _ => false,
        };
        if !is_expected {
            self.check.fail("a wish that makes sense is granted", format!("{}: {refusal}", brief(wish)));
        }
    }

    /// The backup is in place: what was wanted since is wanted no more.
    pub fn restored_to_backup(&mut self) {
        self.operator.wanted = self.operator.at_backup.clone();
        self.operator.open.clear();
    }

    /// A backup is taken, where nothing is under way.
    pub fn take_backup(&mut self) {
        if self.operator.open.is_empty() && self.hub.core.is_some() && self.hub.lost.is_none() {
            self.hub.backup = Some(self.hub.store.durable().clone());
            self.operator.at_backup = self.operator.wanted.clone();
        }
    }

    /// All that the operator does for a fleet to settle: devices get work again, paused rolls go on.
    pub fn settle_wishes(&mut self) {
        let away: Vec<DeviceName> = self
            .operator
            .wanted
            .availability
            .iter()
            .filter(|(_, availability)| **availability != Availability::Active)
            .map(|(device, _)| device.clone())
            .collect();
        for device in away {
            self.wish(Wish::Availability { device, availability: Availability::Active });
        }
        let Some(core) = &self.hub.core else { return };
        let paused: Vec<ServiceRef> = core
            .fleet()
            .services()
            .filter(|service| service.roll.state == RollState::Paused)
            .map(|service| service.name.clone())
            .collect();
        for service in paused {
            self.sometimes.count("a roll was paused");
            self.wish(Wish::Resume(service));
        }
    }

    fn draw_wish(&mut self) -> Wish {
        let services = self.operator.services();
        let device = self.chance.operator.index(self.devices.len());
        let device = self.devices[device].name.clone();
        let chance = &mut self.chance.operator;
        let service = chance.pick(&services).cloned();
        match (chance.below(12), service) {
            (0..=2, Some(service)) => Wish::Scale { service, replicas: u32::try_from(chance.below(5)).unwrap_or(1) },
            (3, Some(service)) => Wish::Restart(service),
            (4, Some(service)) => Wish::RemoveStack(service.stack),
            (5, _) => {
                let availability =
                    [Availability::Active, Availability::Active, Availability::Cordon, Availability::Drain]
                        [chance.index(4)];
                Wish::Availability { device, availability }
            }
            (6, _) => {
                let value = [Some("a".to_owned()), Some("b".to_owned()), None][chance.index(3)].clone();
                Wish::Label { device, key: "zone".to_owned(), value }
            }
            _ => {
                let stack = format!("k{}", chance.below(3));
                self.draw_apply(&stack)
            }
        }
    }

    fn draw_apply(&mut self, stack: &str) -> Wish {
        let profile = self.operator.profile.unwrap_or(Profile::Chaos);
        let many = self.chance.operator.range(1, 3);
        let services = (0..many).map(|number| self.draw_service(profile, stack, number)).collect();
        let name: StackName = stack.parse().expect("a letter and a number are a name");
        let network = NetworkSpec { name: network_of(stack), internal: false, ipv6: false };
        Wish::Apply { stack: StackSpec { name, services, networks: vec![network] }, applied_unix_ms: None }
    }

    fn draw_service(&mut self, profile: Profile, stack: &str, number: u64) -> ServiceSpec {
        self.operator.contents += 1;
        let content = self.operator.contents;
        let mut extra = self.chance.operator.fork(content);
        let chance = &mut self.chance.operator;
        // Every second content is one that was there before: going back to it is a change as well.
        let image = format!("{stack}-s{number}:{}", if chance.chance(300) { number } else { content });
        // What must never run twice is so from the begin: of a copy that was told otherwise, on a device that cannot be
        // reached, nobody can say when it ends.
        let is_exclusive = profile.has_exclusive() && Rng::new(number).fork(u64::from(stack.as_bytes()[1])).chance(600);
        let loss = draw_loss(is_exclusive, chance);
        let is_global = !is_exclusive && chance.chance(120);
        let most = if is_exclusive { 2 } else { 4 };
        let mode =
            if is_global { Mode::Global } else { Mode::Replicated(u32::try_from(chance.range(1, most)).unwrap_or(1)) };
        let mut container = draw_container(chance, image, stack, number, is_exclusive);
        draw_network(&mut extra.fork(1), &mut container, stack, number);
        ServiceSpec {
            name: format!("s{number}").parse().expect("a letter and a number are a name"),
            container,
            mode,
            reservation: Reservation {
                cpu: MilliCpu(u32::try_from(chance.below(6) * 100).unwrap_or(0)),
                memory: Bytes(chance.below(5) * (64 << 20)),
                generic: draw_generic(&mut extra),
            },
            constraints: draw_constraints(chance),
            spread: vec![],
            max_per_device: chance.chance(150).then_some(1),
            platforms: None,
            loss,
            lost_after: None,
            volume_move: if chance.chance(500) { VolumeMove::Allow } else { VolumeMove::Stay },
            update: UpdateConfig {
                parallelism: u32::try_from(chance.below(3)).unwrap_or(1),
                delay: Duration::from_millis(chance.below(2) * 500),
                order: if chance.chance(400) && !is_exclusive { Order::StartFirst } else { Order::StopFirst },
                monitor: Duration::from_millis(chance.range(500, 5000)),
                ..UpdateConfig::default()
            },
            depends_on: draw_dependency(&mut extra, number),
            labels: vec![],
            traffic: Traffic::default(),
        }
    }
}

fn network_of(stack: &str) -> NetworkName {
    format!("{stack}_default").parse().expect("letters and numbers are a name")
}

/// Most services are reached by others, and some from outside.
fn draw_network(chance: &mut Rng, container: &mut ContainerSpec, stack: &str, number: u64) {
    if chance.chance(600) {
        container.networks.push(Attachment { network: network_of(stack), aliases: vec![] });
    }
    if chance.chance(200) {
        let port = 9000 + number_of(stack) * 10 + u16::try_from(number).unwrap_or(0);
        let ingress = PublishMode::Ingress;
        let protocol = PortProtocol::Tcp;
        container.ports.push(PublishedPort { container: 80, host: Some(port), address: None, protocol, mode: ingress });
    }
}

fn number_of(stack: &str) -> u16 {
    stack.trim_start_matches('k').parse().unwrap_or(0)
}

fn draw_loss(is_exclusive: bool, chance: &mut Rng) -> LossPolicy {
    match chance.below(10) {
        _ if is_exclusive => LossPolicy::Exclusive { lease: Duration::from_millis(chance.range(5_000, 15_000)) },
        9 => LossPolicy::Wait,
        _ => LossPolicy::Available,
    }
}

fn draw_generic(chance: &mut Rng) -> Vec<GenericResource> {
    if chance.chance(120) { vec![GenericResource { kind: GENERIC.to_owned(), count: 1 }] } else { vec![] }
}

/// A service may depend on the first of its stack.
fn draw_dependency(chance: &mut Rng, number: u64) -> Vec<ServiceName> {
    if number > 0 && chance.chance(250) {
        vec!["s0".parse().expect("a letter and a number are a name")]
    } else {
        vec![]
    }
}

fn draw_constraints(chance: &mut Rng) -> Vec<Constraint> {
    let (key, value) = match chance.below(10) {
        0 => (ConstraintKey::EngineLabel("rack".to_owned()), "r0"),
        1 => (ConstraintKey::NodeLabel("zone".to_owned()), "a"),
        _ => return vec![],
    };
    vec![Constraint { key, equal: chance.chance(600), value: value.to_owned() }]
}

fn draw_container(chance: &mut Rng, image: String, stack: &str, number: u64, is_exclusive: bool) -> ContainerSpec {
    let check = Healthcheck {
        test: HealthcheckTest::Shell("true".to_owned()),
        interval: None,
        timeout: None,
        retries: None,
        start_period: None,
        start_interval: None,
    };
    let port = PublishedPort {
        container: 80,
        host: Some(8000 + number_of(stack) * 10 + u16::try_from(number).unwrap_or(0)),
        address: None,
        protocol: PortProtocol::Tcp,
        mode: PublishMode::Host,
    };
    let volume = Mount {
        kind: MountKind::Volume { name: format!("{stack}_data{number}"), driver: None, options: vec![] },
        target: "/data".to_owned(),
        read_only: false,
    };
    ContainerSpec {
        image,
        healthcheck: chance.chance(300).then_some(check),
        ports: if chance.chance(150) { vec![port] } else { vec![] },
        mounts: if !is_exclusive && chance.chance(100) { vec![volume] } else { vec![] },
        stop_grace: Duration::from_millis(chance.range(0, 3000)),
        ..ContainerSpec::default()
    }
}

/// What a wish is about.
#[must_use]
pub fn touches(wish: &Wish) -> String {
    match wish {
        Wish::Apply { stack, .. } => stack.name.to_string(),
        Wish::RemoveStack(stack) => stack.to_string(),
        Wish::Scale { service, .. } | Wish::Restart(service) | Wish::Resume(service) => service.stack.to_string(),
        Wish::Label { device, .. } | Wish::Availability { device, .. } | Wish::Forget(device) => device.to_string(),
        Wish::ConfirmLoss(_) => "loss".to_owned(),
        Wish::Devices { .. } => "devices".to_owned(),
        Wish::ImagePlatforms { image, .. } => image.clone(),
        Wish::FileChanged(file) => file.to_string(),
    }
}

/// A wish in one line.
#[must_use]
pub fn brief(wish: &Wish) -> String {
    let Wish::Apply { stack, .. } = wish else { return format!("{wish:?}") };
    let one = |service: &ServiceSpec| {
        format!(
            "{} {} {:?} {:?} cpu {} memory {} {:?} max {:?} {:?} ports {} mounts {} grace {:?}",
            service.name,
            service.container.image,
            service.mode,
            service.loss,
            service.reservation.cpu,
            service.reservation.memory,
            service.constraints,
            service.max_per_device,
            service.update.order,
            service.container.ports.len(),
            service.container.mounts.len(),
            service.container.stop_grace,
        )
    };
    format!("apply {}: {}", stack.name, stack.services.iter().map(one).collect::<Vec<_>>().join("; "))
}
