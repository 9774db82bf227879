//! Hardware, kernel settings and logs: `devices`, `gpus`, `ulimits`, `sysctls`, `logging`.

use outrigger_protocol::{ContainerSpec, DeviceMapping, LogConfig, Ulimit};

use super::pairs::read_plain_pairs;
use super::{At, Fields, gpu};
use crate::context::clip;
use crate::suggest::did_you_mean;

pub(crate) fn read(fields: &mut Fields<'_>, container: &mut ContainerSpec) {
    for at in fields.take("devices").map(|at| at.items()).unwrap_or_default() {
        container.devices.extend(if at.is_map() { device_long(&at) } else { device_short(&at) });
    }
    container.gpus = fields.take("gpus").map(|at| gpu::read_gpus(&at)).unwrap_or_default();
    container.ulimits = fields.take("ulimits").map(|at| ulimits(&at)).unwrap_or_default();
    container.sysctls = fields.take("sysctls").map(|at| read_plain_pairs(&at)).unwrap_or_default();
    container.logging = fields.take("logging").and_then(|at| logging(&at));
}

/// `/dev/ttyUSB0`, `/dev/ttyUSB0:/dev/tty` or `/dev/ttyUSB0:/dev/tty:rw`
fn device_short(at: &At<'_>) -> Option<DeviceMapping> {
    let text = at.filled()?;
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let second = parts.next();
    // Docker takes `host:rwm` too.
    let (container, permissions) = match (second, parts.next()) {
        (Some(letters), None) if is_permissions(letters) => (host, letters),
        (container, permissions) => (container.unwrap_or(host), permissions.unwrap_or("rwm")),
    };
    if parts.next().is_some() {
        at.error(format!("`{}` must be `host:container:permissions`", clip(&text)));
        return None;
    }
    mapping(at, host, container, permissions)
}

fn device_long(at: &At<'_>) -> Option<DeviceMapping> {
    let mut fields = Fields::of(at)?;
    let mut text = |key: &'static str| fields.take(key).and_then(|at| at.filled());
    let (source, target, permissions) = (text("source"), text("target"), text("permissions"));
    fields.finish();
    let Some(source) = source else {
        at.error("`source` is missing: which device?");
        return None;
    };
    mapping(at, &source, target.as_deref().unwrap_or(&source), permissions.as_deref().unwrap_or("rwm"))
}

fn mapping(at: &At<'_>, host: &str, container: &str, permissions: &str) -> Option<DeviceMapping> {
    if !host.starts_with('/') && host.contains('=') {
        at.error(format!("not supported yet: `{}` names a device of the Container Device Interface", clip(host)));
        return None;
    }
    for path in [host, container] {
        if !path.starts_with('/') {
            at.error(format!("`{}` must be an absolute path, such as `/dev/ttyUSB0`", clip(path)));
            return None;
        }
    }
    if !is_permissions(permissions) {
        at.error(format!("`{}` must be of the letters `r`, `w` and `m`", clip(permissions)));
        return None;
    }
    let (host, container, permissions) = (host.to_owned(), container.to_owned(), permissions.to_owned());
    Some(DeviceMapping { host, container, permissions })
}

fn is_permissions(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|c| matches!(c, b'r' | b'w' | b'm'))
}

const LIMITS: [&str; 16] = [
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
];

fn ulimits(at: &At<'_>) -> Vec<Ulimit> {
    let mut limits = Vec::new();
    for (name, at) in at.entries() {
        if !LIMITS.contains(&name) {
            let help = did_you_mean(name, LIMITS);
            at.report(crate::Severity::Error, at.key_mark, "unknown limit".to_owned(), help);
            continue;
        }
        let both = if at.is_map() { soft_and_hard(&at) } else { at.integer(-1, i64::MAX).map(|both| (both, both)) };
        limits.extend(both.map(|(soft, hard)| Ulimit { name: name.to_owned(), soft, hard }));
    }
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    limits
}

fn soft_and_hard(at: &At<'_>) -> Option<(i64, i64)> {
    let mut fields = Fields::of(at)?;
    let (soft, hard) = (fields.take("soft"), fields.take("hard"));
    fields.finish();
    if soft.is_none() || hard.is_none() {
        at.error("`soft` and `hard` must both be there");
    }
    let (soft, hard) = (soft?.integer(-1, i64::MAX)?, hard?.integer(-1, i64::MAX)?);
    if hard != -1 && (soft > hard || soft == -1) {
        at.error(format!("the soft limit ({soft}) is above the hard one ({hard})"));
        return None;
    }
    Some((soft, hard))
}

/// Options without a driver are for the one that Docker would take.
fn logging(at: &At<'_>) -> Option<LogConfig> {
    let mut fields = Fields::of(at)?;
    let driver = fields.take("driver").and_then(|at| at.filled());
    let options = fields.take("options").map(|at| read_plain_pairs(&at));
    fields.finish();
    if driver.is_none() && options.is_none() {
        return None;
    }
    Some(LogConfig { driver: driver.unwrap_or_else(|| "json-file".to_owned()), options: options.unwrap_or_default() })
}
