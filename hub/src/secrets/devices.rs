//! Answers devices that ask for a secret, a config or a login: only those that run what needs it, sealed for them alone.

use outrigger_protocol::{
    Assignment, DeviceName, DownMessage, Item, Sealed, SealedContent, Unseal, login_to_bytes, registry_of,
    sealed_context,
};
use outrigger_trust::{digest_of_point, is_signed_by, seal};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Content, ReadProblem, Secrets};
use crate::broker::Outgoing;
use crate::handle::{HubHandle, Stopping};

/// Why a device does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum Withheld {
    /// It does not prove that it is the device.
    #[error("the request is not signed with the device's key")]
    Unsigned,
    /// It runs nothing that needs it.
    #[error("nothing that this device is to run uses the {0}")]
    NotNeeded(Item),
    /// There is no login.
    #[error("there is no login for `{0}`; `outrigger registry login {0}` makes one")]
    NoLogin(String),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadProblem),
    /// It cannot be sealed.
    #[error("it cannot be sealed for this device: {0}")]
    Seal(outrigger_trust::SealError),
}

impl Secrets {
    /// Answers devices until the hub stops.
    pub(crate) async fn answer(
        self,
        hub: HubHandle,
        mut asked: mpsc::Receiver<(DeviceName, Box<Unseal>)>,
        outgoing: mpsc::Sender<Outgoing>,
    ) {
        while let Some((device, question)) = asked.recv().await {
            let content = match self.answer_one(&hub, &device, &question).await {
                Ok(Ok((from, bytes))) => SealedContent::Here { from, bytes },
                Ok(Err(withheld)) => {
                    tell(&device, &question.item, &withheld);
                    SealedContent::Withheld(withheld.to_string())
                }
                Err(Stopping) => return,
            };
            let message = DownMessage::Sealed(Sealed { request: question.request, content });
            if outgoing.send(Outgoing::Send { device, message }).await.is_err() {
                return;
            }
        }
    }

    async fn answer_one(
        &self,
        hub: &HubHandle,
        device: &DeviceName,
        question: &Unseal,
    ) -> Result<Result<([u8; 32], Vec<u8>), Withheld>, Stopping> {
        let context = sealed_context(device, question.request, &question.item);
        if !is_from(hub, device, question, &context) {
            return Ok(Err(Withheld::Unsigned));
        }
        let (name, item) = (device.clone(), question.item.clone());
        let is_needed = hub
            .view(move |core, _| core.fleet().assignment(&name).is_some_and(|assignment| needs(&assignment, &item)))
            .await?;
        if !is_needed {
            return Ok(Err(Withheld::NotNeeded(question.item.clone())));
        }
        Ok(self
            .read(&question.item)
            .and_then(|content| seal(&question.to, &context, &content.0).map_err(Withheld::Seal)))
    }

    fn read(&self, item: &Item) -> Result<Content, Withheld> {
        match item {
            Item::File(file) => Ok(self.content(file)?),
            Item::Login(registry) => {
                let login = self.login(registry).ok_or_else(|| Withheld::NoLogin(registry.clone()))?;
                Ok(Content(login_to_bytes(&login).into()))
            }
        }
    }
}

/// Whether the device itself asks: whoever carries messages could have put a key of his own in the place of its. Without
/// identities (`--insecure-local`) everybody is believed.
fn is_from(hub: &HubHandle, device: &DeviceName, question: &Unseal, context: &[u8]) -> bool {
    let Some(pki) = hub.pki() else { return true };
    let signed = [context, question.to.as_slice()].concat();
    pki.allow().check(device, &digest_of_point(&question.signer)).is_ok()
        && is_signed_by(&question.signer, &signed, &question.signature)
}

/// Whether a device that is to run this needs the item.
fn needs(assignment: &Assignment, item: &Item) -> bool {
    assignment.specs.iter().any(|spec| match item {
        Item::File(file) => spec.files.iter().any(|mount| mount.file == *file),
        Item::Login(registry) => registry_of(&spec.image) == registry,
    })
}

fn tell(device: &DeviceName, item: &Item, withheld: &Withheld) {
    match withheld {
        // Every pull from a registry that wants no login ends so when the image is not there.
        Withheld::NoLogin(_) => debug!(%device, %item, %withheld, "a device asked for a login"),
        _ => warn!(%device, %item, %withheld, "a device does not get what it asks for"),
    }
}
