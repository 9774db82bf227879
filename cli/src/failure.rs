//! What can go wrong, what the user is told about it, and with which code the program ends.

use std::io;
use std::path::PathBuf;

use outrigger_api::{Problem, ProblemKind};
use outrigger_trust::{ConnectError, TokenError, Trouble};
use thiserror::Error;

/// How the program ends. `--help` lists the codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The hub refused, or it was tried and failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The hub does not answer.
    Unreachable = 3,
    /// There is no such stack, service, replica or device.
    NotFound = 4,
    /// What was waited for did not come in time.
    TimedOut = 5,
    /// The Compose file cannot be used.
    Compose = 6,
    /// The hub does not let us: nobody is logged in, or who is may not do this.
    NotAllowed = 7,
}

/// Why a command was not done.
#[derive(Debug, Error)]
pub enum Failure {
    /// The hub said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The hub's address makes no sense.
    #[error("`{hub}` cannot be the address of a hub: {reason}")]
    Address {
        /// The address as given.
        hub: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Who answers cannot be shown to be the hub.
    #[error("{}", untrusted(hub, *trouble))]
    Untrusted {
        /// Its address.
        hub: String,
        /// What is wrong with its certificate.
        trouble: Trouble,
    },
    /// The first look at a hub went wrong.
    #[error("{0}")]
    FirstLook(#[from] ConnectError),
    /// Nobody is logged in there.
    #[error("not logged in at {hub}")]
    NotLoggedIn {
        /// Its address.
        hub: String,
    },
    /// A text that is no token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The file with the credentials.
    #[error("{message}")]
    Credentials {
        /// What is wrong with it.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The hub does not answer.
    #[error("cannot reach the hub at {hub} ({reason})")]
    Unreachable {
        /// Its address.
        hub: String,
        /// What happened, in a few words.
        reason: String,
    },
    /// Somebody answers who does not speak as a hub does.
    #[error("the answer of {url} makes no sense ({reason})")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The hub answered and then fell silent or went away.
    #[error("the hub at {hub} stopped answering ({reason})")]
    Interrupted {
        /// Its address.
        hub: String,
        /// What happened, in a few words.
        reason: String,
    },
    /// There is no such thing.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// What was looked for, such as `service`.
        what: &'static str,
        /// By which name.
        name: String,
        /// Where the user finds names.
        hint: String,
    },
    /// The words do not say one thing.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: String,
    },
    /// A file of the user cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was waited for cannot come, because of something that the user must mend.
    #[error("{message}")]
    Stuck {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// What was waited for did not come in time.
    #[error("{message}")]
    TimedOut {
        /// What was waited for and how far it came.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Write(#[from] io::Error),
}

impl Failure {
    /// The code with which the program ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused(problem) => exit_of(problem.kind),
            Self::Address { .. } | Self::Usage { .. } | Self::Token(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Interrupted { .. } => Exit::Unreachable,
            Self::NotLoggedIn { .. } | Self::Untrusted { .. } => Exit::NotAllowed,
            Self::FirstLook(error) => exit_of_first_look(error),
            Self::NotFound { .. } => Exit::NotFound,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Credentials { .. }
            | Self::Answer { .. }
            | Self::Read { .. }
            | Self::Stuck { .. }
            | Self::Write(_) => Exit::Failed,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.hint.clone(),
            Self::Address { .. } => Some("write it as https://HOST:PORT, such as https://hub.lan:7640".into()),
            Self::Unreachable { .. } => {
                Some("is outrigger-hub running? Set --hub or OUTRIGGER_HUB if it is elsewhere".into())
            }
            Self::Answer { .. } => {
                Some("is this really the address of outrigger-hub? `outrigger version` tells".into())
            }
            Self::NotLoggedIn { hub } => Some(format!("`outrigger login {hub}` does that")),
            Self::Untrusted { trouble, .. } => Some(untrusted_hint(*trouble).into()),
            Self::FirstLook(error) => source_of(error),
            Self::Credentials { hint, .. }
            | Self::NotFound { hint, .. }
            | Self::Usage { hint, .. }
            | Self::Stuck { hint, .. }
            | Self::TimedOut { hint, .. } => Some(hint.clone()),
            Self::Token(_) | Self::Interrupted { .. } | Self::Read { .. } | Self::Write(_) => None,
        }
    }

    /// Whether the reader of our output went away (`| head`), which is no failure worth a word.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn untrusted(hub: &str, trouble: Trouble) -> String {
    let why = match trouble {
        Trouble::ServerExpired => "its certificate has ended, or this computer's clock is wrong",
        Trouble::ServerNotYetValid => "its certificate is not valid yet: this computer's clock is behind",
        Trouble::ServerUnknown => "it is not the hub that you logged in to",
        Trouble::ServerOtherName => "its certificate is for other names than this one",
        Trouble::OursExpired | Trouble::OursRefused | Trouble::OursMissing | Trouble::Other => {
            "it wants something else"
        }
    };
    format!("the server at {hub} is not trusted, and nothing was sent to it: {why}")
}

fn untrusted_hint(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::ServerUnknown => "if the hub was set up anew, `outrigger login` with a token of the new one",
        Trouble::ServerOtherName => "use a name that the hub knows, or add this one to `names` in its settings",
        Trouble::ServerExpired
        | Trouble::ServerNotYetValid
        | Trouble::OursExpired
        | Trouble::OursRefused
        | Trouble::OursMissing
        | Trouble::Other => "compare the clocks of both machines",
    }
}

fn exit_of_first_look(error: &ConnectError) -> Exit {
    match error {
        ConnectError::OtherAuthority { .. } | ConnectError::NotSigned { .. } => Exit::NotAllowed,
        _ => Exit::Unreachable,
    }
}

fn source_of(error: &ConnectError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

fn exit_of(kind: ProblemKind) -> Exit {
    match kind {
        ProblemKind::NotFound => Exit::NotFound,
        ProblemKind::Unauthenticated | ProblemKind::Forbidden => Exit::NotAllowed,
        ProblemKind::Compose | ProblemKind::MissingInput => Exit::Compose,
        ProblemKind::Malformed
        | ProblemKind::MethodNotAllowed
        | ProblemKind::Conflict
        | ProblemKind::TooLarge
        | ProblemKind::UnsupportedMediaType
        | ProblemKind::WrongHost
        | ProblemKind::WrongOrigin
        | ProblemKind::TooMany
        | ProblemKind::DeviceUnreachable
        | ProblemKind::Unavailable
        | ProblemKind::Storage
        | ProblemKind::Timeout
        | ProblemKind::Internal
        | ProblemKind::Other => Exit::Failed,
    }
}
