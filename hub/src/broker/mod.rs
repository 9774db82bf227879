//! How the hub and its devices hear each other: an embedded MQTT broker, or a client of an external one.
//!
//! Both look alike from inside: [`Happening`]s come out of an [`Inbox`], [`Outgoing`] messages go into a channel. What is
//! sent is level-triggered (whole assignments), so neither keeps anything for later: after every [`Happening::Up`] the
//! core publishes all assignments anew.

mod answers;
mod counters;
mod embedded;
mod external;
mod flow;
mod gate;
mod inbox;
mod kept;
mod presence;
mod refused;

use std::net::IpAddr;

use outrigger_protocol::{Channel, DeviceName, DownMessage, PayloadError, Topic, UpMessage, encode_down};

pub use answers::{Answers, Open};
pub use counters::{Counters, Totals};
pub use embedded::{Door, Embedded, start as start_embedded};
pub use external::{Account, External, start as start_external};
pub use inbox::Inbox;

/// What the control loop hears from the devices' side.
#[derive(Debug)]
pub enum Happening {
    /// A device said something.
    Heard {
        /// Who.
        device: DeviceName,
        /// What.
        message: UpMessage,
    },
    /// The broker works (again). It may have forgotten everything that it was told to keep.
    Up,
    /// The broker cannot be reached: nobody can be heard, and silence means nothing.
    Down {
        /// Why.
        reason: String,
    },
    /// A second machine wants a name whose device lives. It was turned away.
    NameTaken {
        /// Which name.
        device: DeviceName,
        /// Where the second machine is.
        by: IpAddr,
    },
    /// A device sent far more than it may for a while. It was slowed down, and then its connection was cut.
    Flooding {
        /// Which.
        device: DeviceName,
    },
    /// A device has sent what cannot be read, or a packet larger than any message; told now and then.
    Garbage {
        /// Which.
        device: DeviceName,
        /// What was wrong with it.
        reason: String,
    },
    /// Several machines connect under this name again and again, each pushing the other off; told now and then.
    FoughtOver {
        /// Which name.
        device: DeviceName,
    },
    /// The broker keeps an assignment of this device, perhaps one that no longer belongs to the fleet.
    Kept {
        /// Whose.
        device: DeviceName,
    },
}

/// What the control loop has to say to a device.
#[derive(Debug)]
pub enum Outgoing {
    /// A message; the channel says whether it is kept and confirmed.
    Send {
        /// To whom.
        device: DeviceName,
        /// What.
        message: DownMessage,
    },
    /// Nothing is kept for this device any more.
    Clear {
        /// Whose.
        device: DeviceName,
    },
}

/// An [`Outgoing`] message as it goes to the wire.
struct Packet {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    confirmed: bool,
}

impl Outgoing {
    fn device(&self) -> &DeviceName {
        match self {
            Self::Send { device, .. } | Self::Clear { device } => device,
        }
    }

    fn to_packets(&self) -> Result<Vec<Packet>, PayloadError> {
        match self {
            Self::Send { device, message } => {
                let channel = message.channel();
                Ok(vec![Packet {
                    topic: Topic::new(device, channel).to_string(),
                    payload: encode_down(message)?,
                    retain: channel.is_retained(),
                    confirmed: channel.is_confirmed(),
                }])
            }
            Self::Clear { device } => {
                let kept = Channel::DOWN.into_iter().filter(|channel| channel.is_retained());
                Ok(kept
                    .map(|channel| Packet {
                        topic: Topic::new(device, channel).to_string(),
                        payload: Vec::new(),
                        retain: true,
                        confirmed: true,
                    })
                    .collect())
            }
        }
    }
}
