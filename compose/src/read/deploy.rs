//! `deploy`, and the older keys of the service that mean the same: `scale`, `restart`, `cpus`, `mem_limit`, ….

use outrigger_protocol::{
    Constraint, ConstraintKey, ContainerSpec, Mode, Reservation, RestartCondition, RestartPolicy, UpdateConfig,
};

use super::pairs::read_labels;
use super::{At, Fields, constraint, resources, update};
use crate::context::clip;
use crate::diagnostic::Severity::{self, Warning};

/// Copies of one service.
const MAX_REPLICAS: i64 = 1_000_000;

/// Where and how copies run.
pub(crate) struct Deploy {
    pub(crate) mode: Mode,
    pub(crate) reservation: Reservation,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) spread: Vec<ConstraintKey>,
    pub(crate) max_per_device: Option<u32>,
    pub(crate) update: UpdateConfig,
    pub(crate) labels: Vec<(String, String)>,
}

pub(crate) fn read(service: &mut Fields<'_>, container: &mut ContainerSpec) -> Deploy {
    let mut deploy = Deploy {
        mode: Mode::Replicated(1),
        reservation: Reservation::default(),
        constraints: Vec::new(),
        spread: Vec::new(),
        max_per_device: None,
        update: UpdateConfig::default(),
        labels: Vec::new(),
    };
    let scale = service.take("scale");
    if let Some(policy) = service.take("restart").and_then(|at| restart(&at)) {
        container.restart = policy;
    }
    let mut fields = service.take("deploy").and_then(|at| Fields::of(&at));
    let resources = fields.as_mut().and_then(|fields| fields.take("resources"));
    deploy.reservation = resources::read(service, resources.as_ref(), container);
    let (mode, replicas) = match &mut fields {
        Some(fields) => (fields.take("mode"), fields.take("replicas")),
        None => (None, None),
    };
    deploy.mode = copies(mode.as_ref(), replicas.as_ref(), scale.as_ref());
    if let Some(mut fields) = fields {
        read_rest(&mut fields, &mut deploy, container);
        fields.finish();
    }
    deploy
}

fn read_rest(fields: &mut Fields<'_>, deploy: &mut Deploy, container: &mut ContainerSpec) {
    if let Some(policy) = fields.take("restart_policy").and_then(|at| restart_policy(&at)) {
        container.restart = policy;
    }
    if let Some(at) = fields.take("placement") {
        placement(&at, deploy);
    }
    if let Some(config) = fields.take("update_config").and_then(|at| update::read(&at)) {
        deploy.update = config;
    }
    deploy.labels = fields.take("labels").map(|at| read_labels(&at)).unwrap_or_default();
    if let Some(at) = fields.take("endpoint_mode") {
        endpoint_mode(&at);
    }
    fields.name_unsupported(&[("rollback_config", Warning, "a failed update is not rolled back")]);
}

/// A copy's own address ends at its device, so that there is nothing to go round-robin over from another one.
fn endpoint_mode(at: &At<'_>) {
    if at.choice(&[("vip", false), ("dnsrr", true)]) == Some(true) {
        at.warn("ignored: the service gets a virtual address; `tasks.NAME` has one for each copy");
    }
}

fn copies(mode: Option<&At<'_>>, replicas: Option<&At<'_>>, scale: Option<&At<'_>>) -> Mode {
    let count = |at: &At<'_>| at.integer(0, MAX_REPLICAS).and_then(|count| u32::try_from(count).ok());
    let number = replicas.and_then(count);
    let scaled = scale.and_then(count);
    if let (Some(number), Some(scaled), Some(scale)) = (number, scaled, scale)
        && number != scaled
    {
        scale.error(format!("`scale` ({scaled}) and `deploy.replicas` ({number}) contradict each other"));
    }
    let name = mode.and_then(|mode| mode.text().map(|text| (mode, text)));
    match name {
        None | Some((_, "replicated")) => Mode::Replicated(number.or(scaled).unwrap_or(1)),
        Some((_, "global")) => {
            if let Some(at) = replicas.or(scale) {
                at.report_key(Severity::Error, "`mode: global` runs one copy on each device: it takes no number");
            }
            Mode::Global
        }
        Some((at, "replicated-job" | "global-job")) => {
            at.error("not supported yet: jobs; services are meant to go on");
            Mode::Replicated(1)
        }
        Some((at, other)) => {
            at.error(format!("`{}` must be `replicated` or `global`", clip(other)));
            Mode::Replicated(1)
        }
    }
}

/// `restart`: `no`, `always`, `unless-stopped`, `on-failure[:count]`
fn restart(at: &At<'_>) -> Option<RestartPolicy> {
    let text = at.text()?;
    let (condition, max_attempts) = match text.split_once(':').unwrap_or((text, "")) {
        ("no", "") => (RestartCondition::None, None),
        ("always" | "unless-stopped", "") => (RestartCondition::Any, None),
        ("on-failure", "") => (RestartCondition::OnFailure, None),
        ("on-failure", count) if count.parse::<u32>().is_ok() => (RestartCondition::OnFailure, count.parse().ok()),
        _ => {
            let known = "`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:COUNT`";
            at.error(format!("`{}` must be one of {known}", clip(text)));
            return None;
        }
    };
    Some(RestartPolicy { condition, delay: None, max_attempts, window: None })
}

fn restart_policy(at: &At<'_>) -> Option<RestartPolicy> {
    const CONDITIONS: &[(&str, RestartCondition)] = &[
        ("none", RestartCondition::None),
        ("on-failure", RestartCondition::OnFailure),
        ("any", RestartCondition::Any),
    ];
    let mut fields = Fields::of(at)?;
    let condition = fields.take("condition").and_then(|at| at.choice(CONDITIONS)).unwrap_or_default();
    let delay = fields.take("delay").and_then(|at| at.duration());
    // Swarm's zero: no limit.
    let max_attempts = fields.take("max_attempts").and_then(|at| at.count()).filter(|count| *count > 0);
    let window = fields.take("window").and_then(|at| at.duration()).filter(|window| !window.is_zero());
    fields.finish();
    Some(RestartPolicy { condition, delay, max_attempts, window })
}

fn placement(at: &At<'_>, deploy: &mut Deploy) {
    let Some(mut fields) = Fields::of(at) else { return };
    for item in fields.take("constraints").map(|at| at.items()).unwrap_or_default() {
        deploy.constraints.extend(item.text().and_then(|text| item.check(constraint::parse(text))));
    }
    for item in fields.take("preferences").map(|at| at.items()).unwrap_or_default() {
        let Some(mut preference) = Fields::of(&item) else { continue };
        let spread = preference.take("spread");
        preference.finish();
        match spread {
            Some(at) => deploy.spread.extend(at.text().and_then(|text| at.check(constraint::parse_key(text)))),
            None => item.error("`spread` is missing: which label's values are evened out?"),
        }
    }
    // Swarm's zero: no limit.
    deploy.max_per_device = fields.take("max_replicas_per_node").and_then(|at| at.count()).filter(|count| *count > 0);
    fields.finish();
}
