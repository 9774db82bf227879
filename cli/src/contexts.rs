//! The hubs that the user is logged in to: address, authority and token of each, in a file that only he can read.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use outrigger_api::SecretText;
use outrigger_trust::{CertificateDer, certificates_from_pem, write_private};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Hubs by the names that the user gives them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Context {
    /// Its address.
    pub hub: String,
    /// Whom to trust there, and nobody else (PEM).
    pub authority: String,
    /// Who the user is there.
    pub token: SecretText,
}

impl Context {
    /// Whom to trust there.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Failure> {
        certificates_from_pem(&self.authority).map_err(|error| Failure::Credentials {
            message: format!("the authority kept for {} cannot be read: {error}", self.hub),
            hint: format!("`outrigger login {}` keeps it anew", self.hub),
        })
    }
}

impl Contexts {
    /// Reads the file; none is as good as an empty one.
    pub fn load() -> Result<Self, Failure> {
        let Some(path) = file() else { return Ok(Self::default()) };
        let fault = |what: String, hint: &str| Failure::Credentials {
            message: format!("{} {what}", path.display()),
            hint: hint.replace("FILE", &path.display().to_string()),
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(fault(format!("cannot be read: {error}"), "it holds your tokens")),
        };
        let mode = fs::metadata(&path).map_or(0o600, |metadata| metadata.mode());
        if mode & 0o077 != 0 {
            return Err(fault(
                format!("holds your tokens and others can read it (mode {:o})", mode & 0o777),
                "chmod 600 FILE",
            ));
        }
        serde_json::from_str(&text).map_err(|error| {
            // Without the text at the place: it may be part of a token.
            let place = format!("is damaged (line {}, column {})", error.line(), error.column());
            fault(place, "remove it and log in again")
        })
    }

    /// Writes the file, whole or not at all, for nobody else to read.
    pub fn save(&self) -> Result<(), Failure> {
        let path = file().ok_or_else(|| Failure::Credentials {
            message: "there is no place to keep credentials".into(),
            hint: "set HOME or XDG_CONFIG_HOME".into(),
        })?;
        let failed = |reason: String| Failure::Credentials {
            message: format!("cannot write {}: {reason}", path.display()),
            hint: "it holds your tokens".into(),
        };
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| failed(error.to_string()))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        write_private(&path, &format!("{text}\n")).map_err(|error| failed(with_cause(&error)))
    }

    /// The one in use.
    pub fn current(&self) -> Option<(&str, &Context)> {
        let name = self.current.as_deref()?;
        Some((name, self.contexts.get(name)?))
    }

    /// That of a hub with this address.
    pub fn of_hub(&self, base: &str) -> Option<&Context> {
        let mut all = self.current().map(|(_, context)| context).into_iter().chain(self.contexts.values());
        all.find(|context| context.hub == base)
    }

    /// Forgets one. Where it was in use, none is then.
    pub fn remove(&mut self, name: &str) -> Option<Context> {
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        self.contexts.remove(name)
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// `$XDG_CONFIG_HOME/outrigger/contexts.json`. A relative path there counts as none, as the standard says.
fn file() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("outrigger").join("contexts.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(hub: &str) -> Context {
        Context { hub: hub.into(), authority: String::new(), token: SecretText("or1.api.canary".into()) }
    }

    #[test]
    fn a_removed_context_is_no_longer_in_use() {
        let mut contexts = Contexts { current: Some("a".into()), ..Contexts::default() };
        contexts.contexts.extend([("a".into(), context("https://a:1")), ("b".into(), context("https://b:1"))]);
        assert_eq!(contexts.current().map(|(name, _)| name), Some("a"));
        assert!(contexts.of_hub("https://b:1").is_some() && contexts.of_hub("https://b:2").is_none());
        contexts.remove("a");
        assert!(contexts.current().is_none() && contexts.current.is_none());
    }

    #[test]
    fn tokens_are_not_shown_by_mistake() {
        assert!(!format!("{:?}", context("https://a")).contains("canary"));
    }
}
