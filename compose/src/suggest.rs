//! "Did you mean …?"

/// Names longer than this are no typing errors of ours, and comparing them costs time.
const LONGEST: usize = 40;

/// The known name that `wrong` most likely meant, as the help of a diagnostic.
pub(crate) fn did_you_mean<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    if wrong.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(wrong);
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, name)| *distance <= 1.max(name.len().min(wanted.len()) / 3))
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_key_and_a_stranger_finds_none() {
        let keys = ["image", "ports", "environment", "env_file"];
        assert_eq!(did_you_mean("prots", keys).as_deref(), Some("did you mean `ports`?"));
        assert_eq!(did_you_mean("env-file", keys).as_deref(), Some("did you mean `env_file`?"));
        assert_eq!(did_you_mean("Image", keys).as_deref(), Some("did you mean `image`?"));
        assert_eq!(did_you_mean("banana", keys), None);
        assert_eq!(did_you_mean(&"x".repeat(1000), keys), None);
    }
}
