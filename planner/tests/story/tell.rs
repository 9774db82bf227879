//! Tells a story line by line.

use std::collections::BTreeMap;

use outrigger_planner::{Availability, Fate, Heard, IfLost, LabelRule, Policy, RollState, Verdict, Wish};
use outrigger_protocol::{
    Bye, ByeReason, DeviceName, EngineState, FileKind, FileRef, NetworkSpec, Permille, ReplicaName, ServiceRef,
    ServiceSpec, SessionNumber, StackName, StackSpec, Throttling,
};

use super::World;
use super::agent::{Agent, Fault};
use super::words::{device, service, time, words};

/// A story being told.
pub struct Teller {
    world: World,
    stacks: BTreeMap<StackName, Vec<ServiceSpec>>,
    networks: BTreeMap<StackName, Vec<NetworkSpec>>,
    marked: (usize, u32, u32),
    foreseen: Vec<IfLost>,
}

/// Tells the whole story; stops with line and reason where it does not come true.
pub fn tell(name: &str, text: &str) {
    let mut policy = Policy::default();
    let settings = text.lines().filter_map(|line| line.trim().strip_prefix("policy "));
    settings.flat_map(words).for_each(|word| set(&mut policy, &word));
    let mut teller = Teller {
        world: World::new(policy),
        stacks: BTreeMap::new(),
        networks: BTreeMap::new(),
        marked: (0, 0, 0),
        foreseen: vec![],
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("policy ") {
            continue;
        }
        let words = words(line);
        let told: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(why) = teller.line(&told, &words) {
            let notes: Vec<String> = teller.world.notes.iter().rev().take(25).map(ToString::to_string).collect();
            panic!("{name}:{}: `{line}`: {why}\nlatest first:\n  {}", number + 1, notes.join("\n  "));
        }
    }
}

fn set(policy: &mut Policy, word: &str) {
    let (key, value) = word.split_once('=').unwrap();
    match key {
        "lost_after" => policy.lost_after = time(value),
        "restart_grace" => policy.restart_grace = time(value),
        "start_grace" => policy.start_grace = time(value),
        "engine_grace" => policy.engine_grace = time(value),
        "lost_after_shutdown" => policy.lost_after_shutdown = time(value),
        "start_deadline" => policy.start_deadline = time(value),
        "pull_stall" => policy.pull_stall = time(value),
        "settle" => policy.settle = time(value),
        "moves_per_hour" => policy.moves_per_hour = value.parse().unwrap(),
        "lost_after_of" => {
            let (label, after) = value.split_once('@').unwrap();
            let (key, value) = label.split_once(':').unwrap();
            policy.lost_after_of.push(LabelRule { key: key.into(), value: value.into(), lost_after: time(after) });
        }
        key => panic!("`{key}` is no setting"),
    }
}

type Told = Result<(), String>;

fn is(holds: bool, otherwise: impl FnOnce() -> String) -> Told {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn reference(text: &str) -> ServiceRef {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

impl Teller {
    fn line(&mut self, told: &[&str], all: &[String]) -> Told {
        match told {
            ["expect", rest @ ..] => self.expect(rest),
            ["refused", rest @ .., words] => match self.line(rest, &all[1..]) {
                Err(why) => is(why.contains(words), || why),
                Ok(()) => Err("it was not refused".into()),
            },
            ["device", device, ..] => self.join(device, &all[2..]),
            ["service", name, ..] => {
                let reference = reference(name);
                let spec = service(reference.service.as_str(), &all[2..]);
                let services = self.stacks.entry(reference.stack).or_default();
                services.retain(|known| known.name != spec.name);
                services.push(spec);
                Ok(())
            }
            ["network", stack, name, flags @ ..] => {
                let (internal, ipv6) = (flags.contains(&"internal"), flags.contains(&"ipv6"));
                let spec = NetworkSpec { name: name.parse().unwrap(), internal, ipv6 };
                let networks = self.networks.entry(stack.parse().unwrap()).or_default();
                networks.retain(|known| known.name != spec.name);
                networks.push(spec);
                Ok(())
            }
            ["no-network", stack, name] => {
                let networks = self.networks.entry(stack.parse().unwrap()).or_default();
                networks.retain(|known| known.name.as_str() != *name);
                Ok(())
            }
            ["without", name] => {
                let reference = reference(name);
                self.stacks.entry(reference.stack).or_default().retain(|known| known.name != reference.service);
                Ok(())
            }
            ["wait", span] => {
                self.world.pass(time(span));
                Ok(())
            }
            ["mark"] => {
                self.marked = (self.world.notes.len(), self.world.starts, self.world.stops);
                Ok(())
            }
            ["foresee", device, "lost"] => {
                let told = self.world.fleet.what_if_lost(&name(device), self.world.now);
                self.foreseen = told.ok_or("there is no such device")?.replicas;
                Ok(())
            }
            ["hub", rest @ ..] => self.hub(rest),
            _ => self.wish(told).unwrap_or_else(|| self.happen(told)),
        }
    }

    fn join(&mut self, device_name: &str, words: &[String]) -> Told {
        let (facts, labels) = device(words);
        let name = name(device_name);
        let number = self.world.agents.len() as u64;
        self.world.agents.insert(name.clone(), Agent::new(name.clone(), facts, number, self.world.now));
        self.world.pass(super::STEP);
        for (key, value) in labels {
            self.world.wish(Wish::Label { device: name.clone(), key, value: Some(value) })?;
        }
        Ok(())
    }

    fn hub(&mut self, words: &[&str]) -> Told {
        match words {
            ["stops"] => self.world.hub_up = false,
            ["starts"] => self.world.restart_hub(),
            ["is", "paused", span] => {
                let gap = time(span);
                self.world.hub_up = false;
                self.world.pass(gap);
                self.world.hub_up = true;
                let now = self.world.now;
                self.world.fleet.paused(gap, now);
            }
            words => return Err(format!("the hub cannot {}", words.join(" "))),
        }
        Ok(())
    }

    fn wish(&mut self, words: &[&str]) -> Option<Told> {
        let availability = |device: &str, availability| Wish::Availability { device: name(device), availability };
        let wish = match words {
            ["apply", stack] => {
                let name: StackName = stack.parse().unwrap();
                let services = self.stacks.get(&name).cloned().unwrap_or_default();
                let networks = self.networks.get(&name).cloned().unwrap_or_default();
                Wish::Apply { stack: StackSpec { name, services, networks }, applied_unix_ms: None }
            }
            ["remove", stack] => Wish::RemoveStack(stack.parse().unwrap()),
            ["scale", service, count] => Wish::Scale { service: reference(service), replicas: count.parse().unwrap() },
            ["restart", service] => Wish::Restart(reference(service)),
            ["resume", service] => Wish::Resume(reference(service)),
            ["label", device, label] => {
                let (key, value) = label.split_once('=').unwrap();
                let value = Some(value.to_owned()).filter(|value| !value.is_empty());
                Wish::Label { device: name(device), key: key.into(), value }
            }
            ["drain", device] => availability(device, Availability::Drain),
            ["drain", devices @ ..] => Wish::Devices {
                devices: devices.iter().map(|device| name(device)).collect(),
                labels: BTreeMap::new(),
                availability: Some(Availability::Drain),
            },
            ["cordon", device] => availability(device, Availability::Cordon),
            ["activate", device] => availability(device, Availability::Active),
            ["forget", device] => Wish::Forget(name(device)),
            ["confirm-loss", devices @ ..] => Wish::ConfirmLoss(devices.iter().map(|device| name(device)).collect()),
            ["secret", name, "is", "version", version] => {
                let (name, version) = (name.parse().unwrap(), version.parse().unwrap());
                Wish::FileChanged(FileRef { kind: FileKind::Secret, name, version })
            }
            ["image", image, "is", "for", platforms @ ..] => {
                let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
                Wish::ImagePlatforms { image: (*image).into(), platforms }
            }
            _ => return None,
        };
        Some(self.world.wish(wish))
    }

    fn agent(&mut self, device: &str) -> &mut Agent {
        self.world.agents.get_mut(&name(device)).unwrap_or_else(|| panic!("there is no device {device}"))
    }

    fn happen(&mut self, words: &[&str]) -> Told {
        match words {
            ["power-cut", devices @ ..] => devices.iter().for_each(|device| self.agent(device).power_off()),
            ["boot", devices @ ..] => devices.iter().for_each(|device| self.agent(device).power_on()),
            ["cut", devices @ ..] => devices.iter().for_each(|device| self.agent(device).cable = false),
            ["mend", devices @ ..] => devices.iter().for_each(|device| self.agent(device).cable = true),
            ["reconnect", device] => {
                let agent = self.agent(device);
                agent.cable = true;
                agent.reconnect();
            }
            ["will", device] => {
                let message = self.agent(device).bye(ByeReason::Lost);
                self.world.hear(&name(device), message);
            }
            ["old", "will", device] => {
                let session = SessionNumber(self.agent(device).session - 1);
                let message = Heard::Bye(Bye { session, reason: ByeReason::Lost });
                self.world.hear(&name(device), message);
            }
            ["impostor", device] => {
                let message = self.agent(device).impostor();
                self.world.hear(&name(device), message);
            }
            ["bye", device, reason] => {
                let reason = match *reason {
                    "restart" => ByeReason::Restart,
                    "shutdown" => ByeReason::Shutdown,
                    "leave" => ByeReason::Leave,
                    reason => return Err(format!("`{reason}` is no reason")),
                };
                let message = self.agent(device).bye(reason);
                self.world.hear(&name(device), message);
                self.agent(device).cable = false;
            }
            ["engine", device, state] => {
                self.agent(device).engine = match *state {
                    "up" => EngineState::Up,
                    "down" => EngineState::Down("connection refused".into()),
                    _ => EngineState::StorageFailed("no space left on device".into()),
                };
            }
            ["load", device, rest @ ..] => self.load(device, rest),
            ["pulls", device, "take", span] => self.agent(device).pull_time = time(span),
            ["starts", device, "take", span] => self.agent(device).start_time = time(span),
            ["hears", device, "after", span] => self.agent(device).delay = time(span),
            // The owner of a device changes its policy; this is no longer refused there.
            ["owner", device, "allows", what] => {
                let agent = self.agent(device);
                agent.allow(what);
            }
            ["fault", what, kind, rest @ ..] => self.fault(what, kind, rest),
            ["heal", what] => {
                for agent in self.world.agents.values_mut() {
                    agent.faults.remove(*what);
                }
            }
            words => return Err(format!("`{}` is not understood", words.join(" "))),
        }
        Ok(())
    }

    fn load(&mut self, device: &str, words: &[&str]) {
        let load = &mut self.agent(device).load;
        for word in words {
            match word.split_once('=') {
                Some(("cpu", value)) => load.cpu = Permille::new(value.parse().unwrap()),
                Some(("memory", value)) => load.memory = Permille::new(value.parse().unwrap()),
                Some((key, _)) => panic!("`{key}` is no load"),
                None if *word == "hot" => load.throttling = Throttling(Throttling::HOT),
                None => panic!("`{word}` is no load"),
            }
        }
    }

    fn fault(&mut self, what: &str, kind: &str, rest: &[&str]) {
        let (text, device) = match rest {
            [text, "on", device] => (*text, Some(*device)),
            ["on", device] => ("", Some(*device)),
            [text] => (*text, None),
            _ => ("", None),
        };
        let fault = match kind {
            "crash" => Fault::Crash(text.into()),
            "pull" => Fault::Pull(text.into()),
            "hang" => Fault::Hang,
            "memory" => Fault::Memory,
            "unhealthy" => Fault::Unhealthy,
            "owner" => Fault::Owner(text.into()),
            kind => panic!("`{kind}` is no fault"),
        };
        for (name, agent) in &mut self.world.agents {
            if device.is_none_or(|device| name.as_str() == device) {
                agent.faults.insert(what.to_owned(), fault.clone());
            }
        }
    }

    fn expect(&mut self, words: &[&str]) -> Told {
        let world = &self.world;
        match words {
            [device, state @ ("up" | "suspect" | "lost" | "away" | "unheard")] => {
                let now = world.fleet.device(&name(device)).ok_or("there is no such device")?.liveness.to_string();
                is(now == *state, || format!("it is {now}"))
            }
            [device, "lost", "after", span] => {
                let after = world.fleet.device(&name(device)).ok_or("there is no such device")?.lost_after;
                is(after == time(span), || format!("after {after:?}"))
            }
            ["routes", device, service, "none"] => {
                let told = world.told_endpoints(&name(device), &reference(service));
                is(told.is_none(), || format!("{told:?}"))
            }
            ["routes", device, service, what @ ("callers" | "through" | "aliases" | "publishes"), rest @ ..] => {
                let told = world.told_service(&name(device), &reference(service)).ok_or("it was not told of it")?;
                is(told[what] == rest.join(" "), || told[what].clone())
            }
            ["routes", device, service, endpoints @ ..] => {
                let told = world.told_endpoints(&name(device), &reference(service)).ok_or("it was not told of it")?;
                is(told == endpoints, || format!("{told:?}"))
            }
            ["networks", device, networks @ ..] => {
                let assignment = world.fleet.assignment(&name(device)).ok_or("there is no such device")?;
                let told: Vec<String> = assignment.networks.iter().map(|network| network.name.to_string()).collect();
                is(told == networks, || format!("{told:?}"))
            }
            [what, "on", devices @ ..] => {
                let running = world.running(what);
                let mut wanted = devices.to_vec();
                wanted.sort_unstable();
                is(running == wanted, || format!("it runs on {running:?}"))
            }
            [what, "runs", count] => {
                let running = world.running(what);
                is(running.len().to_string() == *count, || format!("it runs on {running:?}"))
            }
            [service, "good", count] => {
                let good = world.fleet.service(&reference(service)).ok_or("there is no such service")?.running;
                is(good.to_string() == *count, || format!("{good} are good"))
            }
            ["foreseen", replica, text] => {
                let found = self.foreseen.iter().find(|one| one.replica.to_string() == *replica);
                let told = match &found.ok_or("it was not foreseen")?.fate {
                    Fate::Done => "done".to_owned(),
                    Fate::GoesOn(on) => format!("goes on on {on}"),
                    Fate::Moves { to, after, .. } => format!("to {to} after {after:?}"),
                    Fate::Waits { why, refusals } => format!("{why} {refusals:?}"),
                };
                is(told.contains(text), || told)
            }
            ["as", "foreseen"] => self.foreseen.iter().try_for_each(|one| {
                let replica = one.replica.to_string();
                match &one.fate {
                    Fate::Moves { to, .. } | Fate::GoesOn(to) => {
                        let on = world.running(&replica);
                        is(on.contains(&to.to_string()), || format!("{replica} runs on {on:?}, not {to}"))
                    }
                    Fate::Waits { why, .. } => {
                        let waiting = self.waiting(&replica);
                        is(waiting == Some(why.to_string()), || format!("{replica} {waiting:?}, not {why}"))
                    }
                    Fate::Done => Ok(()),
                }
            }),
            ["no", "safe", "mode"] => is(world.fleet.safe_mode().is_none(), || "there is".into()),
            ["safe", "mode"] => is(world.fleet.safe_mode().is_some(), || "there is none".into()),
            ["starts", count] => {
                let starts = world.starts - self.marked.1;
                is(starts.to_string() == *count, || format!("{starts} were started"))
            }
            ["stops", count] => {
                let stops = world.stops - self.marked.2;
                is(stops.to_string() == *count, || format!("{stops} were stopped"))
            }
            ["no", "note", text] => {
                let found = world.notes[self.marked.0..].iter().map(ToString::to_string).find(|n| n.contains(text));
                is(found.is_none(), || found.unwrap_or_default())
            }
            ["note", text] => {
                let found = world.notes[self.marked.0..].iter().any(|note| note.to_string().contains(text));
                is(found, || "nothing of that was told".into())
            }
            ["roll", service, state, rest @ ..] => self.expect_roll(service, state, rest),
            [replica, "waits", text] => self.expect_waiting(replica, text),
            [replica, "does", "not", "wait"] => {
                let waiting = self.waiting(replica);
                is(waiting.is_none(), || waiting.unwrap_or_default())
            }
            [replica, "because", text] => self.expect_reason(replica, text),
            ["refusal", replica, device, text] => self.expect_refusal(replica, device, text),
            ["nothing", "about", service, "names", word] => self.expect_unnamed(service, word),
            words => Err(format!("`{}` is not understood", words.join(" "))),
        }
    }

    fn expect_roll(&self, service: &str, state: &str, text: &[&str]) -> Told {
        let view = self.world.fleet.service(&reference(service)).ok_or("there is no such service")?;
        let now = match view.roll.state {
            RollState::Done => "done",
            RollState::Preparing => "preparing",
            RollState::Rolling => "rolling",
            RollState::Paused => "paused",
        };
        let reason = view.roll.reason.unwrap_or_default();
        is(now == state && text.iter().all(|text| reason.contains(text)), || format!("it is {now}: {reason}"))
    }

    fn waiting(&self, replica: &str) -> Option<String> {
        let replica: ReplicaName = replica.parse().unwrap();
        let view = self.world.fleet.replicas(&replica.service).find(|view| view.name == replica)?;
        view.waiting.map(ToString::to_string)
    }

    fn expect_waiting(&self, replica: &str, text: &str) -> Told {
        let waiting = self.waiting(replica).ok_or("it does not wait")?;
        is(waiting.contains(text), || format!("it {waiting}"))
    }

    fn expect_reason(&self, replica: &str, text: &str) -> Told {
        let replica: ReplicaName = replica.parse().unwrap();
        let told = self.world.fleet.explain(&replica.service, Some(replica.number), self.world.now);
        let placed = told.and_then(|told| told.replicas.into_iter().next()).and_then(|replica| replica.placed);
        let (_, reason) = placed.ok_or("it is not placed")?;
        is(reason.cause.to_string().contains(text), || format!("because {}", reason.cause))
    }

    /// Nothing that is told about a service has this word: somebody who may see that service may not see others.
    fn expect_unnamed(&self, service: &str, word: &str) -> Told {
        let told = self.world.fleet.explain(&reference(service), None, self.world.now);
        let told = format!("{:?}", told.ok_or("there is no such service")?);
        is(!told.contains(word), || told)
    }

    fn expect_refusal(&self, replica: &str, device: &str, text: &str) -> Told {
        let replica: ReplicaName = replica.parse().unwrap();
        let told = self.world.fleet.explain(&replica.service, Some(replica.number), self.world.now);
        let told = told.and_then(|told| told.replicas.into_iter().next()).ok_or("there is no such replica")?;
        let verdict = told.devices.into_iter().find(|(name, _)| name.as_str() == device).map(|(_, verdict)| verdict);
        match verdict.ok_or("there is no such device")? {
            Verdict::Refused(why) => is(why.contains(text), || why),
            Verdict::Fits(score) => Err(format!("it fits with {} points", score.points())),
        }
    }
}
