//! What Prometheus is told by its HTTP service discovery.

use std::collections::BTreeMap;

use outrigger_api as api;
use outrigger_planner::ServiceView;

use super::targets::{Target, labels, targets};
use crate::access::Scope;
use crate::core::HubCore;

/// All targets that a caller may know of, from services with the label `prometheus.io/scrape: "true"`.
#[must_use]
pub fn prometheus(core: &HubCore, scope: &Scope) -> Vec<api::ScrapeGroup> {
    let seen = core.fleet().services().filter(|service| scope.sees(Some(service.name.stack.as_str())));
    seen.flat_map(|service| of_service(core, &service)).collect()
}

fn of_service(core: &HubCore, service: &ServiceView<'_>) -> Vec<api::ScrapeGroup> {
    let ours: BTreeMap<&str, &str> =
        labels(service).filter_map(|(key, value)| Some((key.strip_prefix("prometheus.io/")?, value))).collect();
    if ours.get("scrape") != Some(&"true") {
        return Vec::new();
    }
    let port = ours.get("port").and_then(|port| port.parse().ok());
    targets(core, service, port).iter().map(|target| group(service, target, &ours)).collect()
}

fn group(service: &ServiceView<'_>, target: &Target, ours: &BTreeMap<&str, &str>) -> api::ScrapeGroup {
    let meta = |name: &str, value: String| (format!("__meta_outrigger_{name}"), value);
    let mut labels = BTreeMap::from([
        meta("stack", service.name.stack.to_string()),
        meta("service", service.name.to_string()),
        meta("device", target.device.clone()),
    ]);
    labels.extend(target.replica.as_ref().map(|replica| meta("replica", replica.to_string())));
    labels.extend(ours.get("path").map(|path| ("__metrics_path__".to_owned(), (*path).to_owned())));
    labels.extend(ours.get("scheme").map(|scheme| ("__scheme__".to_owned(), (*scheme).to_owned())));
    api::ScrapeGroup { targets: vec![target.at.to_string()], labels }
}
