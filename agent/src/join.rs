//! `outrigger-agent join`: from one pasted line, or a code that somebody tells the hub, to an identity.
//!
//! With an invite the hub first shows its certificates, and nothing is sent to it before the one that the token pins is among
//! them. Only then a second connection, which trusts that authority alone, carries the token and the request for a
//! certificate. Without one the device shows a code, and believes the hub once that has proven to know it (`knock`).
//! The key is made here and stays here.

mod find;
mod knock;
mod url;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_protocol::{DeviceName, FleetId};
use outrigger_trust::{
    Certificate, CertificateDer, CertificateProblem, ConnectError, DeviceKey, KeyError, Kind, Pin, TlsError, Token,
    TokenError, authority_behind, client_config,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use crate::config::{HubAddress, parse_address};
use crate::identity::{HubFile, IdentityDir, IdentityError, Joined};

pub use find::{FindError, Found, find};
pub use knock::{Knock, KnockAnswer, KnockJoined};
pub use url::{HubUrl, UrlError};
pub use wire::{Request, Response};

/// Longest time for the first look, and for the answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to join.
#[derive(Debug)]
pub struct Wish {
    /// Where the hub is.
    pub url: HubUrl,
    /// What lets the device in.
    pub by: By,
    /// The name that the device wants.
    pub name: DeviceName,
    /// The fleet whose replicas the device still has.
    pub holds: Option<FleetId>,
    /// Where its identity will be.
    pub state_dir: PathBuf,
    /// Whether to do so although it has joined already.
    pub again: bool,
}

/// What lets a device in.
#[derive(Debug)]
pub enum By {
    /// An invite.
    Invite(Token),
    /// A code that it shows, and that somebody tells the hub.
    Code {
        /// What the device says that it is, for the list of those that wait.
        about: String,
    },
}

/// The device has not joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The address is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token cannot be read.
    #[error("cannot read the token from standard input")]
    Input(#[source] io::Error),
    /// The token is good for something else.
    #[error(
        "this is a token for {}, not an invite for a device; `outrigger device invite` makes one",
        match .0 { Kind::Api | Kind::Session => "people and programs", Kind::Setup => "the first administrator", Kind::Join => "devices" }
    )]
    Kind(Kind),
    /// It has joined already.
    #[error(
        "this device has joined {url} already, as `{device}`. To join anew, with a new key and perhaps under another name: \
         the same line with --again"
    )]
    Already {
        /// Where.
        url: String,
        /// As whom.
        device: DeviceName,
    },
    /// The first look went wrong. Nothing of the token has been sent.
    #[error(transparent)]
    Look(#[from] ConnectError),
    /// The first look could not be done.
    #[error("the first look at the hub was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
    /// The authority cannot be used.
    #[error("the hub's authority cannot be used")]
    Authority(#[from] CertificateProblem),
    /// Nor with TLS.
    #[error("the hub's authority cannot be used")]
    Tls(#[from] TlsError),
    /// The request cannot be made.
    #[error("cannot make the request for a certificate")]
    Key(#[from] KeyError),
    /// The request did not get through.
    #[error("cannot send the request to {hub}{}", hint(.source))]
    Send {
        /// Whom.
        hub: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("{hub} does not answer within {} s; is it up? Try the same line again", PATIENCE.as_secs())]
    Late {
        /// Who.
        hub: String,
    },
    /// The hub says no.
    #[error("{hub} refuses: {reason}")]
    Refused {
        /// Who.
        hub: String,
        /// Why.
        reason: String,
    },
    /// The hub says something that makes no sense.
    #[error("the answer of {hub} makes no sense ({what}); is it another release?")]
    Nonsense {
        /// Who.
        hub: String,
        /// What.
        what: &'static str,
    },
    /// It says that the device is in, and does not know the code.
    #[error(
        "{hub} says that this device is in, and does not know its code: it is not the hub that you have told the code to. \
         Nothing of what it sent was kept"
    )]
    FalseHub {
        /// Who.
        hub: String,
    },
    /// Nobody has told the hub the code.
    #[error("nobody has told {hub} the code within {} minutes; run the same line again for a new one", knock::CODE_LIFE.as_secs() / 60)]
    NotApproved {
        /// Who.
        hub: String,
    },
    /// What the hub gave cannot be used or kept.
    #[error("the identity cannot be {what} in {}{}", path.display(), root_hint(.source))]
    Keep {
        /// Read, made or kept.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
}

fn hint(error: &io::Error) -> &'static str {
    use outrigger_trust::{Trouble, trouble_of};
    match crate::mqtt::tls_error(error).map(trouble_of) {
        Some(Trouble::ServerOtherName) => {
            ": its certificate is for other names and addresses. Use one of those, or add this one to `names` in the hub's \
             settings"
        }
        Some(Trouble::ServerExpired) => ": its certificate has ended, or this device's clock is wrong (see `date`)",
        Some(Trouble::ServerNotYetValid) => {
            ": its certificate begins later; is this device's clock right (see `date`)?"
        }
        Some(_) | None => "",
    }
}

fn root_hint(error: &IdentityError) -> &'static str {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        if error.downcast_ref::<io::Error>().is_some_and(is_denied) {
            return "; run this as the user that the agent runs as, usually root: sudo outrigger-agent join …";
        }
        cause = error.source();
    }
    ""
}

impl Wish {
    /// Joins. `show` is called once with the code that the operator is to tell the hub, where there is one.
    ///
    /// # Errors
    /// If anything is wrong; the device is as it was before then.
    pub async fn join(&self, show: impl FnOnce(&str)) -> Result<Joined, JoinError> {
        if let By::Invite(Token { kind: kind @ (Kind::Api | Kind::Setup | Kind::Session), .. }) = &self.by {
            return Err(JoinError::Kind(*kind));
        }
        let dir = IdentityDir::of(&self.state_dir);
        if !self.again
            && let Some(joined) = dir.read().map_err(self.keep("read"))?
        {
            return Err(JoinError::Already { url: joined.hub.url, device: joined.device });
        }
        let (authority, key, response) = match &self.by {
            By::Invite(token) => {
                let authority = self.authority(token.pin).await?;
                let key = dir.key_for_join().map_err(self.keep("made"))?;
                let response = self.send_invite(token, &authority, &key).await?;
                (authority, key, response)
            }
            By::Code { about } => {
                let authority = self.authority(self.shown_pin().await?).await?;
                let key = dir.key_for_join().map_err(self.keep("made"))?;
                let response = self.wait_for_approval(about, &authority, &key, show).await?;
                (authority, key, response)
            }
        };
        let hub = self.hub_file(&response)?;
        let joined = Joined::from_pem(&response.certificate, &response.authorities, key, hub);
        let joined = joined.map_err(|_| self.nonsense("the certificate is of no use"))?;
        if joined.device.as_str() != response.name {
            return Err(self.nonsense("the certificate names another device"));
        }
        if !joined.authorities.contains(&authority) {
            return Err(self.nonsense("its authority is not the one that was agreed on"));
        }
        dir.put(&joined).map_err(self.keep("kept"))?;
        Ok(joined)
    }

    /// The authority with this pin, if it stands behind the hub.
    async fn authority(&self, pin: Pin) -> Result<CertificateDer<'static>, JoinError> {
        let (host, port) = (self.url.host.clone(), self.url.port);
        Ok(tokio::task::spawn_blocking(move || authority_behind(&host, port, pin, PATIENCE)).await??)
    }

    async fn send_invite(
        &self,
        token: &Token,
        authority: &CertificateDer<'static>,
        key: &DeviceKey,
    ) -> Result<Response, JoinError> {
        let request = Request {
            token: token.reveal(),
            name: self.name.to_string(),
            csr: key.request(self.name.as_str())?,
            holds: self.holds.map(|fleet| fleet.to_string()),
        };
        self.ask(authority, "/v1/join", &request).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        authority: &CertificateDer<'static>,
        path: &'static str,
        request: &Q,
    ) -> Result<A, JoinError> {
        // The pin vouches for the authority, so its beginning has passed, also where the clock says 1970.
        let floor = Certificate::read(authority)?.not_before;
        let config = client_config(std::slice::from_ref(authority), None, Some(floor))?;
        let hub = || self.url.to_string();
        let answer = timeout(PATIENCE, wire::post(&self.url, config, path, request)).await;
        let answer = answer.map_err(|_| JoinError::Late { hub: hub() })?;
        match answer.map_err(|source| JoinError::Send { hub: hub(), source })? {
            Ok(response) => Ok(response),
            Err(reason) => Err(JoinError::Refused { hub: hub(), reason }),
        }
    }

    /// Where the broker is. First the host that has just been reached: the others are what the hub thinks it is called.
    fn hub_file(&self, response: &Response) -> Result<HubFile, JoinError> {
        let told: Option<Vec<HubAddress>> = response.mqtt.iter().map(|text| parse_address(text, None)).collect();
        let told = told.ok_or_else(|| self.nonsense("an address of its broker is none"))?;
        let port = told.first().ok_or_else(|| self.nonsense("it names no broker"))?.port;
        let reached = HubAddress { host: self.url.host.clone(), port };
        let others = told.into_iter().filter(|address| *address != reached);
        let mqtt = std::iter::once(reached.clone()).chain(others).collect();
        Ok(HubFile { url: self.url.to_string(), mqtt, fleet: response.fleet.clone() })
    }

    fn nonsense(&self, what: &'static str) -> JoinError {
        JoinError::Nonsense { hub: self.url.to_string(), what }
    }

    fn keep(&self, what: &'static str) -> impl Fn(IdentityError) -> JoinError {
        move |source| JoinError::Keep { what, path: self.state_dir.clone(), source }
    }
}

/// The token on the command line, or in the first line of standard input, where other users do not see it.
///
/// # Errors
/// If it cannot be read or is none.
pub fn token(argument: &str) -> Result<Token, JoinError> {
    if argument != "-" {
        return Ok(argument.trim().parse()?);
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(JoinError::Input)?;
    Ok(line.trim().parse()?)
}
