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
