//! `hub.toml`: where the hub is. The only file of the identity that a person may want to change.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::config::{HubAddress, parse_address};

/// Most addresses that are kept.
const MAX_ADDRESSES: usize = 16;

/// Where the hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Where it was joined: `https://…`.
    pub url: String,
    /// Where its broker is, the likeliest first. At least one.
    pub mqtt: Vec<HubAddress>,
    /// Which fleet it commands, where it has a name for it.
    pub fleet: Option<String>,
}

/// What is wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HubFileProblem {
    /// No TOML.
    #[error("line {line}: {text}")]
    Form {
        /// Where.
        line: usize,
        /// What.
        text: String,
    },
    /// A key that has no meaning here.
    #[error("line {0}: only url, mqtt and fleet are known here, each with texts")]
    Key(usize),
    /// No address.
    #[error("line {0}: mqtt must be a list of HOST:PORT")]
    Address(usize),
    /// Something is not there.
    #[error("url and mqtt must be there")]
    Missing,
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| toml::Value::from(text).to_string();
        let mqtt: Vec<String> = self.mqtt.iter().map(|address| text(&address.to_string())).collect();
        writeln!(f, "url = {}\nmqtt = [{}]", text(&self.url), mqtt.join(", "))?;
        self.fleet.as_ref().map_or(Ok(()), |fleet| writeln!(f, "fleet = {}", text(fleet)))
    }
}

impl FromStr for HubFile {
    type Err = HubFileProblem;

    fn from_str(text: &str) -> Result<Self, HubFileProblem> {
        let line = |start: usize| text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
        let table = DeTable::parse(text).map_err(|error| HubFileProblem::Form {
            line: line(error.span().map_or(0, |span| span.start)),
            text: error.message().to_owned(),
        })?;
        let (mut url, mut mqtt, mut fleet) = (None, Vec::new(), None);
        for (key, value) in table.get_ref() {
            let line = line(key.span().start);
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("url", DeValue::String(text)) => url = Some(text.to_string()),
                ("fleet", DeValue::String(text)) => fleet = Some(text.to_string()),
                ("mqtt", DeValue::Array(all)) => {
                    for one in all {
                        let address = one.get_ref().as_str().and_then(|text| parse_address(text, None));
                        mqtt.push(address.ok_or(HubFileProblem::Address(line))?);
                    }
                }
                _ => return Err(HubFileProblem::Key(line)),
            }
        }
        mqtt.truncate(MAX_ADDRESSES);
        match url {
            Some(url) if !mqtt.is_empty() => Ok(Self { url, mqtt, fleet }),
            Some(_) | None => Err(HubFileProblem::Missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> HubFile {
        let address = |host: &str| HubAddress { host: host.into(), port: 8883 };
        HubFile {
            url: "https://hub:7640".into(),
            mqtt: vec![address("hub"), address("fd00::1")],
            fleet: Some("the \"big\" one".into()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(file().to_string().parse(), Ok(file()));
        let without = HubFile { fleet: None, ..file() };
        assert_eq!(without.to_string().parse(), Ok(without));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let problem = |text: &str| text.parse::<HubFile>().unwrap_err();
        assert_eq!(problem("url = 'x'\nmqtt = ['nothing here']\n"), HubFileProblem::Address(2));
        assert_eq!(problem("url = 'x'\nmqqt = []\n"), HubFileProblem::Key(2));
        assert_eq!(problem("url = 'x'\n"), HubFileProblem::Missing);
        assert!(matches!(problem("url = 'x'\nmqtt = ["), HubFileProblem::Form { .. }));
        assert_eq!(problem(""), HubFileProblem::Missing);
    }
}
