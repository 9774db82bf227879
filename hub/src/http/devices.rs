//! Devices: list, show, label, cordon, drain, forget, history, what if.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use outrigger_api::{
    Availability, Device, DeviceChange, DeviceList, DeviceWarning, DevicesChange, Forgotten, History, HistoryQuery,
    LossConfirmation, Problem, ProblemKind, WhatIfLost,
};
use outrigger_planner::{Refusal, Wish};
use outrigger_protocol::DeviceName;

use super::Api;
use super::admit::{Note, Noted};
use super::problem::{Answer, InPath, InQuery, JsonBody, Refused, malformed, name};
use super::view::{device, what_if_lost, with_network};
use crate::clock;
use crate::core::{HubCore, WishError};
use crate::handle::HubError;

/// Characters of a label's key or value.
const MAX_LABEL: usize = 128;
/// Time for a device whose connection was cut to count as lost.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// Labels that one request may change.
const MAX_LABELS: usize = 64;

/// All devices.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices",
    responses((status = 200, description = "All", body = DeviceList))
)]
pub async fn list(State(api): State<Api>) -> Answer<DeviceList> {
    let look = |core: &HubCore, now| {
        core.fleet().devices().map(|view| with_network(core, device(&view, now), view.name)).collect::<Vec<_>>()
    };
    let devices = api.hub.view(look).await?;
    Ok(Json(DeviceList { devices: devices.into_iter().map(|shown| with_identity(&api, shown)).collect() }))
}

/// Says of a device whether it is kept out, which only the list of those that may connect knows.
fn with_identity(api: &Api, mut shown: Device) -> Device {
    let known = shown.name.parse().ok().and_then(|name| api.hub.pki()?.allow().read(&name));
    let Some(why) = known.and_then(|known| known.quarantined) else { return shown };
    shown.warnings.insert(
        0,
        DeviceWarning {
            message: format!("it is in quarantine: {why}"),
            help: format!("take one of the machines off, then `outrigger device approve {}`", shown.name),
        },
    );
    Device { quarantined: Some(why), ..shown }
}

/// One device.
#[utoipa::path(
    get, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = String, Path, description = "Its name")),
    responses((status = 200, description = "It", body = Device), (status = 404, description = "There is none", body = Problem))
)]
pub async fn show(State(api): State<Api>, InPath(asked): InPath<String>) -> Answer<Device> {
    Ok(Json(look_at(&api, name(&asked)?).await?))
}

pub(super) async fn look_at(api: &Api, name: DeviceName) -> Result<Device, Refused> {
    let look = move |core: &HubCore, now| {
        let Some(view) = core.fleet().device(&name) else { return Err(name) };
        Ok(with_network(core, device(&view, now), &name))
    };
    let found = api.hub.view(look).await?;
    found.map(|shown| with_identity(api, shown)).map_err(|name| Refusal::NoDevice(name).into())
}

/// Changes what the operator says about a device: labels, and whether it is given work.
#[utoipa::path(
    patch, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = String, Path, description = "Its name")),
    request_body = DeviceChange,
    responses(
        (status = 200, description = "As it is now", body = Device),
        (status = 400, description = "A label that cannot be", body = Problem),
        (status = 404, description = "There is none", body = Problem),
    )
)]
pub async fn change(
    State(api): State<Api>,
    InPath(asked): InPath<String>,
    JsonBody(change): JsonBody<DeviceChange>,
) -> Noted<Device> {
    let device: DeviceName = name(&asked)?;
    check_labels(change.labels.iter().map(|(key, value)| (key, value.as_ref())))?;
    let note = Note::of(described(&change.labels, change.availability));
    let availability = change.availability.map(availability);
    api.wish(Wish::Devices { devices: vec![device.clone()], labels: change.labels, availability }).await?;
    Ok((note, Json(look_at(&api, device).await?)))
}

/// A change in a few words, for the audit log.
fn described(labels: &BTreeMap<String, Option<String>>, availability: Option<Availability>) -> String {
    let availability = availability.map(|availability| match availability {
        Availability::Active => "active".to_owned(),
        Availability::Cordon => "cordon".to_owned(),
        Availability::Drain => "drain".to_owned(),
    });
    let label = |(key, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}-"),
    };
    availability.into_iter().chain(labels.iter().map(label)).collect::<Vec<_>>().join(" ")
}

/// Changes several devices in the same way at once: all of them, or none. Drained together, none takes what leaves another.
#[utoipa::path(
    patch, path = "/v1/devices", tag = "devices",
    request_body = DevicesChange,
    responses(
        (status = 200, description = "These devices as they are now", body = DeviceList),
        (status = 400, description = "A label that cannot be", body = Problem),
        (status = 404, description = "One of them is not known; nothing was changed", body = Problem),
    )
)]
pub async fn change_several(State(api): State<Api>, JsonBody(change): JsonBody<DevicesChange>) -> Noted<DeviceList> {
    let devices = change.devices.iter().map(|text| name(text)).collect::<Result<Vec<DeviceName>, _>>()?;
    check_labels(change.labels.iter().map(|(key, value)| (key, value.as_ref())))?;
    let what = described(&change.labels, change.availability);
    let note = Note::of(format!("{}: {what}", change.devices.join(" ")));
    let availability = change.availability.map(availability);
    api.wish(Wish::Devices { devices: devices.clone(), labels: change.labels, availability }).await?;
    let look = move |core: &HubCore, now| {
        let views = devices.iter().filter_map(|name| core.fleet().device(name));
        views.map(|view| with_network(core, device(&view, now), view.name)).collect::<Vec<_>>()
    };
    let changed = api.hub.view(look).await?;
    Ok((note, Json(DeviceList { devices: changed.into_iter().map(|shown| with_identity(&api, shown)).collect() })))
}

fn availability(asked: Availability) -> outrigger_planner::Availability {
    match asked {
        Availability::Active => outrigger_planner::Availability::Active,
        Availability::Cordon => outrigger_planner::Availability::Cordon,
        Availability::Drain => outrigger_planner::Availability::Drain,
    }
}

/// Labels stand in constraints (`node.labels.KEY == VALUE`), so they must be writable there.
pub(super) fn check_labels<'a>(
    labels: impl ExactSizeIterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), Refused> {
    if labels.len() > MAX_LABELS {
        return Err(malformed(format!("more than {MAX_LABELS} labels at once")).into());
    }
    for (key, value) in labels {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if key.is_empty() || key.len() > MAX_LABEL || !key.chars().all(is_plain) {
            let shown: String = key.chars().take(80).collect();
            return Err(malformed(format!("`{shown}` cannot be the key of a label"))
                .with_hint(format!("use 1 to {MAX_LABEL} of a-z, A-Z, 0-9, -, _, . and /"))
                .into());
        }
        if value.is_some_and(|value| value.len() > MAX_LABEL || value.chars().any(char::is_control)) {
            return Err(malformed(format!("the value of label `{key}` is too long or has control characters"))
                .with_hint(format!("use at most {MAX_LABEL} characters"))
                .into());
        }
    }
    Ok(())
}

/// Forgets a device that is gone for good. What ran there is placed elsewhere.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "devices",
    params(("device" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "It is forgotten", body = Forgotten),
        (status = 404, description = "There is none", body = Problem),
        (status = 409, description = "It is connected", body = Problem),
    )
)]
pub async fn forget(State(api): State<Api>, InPath(asked): InPath<String>) -> Answer<Forgotten> {
    let device: DeviceName = name(&asked)?;
    let asked = device.clone();
    let replicas = api
        .look(move |fleet, _| fleet.copies_on(&asked).map(|copy| copy.replica.to_string()).collect::<Vec<_>>())
        .await?;
    let had_identity = match api.hub.pki() {
        Some(pki) => pki.remove(&device).await?,
        None => false,
    };
    match forget_when_gone(&api, &device, had_identity).await {
        // It had joined and was never heard.
        Err(refused) if had_identity && refused.0.kind == ProblemKind::NotFound => (),
        done => done?,
    }
    Ok(Json(Forgotten { device: device.to_string(), replicas }))
}

/// Forgets a device. One that was connected until its identity was taken away a moment ago is waited for: it counts as
/// gone when its connection has been cut for a while, and what it alone may run is then started elsewhere, not before.
async fn forget_when_gone(api: &Api, device: &DeviceName, is_cut: bool) -> Result<(), Refused> {
    let give_up_at = clock::now() + GONE_WITHIN;
    loop {
        let refused = match api.hub.wish(Wish::Forget(device.clone())).await {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let is_connected = matches!(refused, HubError::Wish(WishError::Refused(Refusal::Connected(_))));
        if !(is_cut && is_connected) {
            return Err(refused.into());
        }
        if clock::now() > give_up_at {
            let title = format!("`{device}` can no longer connect, and does not count as lost yet");
            let problem = Problem::new(ProblemKind::Conflict, title);
            return Err(problem.with_hint("remove it again when it is lost, to forget what it was").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What would become of a device's replicas if it were lost now: where each would go, and which would wait. Changes nothing.
#[utoipa::path(
    get, path = "/v1/devices/{device}/what-if-lost", tag = "devices",
    params(("device" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What would become of each", body = WhatIfLost),
        (status = 404, description = "There is none", body = Problem),
    )
)]
pub async fn if_lost(State(api): State<Api>, InPath(asked): InPath<String>) -> Answer<WhatIfLost> {
    let asked: DeviceName = name(&asked)?;
    let found = api.look(move |fleet, now| fleet.what_if_lost(&asked, now).ok_or(asked)).await?;
    Ok(Json(what_if_lost(&found.map_err(Refusal::NoDevice)?)))
}

/// How loaded a device was. Kept in memory: it begins with the hub's start.
#[utoipa::path(
    get, path = "/v1/devices/{device}/history", tag = "devices",
    params(("device" = String, Path, description = "Its name"), HistoryQuery),
    responses((status = 200, description = "How it was", body = History), (status = 404, description = "There is none", body = Problem))
)]
pub async fn history(
    State(api): State<Api>,
    InPath(asked): InPath<String>,
    InQuery(query): InQuery<HistoryQuery>,
) -> Answer<History> {
    let device: DeviceName = name(&asked)?;
    look_at(&api, device.clone()).await?;
    let now = clock::now();
    let stretch = api.hub.histories().of(&device, query.range, now);
    let step_s = stretch.as_ref().map_or(0, |stretch| stretch.step_s);
    let from = stretch.as_ref().map_or(now, |stretch| stretch.from);
    let ago = u64::try_from(now.since(from).as_millis()).unwrap_or(0);
    Ok(Json(History {
        device: device.to_string(),
        range: query.range,
        step_s,
        from_unix_ms: clock::unix_ms().saturating_sub(ago),
        series: stretch.map(|stretch| stretch.series).unwrap_or_default(),
    }))
}

/// Says that devices are switched off or destroyed, whatever it looks like: safe mode and leases do not wait for them.
#[utoipa::path(
    post, path = "/v1/fleet/confirm-loss", tag = "devices",
    request_body = LossConfirmation,
    responses(
        (status = 200, description = "All devices as they are now", body = DeviceList),
        (status = 404, description = "One of them is not known", body = Problem),
    )
)]
pub async fn confirm_loss(State(api): State<Api>, JsonBody(request): JsonBody<LossConfirmation>) -> Noted<DeviceList> {
    let devices = request.devices.iter().map(|text| name(text)).collect::<Result<Vec<DeviceName>, _>>()?;
    api.wish(Wish::ConfirmLoss(devices)).await?;
    let note = if request.devices.is_empty() { "all that are silent".to_owned() } else { request.devices.join(" ") };
    Ok((Note::of(note), list(State(api)).await?))
}
