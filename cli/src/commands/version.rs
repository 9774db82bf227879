//! `version`: of this program and of the hub.

use outrigger_api::Health;
use serde::Serialize;

use crate::style::Tone;
use crate::{Client, Exit, Failure, Output};

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    /// Left out if the hub does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<Health>,
}

pub(crate) fn run(client: Result<Client, Failure>, out: &mut Output) -> Result<Exit, Failure> {
    let asked = client.and_then(|client| Ok((client.health()?, client.hub().to_owned())));
    let (hub, address, failure) = match asked {
        Ok((health, address)) => (Some(health), address, None),
        Err(failure) => (None, String::new(), Some(failure)),
    };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), hub };
    out.answer(
        &versions,
        |versions| vec![versions.client.into()],
        |versions, look| {
            let mut lines = vec![format!("outrigger      {}", versions.client)];
            let Some(hub) = &versions.hub else { return lines };
            lines.push(format!("outrigger-hub  {} at {}", look.paint.text(Tone::Plain, &hub.version), address));
            for check in hub.checks.iter().filter(|check| !check.ok) {
                let detail = check.detail.as_deref().unwrap_or("it does not hold");
                lines.push(look.paint.text(Tone::Bad, &format!("  {}: {detail}", check.name)));
            }
            lines
        },
    )?;
    failure.map_or(Ok(Exit::Ok), Err)
}
