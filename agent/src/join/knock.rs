//! Joining without an invite: the device shows a code and asks again and again, until the operator has told the code to the
//! hub. Neither of the two believes the other before it has proven to know the code; the code itself is never sent.
//!
//! A hub that merely says "you are in" could be anybody's: in the network, everybody can answer for the hub.

use std::time::Duration;

use outrigger_trust::{Between, CertificateDer, DeviceKey, JoinCode, Pin, Proof, Prover, chain_of, fresh_nonce};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::wire::Response;
use super::{JoinError, PATIENCE, Wish};

/// For so long the hub keeps a device waiting, and the device waits.
pub(super) const CODE_LIFE: Duration = Duration::from_secs(900);
/// Bounds on how often the hub can have us ask.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 100..=10_000;
/// Requests in a row that may get no answer, as while the hub is restarted.
const MAX_SILENT: u32 = 10;

/// What is sent, each time the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Knock {
    /// The name that the device wants.
    pub name: String,
    /// Its request for a certificate, as PEM.
    pub csr: String,
    /// Tells this attempt from others.
    pub nonce: String,
    /// That the device knows the code.
    pub proof: String,
    /// What the device says that it is.
    pub about: String,
    /// The fleet whose replicas it still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnockAnswer {
    /// When to ask again.
    pub again_ms: u64,
    /// The device is in.
    #[serde(default)]
    pub joined: Option<KnockJoined>,
}

/// The device is in, if the proof holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnockJoined {
    /// That the hub knows the code.
    pub proof: String,
    /// What an invite would have given.
    pub response: Response,
}

impl Wish {
    /// The pin of the authority that the hub shows. It proves nothing: the code binds it.
    pub(super) async fn shown_pin(&self) -> Result<Pin, JoinError> {
        let (host, port) = (self.url.host.clone(), self.url.port);
        let chain = tokio::task::spawn_blocking(move || chain_of(&host, port, PATIENCE)).await??;
        chain.last().map(Pin::of).ok_or_else(|| self.nonsense("it shows no certificate"))
    }

    pub(super) async fn wait_for_approval(
        &self,
        about: &str,
        authority: &CertificateDer<'static>,
        key: &DeviceKey,
        show: impl FnOnce(&str),
    ) -> Result<Response, JoinError> {
        let (code, nonce) = (JoinCode::fresh(), fresh_nonce());
        let between = Between { hub: Pin::of(authority), device: key.digest(), nonce };
        let code_key = code.key(&nonce);
        let knock = Knock {
            name: self.name.to_string(),
            csr: key.request(self.name.as_str())?,
            nonce: Pin(nonce).to_string(),
            proof: code_key.prove(Prover::Device, &between).to_string(),
            about: about.to_owned(),
            holds: self.holds.map(|fleet| fleet.to_string()),
        };
        let mut show = Some(show);
        let waited = timeout(CODE_LIFE, async {
            let mut silent = 0;
            loop {
                let again = match self.ask::<_, KnockAnswer>(authority, "/v1/join/knock", &knock).await {
                    Ok(KnockAnswer { joined: Some(joined), .. }) => return Ok(joined),
                    Ok(KnockAnswer { again_ms, joined: None }) => {
                        silent = 0;
                        // Only now: a hub that takes no codes should not have one shown.
                        if let Some(show) = show.take() {
                            show(&code.reveal());
                        }
                        again_ms
                    }
                    Err(JoinError::Send { .. } | JoinError::Late { .. }) if show.is_none() && silent < MAX_SILENT => {
                        silent += 1;
                        *AGAIN_MS.end()
                    }
                    Err(error) => return Err(error),
                };
                sleep(Duration::from_millis(again.clamp(*AGAIN_MS.start(), *AGAIN_MS.end()))).await;
            }
        });
        let joined = waited.await.map_err(|_| JoinError::NotApproved { hub: self.url.to_string() })??;
        let proof: Option<Proof> = joined.proof.parse().ok();
        match proof.filter(|proof| code_key.is_proven(Prover::Hub, &between, proof)) {
            Some(_) => Ok(joined.response),
            None => Err(JoinError::FalseHub { hub: self.url.to_string() }),
        }
    }
}
