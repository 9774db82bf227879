//! How devices come into the fleet: invites, joining, and the end of a quarantine.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header, uri::Authority};
use outrigger_api::{
    Device, InviteCreated, InviteList, InviteRequest, JoinRequest, JoinResponse, Problem, ProblemKind, SecretText,
};
use outrigger_planner::Refusal;
use outrigger_protocol::DeviceName;
use outrigger_trust::pem_of_certificates;
use tracing::{info, warn};

use super::Api;
use super::admit::{Note, Noted, Peer};
use super::devices::{check_labels, look_at};
use super::problem::{Answer, InPath, JsonBody, Refused, malformed, name};
use crate::access::Caller;
use crate::clock;
use crate::handle::HubHandle;
use crate::pki::{JoinError, Joined, MAX_TTL, MAX_USES, Newcomer, Pki, Refusal as InviteRefusal, USUAL_TTL, Wanted};

/// Addresses in one answer; the likeliest are the first.
const MAX_PLACES: usize = 8;

/// All invites that count, and those that have ended not long ago, without their secrets.
#[utoipa::path(get, path = "/v1/invites", tag = "devices", responses((status = 200, description = "All", body = InviteList)))]
pub async fn invites(State(api): State<Api>) -> Answer<InviteList> {
    Ok(Json(InviteList { invites: pki_of(&api.hub)?.invites().list(clock::unix_ms()).await }))
}

/// Makes an invite. Its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/invites", tag = "devices",
    request_body = InviteRequest,
    responses(
        (status = 200, description = "It counts", body = InviteCreated),
        (status = 400, description = "It cannot be so", body = Problem),
        (status = 409, description = "This hub asks nobody who he is", body = Problem),
    )
)]
pub async fn invite(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(request): JsonBody<InviteRequest>,
) -> Noted<InviteCreated> {
    let pki = pki_of(&api.hub)?;
    let wanted = wanted(request)?;
    let by = caller.who.to_string();
    let (token, invite) = pki.invites().make(wanted, pki.pin(), &by, clock::unix_ms()).await?;
    info!(invite = invite.id, by, uses = invite.uses, name = invite.name, "an invite was made");
    let port = api.hub.addresses().http.port();
    let urls = places(pki, asked_host(&headers)).into_iter().map(|host| format!("https://{host}:{port}")).collect();
    let note = Note::of(format!("invite {} for {} devices", invite.id, invite.uses));
    Ok((note, Json(InviteCreated { token: SecretText(token.reveal()), urls, invite })))
}

fn wanted(request: InviteRequest) -> Result<Wanted, Refused> {
    let uses = request.uses.unwrap_or(1);
    let ttl = request.ttl_s.map_or(USUAL_TTL, Duration::from_secs);
    if !(1..=MAX_USES).contains(&uses) {
        return Err(malformed(format!("an invite is for 1 to {MAX_USES} devices, not for {uses}")).into());
    }
    if ttl.is_zero() || ttl > MAX_TTL {
        let most = MAX_TTL.as_secs() / 86_400;
        return Err(malformed(format!("an invite counts for 1 second to {most} days")).into());
    }
    let device: Option<DeviceName> = request.name.as_deref().map(name).transpose()?;
    if device.is_some() && uses != 1 {
        return Err(malformed("an invite for one name is for one device").into());
    }
    check_labels(request.labels.iter().map(|(key, value)| (key, Some(value))))?;
    Ok(Wanted { uses, ttl, name: device, labels: request.labels })
}

/// Takes an invite back. Who has joined with it stays.
#[utoipa::path(
    delete, path = "/v1/invites/{invite}", tag = "devices",
    params(("invite" = String, Path, description = "Its id")),
    responses((status = 200, description = "The ones that are left", body = InviteList), (status = 404, description = "There is none", body = Problem))
)]
pub async fn revoke_invite(State(api): State<Api>, InPath(id): InPath<String>) -> Answer<InviteList> {
    let pki = pki_of(&api.hub)?;
    if !pki.invites().revoke(&id).await? {
        let shown: String = id.chars().take(40).collect();
        return Err(Problem::new(ProblemKind::NotFound, format!("there is no invite `{shown}`")).into());
    }
    invites(State(api)).await
}

/// Lets a device in, for an invite. The body carries the invite, and nothing else is asked.
#[utoipa::path(
    post, path = "/v1/join", tag = "devices",
    request_body = JoinRequest,
    responses(
        (status = 200, description = "It has joined", body = JoinResponse),
        (status = 403, description = "The invite does not count, or not for this", body = Problem),
        (status = 409, description = "The name belongs to another device", body = Problem),
        (status = 429, description = "Too many attempts from this address", body = Problem),
    )
)]
pub async fn join(
    State(api): State<Api>,
    peer: Peer,
    headers: HeaderMap,
    JsonBody(request): JsonBody<JoinRequest>,
) -> Noted<JoinResponse> {
    let pki = pki_of(&api.hub)?;
    let device: DeviceName = name(&request.name)?;
    let from = match peer {
        Peer::Address(address) => address.to_canonical(),
        Peer::Socket => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    };
    let fleet = fleet_for(&api, request.holds.as_deref()).await?;
    let newcomer = Newcomer { token: &request.token.0, name: device, csr: &request.csr, from };
    let joined = pki.join(newcomer).await.inspect_err(|fault| match fault {
        JoinError::Limited => (),
        _ => warn!(%from, device = request.name, %fault, "a device could not join"),
    })?;
    info!(device = %joined.device, %from, invite = joined.invite, "a device has joined");
    if let Err(fault) = api.hub.give_labels(&joined.device).await {
        warn!(device = %joined.device, %fault, "the labels of its invite could not be given to a device");
    }
    let note = Note::by(format!("invite {}", joined.invite), format!("{} joined", joined.device));
    Ok((note, Json(response(&api, pki, &headers, &joined, fleet))))
}

/// The fleet's id, for a newcomer that `holds` replicas of this fleet or of none. Asked before its invite is used up: it
/// would obey this hub in nothing.
pub(super) async fn fleet_for(api: &Api, holds: Option<&str>) -> Result<String, Refused> {
    let fleet = api.look(|fleet, _| fleet.id().to_string()).await?;
    match holds {
        Some(held) if held != fleet => {
            let held: String = held.chars().take(40).collect();
            let title =
                format!("the device still has replicas of another fleet ({held}), and would obey this hub in nothing");
            let hint =
                "`sudo outrigger-agent leave` on the device ends them; then run the same line again, it is not used up";
            Err(Problem::new(ProblemKind::Conflict, title).with_hint(hint).into())
        }
        Some(_) | None => Ok(fleet),
    }
}

/// What a device gets that has joined.
pub(super) fn response(api: &Api, pki: &Pki, headers: &HeaderMap, joined: &Joined, fleet: String) -> JoinResponse {
    let (host, port) = api.hub.mqtt_at();
    let hosts = host.map_or_else(|| places(pki, asked_host(headers)), |host| vec![host.to_owned()]);
    JoinResponse {
        name: joined.device.to_string(),
        certificate: pem_of_certificates(&joined.chain),
        authorities: pem_of_certificates(&joined.authorities),
        mqtt: hosts.into_iter().map(|host| format!("{host}:{port}")).collect(),
        fleet: Some(fleet),
    }
}

/// Lets a device in again that is kept in quarantine.
#[utoipa::path(
    post, path = "/v1/devices/{device}/approve", tag = "devices",
    params(("device" = String, Path, description = "Its name")),
    responses((status = 200, description = "It may come in", body = Device), (status = 404, description = "There is none", body = Problem))
)]
pub async fn approve(State(api): State<Api>, InPath(asked): InPath<String>) -> Answer<Device> {
    let device: DeviceName = name(&asked)?;
    if !pki_of(&api.hub)?.approve(&device).await? {
        return Err(Refusal::NoDevice(device).into());
    }
    Ok(Json(look_at(&api, device).await?))
}

pub(super) fn pki_of(hub: &HubHandle) -> Result<&Pki, Refused> {
    hub.pki().ok_or_else(|| {
        Problem::new(ProblemKind::Conflict, "this hub asks nobody who he is: it runs with --insecure-local")
            .with_hint("run it without, and it makes an authority of its own and invites devices")
            .into()
    })
}

/// How whoever asks calls the hub.
fn asked_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok()?;
    Some(host.host().to_ascii_lowercase())
}

/// By what the hub can be reached: as whoever asks calls it, then its other names, and loopback not at all.
pub(super) fn places(pki: &Pki, asked: Option<String>) -> Vec<String> {
    let names = pki.server_tls().names();
    let is_loopback = |host: &str| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let addresses = names.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let others =
        pki.named().iter().map(|name| name.to_ascii_lowercase()).chain(addresses).chain(names.hosts.iter().cloned());
    let mut found: Vec<String> = Vec::new();
    for host in
        asked.clone().into_iter().filter(|host| !is_loopback(host)).chain(others.filter(|host| !is_loopback(host)))
    {
        if !found.contains(&host) && found.len() < MAX_PLACES {
            found.push(host);
        }
    }
    // A device on the hub's own machine.
    found.extend(asked.filter(|host| is_loopback(host)).filter(|_| found.len() < MAX_PLACES));
    found
}

impl From<JoinError> for Refused {
    fn from(error: JoinError) -> Self {
        let kind = match &error {
            JoinError::Limited => ProblemKind::TooMany,
            JoinError::Token(_) | JoinError::Kind(_) | JoinError::Request(_) => ProblemKind::Malformed,
            JoinError::Refused(_) => ProblemKind::Forbidden,
            JoinError::Taken(_) => ProblemKind::Conflict,
            JoinError::Save(fault) => return fault.clone().into(),
        };
        let problem = Problem::new(kind, error.to_string());
        match error {
            JoinError::Refused(InviteRefusal::OtherName(name)) => {
                let hint = format!("the same line with `--name {name}` does, or an invite for the name that you want");
                problem.with_hint(hint).into()
            }
            JoinError::Refused(_) => problem.with_hint("`outrigger device invite` makes a new one").into(),
            _ => problem.into(),
        }
    }
}
