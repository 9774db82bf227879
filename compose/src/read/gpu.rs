//! GPUs: `gpus:` of a service and `deploy.resources.reservations.devices`.

use outrigger_protocol::GpuRequest;

use super::pairs::read_plain_pairs;
use super::{At, Fields};
use crate::context::clip;
use crate::diagnostic::Severity;

/// `all`, or a list of requests.
pub(crate) fn read_gpus(at: &At<'_>) -> Vec<GpuRequest> {
    if at.is_list() {
        return at.items().iter().filter_map(|item| read_request(item, Some("gpu"))).collect();
    }
    match at.text() {
        Some("all") => {
            vec![GpuRequest { driver: None, count: None, ids: Vec::new(), capabilities: vec!["gpu".to_owned()] }]
        }
        Some(other) => {
            at.error(format!("`{}` must be `all` or a list", clip(other)));
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// One request of a list; `capability` is assumed where none is written.
pub(crate) fn read_request(at: &At<'_>, capability: Option<&str>) -> Option<GpuRequest> {
    let mut fields = Fields::of(at)?;
    let driver = fields.take("driver").and_then(|at| at.filled());
    let count_at = fields.take("count");
    let ids = fields.take("device_ids").map(|at| at.strings()).unwrap_or_default();
    let capabilities = fields.take("capabilities").map(|at| at.strings());
    if let Some(options) = fields.take("options").filter(|options| !read_plain_pairs(options).is_empty()) {
        options.report_key(Severity::Warning, "ignored: drivers get no options yet");
    }
    fields.finish();
    let capabilities = match (capabilities, capability) {
        (Some(capabilities), _) if !capabilities.is_empty() => capabilities,
        (_, Some(capability)) => vec![capability.to_owned()],
        // A driver that names its devices itself, such as that of the Container Device Interface.
        (_, None) if driver.is_some() => Vec::new(),
        (_, None) => {
            at.error("`capabilities` is missing, such as `[gpu]`");
            return None;
        }
    };
    if let Some(count_at) = count_at.as_ref().filter(|_| !ids.is_empty()) {
        count_at.report_key(Severity::Error, "`count` and `device_ids` exclude each other");
    }
    let count = match &count_at {
        Some(at) if at.text() == Some("all") => None,
        Some(at) => Some(at.integer(1, 1024).and_then(|count| u32::try_from(count).ok())?),
        None => None,
    };
    Some(GpuRequest { driver, count, ids, capabilities })
}
