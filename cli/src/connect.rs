//! From what the user says and is logged in to, to a client: which hub, whom to trust there, with which token.

use std::env;
use std::path::Path;
use std::time::Duration;

use outrigger_api::SecretText;
use outrigger_trust::{CertificateDer, Kind, Token, authority_behind, read_certificates};

use crate::contexts::Contexts;
use crate::{Address, Client, Failure};

/// Where the hub is if the user does not say and is logged in nowhere.
const DEFAULT_HUB: &str = "http://127.0.0.1:7640";
/// A hub in reach shows its certificates within this.
pub(crate) const FIRST_LOOK: Duration = Duration::from_secs(10);

/// A client of the hub that the user means: the address or context he names, the context in use, or the one that asks
/// nobody on this machine.
pub(crate) fn connect(named: Option<&str>) -> Result<Client, Failure> {
    let contexts = Contexts::load()?;
    let context = match named {
        Some(name) => contexts.contexts.get(name),
        None => contexts.current().map(|(_, context)| context),
    };
    let address = match (context, named) {
        (Some(context), _) => Address::parse(&context.hub)?,
        (None, Some(hub)) => Address::parse(hub)?,
        (None, None) => Address::parse(DEFAULT_HUB)?,
    };
    if !address.is_tls {
        return Ok(Client::plain(&address));
    }
    let context = context.or_else(|| contexts.of_hub(address.base()));
    let token = token_of_environment().or_else(|| context.map(|context| context.token.clone()));
    let token = token.ok_or_else(|| Failure::NotLoggedIn { hub: address.base().to_owned() })?;
    let authorities = match (env::var_os("OUTRIGGER_CA").filter(|path| !path.is_empty()), context) {
        (Some(path), _) => authorities_in(Path::new(&path))?,
        (None, Some(context)) => context.authorities()?,
        // A program that was given a token and nothing else: the token says whom to trust.
        (None, None) => vec![authority_of(&address, &read_token(&token.0, Kind::Api)?)?],
    };
    Ok(Client::trusting(&address, &authorities, Some(token)))
}

pub(crate) fn token_of_environment() -> Option<SecretText> {
    let text = env::var("OUTRIGGER_TOKEN").ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(|text| SecretText(text.to_owned()))
}

/// A token of this kind.
pub(crate) fn read_token(text: &str, kind: Kind) -> Result<Token, Failure> {
    let token: Token = text.trim().parse()?;
    if token.kind == kind {
        return Ok(token);
    }
    let hint = match token.kind {
        Kind::Join => "`outrigger-agent join`, on the device, takes it",
        Kind::Setup => "`outrigger login --setup-code` takes it",
        Kind::Api => "`outrigger login --token` takes it",
        Kind::Session => "it is a browser's own; `outrigger token create` makes one for programs",
    };
    Err(Failure::Usage {
        message: format!("this is a {} token, and needed is one of {kind}", token.kind),
        hint: hint.into(),
    })
}

/// The authority behind this hub that the token pins. No byte of the token is sent.
pub(crate) fn authority_of(address: &Address, token: &Token) -> Result<CertificateDer<'static>, Failure> {
    Ok(authority_behind(&address.host, address.port, token.pin, FIRST_LOOK)?)
}

fn authorities_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    read_certificates(path).map_err(|error| Failure::Credentials {
        message: format!("OUTRIGGER_CA: {error}"),
        hint: "it names a file with the hub's authority, as PEM".into(),
    })
}
