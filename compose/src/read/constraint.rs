//! `placement.constraints`: what a device must be.

use outrigger_protocol::{Arch, Constraint, ConstraintKey};

use crate::context::clip;
use crate::suggest::did_you_mean;

const KEYS: [&str; 5] = ["node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch"];

/// `node.labels.zone == attic`; white space does not matter.
pub(super) fn parse(text: &str) -> Result<Constraint, String> {
    let (key, equal, value) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((key, value)), None) => (key, true, value),
        (None, Some((key, value))) => (key, false, value),
        // Whichever comes first; the other belongs to the value.
        (Some((key, value)), Some((other, _))) if key.len() < other.len() => (key, true, value),
        (Some(_), Some((key, value))) => (key, false, value),
        (None, None) => return Err(format!("`{}` must be `KEY == VALUE` or `KEY != VALUE`", clip(text))),
    };
    let (key, value) = (parse_key(key.trim())?, value.trim());
    if value.is_empty() {
        return Err(format!("`{}` compares with nothing", clip(text)));
    }
    let value = match key {
        // One spelling, whichever of `aarch64` and `arm64` the user knows.
        ConstraintKey::Arch => value.parse::<Arch>().map_err(|error| error.to_string())?.to_string(),
        ConstraintKey::Role if !matches!(value, "manager" | "worker") => {
            return Err(format!("`{}` must be `manager` or `worker`", clip(value)));
        }
        _ => value.to_owned(),
    };
    Ok(Constraint { key, equal, value })
}

/// What a constraint or preference looks at.
pub(super) fn parse_key(text: &str) -> Result<ConstraintKey, String> {
    if let Some(label) = text.strip_prefix("node.labels.").filter(|label| is_label(label)) {
        return Ok(ConstraintKey::NodeLabel(label.to_owned()));
    }
    if let Some(label) = text.strip_prefix("engine.labels.").filter(|label| is_label(label)) {
        return Ok(ConstraintKey::EngineLabel(label.to_owned()));
    }
    match text {
        "node.id" | "node.hostname" => Ok(ConstraintKey::Name),
        "node.role" => Ok(ConstraintKey::Role),
        "node.platform.os" => Ok(ConstraintKey::Os),
        "node.platform.arch" => Ok(ConstraintKey::Arch),
        _ => {
            let help = help_for(text).map(|help| format!("; {help}")).unwrap_or_default();
            let known = KEYS.map(|key| format!("`{key}`")).join(", ");
            Err(format!("`{}` is none of {known}, `node.labels.NAME`, `engine.labels.NAME`{help}", clip(text)))
        }
    }
}

fn help_for(text: &str) -> Option<String> {
    let label = text.rsplit_once('.').and_then(|(prefix, _)| did_you_mean(prefix, ["node.labels", "engine.labels"]));
    did_you_mean(text, KEYS).or(label)
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_compare_a_key_with_a_value() {
        let zone = ConstraintKey::NodeLabel("zone".to_owned());
        let expected = Constraint { key: zone, equal: true, value: "attic".to_owned() };
        for text in ["node.labels.zone == attic", "node.labels.zone==attic", "  node.labels.zone  ==  attic "] {
            assert_eq!(parse(text), Ok(expected.clone()));
        }
        assert_eq!(
            parse("node.platform.arch != aarch64"),
            Ok(Constraint { key: ConstraintKey::Arch, equal: false, value: "arm64".to_owned() })
        );
        assert_eq!(
            parse("engine.labels.a!=b==c").map(|found| (found.equal, found.value)),
            Ok((false, "b==c".to_owned()))
        );
    }

    #[test]
    fn a_bad_constraint_says_what_would_be_right() {
        for (text, message) in [
            ("node.labels.zone = attic", "`node.labels.zone = attic` must be `KEY == VALUE` or `KEY != VALUE`"),
            ("node.labels.zone ==", "`node.labels.zone ==` compares with nothing"),
            ("node.role == boss", "`boss` must be `manager` or `worker`"),
        ] {
            assert_eq!(parse(text).unwrap_err(), message);
        }
        assert!(parse("node.hostnam == pi").unwrap_err().ends_with("did you mean `node.hostname`?"));
        assert!(parse("node.labels. == pi").is_err());
    }
}
