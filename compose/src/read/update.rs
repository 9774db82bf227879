//! `deploy.update_config`.

use outrigger_protocol::{Order, UpdateConfig, UpdateFailure};

use super::{At, Fields};
use crate::context::clip;
use crate::diagnostic::Severity::Warning;

pub(super) fn read(at: &At<'_>) -> Option<UpdateConfig> {
    let mut config = UpdateConfig::default();
    let mut fields = Fields::of(at)?;
    if let Some(parallelism) = fields.take("parallelism").and_then(|at| at.count()) {
        config.parallelism = parallelism;
    }
    if let Some(delay) = fields.take("delay").and_then(|at| at.duration()) {
        config.delay = delay;
    }
    if let Some(monitor) = fields.take("monitor").and_then(|at| at.duration()) {
        config.monitor = monitor;
    }
    const ORDERS: &[(&str, Order)] = &[("stop-first", Order::StopFirst), ("start-first", Order::StartFirst)];
    if let Some(order) = fields.take("order").and_then(|at| at.choice(ORDERS)) {
        config.order = order;
    }
    if let Some(failure) = fields.take("failure_action").and_then(|at| failure(&at)) {
        config.failure = failure;
    }
    fields.name_unsupported(&[("max_failure_ratio", Warning, "the first copy that fails counts")]);
    fields.finish();
    Some(config)
}

fn failure(at: &At<'_>) -> Option<UpdateFailure> {
    match at.text()? {
        "pause" => Some(UpdateFailure::Pause),
        "continue" => Some(UpdateFailure::Continue),
        "rollback" => {
            at.warn("`rollback` is not supported yet: a failed update pauses");
            Some(UpdateFailure::Pause)
        }
        other => {
            at.error(format!("`{}` must be one of `pause`, `continue`, `rollback`", clip(other)));
            None
        }
    }
}
