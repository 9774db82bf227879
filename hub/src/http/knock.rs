//! Devices that come without an invite: they knock, show a code, and wait for the operator to tell it to the hub.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use outrigger_api::{
    AllowedDevices, CodeApproval, CodeApproved, KnockAnswer, KnockJoined, KnockRequest, Problem, ProblemKind,
    WaitingList,
};
use outrigger_protocol::DeviceName;
use outrigger_trust::Pin;
use tracing::{info, warn};

use super::Api;
use super::admit::{Note, Noted, Peer};
use super::devices::check_labels;
use super::join::{fleet_for, pki_of, response};
use super::problem::{Answer, JsonBody, Refused, malformed, name};
use crate::pki::{AGAIN, ApproveError, Knock, KnockError, Knocked};

/// A device without an invite asks to be let in. It asks again with the same words until it is, or its code is over.
#[utoipa::path(
    post, path = "/v1/join/knock", tag = "devices",
    request_body = KnockRequest,
    responses(
        (status = 200, description = "It waits, or is in", body = KnockAnswer),
        (status = 403, description = "This hub lets devices in by invites only, or the code is over", body = Problem),
        (status = 409, description = "It has replicas of another fleet", body = Problem),
        (status = 429, description = "Too many wait or try", body = Problem),
    )
)]
pub async fn knock(
    State(api): State<Api>,
    peer: Peer,
    headers: HeaderMap,
    JsonBody(request): JsonBody<KnockRequest>,
) -> Answer<KnockAnswer> {
    let pki = pki_of(&api.hub)?;
    if !api.hub.takes_codes() {
        let problem = Problem::new(ProblemKind::Forbidden, "this hub lets devices in by invites only");
        return Err(problem.with_hint("`outrigger device invite` prints a line to run on the device").into());
    }
    let Peer::Address(from) = peer else { return Err(malformed("a device comes over the network").into()) };
    let nonce: Pin = request.nonce.parse().map_err(|_| malformed("the nonce is not 32 bytes"))?;
    let knock = Knock {
        name: name(&request.name)?,
        csr: request.csr,
        nonce: nonce.0,
        proof: request.proof.parse().map_err(|fault: outrigger_trust::ProofError| malformed(fault.to_string()))?,
        about: request.about,
        from: from.to_canonical(),
    };
    let fleet = fleet_for(&api, request.holds.as_deref()).await?;
    let (device, from) = (knock.name.clone(), knock.from);
    let joined = match pki.knock(knock)? {
        Knocked::Waits { is_new } => {
            if is_new {
                info!(%device, %from, "a device waits to be let in: `outrigger device approve CODE`, with the code that it shows");
            }
            None
        }
        Knocked::Joined(joined, proof) => {
            let response = response(&api, pki, &headers, &joined, fleet);
            Some(KnockJoined { proof: proof.to_string(), response })
        }
    };
    Ok(Json(KnockAnswer { again_ms: u64::try_from(AGAIN.as_millis()).unwrap_or(u64::MAX), joined }))
}

/// Devices that wait to be let in. Their codes are not here: only the devices themselves show them.
#[utoipa::path(get, path = "/v1/join/waiting", tag = "devices", responses((status = 200, description = "All", body = WaitingList)))]
pub async fn waiting(State(api): State<Api>) -> Answer<WaitingList> {
    Ok(Json(WaitingList { devices: pki_of(&api.hub)?.waiting() }))
}

/// Devices that may connect now, for the rules of another broker.
#[utoipa::path(get, path = "/v1/devices/allowed", tag = "devices", responses((status = 200, description = "All", body = AllowedDevices)))]
pub async fn allowed(State(api): State<Api>) -> Answer<AllowedDevices> {
    let all = pki_of(&api.hub)?.allow().all();
    let devices = all.iter().filter(|(_, known)| known.quarantined.is_none()).map(|(name, _)| name.to_string());
    Ok(Json(AllowedDevices { devices: devices.collect() }))
}

/// Lets the device in that shows this code.
#[utoipa::path(
    post, path = "/v1/join/approve", tag = "devices",
    request_body = CodeApproval,
    responses(
        (status = 200, description = "It is in", body = CodeApproved),
        (status = 404, description = "No device that waits shows it", body = Problem),
        (status = 409, description = "The name belongs to another device", body = Problem),
    )
)]
pub async fn approve_code(State(api): State<Api>, JsonBody(request): JsonBody<CodeApproval>) -> Noted<CodeApproved> {
    let pki = pki_of(&api.hub)?;
    let wanted: Option<DeviceName> = request.name.as_deref().map(name).transpose()?;
    check_labels(request.labels.iter().map(|(key, value)| (key, Some(value))))?;
    let let_in = pki.approve_code(&request.code.0, wanted, request.labels).await?;
    info!(device = %let_in.device, from = %let_in.from, "a device was let in by its code");
    if let Err(fault) = api.hub.give_labels(&let_in.device).await {
        warn!(device = %let_in.device, %fault, "a device could not be given its labels");
    }
    let (device, address) = (let_in.device.to_string(), let_in.from.to_string());
    let note = Note::of(format!("{device} joined by its code, from {address}"));
    Ok((note, Json(CodeApproved { device, address })))
}

impl From<KnockError> for Refused {
    fn from(error: KnockError) -> Self {
        let kind = match &error {
            KnockError::Limited | KnockError::Full => ProblemKind::TooMany,
            KnockError::Over => ProblemKind::Forbidden,
            KnockError::Request(_) => ProblemKind::Malformed,
        };
        Problem::new(kind, error.to_string()).into()
    }
}

impl From<ApproveError> for Refused {
    fn from(error: ApproveError) -> Self {
        let (kind, hint) = match &error {
            ApproveError::Code(_) => (ProblemKind::Malformed, None),
            ApproveError::Unknown => (
                ProblemKind::NotFound,
                Some(
                    "read it once more from the device; `outrigger device pending` lists who waits. If the device shows a \
                      code and is not listed, it has found another hub, or somebody stands between",
                ),
            ),
            ApproveError::Taken(_) => (
                ProblemKind::Conflict,
                Some("`--name OTHER` lets it in under another name; `--name` with the same name replaces that device"),
            ),
            ApproveError::Request(_) => (ProblemKind::Malformed, None),
            ApproveError::Save(fault) => return fault.clone().into(),
        };
        let problem = Problem::new(kind, error.to_string());
        hint.map(|hint| problem.clone().with_hint(hint)).unwrap_or(problem).into()
    }
}
