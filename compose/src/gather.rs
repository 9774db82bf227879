//! Collecting all that a Compose file refers to, for callers that can read.

use std::collections::BTreeSet;

use crate::context::PROJECT;
use crate::{Sources, load, references};

/// Rounds of looking at what is missing: files that extend files that …
const MAX_ROUNDS: usize = 32;

/// The Compose file `main` with every file and variable that it and its files refer to, as far as `read` and `variable`
/// have them. Pure but for these two: `read` gets paths as [`crate::resolve`] gives them.
///
/// ```
/// use outrigger_compose::{gather, load};
/// let read = |path: &str| match path {
///     "compose.yaml" => Some("services: { web: { image: 'x:$TAG', env_file: app.env } }".to_owned()),
///     "app.env" => Some("A=1".to_owned()),
///     _ => None,
/// };
/// let sources = gather("compose.yaml", read, |name| (name == "TAG").then(|| "2".to_owned()));
/// let stack = load(Some("shop".parse().unwrap()), &sources).stack.unwrap();
/// assert_eq!(stack.services[0].container.image, "x:2");
/// assert_eq!(stack.services[0].container.environment, [("A".to_owned(), "1".to_owned())]);
/// ```
pub fn gather(
    main: &str,
    mut read: impl FnMut(&str) -> Option<String>,
    mut variable: impl FnMut(&str) -> Option<String>,
) -> Sources {
    let mut sources = Sources { main: main.to_owned(), ..Sources::default() };
    let mut files = BTreeSet::from([main.to_owned(), crate::resolve(main, ".env")]);
    let mut variables = BTreeSet::from([PROJECT.to_owned()]);
    let mut asked: BTreeSet<String> = BTreeSet::new();
    // What looks like a variable in a secret is none.
    let mut contents = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        for path in files.into_iter().filter(|path| asked.insert(format!("file {path}"))) {
            if let Some(text) = read(&path) {
                // Of an environment file this finds the variables of its values.
                let found = references(&text);
                contents.extend(found.contents.iter().map(|file| crate::resolve(main, file)));
                if !contents.contains(&path) {
                    variables.extend(found.variables);
                }
                sources.files.insert(path, text);
            }
        }
        for name in variables.into_iter().filter(|name| asked.insert(format!("variable {name}"))) {
            sources.variables.extend(variable(&name).map(|value| (name, value)));
        }
        let missing = load(None, &sources).missing;
        let is_new = |sort: &str, name: &String| !asked.contains(&format!("{sort} {name}"));
        files = missing.files.into_iter().filter(|path| is_new("file", path)).collect();
        variables = missing.variables.into_iter().filter(|name| is_new("variable", name)).collect();
        if files.is_empty() && variables.is_empty() {
            break;
        }
    }
    sources
}
