//! Devices: list, show, label, cordon, drain, forget, history.

use axum::Json;
use axum::extract::State;
use outrigger_api::{
    Availability, Device, DeviceChange, DeviceList, Forgotten, History, HistoryQuery, LossConfirmation, Problem,
};
use outrigger_planner::{Refusal, Wish};
use outrigger_protocol::DeviceName;

use super::Api;
use super::problem::{Answer, InPath, InQuery, JsonBody, Refused, malformed, name};
use super::view::device;
use crate::clock;

/// Characters of a label's key or value.
const MAX_LABEL: usize = 128;
/// Labels that one request may change.
const MAX_LABELS: usize = 64;

/// All devices.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices",
    responses((status = 200, description = "All", body = DeviceList))
)]
pub async fn list(State(api): State<Api>) -> Answer<DeviceList> {
    let devices = api.look(|fleet, now| fleet.devices().map(|view| device(&view, now)).collect()).await?;
    Ok(Json(DeviceList { devices }))
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

async fn look_at(api: &Api, name: DeviceName) -> Result<Device, Refused> {
    let found = api.look(move |fleet, now| fleet.device(&name).map(|view| device(&view, now)).ok_or(name)).await?;
    found.map_err(|name| Refusal::NoDevice(name).into())
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
) -> Answer<Device> {
    let device: DeviceName = name(&asked)?;
    check_labels(&change)?;
    look_at(&api, device.clone()).await?;
    for (key, value) in change.labels {
        api.wish(Wish::Label { device: device.clone(), key, value }).await?;
    }
    if let Some(availability) = change.availability {
        let availability = match availability {
            Availability::Active => outrigger_planner::Availability::Active,
            Availability::Cordon => outrigger_planner::Availability::Cordon,
            Availability::Drain => outrigger_planner::Availability::Drain,
        };
        api.wish(Wish::Availability { device: device.clone(), availability }).await?;
    }
    Ok(Json(look_at(&api, device).await?))
}

/// Labels stand in constraints (`node.labels.KEY == VALUE`), so they must be writable there.
fn check_labels(change: &DeviceChange) -> Result<(), Refused> {
    if change.labels.len() > MAX_LABELS {
        return Err(malformed(format!("more than {MAX_LABELS} labels at once")).into());
    }
    for (key, value) in &change.labels {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if key.is_empty() || key.len() > MAX_LABEL || !key.chars().all(is_plain) {
            let shown: String = key.chars().take(80).collect();
            return Err(malformed(format!("`{shown}` cannot be the key of a label"))
                .with_hint(format!("use 1 to {MAX_LABEL} of a-z, A-Z, 0-9, -, _, . and /"))
                .into());
        }
        if value.as_ref().is_some_and(|value| value.len() > MAX_LABEL || value.chars().any(char::is_control)) {
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
    api.wish(Wish::Forget(device.clone())).await?;
    Ok(Json(Forgotten { device: device.to_string(), replicas }))
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
pub async fn confirm_loss(State(api): State<Api>, JsonBody(request): JsonBody<LossConfirmation>) -> Answer<DeviceList> {
    let devices = request.devices.iter().map(|text| name(text)).collect::<Result<Vec<DeviceName>, _>>()?;
    api.wish(Wish::ConfirmLoss(devices)).await?;
    list(State(api)).await
}
