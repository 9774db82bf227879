//! How devices come into the fleet: invites, and what is said when one joins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SecretText;

/// An invite to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How many devices may join with it; one if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How long it counts; an hour if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Only under this name; also for a device of this name that joins anew, such as after a new SD card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels that the devices get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An invite, without its secret: nobody can read that again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Invite {
    /// Tells it from others; the fourth part of its text.
    pub id: String,
    /// When it was made.
    pub created_unix_ms: u64,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_unix_ms: u64,
    /// Whether it has ended.
    pub expired: bool,
    /// How many devices may join with it in all.
    pub uses: u32,
    /// Only under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels that the devices get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who has joined with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<InviteUse>,
}

/// One device that has joined with an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteUse {
    /// Its name.
    pub device: String,
    /// When.
    pub at_unix_ms: u64,
}

/// Invites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteList {
    /// Sorted by their ids.
    pub invites: Vec<Invite>,
}

/// A new invite. Its text is in this answer and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteCreated {
    /// What `outrigger-agent join --token` takes.
    pub token: SecretText,
    /// Where the hub can be reached by devices, the likeliest first: `https://…`.
    pub urls: Vec<String>,
    /// What is known about it.
    pub invite: Invite,
}

/// A device wants to join. No bearer token goes with it: the invite is in the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinRequest {
    /// The invite.
    pub token: SecretText,
    /// The name that the device wants.
    pub name: String,
    /// Its request for a certificate (PKCS #10, PEM), signed by a key that it keeps.
    pub csr: String,
    /// The fleet whose replicas it still has; it must leave that one before it can join another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
}

/// The device has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinResponse {
    /// Its name.
    pub name: String,
    /// Its certificate, with those that have signed it (PEM).
    pub certificate: String,
    /// Whom it trusts (PEM).
    pub authorities: String,
    /// Where it connects, the likeliest first: `host:port`.
    pub mqtt: Vec<String>,
    /// Which fleet this is, where the hub has a name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
}

/// A device without an invite asks to be let in, and shows a code to whoever stands before it. It asks again and again
/// until the operator has told that code to the hub. The code itself is never sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KnockRequest {
    /// The name that the device wants.
    pub name: String,
    /// Its request for a certificate (PKCS #10, PEM), signed by a key that it keeps.
    pub csr: String,
    /// Random; the same for each request of one attempt.
    pub nonce: String,
    /// Proof that the device knows the code, over the hub's authority and its own key.
    pub proof: String,
    /// What the device says that it is: processor, system, board.
    #[serde(default)]
    pub about: String,
    /// The fleet whose replicas it still has; it must leave that one before it can join another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
}

/// What a device that has knocked is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KnockAnswer {
    /// After how long it is to ask again, while nobody has let it in.
    pub again_ms: u64,
    /// It was let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<KnockJoined>,
}

/// What a device gets that was let in by its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KnockJoined {
    /// Proof that the hub knows the code, over its authority and the device's key. Without it nothing else counts.
    pub proof: String,
    /// The same as for an invite.
    pub response: JoinResponse,
}

/// A device that waits to be let in. Its code is not here: only the device itself shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitingDevice {
    /// The name that it wants.
    pub name: String,
    /// From where it asks.
    pub address: String,
    /// What it says that it is.
    pub about: String,
    /// When it first asked.
    pub since_unix_ms: u64,
    /// When it is forgotten.
    pub expires_unix_ms: u64,
    /// Whether a device of this name is in the fleet already.
    pub name_is_taken: bool,
}

/// Devices that wait to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitingList {
    /// The one that has waited longest first.
    pub devices: Vec<WaitingDevice>,
}

/// Devices that may connect now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AllowedDevices {
    /// By their names; without those in quarantine.
    pub devices: Vec<String>,
}

/// Lets the device in that shows this code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CodeApproval {
    /// As the device shows it.
    pub code: SecretText,
    /// Under this name instead of the one that it wants; also if a device has it, which is replaced then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels that the device gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The device was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CodeApproved {
    /// Its name.
    pub device: String,
    /// From where it had asked.
    pub address: String,
}
