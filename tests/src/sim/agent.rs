//! The agents' surroundings: power, processes, engines and files, as the program around the core would have them.

use outrigger_agent::core::{Action, ActionId, Core, Effect, Input, Outcome, Settings};
use outrigger_agent::engine::{EngineError, EngineEvent};
use outrigger_protocol::{ByeReason, Load, Moment, Permille};

use super::device::Agent;
use super::engine::{Op, Out};
use super::queue::Time;
use super::show;
use super::world::{Event, World};

impl World {
    /// The power comes (back).
    pub fn power_on(&mut self, device: usize) {
        let one = &mut self.devices[device];
        if one.is_on {
            return;
        }
        one.is_on = true;
        one.boots += 1;
        one.booted_at = self.now;
        one.session.0 = 0;
        let boot = one.boots;
        self.line(|| format!("d{device} has power"));
        let delay = self.chance.machine.range(500, 6000);
        self.after(delay, Event::Booted(device, boot));
    }

    /// The power goes: everything ends at once and nobody is told.
    pub fn power_off(&mut self, device: usize) {
        if !self.devices[device].is_on {
            return;
        }
        self.line(|| format!("d{device} loses power"));
        self.drop_connection(device, false);
        self.end_agent(device);
        let one = &mut self.devices[device];
        one.is_on = false;
        one.lease = None;
        one.engine.cut_power();
        self.look_at_flips(device);
    }

    /// The kernel is up.
    pub fn booted(&mut self, device: usize, boot: u32) {
        if !self.devices[device].is_on || self.devices[device].boots != boot {
            return;
        }
        let outs = self.devices[device].engine.come_up();
        drop(outs);
        let life = self.devices[device].life;
        let delay = self.chance.machine.range(10, 1500);
        self.after(delay, Event::AgentStarts(device, life));
    }

    /// The agent's process ends; its file is as a write under way leaves it.
    pub fn end_agent(&mut self, device: usize) {
        let one = &mut self.devices[device];
        one.life += 1;
        one.agent = None;
        one.held_up = None;
        one.attempts = 0;
        one.engine.agent_gone();
        one.file.cut(&mut self.chance.machine);
        self.bug.lying_disk(one);
        self.check.file_cut(device, one);
    }

    /// The agent is killed, and the supervisor starts it again after so long.
    pub fn kill_agent(&mut self, device: usize, back_after: Time) {
        if self.devices[device].agent.is_none() {
            return;
        }
        self.line(|| format!("d{device}: the agent is killed"));
        self.drop_connection(device, true);
        self.end_agent(device);
        let life = self.devices[device].life;
        self.after(back_after, Event::AgentStarts(device, life));
    }

    /// The agent is told to end, and the supervisor starts it again after so long.
    pub fn restart_agent(&mut self, device: usize, back_after: Time) {
        if self.devices[device].agent.is_none() {
            return;
        }
        self.line(|| format!("d{device}: the agent restarts"));
        self.agent_input(device, Input::Stop(ByeReason::Restart));
        self.say_goodbye(device);
        self.end_agent(device);
        let life = self.devices[device].life;
        self.after(back_after, Event::AgentStarts(device, life));
    }

    /// The device shuts down in order.
    pub fn shut_down(&mut self, device: usize) {
        if self.devices[device].agent.is_some() {
            self.agent_input(device, Input::Stop(ByeReason::Shutdown));
            self.say_goodbye(device);
        }
        self.power_off(device);
    }

    /// Closes the connection as MQTT has it: what was sent arrives, and the broker forgets the will.
    fn say_goodbye(&mut self, device: usize) {
        let Some(conn) = self.devices[device].conn.take() else { return };
        if let Some(open) = self.broker.conns.get_mut(&conn) {
            open.will.clear();
        }
        self.broker.close_at_device(conn);
        // After the last message, which takes at most as long as the slowest on this link.
        let delay = self.devices[device].link.delay.1 + 5;
        if self.devices[device].link.up {
            self.after(delay, Event::BrokerSees(conn));
        }
    }

    /// An agent starts.
    pub fn agent_starts(&mut self, device: usize, life: u32) {
        let one = &mut self.devices[device];
        if !one.is_on || one.life != life || one.agent.is_some() {
            return;
        }
        let settings = Settings {
            boot: one.boot_id(),
            machine: one.machine,
            device: one.name.clone(),
            heartbeat: one.heartbeat,
            policy: std::sync::Arc::default(),
        };
        let core = Core::new(settings, self.bug.facts(one.facts.clone()), one.file.read()).with_lease(one.lease);
        one.agent = Some(Agent { core, tick_at: Time::MAX });
        let runs = one.engine.containers().any(|container| container.state.is_running());
        let has_assignment = one.file.durable().is_some();
        if runs {
            self.sometimes.count("an agent adopted running containers");
        }
        if has_assignment && (self.hub.core.is_none() || !self.devices[device].link.is_whole()) {
            self.sometimes.count("a device booted without the hub");
        }
        self.check.agent_started(device, &self.devices[device]);
        self.line(|| format!("d{device}: an agent starts"));
        let wall = self.devices[device].wall(self.now);
        self.agent_input(device, Input::Wall(wall));
        let Out::Tell(word) = self.devices[device].engine.tell_all() else { return };
        let word = self.bug.first_list(word);
        self.engine_outs(device, vec![Out::Tell(word)]);
        let delay = self.chance.net.range(5, 100);
        self.after(delay, Event::Connect(device, life));
    }

    /// The core gets an input, unless its process is held up, and what it wants is done.
    pub fn agent_input(&mut self, device: usize, input: Input) {
        let one = &mut self.devices[device];
        if one.agent.is_none() {
            return;
        }
        if let Some((_, waiting)) = &mut one.held_up {
            waiting.push(input);
            return;
        }
        let own = one.agent.as_ref().and_then(|agent| agent.core.fleet());
        let input = self.bug.agent_input(own, input);
        let moment = self.bug.agent_clock(one, self.now);
        let Some(agent) = &mut one.agent else { return };
        let effects = agent.core.step(moment, input);
        one.lease = agent.core.renewed_at();
        one.duty.steps += 1;
        let effects = self.bug.agent_effects(one, moment, effects);
        self.check.agent_stepped(device, &self.devices[device]);
        for effect in effects {
            self.agent_effect(device, effect);
        }
        self.plan_tick(device, moment);
    }

    fn plan_tick(&mut self, device: usize, moment: Moment) {
        let one = &mut self.devices[device];
        let Some(agent) = &one.agent else { return };
        let wake_at = agent.core.wake_at(moment);
        if wake_at == Moment::NEVER {
            return;
        }
        // A wish for a moment that has passed is served a millisecond later, or a faulty core would stop time.
        let at = one.true_time(wake_at).max(self.now + 1);
        if let Some(agent) = &mut one.agent
            && (at < agent.tick_at || agent.tick_at <= self.now)
        {
            agent.tick_at = at;
            let life = one.life;
            self.queue.push(at, Event::AgentTick(device, life, at));
        }
    }

    /// The core's next moment.
    pub fn agent_tick(&mut self, device: usize, life: u32, at: Time) {
        let one = &mut self.devices[device];
        let Some(agent) = one.agent.as_mut().filter(|agent| agent.tick_at == at) else { return };
        if one.life != life {
            return;
        }
        agent.tick_at = Time::MAX;
        if one.held_up.is_none() {
            self.agent_input(device, Input::Tick);
        }
    }

    /// The agent's process gets no time until that moment.
    pub fn hold_up(&mut self, device: usize, until: Time) {
        if self.devices[device].agent.is_some() && self.devices[device].held_up.is_none() {
            self.devices[device].held_up = Some((until, Vec::new()));
            self.queue.push(until, Event::Thaw(device, until));
        }
    }

    /// It goes on with what has come meanwhile.
    pub fn thaw(&mut self, device: usize, until: Time) {
        if self.devices[device].held_up.as_ref().is_none_or(|(at, _)| *at != until) {
            return;
        }
        let waiting = self.devices[device].held_up.take().map(|(_, waiting)| waiting).unwrap_or_default();
        for input in waiting {
            self.agent_input(device, input);
        }
        self.agent_input(device, Input::Tick);
    }

    fn agent_effect(&mut self, device: usize, effect: Effect) {
        match effect {
            Effect::Publish(message) => {
                self.trace.count(&[21, self.now, device as u64, u64::from(super::net::key(message.channel()))]);
                self.line(|| format!("d{device} says {}", show::up(&message)));
                self.send_up(device, &message);
            }
            Effect::Save(assignment) => {
                let takes = self.chance.machine.range(1, 30);
                let one = &mut self.devices[device];
                let number = one.file.begin(*assignment);
                one.file.busy_until = one.file.busy_until.max(self.now) + takes;
                self.queue.push(one.file.busy_until, Event::FileWritten(device, one.life, number));
            }
            Effect::Act(id, action) => self.act(device, id, action),
            Effect::Abort(id) => self.devices[device].engine.abort(id),
            // Nobody asks for output here, and nobody has a certificate.
            Effect::Logs(..) | Effect::Taken(..) | Effect::Cancel(_) | Effect::Adopt(_) => (),
            // No proxy runs here, and what is kept for it changes no decision about containers.
            Effect::Proxy(_) | Effect::KeepMesh(..) => (),
        }
    }

    fn act(&mut self, device: usize, id: ActionId, action: Action) {
        self.trace.count(&[22, self.now, device as u64, id.0]);
        self.line(|| format!("d{device} does {}", show::action(&action)));
        self.check_action(device, &action);
        let out = self.devices[device].engine.call(id, action);
        self.engine_outs(device, vec![out]);
    }

    /// The agent's file is written, or could not be.
    pub fn file_written(&mut self, device: usize, life: u32, number: u64) {
        if self.devices[device].life != life {
            return;
        }
        let Some((assignment, result)) = self.devices[device].file.end(number) else { return };
        let stamp = assignment.stamp;
        if result.is_ok() {
            self.check.saved(device, &mut self.devices[device], assignment);
        } else {
            self.sometimes.count("an agent could not save");
        }
        self.agent_input(device, Input::Saved(self.bug.saved_stamp(device, stamp), result));
    }

    /// A step of the engine is due.
    pub fn engine_step(&mut self, device: usize, engine: u32, life: u32, op: Op) {
        // A program lives and is checked on, whatever becomes of its engine; a call does not.
        let is_call = !matches!(op, Op::Exit(..) | Op::Health(..));
        if is_call && self.devices[device].engine.life != engine {
            return;
        }
        let has_agent = self.devices[device].life == life;
        let outs = self.devices[device].engine.step(op, has_agent);
        self.engine_outs(device, outs);
    }

    /// Carries out what an engine says.
    pub fn engine_outs(&mut self, device: usize, outs: Vec<Out>) {
        self.look_at_flips(device);
        for out in outs {
            let (life, engine) = (self.devices[device].life, self.devices[device].engine.life);
            match out {
                Out::Later(delay, op) => self.after(delay, Event::Engine(device, engine, life, op)),
                Out::Done(id, outcome) => {
                    let delay = self.devices[device].engine.latency();
                    self.after(delay, Event::Answer(device, life, id, Box::new(outcome)));
                }
                Out::Tell(word) => {
                    let latency = self.devices[device].engine.latency();
                    let at = (self.now + latency).max(self.devices[device].told_until);
                    self.devices[device].told_until = at;
                    self.queue.push(at, Event::Word(device, life, Box::new(word)));
                }
            }
        }
    }

    /// An engine's answer arrives.
    pub fn engine_answer(&mut self, device: usize, life: u32, id: ActionId, outcome: Outcome) {
        if matches!(outcome, Err(EngineError::PullFailed { .. })) {
            self.sometimes.count("a pull failed");
        }
        if self.devices[device].life == life {
            self.trace.count(&[23, self.now, device as u64, id.0]);
            self.agent_input(device, Input::Done(id, outcome));
        }
    }

    /// An engine's word arrives.
    pub fn engine_word(&mut self, device: usize, life: u32, word: EngineEvent) {
        if self.devices[device].life == life {
            self.trace.count(&[24, self.now, device as u64]);
            self.line(|| format!("d{device} engine: {}", show::word(&word)));
            self.agent_input(device, Input::Engine(word));
        }
    }

    /// Each device samples its load, from time to time.
    pub fn sample(&mut self) {
        let quiet = self.check.is_idle;
        for device in 0..self.devices.len() {
            let (cpu, memory) =
                if quiet { (100, 300) } else { (self.chance.machine.below(900), self.chance.machine.range(200, 900)) };
            let permille = |value: u64| Permille::new(u16::try_from(value).unwrap_or(1000));
            let load = Load { cpu: permille(cpu), memory: permille(memory), ..Load::default() };
            let wall = self.devices[device].wall(self.now);
            self.agent_input(device, Input::Wall(wall));
            self.agent_input(device, Input::Load(load));
        }
        // A broker writes what it keeps now and then, and finds that again after a crash.
        self.broker.on_disk = self.broker.retained.clone();
        self.after(10_000, Event::Sample);
    }
}
