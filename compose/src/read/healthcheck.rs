//! `healthcheck`.

use outrigger_protocol::{Healthcheck, HealthcheckTest};

use super::{At, Fields};

pub(crate) fn read(at: &At<'_>) -> Option<Healthcheck> {
    let mut fields = Fields::of(at)?;
    let test = fields.take("test");
    let disable = fields.take("disable");
    let mut duration = |key: &'static str| fields.take(key).and_then(|at| at.duration()).filter(|time| !time.is_zero());
    let (interval, timeout) = (duration("interval"), duration("timeout"));
    let (start_period, start_interval) = (duration("start_period"), duration("start_interval"));
    let retries = fields.take("retries").and_then(|at| at.count());
    fields.finish();
    let is_disabled = disable.as_ref().and_then(At::boolean).unwrap_or(false);
    let test = match test.map(|at| read_test(&at)) {
        Some(test) => test?,
        None => HealthcheckTest::Inherited,
    };
    let test = match test {
        HealthcheckTest::Exec(_) | HealthcheckTest::Shell(_) if is_disabled => {
            at.error("`disable: true` and a `test` contradict each other");
            return None;
        }
        _ if is_disabled => HealthcheckTest::Disabled,
        test => test,
    };
    Some(Healthcheck { test, interval, timeout, retries, start_period, start_interval })
}

fn read_test(at: &At<'_>) -> Option<HealthcheckTest> {
    if !at.is_list() {
        return at.filled().map(HealthcheckTest::Shell);
    }
    let mut words: Vec<String> = at.items().iter().filter_map(At::string).collect();
    if words.is_empty() {
        return Some(HealthcheckTest::Inherited);
    }
    let rest = words.split_off(1);
    match (words[0].as_str(), rest.len()) {
        ("NONE", 0) => Some(HealthcheckTest::Disabled),
        ("CMD", 1..) => Some(HealthcheckTest::Exec(rest)),
        ("CMD-SHELL", 1) => rest.into_iter().next().map(HealthcheckTest::Shell),
        _ => {
            let help = "write `[\"CMD\", \"program\", \"argument\", …]`, `[\"CMD-SHELL\", \"line\"]` or `[\"NONE\"]`";
            at.error_with("the list is no healthcheck", help);
            None
        }
    }
}
