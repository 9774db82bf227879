//! Waiting until a stack or services run, showing how far each copy is: on a terminal lines that change in place,
//! elsewhere one line for each change.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use outrigger_api::{Replica, ReplicaQuery, ReplicaState, Service, ServiceMode, UpdateState};

use crate::clock::Deadline;
use crate::commands::words;
use crate::output::{Look, Screen};
use crate::style::Tone;
use crate::{Client, Failure, Output};

/// Between two looks. A look costs the hub two small answers.
const PAUSE: Duration = Duration::from_millis(250);

/// What is waited for.
pub(crate) enum Scope {
    /// All services of a stack.
    Stack(String),
    /// These services.
    Services(Vec<String>),
}

impl Scope {
    fn look(&self, client: &Client) -> Result<View, Failure> {
        match self {
            Self::Stack(name) => {
                let query = ReplicaQuery { stack: Some(name.clone()), ..ReplicaQuery::default() };
                Ok(View { services: client.stack(name)?.services, replicas: client.replicas(&query)?.replicas })
            }
            Self::Services(names) => {
                let mut view = View::default();
                for name in names {
                    let query = ReplicaQuery { service: Some(name.clone()), ..ReplicaQuery::default() };
                    view.services.push(client.service(name)?);
                    view.replicas.extend(client.replicas(&query)?.replicas);
                }
                Ok(view)
            }
        }
    }
}

/// One look at what is waited for.
#[derive(Debug, Default)]
struct View {
    services: Vec<Service>,
    replicas: Vec<Replica>,
}

/// What a look means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not there yet.
    Waiting,
    /// All is as wanted.
    Settled,
    /// The update of this service has stopped: why.
    Stuck { service: String, reason: String },
    /// No device is left whose owner allows this replica: what they say.
    Refused { replica: String, reason: String },
}

/// Waits until all copies run.
///
/// # Errors
/// [`Failure::TimedOut`] after `limit`, [`Failure::Stuck`] if an update has stopped, and what the hub refuses.
pub(crate) fn wait(client: &Client, scope: &Scope, limit: Duration, out: &mut Output) -> Result<(), Failure> {
    let deadline = Deadline::after(limit);
    let mut board = Board::new(out);
    loop {
        let view = match scope.look(client) {
            Ok(view) => view,
            // A hub that restarts stops nothing, so neither do we, until the time is over.
            Err(Failure::Unreachable { .. } | Failure::Interrupted { .. }) if !deadline.is_over() => {
                board.unreachable(client.hub(), out);
                thread::sleep(PAUSE);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        board.show(&view, out);
        match verdict(&view) {
            Verdict::Settled => {
                board.clear();
                out.note(Tone::Good, &format!("{} running", copies(&view)));
                // All runs, and yet requests may not arrive: a published port is taken on some device, say.
                for service in &view.services {
                    for refusal in refusals(service) {
                        out.note(Tone::Warning, &format!("{} does not run on {refusal}", service.name));
                    }
                    service.notes.iter().for_each(|note| out.note(Tone::Warning, &format!("{}: {note}", service.name)));
                }
                return Ok(());
            }
            Verdict::Stuck { service, reason } => {
                board.clear();
                return Err(Failure::Stuck {
                    message: format!("the update of {service} has stopped: {reason}"),
                    hint: format!("mend it and deploy again, or go on with `outrigger resume {service}`"),
                });
            }
            Verdict::Refused { replica, reason } => {
                board.clear();
                return Err(Failure::Stuck {
                    message: format!("{replica} will not run: {reason}"),
                    hint: format!(
                        "ask for less, or have an owner allow it in the device's policy; `outrigger why {replica}` has every device"
                    ),
                });
            }
            Verdict::Waiting if deadline.is_over() => {
                board.clear();
                return Err(timed_out(&view, limit));
            }
            Verdict::Waiting => thread::sleep(PAUSE),
        }
    }
}

fn verdict(view: &View) -> Verdict {
    if let Some(service) = view.services.iter().find(|service| service.update.state == UpdateState::Paused) {
        let reason = service.update.reason.as_deref().unwrap_or("a new copy did not become healthy");
        return Verdict::Stuck { service: service.name.clone(), reason: reason.to_owned() };
    }
    if let Some(replica) = view.replicas.iter().find(|replica| replica.refused) {
        let reason = replica.detail.as_deref().unwrap_or("the owners of the devices do not allow it");
        return Verdict::Refused { replica: replica.name.clone(), reason: reason.to_owned() };
    }
    // One that runs everywhere does without the devices whose owners do not want it, unless these are all there are.
    let nowhere = view.services.iter().find(|service| service.wanted == 0 && !refusals(service).is_empty());
    if let Some(service) = nowhere {
        return Verdict::Refused { replica: service.name.clone(), reason: refusals(service).join("; ") };
    }
    let is_there = |service: &Service| {
        let of_service = || view.replicas.iter().filter(|replica| replica.service == service.name);
        service.update.state == UpdateState::Done
            && of_service().all(is_ready)
            && of_service().count() >= service.wanted as usize
    };
    if view.services.iter().all(is_there) { Verdict::Settled } else { Verdict::Waiting }
}

/// Devices on which a service that is to run everywhere does not, because of their owners, with what these say.
fn refusals(service: &Service) -> Vec<String> {
    let everywhere = service.mode == ServiceMode::Global;
    service.refused.iter().filter(|_| everywhere).map(|one| format!("{}: {}", one.device, one.reason)).collect()
}

fn is_ready(replica: &Replica) -> bool {
    replica.up_to_date && matches!(replica.state, ReplicaState::Running | ReplicaState::Completed)
}

fn copies(view: &View) -> String {
    let ready = view.replicas.iter().filter(|replica| is_ready(replica)).count();
    let wanted: usize = view.services.iter().map(|service| service.wanted as usize).sum();
    let noun = if wanted == 1 { "copy" } else { "copies" };
    format!("{ready} of {wanted} {noun}")
}

fn timed_out(view: &View, limit: Duration) -> Failure {
    let first = view.replicas.iter().find(|replica| !is_ready(replica));
    let example = first.map(|replica| format!("; {}: {}", replica.name, state_line(replica).1)).unwrap_or_default();
    Failure::TimedOut {
        message: format!("after {limit:?} {} running{example}", copies(view)),
        hint: match first {
            Some(replica) if replica.state == ReplicaState::Pending => {
                format!("`outrigger why {}` tells what each device lacks", replica.name)
            }
            Some(replica)
                if matches!(replica.state, ReplicaState::BackOff | ReplicaState::Failed | ReplicaState::Unhealthy) =>
            {
                format!("`outrigger logs {}` shows what it wrote, `outrigger ps` how it goes on", replica.name)
            }
            Some(_) | None => "it goes on without you; `outrigger ps` shows it, --timeout waits longer".into(),
        },
    }
}

/// How far one copy is, in words: `pulling 45% on pi-2`.
fn state_line(replica: &Replica) -> (Tone, String) {
    let (tone, mut text) = stage(replica);
    if let Some(pull) = replica.copy.as_ref().and_then(|copy| copy.pull)
        && replica.state == ReplicaState::Pulling
    {
        text = text.replacen("pulling", &format!("pulling {}", words::pull_percent(pull)), 1);
    }
    (tone, text)
}

/// As [`state_line`], without what changes all the time.
fn stage(replica: &Replica) -> (Tone, String) {
    let (tone, word) = words::replica_state(replica.state);
    let (tone, fate) = match replica.state {
        ReplicaState::Running if !replica.up_to_date => (Tone::Busy, ", to be replaced"),
        _ => (tone, ""),
    };
    let place = replica.copy.as_ref().map(|copy| format!(" on {}", copy.device)).unwrap_or_default();
    let detail = words::detail(replica);
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    let (tone, successor) = match successor(replica) {
        Some((worse, text)) => (worse, format!("; new copy {text}")),
        None => (tone, String::new()),
    };
    (tone, format!("{word}{place}{fate}{detail}{successor}"))
}

/// Why the copy that is to replace a running one does not come: an image that cannot be pulled, say. The running one
/// looks well as long as it is there.
fn successor(replica: &Replica) -> Option<(Tone, String)> {
    let new = replica.others.iter().find(|other| other.image.is_some() && other.detail.is_some())?;
    let (tone, word) = words::replica_state(new.state);
    let detail = new.detail.as_deref().filter(|_| !replica.up_to_date)?;
    Some((tone, format!("{word} on {}: {detail}", new.device)))
}

/// Where progress is shown.
enum Board {
    /// Lines that change in place.
    Bars { bars: MultiProgress, lines: Vec<ProgressBar>, summary: ProgressBar, look: Look, rows: usize },
    /// A line for each change. Remembers what was shown of each replica, since it ran last: a replica that is tried
    /// again and again is not told again and again.
    Log { shown: BTreeMap<String, Vec<String>>, told_unreachable: bool },
}

impl Board {
    fn new(out: &Output) -> Self {
        let Screen::Terminal { rows, .. } = out.error_screen() else {
            return Self::Log { shown: BTreeMap::new(), told_unreachable: false };
        };
        let bars = MultiProgress::new();
        let spinner =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let summary = bars.add(ProgressBar::new_spinner().with_style(spinner));
        summary.enable_steady_tick(Duration::from_millis(120));
        Self::Bars { bars, lines: Vec::new(), summary, look: out.error_look(), rows }
    }

    fn show(&mut self, view: &View, out: &mut Output) {
        match self {
            Self::Log { shown, .. } => {
                for replica in &view.replicas {
                    let (tone, text) = stage(replica);
                    let shown = shown.entry(replica.name.clone()).or_default();
                    if shown.contains(&text) {
                        continue;
                    }
                    out.note(tone, &format!("{}: {text}", replica.name));
                    if replica.state == ReplicaState::Running {
                        shown.clear();
                    }
                    shown.push(text);
                }
            }
            Self::Bars { bars, lines, summary, look, rows } => {
                let wanted = picture(view, *look, rows.saturating_sub(3));
                while lines.len() > wanted.len() {
                    if let Some(line) = lines.pop() {
                        line.finish_and_clear();
                        bars.remove(&line);
                    }
                }
                while lines.len() < wanted.len() {
                    let plain =
                        ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
                    lines.push(bars.insert_before(summary, ProgressBar::new_spinner().with_style(plain)));
                }
                for (line, text) in lines.iter().zip(wanted) {
                    line.set_message(text);
                    line.tick();
                }
                summary.set_message(format!("{} running", copies(view)));
            }
        }
    }

    fn unreachable(&mut self, hub: &str, out: &mut Output) {
        match self {
            Self::Log { told_unreachable, .. } => {
                if !std::mem::replace(told_unreachable, true) {
                    out.note(Tone::Warning, &format!("the hub at {hub} does not answer; still waiting"));
                }
            }
            Self::Bars { summary, .. } => {
                summary.set_message(format!("the hub at {hub} does not answer; still waiting"))
            }
        }
    }

    fn clear(&mut self) {
        if let Self::Bars { bars, .. } = self {
            // Hidden from now on: bars draw themselves once more when they are dropped.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

/// A line per replica, those that do not run first if there is no room for all.
fn picture(view: &View, look: Look, rows: usize) -> Vec<String> {
    let mut replicas: Vec<&Replica> = view.replicas.iter().collect();
    if replicas.len() > rows {
        replicas.sort_by_key(|replica| is_ready(replica));
        replicas.truncate(rows);
    }
    let width = replicas.iter().map(|replica| replica.name.len()).max().unwrap_or(0);
    let line = |replica: &&Replica| {
        let (tone, text) = state_line(replica);
        let room = look.columns.unwrap_or(usize::MAX).saturating_sub(width + 3);
        let text = console::truncate_str(&text, room, "…");
        format!("{:width$}  {}", replica.name, look.paint.text(tone, &text))
    };
    replicas.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use outrigger_api::{Pull, Refusal, Update};

    use super::*;
    use crate::commands::samples;

    fn view(replicas: Vec<Replica>) -> View {
        let wanted = u32::try_from(replicas.len()).unwrap();
        View { services: vec![Service { wanted, ..samples::service("shop/web") }], replicas }
    }

    #[test]
    fn a_stack_has_settled_when_every_copy_is_new_and_runs() {
        let running = samples::replica("shop/web.1", ReplicaState::Running, "pi-1");
        assert_eq!(verdict(&view(vec![running.clone()])), Verdict::Settled);
        let old = Replica { up_to_date: false, ..running.clone() };
        assert_eq!(verdict(&view(vec![old])), Verdict::Waiting);
        let starting = samples::replica("shop/web.2", ReplicaState::Starting, "pi-1");
        assert_eq!(verdict(&view(vec![running.clone(), starting])), Verdict::Waiting);
        let mut fewer = view(vec![running.clone()]);
        fewer.services[0].wanted = 2;
        assert_eq!(verdict(&fewer), Verdict::Waiting, "a copy that is not listed yet is waited for");
        let mut rolling = view(vec![running]);
        rolling.services[0].update.state = UpdateState::Rolling;
        assert_eq!(verdict(&rolling), Verdict::Waiting);
    }

    #[test]
    fn an_update_that_has_stopped_is_not_waited_for() {
        let mut view = view(vec![samples::replica("shop/web.1", ReplicaState::Unhealthy, "pi-1")]);
        view.services[0].update =
            Update { state: UpdateState::Paused, done: 0, total: 1, reason: Some("web.1 is unhealthy".into()) };
        let stuck = Verdict::Stuck { service: "shop/web".into(), reason: "web.1 is unhealthy".into() };
        assert_eq!(verdict(&view), stuck);
    }

    #[test]
    fn what_every_device_refuses_is_not_waited_for() {
        let said = "no device can take it: pi-1: the owner of the device does not allow privileged containers";
        let mut refused = samples::pending("shop/web.2", said);
        refused.refused = true;
        let view = view(vec![samples::replica("shop/web.1", ReplicaState::Starting, "pi-1"), refused]);
        assert_eq!(verdict(&view), Verdict::Refused { replica: "shop/web.2".into(), reason: said.into() });
    }

    #[test]
    fn an_owner_who_refuses_is_not_waited_for_where_the_rest_runs() {
        let refused = vec![Refusal { device: "pi-2".into(), reason: "the owner does not allow privileged".into() }];
        let mut view = view(vec![samples::replica("shop/agent.1", ReplicaState::Running, "pi-1")]);
        view.services[0] = Service {
            wanted: 1,
            mode: ServiceMode::Global,
            refused: refused.clone(),
            ..samples::service("shop/agent")
        };
        assert_eq!(verdict(&view), Verdict::Settled);
        assert_eq!(refusals(&view.services[0]), ["pi-2: the owner does not allow privileged"]);
        view.replicas.clear();
        view.services[0].wanted = 0;
        let reason = "pi-2: the owner does not allow privileged".to_owned();
        assert_eq!(verdict(&view), Verdict::Refused { replica: "shop/agent".into(), reason });
        // Of several copies, those that the owner does not want may have room elsewhere in a moment.
        view.services[0] = Service { wanted: 1, refused, ..samples::service("shop/agent") };
        view.replicas.push(samples::pending("shop/agent.1", "no device can take it at present; not allowed on pi-2"));
        assert_eq!(verdict(&view), Verdict::Waiting);
    }

    #[test]
    fn what_keeps_the_new_copy_from_coming_is_told_while_the_old_one_runs() {
        let mut running = samples::replica("shop/web.1", ReplicaState::Running, "pi-1");
        running.up_to_date = false;
        let mut new = samples::copy("pi-1", ReplicaState::BackOff);
        new.detail = Some("cannot pull `web:9`".into());
        running.others = vec![new];
        let expected = "running on pi-1, to be replaced; new copy back-off on pi-1: cannot pull `web:9`";
        assert_eq!(stage(&running), (Tone::Bad, expected.to_owned()));
    }

    #[test]
    fn progress_tells_how_far_each_copy_is() {
        let mut pulling = samples::replica("shop/web.2", ReplicaState::Pulling, "pi-2");
        pulling.copy.as_mut().unwrap().pull = Some(Pull { done_bytes: 9, total_bytes: 20 });
        let view = view(vec![
            samples::replica("shop/web.1", ReplicaState::Running, "pi-1"),
            pulling,
            samples::pending("shop/web.10", "no device has two cameras"),
        ]);
        let expected = "\
shop/web.1   running on pi-1
shop/web.2   pulling 45% on pi-2
shop/web.10  pending: no device has two cameras";
        assert_eq!(picture(&view, Look::PLAIN, 10).join("\n"), expected);
        let short = picture(&view, Look::PLAIN, 2).join("\n");
        assert_eq!(short, "shop/web.2   pulling 45% on pi-2\nshop/web.10  pending: no device has two cameras");
        let failure = timed_out(&view, Duration::from_secs(5));
        assert_eq!(failure.to_string(), "after 5s 1 of 3 copies running; shop/web.2: pulling 45% on pi-2");
    }
}
