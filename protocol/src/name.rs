//! Names, checked once at the border. The type is the proof.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Too long, empty, or with a character that is not allowed.
    #[error("`{text}` cannot be the name of a {what}: it must be {rule}")]
    Malformed {
        /// The refused text, cut to 80 characters.
        text: String,
        /// What it should have named.
        what: &'static str,
        /// What such a name looks like.
        rule: &'static str,
    },
}

fn malformed(text: &str, what: &'static str, rule: &'static str) -> NameError {
    NameError::Malformed { text: text.chars().take(80).collect(), what, rule }
}

const DNS_RULE: &str = "1 to 63 of a-z, 0-9 and -, with a letter or digit first and last";

/// One DNS label, which is also one MQTT topic level, one file name and one host name.
fn is_label(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| edge(c) || c == b'-')
        && bytes.first().is_some_and(|&c| edge(c))
        && bytes.last().is_some_and(|&c| edge(c))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) { Ok(Self(text.into())) } else { Err(malformed(text, $what, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// A device: one DNS label, and one level of its MQTT topics.
    ///
    /// ```
    /// use outrigger_protocol::DeviceName;
    /// let device: DeviceName = "pi-4".parse().unwrap();
    /// assert_eq!(device.to_string(), "pi-4");
    /// assert!("pi/4".parse::<DeviceName>().is_err());
    /// ```
    DeviceName, "device", DNS_RULE, is_label
);

const STACK_RULE: &str = "1 to 63 of a-z, 0-9, - and _, with a letter or digit first";

fn is_project(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_')
        && bytes.first().is_some_and(|&c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

name_type!(
    /// A stack: what Compose calls a project, with its rule for names.
    StackName, "stack", STACK_RULE, is_project
);

const SERVICE_RULE: &str = "1 to 63 of a-z, A-Z, 0-9, -, _ and ., with a letter or digit first";

/// Compose allows dots in service names; the number of a replica stands behind the last one.
fn is_service(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
}

name_type!(
    /// A service within its stack.
    ServiceName, "service", SERVICE_RULE, is_service
);

const NETWORK_RULE: &str = "1 to 127 of a-z, A-Z, 0-9, -, _ and ., with a letter or digit first";

/// The engine's own rule for names of networks.
fn is_network(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=127).contains(&bytes.len())
        && bytes.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
}

name_type!(
    /// A network in the fleet: `shop_default` for a network of the stack `shop`, or what the file calls it. Networks of
    /// one name are one network, also across stacks.
    NetworkName, "network", NETWORK_RULE, is_network
);

const FILE_RULE: &str = "1 to 127 of a-z, A-Z, 0-9, -, _ and ., with a letter or digit first and last";

/// One file name, and never a path: no separators, nothing that is only dots, nothing that cannot be seen.
fn is_file(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=127).contains(&bytes.len())
        && bytes.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

name_type!(
    /// A secret or config in the fleet: `shop_db` for one that the file of the stack `shop` defines, or what the file calls
    /// it.
    FileName, "secret or config", FILE_RULE, is_file
);

/// A service of a stack, written `shop/web`.
///
/// ```
/// use outrigger_protocol::ServiceRef;
/// let service: ServiceRef = "shop/web".parse().unwrap();
/// assert_eq!(service.to_string(), "shop/web");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceRef {
    /// The stack.
    pub stack: StackName,
    /// The service in it.
    pub service: ServiceName,
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stack, self.service)
    }
}

impl FromStr for ServiceRef {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (stack, service) =
            text.split_once('/').ok_or_else(|| malformed(text, "service", "STACK/SERVICE, such as shop/web"))?;
        Ok(Self { stack: stack.parse()?, service: service.parse()? })
    }
}

/// One wanted copy of a service, written `shop/web.2`. Numbers begin at 1.
///
/// ```
/// use outrigger_protocol::ReplicaName;
/// let replica: ReplicaName = "shop/web.v2.10".parse().unwrap();
/// assert_eq!((replica.service.service.as_str(), replica.number), ("web.v2", 10));
/// assert_eq!(replica.to_string(), "shop/web.v2.10");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaName {
    /// The service it is a copy of.
    pub service: ServiceRef,
    /// Which copy; from 1.
    pub number: u32,
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.number)
    }
}

impl FromStr for ReplicaName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "STACK/SERVICE.NUMBER, such as shop/web.2";
        let (service, number) = text.rsplit_once('.').ok_or_else(|| malformed(text, "replica", RULE))?;
        let plain = !number.starts_with(['0', '+']);
        let number = number.parse().ok().filter(|_| plain).ok_or_else(|| malformed(text, "replica", RULE))?;
        Ok(Self { service: service.parse()?, number })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_device_name_is_one_plain_topic_level() {
        for good in ["a", "pi-4", "0", &"x".repeat(63)] {
            assert!(good.parse::<DeviceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Pi", "a/b", "+", "#", "$SYS", "a b", "a\0", "ä", "pі", &"x".repeat(64)] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_of_a_secret_is_no_path_and_hides_nothing() {
        for good in ["db", "shop_db.password", "TLS-key.pem", "0", &"x".repeat(127)] {
            assert!(good.parse::<FileName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/x",
            "a\\b",
            "a\0",
            "a\n",
            ".x",
            "x.",
            "-x",
            "a b",
            "ä",
            &"x".repeat(128),
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_replica_number_has_one_spelling() {
        for bad in
            ["shop/web", "shop/web.0", "shop/web.01", "shop/web.+1", "web.1", "shop/web.", "shop/web.99999999999"]
        {
            assert!(bad.parse::<ReplicaName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_the_same(
            stack in "[a-z0-9][a-z0-9_-]{0,20}", service in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}", number in 1u32..,
        ) {
            let replica = ReplicaName {
                service: ServiceRef { stack: stack.parse().unwrap(), service: service.parse().unwrap() }, number,
            };
            prop_assert_eq!(replica.to_string().parse::<ReplicaName>().unwrap(), replica);
        }
    }
}
