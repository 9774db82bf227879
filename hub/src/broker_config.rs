//! `outrigger-hub broker-config`: what another broker needs to keep the same rules as the embedded one. Who a client is
//! comes from its certificate, and nobody speaks or listens beyond his own name.
//!
//! Such a broker does not know the hub's list of devices, unless its rules name them (`--devices`); then they have to be
//! written anew when the list has changed. The hub itself hears nobody who is not on it, and clears what is kept for who
//! was removed.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use outrigger_protocol::{Channel, DeviceName};
use outrigger_trust::{DeviceKey, FileError, KeyError, pem_of_certificates, write_private};
use thiserror::Error;

use crate::allowed::AllowedError;
use crate::pki::{Authority, AuthorityError, HUB_NAME, Names};

/// Largest packet: the largest payload with its topic and properties.
const MAX_PACKET: usize = outrigger_protocol::MAX_WANT + 4096;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Eclipse Mosquitto, 2.0 or later.
    Mosquitto,
    /// EMQX, 5.0 or later.
    Emqx,
}

/// Which devices the rules let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices<'a> {
    /// Whoever has a certificate of the hub's authority.
    All,
    /// These.
    Named(&'a [DeviceName]),
}

/// Name of mosquitto's rules.
const MOSQUITTO_RULES: &str = "mosquitto.acl";

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum BrokerConfigError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The broker's certificate.
    #[error("cannot make the broker's certificate")]
    Make(#[from] rcgen::Error),
    /// Its key.
    #[error("cannot write the broker's key")]
    Key(#[from] KeyError),
    /// Its rules cannot name devices.
    #[error("only mosquitto's rules can name devices; `emqx ctl banned add username NAME` keeps one out of EMQX")]
    NoNames,
    /// The list of devices.
    #[error(transparent)]
    Devices(#[from] AllowedError),
    /// The files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Their folder.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the configuration of a broker that is called `names`, with a certificate of the hub's authority, into `to`.
/// Returns what was written.
///
/// # Errors
/// If there is no authority in `state_dir`, or something cannot be written.
pub fn write(
    kind: Kind,
    state_dir: &Path,
    names: &[String],
    port: u16,
    to: &Path,
    devices: Devices<'_>,
) -> Result<Vec<PathBuf>, BrokerConfigError> {
    let now = crate::clock::unix_ms() / 1000;
    let authority = Authority::open(state_dir, true, now)?;
    let served = authority.server(&Names::of_this_machine(names), now)?;
    let key = DeviceKey::from_der(served.key)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(to);
    made.map_err(|source| BrokerConfigError::Folder { path: to.to_owned(), source })?;
    let to = fs::canonicalize(to).map_err(|source| BrokerConfigError::Folder { path: to.to_owned(), source })?;
    let (main, rules) = match kind {
        Kind::Mosquitto => (("mosquitto.conf", mosquitto(&to, port)), (MOSQUITTO_RULES, mosquitto_rules(devices))),
        Kind::Emqx if devices != Devices::All => return Err(BrokerConfigError::NoNames),
        Kind::Emqx => (("emqx.conf", emqx(&to, port)), ("acl.conf", emqx_rules())),
    };
    let files = [
        main,
        rules,
        ("authorities.pem", pem_of_certificates(&authority.trusted())),
        ("broker.pem", pem_of_certificates(&served.chain)),
        ("broker.key", key.reveal_pem()),
    ];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = to.join(name);
        write_private(&path, &text)?;
        written.push(path);
    }
    Ok(written)
}

/// Writes only mosquitto's rules anew, into a folder that [`write()`] has filled.
///
/// # Errors
/// If they cannot be written.
pub fn write_rules(to: &Path, devices: &[DeviceName]) -> Result<PathBuf, BrokerConfigError> {
    let path = to.join(MOSQUITTO_RULES);
    write_private(&path, &mosquitto_rules(Devices::Named(devices)))?;
    Ok(path)
}

fn mosquitto(at: &Path, port: u16) -> String {
    let at = at.display();
    format!(
        "# Written by `outrigger-hub broker-config mosquitto`. Do not add a second listener without these rules.\n\
         listener {port}\n\
         cafile {at}/authorities.pem\n\
         certfile {at}/broker.pem\n\
         keyfile {at}/broker.key\n\
         tls_version tlsv1.3\n\
         require_certificate true\n\
         # Who a client is, its certificate says: neither a name nor a client id that it gives itself counts.\n\
         use_identity_as_username true\n\
         use_username_as_clientid true\n\
         allow_anonymous false\n\
         acl_file {at}/mosquitto.acl\n\
         # A device that does too much harms only itself.\n\
         max_packet_size {MAX_PACKET}\n\
         max_inflight_messages 64\n\
         max_queued_messages 64\n\
         max_keepalive 120\n\
         # Nothing needs a disk: the hub tells everything again.\n\
         persistence false\n"
    )
}

fn mosquitto_rules(devices: Devices<'_>) -> String {
    let mut text = format!(
        "# The hub hears all devices and speaks to them. Its name can be that of no device.\n\
         user {HUB_NAME}\n\
         topic readwrite or/1/#\n\n\
         # A device: only below its own name.\n"
    );
    match devices {
        Devices::All => channels(&mut text, "pattern", "%u"),
        Devices::Named(named) => {
            for device in named {
                let _ = writeln!(text, "\nuser {device}");
                channels(&mut text, "topic", device.as_str());
            }
        }
    }
    text
}

/// What a device may do below this name.
fn channels(text: &mut String, word: &str, name: &str) {
    for (may, channels) in [("write", &Channel::UP[..]), ("read", &Channel::DOWN[..])] {
        for channel in channels {
            let _ = writeln!(text, "{word} {may} {}", channel.of_all_devices().replace('+', name));
        }
    }
}

fn emqx(at: &Path, port: u16) -> String {
    let at = at.display();
    format!(
        "# Written by `outrigger-hub broker-config emqx`. All other listeners are off: each would need these rules, too.\n\
         mqtt {{\n  peer_cert_as_username = cn\n  peer_cert_as_clientid = cn\n  max_packet_size = {MAX_PACKET}\n  \
         max_qos_allowed = 1\n  shared_subscription = false\n  max_inflight = 64\n  max_mqueue_len = 64\n  \
         server_keepalive = 120\n}}\n\
         listeners.ssl.default {{\n  bind = {port}\n  messages_rate = \"100/s\"\n  ssl_options {{\n    \
         cacertfile = \"{at}/authorities.pem\"\n    certfile = \"{at}/broker.pem\"\n    keyfile = \"{at}/broker.key\"\n    \
         versions = [\"tlsv1.3\"]\n    verify = verify_peer\n    fail_if_no_peer_cert = true\n  }}\n}}\n\
         listeners.tcp.default.enable = false\nlisteners.ws.default.enable = false\nlisteners.wss.default.enable = false\n\
         authorization {{\n  no_match = deny\n  deny_action = ignore\n  cache.enable = false\n  sources = [{{ type = file, \
         enable = true, path = \"{at}/acl.conf\" }}]\n}}\n"
    )
}

fn emqx_rules() -> String {
    let list = |channels: &[Channel]| {
        let topics: Vec<_> = channels
            .iter()
            .map(|channel| format!("\"{}\"", channel.of_all_devices().replace('+', "${username}")))
            .collect();
        topics.join(", ")
    };
    format!(
        "%% The hub hears all devices and speaks to them. Its name can be that of no device.\n\
         {{allow, {{username, \"{HUB_NAME}\"}}, all, [\"or/1/#\"]}}.\n\
         %% A device: only below its own name.\n\
         {{allow, all, publish, [{}]}}.\n\
         {{allow, all, subscribe, [{}]}}.\n\
         {{deny, all}}.\n",
        list(&Channel::UP),
        list(&Channel::DOWN),
    )
}
