//! `outrigger-hub setup-code`: through the hub that runs, or in the store of one that does not.

use outrigger_api::SetupCode;
use outrigger_trust::{Token, TokenError};
use thiserror::Error;

use crate::access::code_records;
use crate::clock;
use crate::config::{Config, Security};
use crate::http::local::{self, LocalError};
use crate::http::setup_words;
use crate::pki::{Authority, AuthorityError};
use crate::store::{Store, StoreError};

/// Why there is no setup code.
#[derive(Debug, Error)]
pub enum SetupCodeError {
    /// Nobody is asked for a token.
    #[error("with insecure_local nobody needs a token, so there is no setup code")]
    InsecureLocal,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority whose digest would be in the code.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The hub that runs.
    #[error(transparent)]
    Hub(#[from] LocalError),
    /// What it answered makes no sense.
    #[error("the hub's answer makes no sense")]
    Answer(#[source] reqwest::Error),
    /// Or is no code.
    #[error("the hub's answer makes no sense")]
    Code(#[from] TokenError),
}

/// Makes a setup code, and says what to do with it.
///
/// # Errors
/// If neither the store nor its hub can be reached, or it cannot be saved.
pub async fn setup_code(config: &Config) -> Result<String, SetupCodeError> {
    if config.security == Security::InsecureLocal {
        return Err(SetupCodeError::InsecureLocal);
    }
    let code = match Store::open_existing(&config.state_dir) {
        Ok(store) => into_store(store, config)?,
        Err(StoreError::InUse { .. }) => {
            let answer = local::ask(&config.state_dir, reqwest::Method::POST, "/v1/setup/code").await?;
            let made: SetupCode = answer.json().await.map_err(SetupCodeError::Answer)?;
            made.code.0.parse()?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(setup_words(config.http_listen, || config.names.first().cloned(), &code))
}

fn into_store(mut store: Store, config: &Config) -> Result<Token, SetupCodeError> {
    let saved = store.load()?.side;
    let now = clock::unix_ms();
    // The hub has run here, so there is an authority; one that is missing is a fault, and none is made in its place.
    let authority = Authority::open(&config.state_dir, true, now / 1000)?;
    let (code, records) = code_records(&saved, authority.pin(), now);
    store.save_side(&records)?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use outrigger_trust::{Kind, Pin, Token};

    use super::*;

    #[test]
    fn the_line_to_log_in_leads_to_where_the_hub_listens() {
        let code = Token::fresh(Kind::Setup, Pin([0; 32]));
        let shown = |listens: &str| setup_words(listens.parse().unwrap(), || Some("hub.lan".to_owned()), &code);
        for (listens, at) in [
            ("0.0.0.0:7640", "https://hub.lan:7640 "),
            ("[::]:7640", "https://hub.lan:7640 "),
            ("127.0.0.1:7640", "https://localhost:7640 "),
            ("192.0.2.7:443", "https://192.0.2.7:443 "),
            ("[2001:db8::7]:443", "https://[2001:db8::7]:443 "),
        ] {
            assert!(shown(listens).contains(at), "{listens}: {}", shown(listens));
        }
    }
}
