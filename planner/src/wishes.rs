//! Wishes: checked first, saved by the hub, then fulfilled. What is checked and what is fulfilled is computed once.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_protocol::{
    DeviceName, FileRef, Mode, Moment, NetworkName, NetworkSpec, Platform, Revision, ServiceName, ServiceRef,
    ServiceSpec, StackName, StackSpec,
};

use crate::fleet::Fleet;
use crate::note::{Note, NoteKind};
use crate::plan::Liveness;
use crate::record::{DeviceRecord, Key, Record, ServiceRecord, StackRecord, Value};
use crate::service::Service;
use crate::table::DeviceIx;
use crate::wish::{Availability, MAX_REPLICAS, Refusal, Wish};

/// What a wish comes to.
#[derive(Default)]
struct Outcome {
    stack: Option<(StackName, Option<StackRecord>)>,
    networks: Vec<(NetworkName, Option<NetworkSpec>)>,
    services: Vec<(ServiceRef, ServiceRecord)>,
    devices: Vec<(DeviceName, Option<DeviceRecord>)>,
    image: Option<(String, Vec<Platform>)>,
    confirmed: Vec<DeviceIx>,
    notes: Vec<Note>,
}

impl Fleet {
    /// What must be saved before the wish counts. Changes nothing.
    ///
    /// # Errors
    /// Says why the wish cannot be fulfilled.
    pub fn check(&self, wish: &Wish) -> Result<Vec<Record>, Refusal> {
        let outcome = self.outcome(wish)?;
        let mut records = Vec::new();
        if let Some((name, stack)) = outcome.stack {
            records.push(Record { key: Key::Stack(name), value: stack.map(Value::Stack) });
        }
        for (name, network) in outcome.networks {
            records.push(Record { key: Key::Network(name), value: network.map(Value::Network) });
        }
        for (name, service) in outcome.services {
            records.push(Record { key: Key::Service(name), value: Some(Value::Service(Box::new(service))) });
        }
        for (name, device) in outcome.devices {
            if device.is_none() {
                let copies = self.devices.named(&name).into_iter().flat_map(|device| &device.placements);
                records.extend(copies.map(|id| Record { key: Key::Placement(*id), value: None }));
                records.extend(self.volumes.on_device(&name).into_iter().map(|key| Record { key, value: None }));
            }
            records.push(Record { key: Key::Device(name), value: device.map(Box::new).map(Value::Device) });
        }
        if let Some((image, platforms)) = outcome.image {
            records.push(Record { key: Key::Image(image), value: Some(Value::Image(platforms)) });
        }
        Ok(records)
    }

    /// Fulfils a wish whose records ([`Fleet::check`]) are saved; the next plan draws the conclusions. After
    /// [`Wish::Forget`] the hub also clears what is retained for that device at the broker.
    ///
    /// # Errors
    /// Says why the wish cannot be fulfilled; then nothing has changed.
    pub fn wish(&mut self, wish: Wish, now: Moment) -> Result<Vec<Note>, Refusal> {
        let outcome = self.outcome(&wish)?;
        self.basis += 1;
        if let Some((name, stack)) = outcome.stack {
            match stack {
                Some(stack) => drop(self.stacks.insert(name, stack)),
                None => drop(self.stacks.remove(&name)),
            }
        }
        for (name, network) in outcome.networks {
            match network {
                Some(network) => drop(self.networks.insert(name, network)),
                None => drop(self.networks.remove(&name)),
            }
        }
        for (name, record) in outcome.services {
            self.put_service(name.clone(), record);
            if let Some(six) = self.services.find(&name) {
                self.tidy_service(six);
            }
        }
        for (name, record) in outcome.devices {
            match record {
                Some(record) => self.put_device(&name, record),
                None => self.forget(&name),
            }
        }
        if let Some((image, platforms)) = outcome.image {
            self.put_image(image, platforms);
        }
        for ix in outcome.confirmed {
            self.confirm(ix);
        }
        let _ = now;
        Ok(outcome.notes)
    }

    fn outcome(&self, wish: &Wish) -> Result<Outcome, Refusal> {
        match wish {
            Wish::Apply { stack, applied_unix_ms } => self.apply(stack, *applied_unix_ms),
            Wish::RemoveStack(name) => self.remove_stack(name),
            Wish::Scale { service, replicas } => self.scale(service, *replicas),
            Wish::Restart(service) => self.restart(service),
            Wish::Resume(service) => self.resume(service),
            Wish::Label { device, key, value } => {
                self.change_devices(&[device], &BTreeMap::from([(key.clone(), value.clone())]), None)
            }
            Wish::Availability { device, availability } => {
                self.change_devices(&[device], &BTreeMap::new(), Some(*availability))
            }
            Wish::Devices { devices, labels, availability } => {
                let devices: BTreeSet<&DeviceName> = devices.iter().collect();
                self.change_devices(&devices.into_iter().collect::<Vec<_>>(), labels, *availability)
            }
            Wish::Forget(device) => self.check_forget(device),
            Wish::ConfirmLoss(devices) => self.confirm_loss(devices),
            Wish::ImagePlatforms { image, platforms } => {
                Ok(Outcome { image: Some((image.clone(), platforms.clone())), ..Outcome::default() })
            }
            Wish::FileChanged(file) => Ok(self.file_changed(file)),
        }
    }

    fn apply(&self, stack: &StackSpec, applied_unix_ms: Option<u64>) -> Result<Outcome, Refusal> {
        check_stack(stack)?;
        self.check_shared(stack)?;
        let reference = |service: &ServiceName| ServiceRef { stack: stack.name.clone(), service: service.clone() };
        let mut services = Vec::new();
        for spec in &stack.services {
            let name = reference(&spec.name);
            let mut record = match self.services.named(&name) {
                Some(service) => self.changed(service, spec.clone()),
                None => new_service(spec.clone()),
            };
            record.homes = self.homes_of(&name, spec, record.homes, |other| {
                let stays = || stack.services.iter().any(|spec| spec.name == other.service);
                if other.stack == stack.name { stays() } else { self.known(other).is_ok() }
            });
            services.push((name, record));
        }
        let before = self.stacks.get(&stack.name).map_or(&[][..], |record| &record.services);
        for gone in before.iter().filter(|name| !stack.services.iter().any(|spec| spec.name == **name)) {
            services.extend(self.removed(&reference(gone)));
        }
        let mut names: Vec<ServiceName> = stack.services.iter().map(|spec| spec.name.clone()).collect();
        names.sort();
        let networks = self.changed_networks(&stack.name, &stack.networks);
        let record = StackRecord { services: names, networks: stack.networks.clone(), applied_unix_ms };
        let count = stack.services.len();
        let text =
            format!("stack {} is applied with {count} {}", stack.name, if count == 1 { "service" } else { "services" });
        let note = Note { stack: Some(stack.name.clone()), ..Note::new(NoteKind::StackApplied, text) };
        let stack = Some((stack.name.clone(), Some(record)));
        Ok(Outcome { stack, networks, services, notes: vec![note], ..Outcome::default() })
    }

    /// A service with another specification. A container made from the same is the same revision.
    fn changed(&self, service: &Service, spec: ServiceSpec) -> ServiceRecord {
        let mut record = service.record();
        if service.removed {
            record.released = false;
            record.removed = false;
        }
        let same = |other: &ServiceSpec| other.container == spec.container;
        let used = service.slots.values().any(|slot| !slot.copies.is_empty());
        if !same(&record.spec) {
            let known = record.older.iter().position(|(_, older)| same(older));
            let revision = match known {
                Some(at) => record.older.remove(at).0,
                None => Revision(record.newest.0 + 1),
            };
            if used {
                record.older.push((record.revision, record.spec.clone()));
                record.older.sort_by_key(|(revision, _)| *revision);
            } else {
                record.older.clear();
            }
            record.newest = record.newest.max(revision);
            record.revision = revision;
            record.paused = None;
        }
        record.spec = spec;
        record
    }

    fn removed(&self, name: &ServiceRef) -> Option<(ServiceRef, ServiceRecord)> {
        let service = self.services.named(name)?;
        Some((name.clone(), ServiceRecord { removed: true, homes: BTreeMap::new(), ..service.record() }))
    }

    fn remove_stack(&self, name: &StackName) -> Result<Outcome, Refusal> {
        let stack = self.stacks.get(name).ok_or_else(|| Refusal::NoStack(name.clone()))?;
        self.check_lent(name, &BTreeSet::new())?;
        let networks = self.changed_networks(name, &[]);
        let services = stack.services.iter();
        let services = services
            .filter_map(|service| self.removed(&ServiceRef { stack: name.clone(), service: service.clone() }))
            .collect();
        let note = Note::new(NoteKind::StackRemoved, format!("stack {name} is removed"));
        let note = Note { stack: Some(name.clone()), ..note };
        Ok(Outcome { stack: Some((name.clone(), None)), networks, services, notes: vec![note], ..Outcome::default() })
    }

    fn known(&self, name: &ServiceRef) -> Result<&Service, Refusal> {
        let service = self.services.named(name).filter(|service| !service.removed);
        service.ok_or_else(|| Refusal::NoService(name.clone()))
    }

    fn scale(&self, name: &ServiceRef, replicas: u32) -> Result<Outcome, Refusal> {
        let service = self.known(name)?;
        let Mode::Replicated(before) = service.content.spec.mode else { return Err(Refusal::Global(name.clone())) };
        if replicas > MAX_REPLICAS {
            return Err(Refusal::TooMany { service: name.clone(), wanted: replicas, most: MAX_REPLICAS });
        }
        let mut record = service.record();
        record.spec.mode = Mode::Replicated(replicas);
        record.homes = self.homes_of(name, &record.spec, record.homes, |other| self.known(other).is_ok());
        let text = format!("{name} is scaled from {before} to {replicas}");
        let notes = vec![Note::of_service(NoteKind::ServiceScaled, name, text)];
        Ok(Outcome { services: vec![(name.clone(), record)], notes, ..Outcome::default() })
    }

    fn restart(&self, name: &ServiceRef) -> Result<Outcome, Refusal> {
        let mut record = self.known(name)?.record();
        record.older.push((record.revision, record.spec.clone()));
        record.newest = Revision(record.newest.0 + 1);
        record.revision = record.newest;
        record.paused = None;
        let notes = vec![Note::of_service(NoteKind::RollChanged, name, format!("{name} is restarted copy by copy"))];
        Ok(Outcome { services: vec![(name.clone(), record)], notes, ..Outcome::default() })
    }

    fn file_changed(&self, file: &FileRef) -> Outcome {
        let mut outcome = Outcome::default();
        for (_, service) in self.services.iter().filter(|(_, service)| !service.removed) {
            let mut spec = service.content.spec.clone();
            let is_older =
                |other: &FileRef| (other.kind, &other.name) == (file.kind, &file.name) && other.version < file.version;
            let files = spec.container.files.iter_mut().filter(|mount| is_older(&mount.file));
            let changed = files.map(|mount| mount.file.version = file.version).count();
            if changed == 0 {
                continue;
            }
            let text = format!("{} gets the new content of the {file}, copy by copy", service.name);
            outcome.notes.push(Note::of_service(NoteKind::RollChanged, &service.name, text));
            outcome.services.push((service.name.clone(), self.changed(service, spec)));
        }
        outcome
    }

    fn resume(&self, name: &ServiceRef) -> Result<Outcome, Refusal> {
        let mut record = self.known(name)?.record();
        if record.paused.take().is_none() {
            return Err(Refusal::NotPaused(name.clone()));
        }
        let notes = vec![Note::of_service(NoteKind::RollChanged, name, format!("the change of {name} goes on"))];
        Ok(Outcome { services: vec![(name.clone(), record)], notes, ..Outcome::default() })
    }

    fn change_devices(
        &self,
        names: &[&DeviceName],
        labels: &BTreeMap<String, Option<String>>,
        availability: Option<Availability>,
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let mut unknown = Vec::new();
        for &name in names {
            let Some(device) = self.devices.named(name) else {
                unknown.push(name.clone());
                continue;
            };
            let mut record = device.record();
            let mut tell = |text| outcome.notes.push(Note::of_device(NoteKind::DeviceChanged, name, text));
            for (key, value) in labels {
                tell(relabel(&mut record, name, key, value.as_deref()));
            }
            if let Some(availability) = availability {
                record.availability = availability;
                tell(match availability {
                    Availability::Active => format!("{name} is given work"),
                    Availability::Cordon => format!("{name} keeps what it has and gets nothing new"),
                    Availability::Drain => format!("{name} is drained"),
                });
            }
            outcome.devices.push((name.clone(), Some(record)));
        }
        match (unknown.as_slice(), names) {
            ([], _) => Ok(outcome),
            ([one], [_]) => Err(Refusal::NoDevice(one.clone())),
            _ => Err(Refusal::NoDevices(unknown)),
        }
    }

    fn check_forget(&self, name: &DeviceName) -> Result<Outcome, Refusal> {
        let device = self.devices.named(name).ok_or_else(|| Refusal::NoDevice(name.clone()))?;
        if matches!(device.liveness, Liveness::Up | Liveness::Suspect) {
            return Err(Refusal::Connected(name.clone()));
        }
        let homes = self.services.iter().filter(|(_, service)| service.homes.values().any(|home| home == name));
        let services = homes
            .map(|(_, service)| {
                let mut record = service.record();
                record.homes.retain(|_, home| home != name);
                (service.name.clone(), record)
            })
            .collect();
        let notes = vec![Note::of_device(NoteKind::DeviceForgotten, name, format!("{name} is forgotten"))];
        Ok(Outcome { devices: vec![(name.clone(), None)], services, notes, ..Outcome::default() })
    }

    fn confirm_loss(&self, names: &[DeviceName]) -> Result<Outcome, Refusal> {
        let absent = |liveness| !matches!(liveness, Liveness::Up);
        let mut confirmed = Vec::new();
        for name in names {
            let ix = self.devices.find(name).ok_or_else(|| Refusal::NoDevice(name.clone()))?;
            if !self.devices.get(ix).is_some_and(|device| absent(device.liveness)) {
                return Err(Refusal::Connected(name.clone()));
            }
            confirmed.push(ix);
        }
        if names.is_empty() {
            confirmed.extend(self.devices.iter().filter(|(_, device)| absent(device.liveness)).map(|(ix, _)| ix));
        }
        let note = |ix: &DeviceIx| {
            let name = &self.devices.get(*ix)?.name;
            let text = format!("the operator says that {name} is off");
            Some(Note::of_device(NoteKind::DeviceChanged, name, text))
        };
        let notes = confirmed.iter().filter_map(note).collect();
        Ok(Outcome { confirmed, notes, ..Outcome::default() })
    }
}

/// Sets or takes a label, and says so.
fn relabel(record: &mut DeviceRecord, name: &DeviceName, key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => {
            record.labels.insert(key.to_owned(), value.to_owned());
            format!("{name} has the label {key}={value}")
        }
        None => {
            record.labels.remove(key);
            format!("{name} has no label {key} any more")
        }
    }
}

fn new_service(spec: ServiceSpec) -> ServiceRecord {
    ServiceRecord {
        spec,
        revision: Revision(1),
        newest: Revision(1),
        older: Vec::new(),
        released: false,
        paused: None,
        removed: false,
        homes: BTreeMap::new(),
    }
}

fn check_stack(stack: &StackSpec) -> Result<(), Refusal> {
    let reference = |service: &ServiceName| ServiceRef { stack: stack.name.clone(), service: service.clone() };
    for (at, spec) in stack.services.iter().enumerate() {
        if stack.services[..at].iter().any(|other| other.name == spec.name) {
            return Err(Refusal::Twice { stack: stack.name.clone(), service: spec.name.to_string() });
        }
        if let Mode::Replicated(wanted) = spec.mode
            && wanted > MAX_REPLICAS
        {
            return Err(Refusal::TooMany { service: reference(&spec.name), wanted, most: MAX_REPLICAS });
        }
        for on in &spec.depends_on {
            let refusal = |why| Refusal::Depends { service: reference(&spec.name), on: on.to_string(), why };
            if !stack.services.iter().any(|other| other.name == *on) {
                return Err(refusal("which the stack does not have"));
            }
            if depends(stack, on, &spec.name) {
                return Err(refusal("which waits for it in turn"));
            }
        }
    }
    Ok(())
}

/// Whether a service waits, directly or not, for another.
fn depends(stack: &StackSpec, service: &ServiceName, on: &ServiceName) -> bool {
    let mut seen = vec![service];
    let mut next = 0;
    while let Some(name) = seen.get(next).copied() {
        if name == on {
            return true;
        }
        next += 1;
        let spec = stack.services.iter().find(|spec| spec.name == *name);
        for further in spec.into_iter().flat_map(|spec| &spec.depends_on) {
            if !seen.contains(&further) {
                seen.push(further);
            }
        }
    }
    false
}
