//! The short form of the heartbeat's topic: after its first report on a connection, a device says a number for it. The
//! topic would otherwise be the longest part of a report, and each byte of it is paid for once a second.
//!
//! Only reports have one. Nothing else is sent often enough to be worth the broker's memory.

use std::sync::atomic::{AtomicBool, Ordering};

use rumqttc::v5::mqttbytes::v5::{ConnAck, PublishProperties};

/// The number. The broker keeps a list for each connection, so every device may have the same.
const NUMBER: u16 = 1;

/// The short form on one connection.
#[derive(Debug, Default)]
pub(super) struct Alias {
    is_known: AtomicBool,
}

impl Alias {
    /// None if this broker knows no short forms.
    pub(super) fn offered(ack: &ConnAck) -> Option<Self> {
        let most = ack.properties.as_ref().and_then(|properties| properties.topic_alias_max)?;
        (most >= NUMBER).then(Self::default)
    }

    /// How to address a message to `topic`: in full until the broker knows the number.
    pub(super) fn address(&self, topic: String) -> (String, PublishProperties) {
        let topic = if self.is_known.load(Ordering::Relaxed) { String::new() } else { topic };
        (topic, PublishProperties { topic_alias: Some(NUMBER), ..PublishProperties::default() })
    }

    /// A message with the topic in full is on its way. What comes after it on the same connection cannot overtake it.
    pub(super) fn told(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_is_said_in_full_until_it_has_been_sent_once() {
        let alias = Alias::default();
        let topic = || alias.address("or/1/pi/report".to_owned()).0;
        assert_eq!([topic(), topic()], ["or/1/pi/report"; 2], "a report that found no room taught nobody anything");
        alias.told();
        assert_eq!(topic(), "");
    }
}
