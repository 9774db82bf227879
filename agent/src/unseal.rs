//! Asking the hub for what only this device may read: one question, one key, one answer. Whoever carries the messages, be
//! it a broker of somebody else's, can neither read the answer nor ask in the device's place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_protocol::{
    DeviceName, Item, Login, Sealed, SealedContent, Unseal, UpMessage, login_from_bytes, sealed_context,
};
use outrigger_trust::{KeyError, ReaderKey, SealError, Zeroizing};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::identity::{IdentityDir, IdentityError};
use crate::mqtt::Sender;

/// An answer that has not come in this time does not come.
const WITHIN: Duration = Duration::from_secs(10);

/// Why the device does not get what it asks for.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// The hub is not there.
    #[error("the hub is not heard, and only it has the {0}")]
    Unheard(Item),
    /// It does not answer.
    #[error("the hub has not sent the {0} in time")]
    Late(Item),
    /// It says no.
    #[error("the hub does not give it: {0}")]
    Withheld(String),
    /// Our identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nothing can be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The answer does not open.
    #[error("the hub's answer does not open: {0}")]
    Seal(#[from] SealError),
}

impl UnsealError {
    /// Whether it is nobody's fault, and will pass.
    #[must_use]
    pub fn will_pass(&self) -> bool {
        matches!(self, Self::Unheard(_) | Self::Late(_))
    }
}

/// Asks. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Unsealer {
    device: DeviceName,
    /// None without TLS.
    identity: Option<IdentityDir>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    sender: Option<Sender>,
    waiting: BTreeMap<u64, oneshot::Sender<SealedContent>>,
}

impl Unsealer {
    /// Nothing can be asked before there is a connection.
    #[must_use]
    pub fn new(device: DeviceName, identity: Option<IdentityDir>) -> Self {
        Self { device, identity, open: Arc::default() }
    }

    /// A connection stands.
    pub fn connected(&self, sender: Sender) {
        self.open().sender = Some(sender);
    }

    /// It stands no more: whoever waits is told so.
    pub fn disconnected(&self) {
        *self.open() = Open::default();
    }

    /// The hub has answered.
    pub fn heard(&self, sealed: Sealed) {
        // Nobody waits for it any more, or it came twice: fine.
        if let Some(waits) = self.open().waiting.remove(&sealed.request) {
            let _ = waits.send(sealed.content);
        }
    }

    /// The login for a registry; none if the hub has none, or is not there.
    pub async fn login(&self, registry: &str) -> Option<Login> {
        let bytes = self.fetch(&Item::Login(registry.to_owned())).await.ok()?;
        login_from_bytes(&bytes)
    }

    /// What the hub keeps under this name.
    ///
    /// # Errors
    /// If it does not give it, or is not there.
    pub async fn fetch(&self, item: &Item) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let unheard = || UnsealError::Unheard(item.clone());
        let key = ReaderKey::fresh()?;
        let request = fastrand::u64(..);
        let context = sealed_context(&self.device, request, item);
        let question = UpMessage::Unseal(Box::new(self.question(request, item, &context, key.public())?));
        let (answer, waits) = oneshot::channel();
        {
            let mut open = self.open();
            let sender = open.sender.clone().ok_or_else(unheard)?;
            sender.try_send(&question).map_err(|_| unheard())?;
            open.waiting.insert(request, answer);
        }
        let content = tokio::time::timeout(WITHIN, waits).await;
        self.open().waiting.remove(&request);
        match content {
            Err(_) => Err(UnsealError::Late(item.clone())),
            Ok(Err(_)) => Err(unheard()),
            Ok(Ok(SealedContent::Withheld(why))) => Err(UnsealError::Withheld(why)),
            Ok(Ok(SealedContent::Here { from, bytes })) => Ok(key.open(&context, &from, &bytes)?),
        }
    }

    fn question(&self, request: u64, item: &Item, context: &[u8], to: [u8; 32]) -> Result<Unseal, UnsealError> {
        let (mut signer, mut signature) = (Vec::new(), Vec::new());
        if let Some(joined) = self.identity.as_ref().map(IdentityDir::read).transpose()?.flatten() {
            signer = joined.key.point();
            signature = joined.key.sign(&[context, to.as_slice()].concat())?;
        }
        Ok(Unseal { request, item: item.clone(), to, signer, signature })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
