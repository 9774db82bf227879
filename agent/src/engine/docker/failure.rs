//! What Docker and Podman say when they cannot, turned into what decisions need. They have few status codes, so the words
//! count; both engines' are here.

use std::error::Error as _;

use bollard::errors::Error;
use outrigger_protocol::MAX_DETAIL;

use super::super::EngineError;

/// The kind of a failure, by its text.
pub(super) fn of(error: &Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => said(*status_code, message),
        Error::DockerStreamError { error } => said(500, error),
        Error::SocketNotFoundError(path) => EngineError::Unreachable { reason: format!("there is no socket {path}") },
        Error::IOError { .. } | Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } => {
            EngineError::Unreachable { reason: chain(error) }
        }
        Error::RequestTimeoutError => EngineError::Unreachable { reason: "no answer in time".to_owned() },
        other => EngineError::Refused { reason: cut(&other.to_string()) },
    }
}

/// A refusal of `create` names an image only in words: here it gets the one that was asked for.
pub(super) fn for_image(error: EngineError, image: &str) -> EngineError {
    match error {
        EngineError::ImageNotFound { .. } => EngineError::ImageNotFound { image: image.to_owned() },
        other => other,
    }
}

/// A failure of a pull keeps its words, whatever they are, unless the engine or its disk is at fault.
pub(super) fn for_pull(error: EngineError, image: &str) -> EngineError {
    match error {
        EngineError::Unreachable { .. }
        | EngineError::NoSpace { .. }
        | EngineError::TimedOut { .. }
        | EngineError::NotAllowed { .. } => error,
        EngineError::Refused { reason }
        | EngineError::PortTaken { reason }
        | EngineError::PullFailed { reason, .. } => EngineError::PullFailed { image: image.to_owned(), reason },
        EngineError::ImageNotFound { image: reason } => EngineError::PullFailed { image: image.to_owned(), reason },
        EngineError::NameTaken { .. }
        | EngineError::NoSuchContainer { .. }
        | EngineError::AddressesTaken { .. }
        | EngineError::NetworkNotFound { .. } => {
            EngineError::PullFailed { image: image.to_owned(), reason: error.to_string() }
        }
    }
}

/// The kind of a refusal, by its words.
pub(super) fn said(status: u16, message: &str) -> EngineError {
    let reason = cut(message);
    let lower = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["no space left on device", "disk quota exceeded"]) {
        EngineError::NoSpace { reason }
    } else if has(&["port is already allocated", "address already in use", "ports are not available"]) {
        EngineError::PortTaken { reason }
    } else if has(&["no such container", "no container with"]) {
        EngineError::NoSuchContainer { id: reason }
    } else if has(&["no such image", "image not known", "does not match the specified platform"]) && status == 404 {
        EngineError::ImageNotFound { image: reason }
    } else if has(&["pool overlaps with other one", "subnet is already used", "is already used on the host"]) {
        EngineError::AddressesTaken { reason }
    } else if status == 404 && lower.contains("network") && has(&["not found", "no such network"]) {
        EngineError::NetworkNotFound { reason }
    } else if has(&["is already in use by", "name is already in use"]) {
        EngineError::NameTaken { name: reason }
    } else {
        EngineError::Refused { reason }
    }
}

/// The error and its causes: the outermost alone says `client error (Connect)`.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    cut(&text)
}

/// What goes to the hub is bounded ([`MAX_DETAIL`]); engines can be chatty.
fn cut(text: &str) -> String {
    let text = text.trim();
    let mut end = text.len().min(MAX_DETAIL);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> EngineError {
        of(&Error::DockerResponseServerError { status_code, message: message.to_owned() })
    }

    /// Texts as recorded from Docker 20.10 and Podman 4.
    #[test]
    fn the_engines_words_are_understood() {
        let missing = answer(404, "No such image: web:1");
        assert_eq!(for_image(missing, "web:1"), EngineError::ImageNotFound { image: "web:1".to_owned() });
        assert!(matches!(answer(404, "web:1: image not known"), EngineError::ImageNotFound { .. }));
        let taken = "driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated";
        assert_eq!(answer(500, taken), EngineError::PortTaken { reason: taken.to_owned() });
        assert!(matches!(
            answer(500, "write /var/lib/docker/tmp/x: no space left on device"),
            EngineError::NoSpace { .. }
        ));
        assert!(matches!(
            answer(
                409,
                "Conflict. The container name \"/a\" is already in use by container \"f00\". You have to remove"
            ),
            EngineError::NameTaken { .. }
        ));
        assert!(matches!(answer(404, "No such container: f00"), EngineError::NoSuchContainer { .. }));
        assert!(matches!(answer(404, "network lan not found"), EngineError::NetworkNotFound { .. }));
        let overlaps = "Pool overlaps with other one on this address space";
        assert!(matches!(answer(403, overlaps), EngineError::AddressesTaken { .. }));
    }

    #[test]
    fn the_reason_of_a_failed_pull_is_verbatim() {
        let words = "manifest for web:9 not found: manifest unknown: manifest unknown";
        let error = for_pull(answer(404, words), "web:9");
        assert_eq!(error, EngineError::PullFailed { image: "web:9".to_owned(), reason: words.to_owned() });
        let full = for_pull(answer(500, "failed to register layer: no space left on device"), "web:9");
        assert!(matches!(full, EngineError::NoSpace { .. }));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let EngineError::Refused { reason } = answer(500, &"ä".repeat(400)) else { panic!("not refused") };
        assert_eq!(reason.len(), MAX_DETAIL);
    }
}
